#!/usr/bin/env bash
# Turns a finished nano run into what the app ships: the package under public/models/nano, its golden
# tokens, its card, its report with pictures, and its numbers.
#   training/runs/publish.sh RUN_DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
run=${1:?usage: training/runs/publish.sh RUN_DIR}
package=public/models/nano
rm -rf "$package.new"
npm run --silent convert -- "$run/checkpoint" --adapter "$run/adapter" --out "$package.new"
npm run --silent convert -- verify "$package.new"
rm -rf "$package" && mv "$package.new" "$package"
mkdir -p e2e/fixtures/golden training/runs/nano
cp "$run/golden/nano.json" e2e/fixtures/golden/
cp "$run/MODEL_CARD.md" training/MODEL_CARD.md
cp "$run/report.md" training/report.md
rm -rf training/report
[ ! -d "$run/report" ] || cp -r "$run/report" training/report # no pictures without matplotlib
cp "$run"/metrics/*.jsonl "$run"/*.json training/runs/nano/
bytes=$(cat "$package"/* | wc -c)
echo "package: $bytes bytes (at most 32000000)"
[ "$bytes" -le 32000000 ]
