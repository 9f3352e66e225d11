#!/usr/bin/env bash
# Turns a finished nano run into what the app ships: the package under public/models/nano, its golden
# tokens, its cards (of the data without the samples), its report and journals. Nothing is replaced where RUN_DIR/bars.json is of other
# weights, or younger than report and card (the order is in training/README.md).
#   training/runs/publish.sh RUN_DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
run=${1:?usage: training/runs/publish.sh RUN_DIR}
package=public/models/nano
python=${PYTHON:-}
if [ -z "$python" ]; then
  python=python3
  [ -x .venv/bin/python ] && python=.venv/bin/python
fi
for needed in checkpoint adapter golden/nano.json evaluation.json report.md MODEL_CARD.md run.json \
  corpus/DATA_CARD.md; do
  [ -e "$run/$needed" ] || { echo "$0: $run/$needed is not there: the run is not finished" >&2; exit 1; }
done
for written in report.md MODEL_CARD.md; do
  if [ "$run/bars.json" -nt "$run/$written" ]; then
    echo "$0: $run/$written is older than bars.json: make report and card again (training/README.md)" >&2
    exit 1
  fi
done
rm -rf "$package.new"
npm run --silent convert -- "$run/checkpoint" --adapter "$run/adapter" --out "$package.new"
npm run --silent convert -- verify "$package.new"
bytes=$(cat "$package.new"/* | wc -c)
echo "package: $bytes bytes (at most 32000000)"
[ "$bytes" -le 32000000 ] || { echo "$0: too large, nothing is replaced" >&2; exit 1; }
if [ -e "$run/bars.json" ]; then
  "$python" -m training.metrics.published "$run/bars.json" "$package.new" || {
    echo "$0: nothing is replaced" >&2
    exit 1
  }
fi
rm -rf "$package" && mv "$package.new" "$package"
mkdir -p e2e/fixtures/golden
cp "$run/golden/nano.json" e2e/fixtures/golden/
cp "$run/MODEL_CARD.md" training/MODEL_CARD.md
cp "$run/report.md" training/report.md
{
  sed '/^## Samples/,$d' "$run/corpus/DATA_CARD.md"
  echo "Samples of what each step took are in the card that the builder writes beside its records."
} > training/DATA_CARD.md
rm -rf training/report training/runs/nano
[ ! -d "$run/report" ] || cp -r "$run/report" training/report # no pictures without matplotlib
mkdir -p training/runs/nano
cp "$run"/metrics/*.jsonl "$run"/evaluation.json "$run"/run.json training/runs/nano/
for optional in quantization.json bars.json; do
  [ ! -e "$run/$optional" ] || cp "$run/$optional" training/runs/nano/
done
