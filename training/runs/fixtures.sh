#!/usr/bin/env bash
# Remakes the tiny models that the tests stand on: trains preset ci on the sample corpus, converts
# the merged and the routed adapter, draws one random model of every other architecture, and puts
# packages and golden files under e2e/fixtures.
#   training/runs/fixtures.sh [OUT]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-.cache/fixtures}
fixtures=e2e/fixtures
bash training/runs/nano.sh --preset ci --data training/sample --out "$out"
for name in tiny tiny-routed; do
  adapter=$out/adapter
  [ "$name" = tiny ] || adapter=$out/adapter-routed
  rm -rf "$fixtures/$name"
  npm run --silent convert -- "$out/checkpoint" --adapter "$adapter" --out "$fixtures/$name"
  npm run --silent convert -- verify "$fixtures/$name"
done
mkdir -p "$fixtures/golden"
cp "$out"/golden/tiny.json "$out"/golden/tiny.safetensors "$fixtures/golden/"
cp "$out"/golden/tiny-routed.json "$out"/golden/tiny-routed.safetensors "$fixtures/golden/"
python=${PYTHON:-.venv/bin/python}
"$python" -m training.architectures --out "$out/architectures" # with the tokenizer of tiny
for checkpoint in "$out"/architectures/*/checkpoint; do
  name=$(basename "$(dirname "$checkpoint")")
  adapter=$(dirname "$checkpoint")/adapter
  arguments=("$checkpoint" --out "$fixtures/$name")
  [ ! -d "$adapter" ] || arguments+=(--adapter "$adapter")
  rm -rf "${fixtures:?}/$name"
  npm run --silent convert -- "${arguments[@]}"
  npm run --silent convert -- verify "$fixtures/$name"
done
cp "$out"/architectures/golden/* "$fixtures/golden/"
du -sb "$fixtures"/*
