#!/usr/bin/env bash
# From raw corpora to an exported checkpoint: corpus, tokenizer, packed rows, CPT, SFT, the model's own
# answers, DFPO, MoE-Adapter, finish, routed twin, export, quantization, golden files, evaluation,
# report, model card. Steps that are done are skipped, so the command is safe to repeat, also after a
# kill -9; with --max-seconds it stops cleanly (exit code 3) and a rerun goes on.
#   training/runs/nano.sh --preset NAME|FILE.toml --data DIR --out DIR [--max-seconds N] [--set KEY=VALUE]
#                         [--extra MY_BOOKS ...] [--engine endpoint --endpoint URL --model NAME ...]
# NAME: one of training/configs, such as nano or ci. --set changes it: --set cpt.lr=1e-3 --set seed=2
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/../.."
python=${PYTHON:-}
if [ -z "$python" ]; then
  python=python3
  [ -x .venv/bin/python ] && python=$PWD/.venv/bin/python
fi
# Waiting threads sleep: beside other work on the same cores, spinning ones bring each other to a standstill.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --data | --out | --cache) # as seen from where the command was given
      name=$1 value=${2:?$1 needs a path}
      [[ $value = /* ]] || value=$start/$value
      arguments+=("$name" "$value")
      shift 2
      ;;
    --extra)
      arguments+=("$1")
      while [ $# -gt 1 ] && [[ $2 != --* ]]; do
        [[ $2 = /* ]] && arguments+=("$2") || arguments+=("$start/$2")
        shift
      done
      shift
      ;;
    --preset)
      value=${2:?--preset needs a name or a file}
      [[ $value != *.toml || $value = /* ]] || value=$start/$value
      arguments+=("$1" "$value")
      shift 2
      ;;
    *)
      arguments+=("$1")
      shift
      ;;
  esac
done
set -x
exec "$python" -m training.run "${arguments[@]}"
