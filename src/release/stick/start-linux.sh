#!/bin/sh
# PediatricsGPT Web: starts a small server on this computer and opens the app. Needs Python 3.8 or newer.
cd "$(dirname "$0")" && exec python3 serve.py "$@"
