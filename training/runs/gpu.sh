#!/usr/bin/env bash
# One call on a machine with a GPU: trains a preset on a corpus that is already built, measures speed in the
# time that is left, and leaves everything worth carrying away in a few files of at most 15 MiB.
#   training/runs/gpu.sh --corpus DIR|FILE.tar.xz --out DIR [--work DIR] [--preset nano-gpu] [--seconds 560]
#                        [--wheels DIR] [--set KEY=VALUE ...]
# --corpus: what pedcorpus.build wrote; packed as `tar cJf corpus.tar.xz --exclude=records --exclude=completions.jsonl -C DIR .`
# --work: folder of the run, by default one beside --out; a second call with the same one goes on
# --wheels: folder of wheels for a machine without a package index, made by
#   pip wheel -w DIR bm25s jieba nltk rouge sacrebleu matplotlib tqdm   (versions of requirements-data.txt)
# Without those libraries nothing is evaluated and no report is written; that is said.
# In --out: run.log, bench.json, and run.tar.gz.part-aa, -ab ...; put together and published:
#   cat run.tar.gz.part-* | tar xz -C RUN && training/runs/publish.sh RUN
# The archive holds the run's numbers, journals, tokenizer and adapters, and a checkpoint with the packed
# integers and the norms, which is all that `npm run convert` reads.
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/../.."
corpus='' out='' work='' wheels='' preset=nano-gpu seconds=560 settings=()
while [ $# -gt 0 ]; do
  value=${2:?$1 needs a value}
  case $1 in
    --corpus | --out | --work | --wheels)
      [[ $value = /* ]] || value=$start/$value
      printf -v "${1#--}" %s "$value"
      ;;
    --preset) preset=$value ;;
    --seconds) seconds=$value ;;
    --set) settings+=(--set "$value") ;;
    *)
      echo "$0: unknown argument $1" >&2
      exit 2
      ;;
  esac
  shift 2
done
: "${corpus:?--corpus is needed}" "${out:?--out is needed}"
work=${work:-$out.work}
python=${PYTHON:-python3}
mkdir -p "$out" "$work/corpus" "$work/done"
if [ ! -f "$work/corpus/chat.jsonl" ]; then
  if [ -d "$corpus" ]; then
    for file in "$corpus"/*.json "$corpus"/*.jsonl; do cp "$file" "$work/corpus/"; done
  else
    tar xJf "$corpus" -C "$work/corpus"
  fi
fi
[ -f "$work/corpus/chat.jsonl" ] || { echo "$corpus has no chat.jsonl: is it a built corpus?" >&2; exit 2; }
echo "given: $corpus" >"$work/done/corpus"
export PYTHONUNBUFFERED=1
if [ -n "$wheels" ]; then
  "$python" -m venv --system-site-packages "$work/venv"
  python=$work/venv/bin/python
  "$python" -m pip install -q --no-index --find-links "$wheels" bm25s jieba nltk rouge sacrebleu matplotlib tqdm
fi

train() { # FROM TO SECONDS
  "$python" -m training.run --preset "$preset" "${settings[@]}" --data "$work/corpus" --out "$work" \
    --from "$1" --to "$2" --max-seconds "$3" 2>&1 | tee -a "$out/run.log"
}
left() { echo $((seconds - SECONDS - 20)); }
ended=0
if "$python" -c 'import bm25s, jieba, nltk, rouge, sacrebleu'; then
  train tokenizer golden "$(left)" || ended=$?
else
  echo "no evaluation libraries: the run ends with its golden tokens, nothing is evaluated" | tee -a "$out/run.log"
  train tokenizer quantise "$(left)" && train golden golden "$(left)" || ended=$?
fi
[ "$ended" = 0 ] || echo "training ended with code $ended (3: stopped by time)" | tee -a "$out/run.log"

if [ "$ended" = 0 ] && [ "$(left)" -gt 60 ]; then
  # the best batch first, so that a bench cut short still says the most
  timeout "$(left)" "$python" -m training.bench --preset "$preset" "${settings[@]}" --stage cpt --seconds 4 \
    --batch-sweep 256,128,64 --json "$out/bench.json" 2>&1 | tee -a "$out/run.log" || true
fi

if [ -f "$work/checkpoint/quantized.safetensors" ]; then
  rm -rf "$work/small"
  cp -r "$work/checkpoint" "$work/small"
  "$python" - "$work/small/model.safetensors" <<'PY'
import sys

from safetensors.torch import load_file, save_file

path = sys.argv[1]
vectors = {name: tensor for name, tensor in load_file(path).items() if tensor.dim() == 1}
save_file(vectors, path, metadata={"format": "pt"})
PY
fi
cd "$work"
names=()
for name in small adapter adapter-routed tokenizer golden metrics report answers run.json evaluation.json \
  quantization.json MODEL_CARD.md report.md; do
  [ -e "$name" ] && names+=("$name")
done
for journal in stages/*/metrics.jsonl stages/*/DONE.json; do
  [ -e "$journal" ] && names+=("$journal")
done
rm -f "$out"/run.tar.gz.part-*
tar czf - --transform 's,^small,checkpoint,' "${names[@]}" | split -b 15728640 - "$out/run.tar.gz.part-"
ls -l "$out"
exit "$ended"
