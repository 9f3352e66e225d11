#!/usr/bin/env bash
# One call on a machine with a GPU: trains a preset on a corpus that is already built, measures speed, and
# leaves everything worth carrying away in a few files of at most 15 MiB.
#   training/runs/gpu.sh --corpus DIR --out DIR [--work DIR] [--preset nano-gpu] [--seconds 560]
#                        [--bench-seconds 100] [--set KEY=VALUE ...]
# --corpus: what pedcorpus.build wrote (text.jsonl, chat.jsonl, pairs.jsonl, report.json, exam.jsonl)
# --work: folder of the run, by default one beside --out; a second call with the same one goes on
# In --out: run.log, bench.json, and run.tar.gz.part-aa, -ab ...; put together:
#   cat run.tar.gz.part-* | tar xz
# The archive holds the run's numbers, journals, tokenizer and adapters, and a checkpoint with the packed
# integers and the norms, which is all that `npm run convert` reads.
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/../.."
corpus='' out='' work='' preset=nano-gpu seconds=560 bench=100 settings=()
while [ $# -gt 0 ]; do
  value=${2:?$1 needs a value}
  case $1 in
    --corpus | --out | --work)
      [[ $value = /* ]] || value=$start/$value
      printf -v "${1#--}" %s "$value"
      ;;
    --preset) preset=$value ;;
    --seconds) seconds=$value ;;
    --bench-seconds) bench=$value ;;
    --set) settings+=(--set "$value") ;;
    *)
      echo "$0: unknown argument $1" >&2
      exit 2
      ;;
  esac
  shift 2
done
: "${corpus:?--corpus DIR is needed}" "${out:?--out DIR is needed}"
[ -f "$corpus/chat.jsonl" ] || { echo "$corpus has no chat.jsonl: is it a built corpus?" >&2; exit 2; }
work=${work:-$out.work}
python=${PYTHON:-python3}
mkdir -p "$out" "$work/corpus" "$work/done"
cp -r "$corpus"/. "$work/corpus/"
echo "given" >"$work/done/corpus"
export PYTHONUNBUFFERED=1

ended=0
"$python" -m training.run --preset "$preset" "${settings[@]}" --data "$corpus" --out "$work" \
  --from tokenizer --max-seconds "$((seconds - bench - 30))" 2>&1 | tee -a "$out/run.log" || ended=$?
[ "$ended" = 0 ] || [ "$ended" = 3 ] || echo "training ended with code $ended" | tee -a "$out/run.log"

# the best batch first, so that a bench cut short still says the most
timeout "$bench" "$python" -m training.bench --preset "$preset" "${settings[@]}" --stage cpt --seconds 4 \
  --batch-sweep 256,128,64 --json "$out/bench.json" 2>&1 | tee -a "$out/run.log" || true

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
tar czf - "${names[@]}" | split -b 15728640 - "$out/run.tar.gz.part-"
ls -l "$out"
exit "$ended"
