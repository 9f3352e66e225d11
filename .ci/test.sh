#!/usr/bin/env bash
# Every lane of docs/architecture.md, cheapest first.   .ci/test.sh full|quick [lane ...]
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-full}
shift || true
quick_lanes='setup lint check build size unit'
full_lanes="$quick_lanes bugs training pipeline e2e"
case $mode in
  full) lanes=${*:-$full_lanes} ;;
  quick) lanes=${*:-$quick_lanes} ;;
  *) echo "usage: .ci/test.sh full|quick [lane ...]   lanes: $full_lanes" >&2; exit 2 ;;
esac
export npm_config_update_notifier=false

lane_setup() { bash .ci/setup.sh browser vulkan python; }

lane_lint() {
  npx eslint . --max-warnings 0
  npx prettier --check --log-level warn .
  npx knip
  .venv/bin/ruff check training
  .venv/bin/ruff format --check training
  npx pyright --project training --pythonpath .venv/bin/python
}

lane_check() { npm run --silent check; }
lane_build() { npx vite build --logLevel warn; }

# The page must stay light: its scripts, gzipped.
lane_size() {
  local page worker
  # What index.html asks for: the rest of the page comes when it is first shown.
  page=$(cd dist && grep -o 'assets/[^"]*\.js' index.html | xargs cat | gzip -9 | wc -c)
  worker=$(cat dist/assets/worker-*.js | gzip -9 | wc -c)
  echo "page $page bytes gzipped (at most 90000), worker $worker (at most 60000)"
  # One line each: of a chain only the last command's failure ends the lane.
  [ "$page" -le 90000 ]
  [ "$worker" -le 60000 ]
  local package
  package=$(cat public/models/nano/* | wc -c)
  echo "nano package $package bytes (at most 32000000)"
  [ "$package" -le 32000000 ]
  node .ci/bundle-scan.mjs
}

# f16 needs a driver that takes a second to compile a kernel, and of whole models the golden files say
# most: the rest is for the full run.
lane_unit() {
  if [ "$mode" = full ]; then
    npx vitest run
  else
    TEST_ADAPTER=SwiftShader npx vitest run \
      --exclude 'src/model/{architectures,cache,load,model,run,wide}.test.ts'
  fi
}

# Do the tests notice? Bugs planted in the shaders, one at a time.
lane_bugs() { node .ci/planted-bugs.mjs; }

# Waiting threads sleep: the tests start processes of their own, which else spin against each other.
lane_training() { OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 .venv/bin/python -m pytest -q training; }

# The whole way on the sample corpus: corpora -> checkpoint -> package -> answer.
lane_pipeline() {
  local out=.cache/pipeline
  rm -rf "$out" && mkdir -p "$out"
  bash training/runs/nano.sh --preset ci --data training/sample --out "$out/run"
  npm run --silent convert -- "$out/run/checkpoint" --adapter "$out/run/adapter" --out "$out/tiny"
  npm run --silent convert -- verify "$out/tiny"
  npm run --silent convert -- "$out/run/checkpoint" --adapter "$out/run/adapter-routed" --out "$out/tiny-routed"
  npm run --silent convert -- verify "$out/tiny-routed"
  npm run --silent ask -- --package "$out/tiny" --task medkqa --greedy --max-tokens 16 --json '宝宝发烧怎么办？'
}

# With a loopback and nothing else, where the machine lets us have that: nothing may need a network.
lane_e2e() {
  if unshare --user --map-root-user --net true 2>/dev/null && command -v ip >/dev/null; then
    unshare --user --map-root-user --net sh -c \
      'ip link set lo up && exec npx playwright test --config e2e/playwright.config.ts'
  else
    echo 'no network namespace can be made here: the tests run with the network that there is'
    npx playwright test --config e2e/playwright.config.ts
  fi
}

started=$SECONDS
passed=0
for lane in $lanes; do
  [ ! -e .cache/env.sh ] || . .cache/env.sh
  printf '\n== %s\n' "$lane"
  before=$SECONDS
  # In a subshell of its own, so that the first failing command ends the lane.
  set +e
  (
    set -e
    "lane_$lane"
  )
  status=$?
  set -e
  if [ "$status" != 0 ]; then
    printf '\n== %s FAILED after %s s\nlanes: %s passed, 1 failed\n' "$lane" $((SECONDS - before)) "$passed"
    exit 1
  fi
  passed=$((passed + 1))
  printf '== %s passed in %s s\n' "$lane" $((SECONDS - before))
done
printf '\nall in %s s\nlanes: %s passed, 0 failed\n' $((SECONDS - started)) "$passed"
