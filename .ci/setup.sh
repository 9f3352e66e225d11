#!/usr/bin/env bash
# Finds or installs what the tests stand on, and says what it does: Chromium, a software Vulkan
# driver and the Python environment. Writes what it found to .cache/env.sh.
#   .ci/setup.sh [browser] [vulkan] [python]     (all three without an argument)
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache/xdg

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# A package manager call, as root or through sudo.
apt() {
  command -v apt-get >/dev/null || fail "apt-get is not here: install $* by hand and run again"
  local root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo: run as root once: apt-get install $*"
    root=(sudo)
  fi
  if [ ! -e .cache/apt-updated ]; then
    "${root[@]}" apt-get update -q >.cache/apt.log 2>&1 || { cat .cache/apt.log >&2; fail 'apt-get update failed'; }
    touch .cache/apt-updated
  fi
  DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -yq --no-install-recommends "$@" \
    >.cache/apt.log 2>&1 || { tail -n 20 .cache/apt.log >&2; fail "apt-get install $* failed"; }
}

find_browser() {
  local candidate
  for candidate in "${CHROMIUM:-}" /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then echo "$candidate"; return; fi
  done
}

setup_browser() {
  CHROMIUM=$(find_browser)
  if [ -z "$CHROMIUM" ]; then
    say 'no Chromium: installing the Debian package chromium'
    apt chromium
    CHROMIUM=$(find_browser)
  fi
  [ -n "$CHROMIUM" ] || fail 'no Chromium after installing it; set CHROMIUM to its path'
  say "browser: $("$CHROMIUM" --version --no-sandbox 2>/dev/null | head -n 1) at $CHROMIUM"
  if ! fc-list 2>/dev/null | grep -qi 'cjk\|noto sans sc\|wenquanyi'; then
    say 'no Chinese font: installing fonts-noto-cjk for the screens'
    apt fonts-noto-cjk fontconfig
  fi
}

lavapipe_icd() { ls /usr/share/vulkan/icd.d/lvp_icd*.json 2>/dev/null | head -n 1 || true; }
# Nothing where it is not installed: dpkg-query then fails, which is no failure here.
mesa_major() { { dpkg-query -W -f='${Version}' mesa-vulkan-drivers 2>/dev/null || true; } | sed 's/^[0-9]*://; s/\..*//'; }

# Mesa 25 for Debian 12 lives in its backports suite; its address is that of the machine's own main suite.
add_backports() {
  local uri
  uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 2>/dev/null |
    awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
  [ -n "$uri" ] || return 1
  local file=/etc/apt/sources.list.d/bookworm-backports.sources
  if [ ! -e "$file" ]; then
    say 'adding the bookworm-backports suite to the apt sources'
    local write=(tee "$file")
    [ "$(id -u)" = 0 ] || write=(sudo tee "$file")
    printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
      "$uri" | "${write[@]}" >/dev/null
    rm -f .cache/apt-updated
  fi
}

setup_vulkan() {
  local swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
  if [ -n "${VK_DRIVER_FILES:-}" ]; then
    say "Vulkan driver: $VK_DRIVER_FILES (from VK_DRIVER_FILES)"
    return
  fi
  local major
  major=$(mesa_major)
  if [ "${major:-0}" -lt 25 ]; then
    [ -z "$major" ] || say "Mesa $major gives Dawn no adapter: version 25 is needed"
    if grep -q 'VERSION_CODENAME=bookworm' /etc/os-release 2>/dev/null && add_backports; then
      say 'installing mesa-vulkan-drivers from bookworm-backports'
      (apt -t bookworm-backports mesa-vulkan-drivers libvulkan1) || say 'that did not work'
    else
      say 'installing mesa-vulkan-drivers'
      (apt mesa-vulkan-drivers libvulkan1) || say 'that did not work'
    fi
    major=$(mesa_major)
  fi
  if [ "${major:-0}" -ge 25 ] && [ -n "$(lavapipe_icd)" ]; then
    VK_DRIVER_FILES=$(lavapipe_icd)
    say "Vulkan driver: Mesa $(dpkg-query -W -f='${Version}' mesa-vulkan-drivers) lavapipe (f32 and f16)"
  elif [ -e "$swiftshader" ]; then
    VK_DRIVER_FILES=$swiftshader
    say 'Vulkan driver: SwiftShader of Chromium (f32 only)'
  else
    fail 'no software Vulkan driver: install mesa-vulkan-drivers 25 or newer, or chromium (brings SwiftShader)'
  fi
}

setup_python() {
  local base stamp
  base=$(command -v python3.11 || command -v python3 || true)
  [ -n "$base" ] || { say 'no Python: installing python3'; apt python3 python3-venv; base=$(command -v python3); }
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$base is older than Python 3.11"
  if [ ! -x .venv/bin/python ]; then
    say 'making the Python environment .venv'
    if ! "$base" -m venv .venv 2>/dev/null; then
      rm -rf .venv
      apt python3-venv
      "$base" -m venv .venv
    fi
  fi
  stamp=$(cat training/requirements*.txt | sha256sum | cut -c1-16)
  if [ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ]; then
    say 'installing the Python packages of training/requirements*.txt'
    # PyTorch first and alone: what comes later must find it, or pip would pick a CUDA build.
    .venv/bin/pip install -q --disable-pip-version-check "$(grep '^torch==' training/requirements.txt)" 2>.cache/pip.log ||
      { tail .cache/pip.log >&2; fail 'pip could not install torch'; }
    .venv/bin/pip install -q --disable-pip-version-check -r training/requirements-dev.txt 2>.cache/pip.log ||
      { tail .cache/pip.log >&2; fail 'pip could not install the requirements'; }
    echo "$stamp" >.venv/stamp
  fi
  say "Python: $(.venv/bin/python --version), torch $(.venv/bin/python -c 'import torch; print(torch.__version__)')"
}

for part in ${*:-browser vulkan python}; do "setup_$part"; done
{
  [ -z "${CHROMIUM:-}" ] || printf 'export CHROMIUM=%q\n' "$CHROMIUM"
  [ -z "${VK_DRIVER_FILES:-}" ] || printf 'export VK_DRIVER_FILES=%q\n' "$VK_DRIVER_FILES"
  printf 'export PYTHON=%q\n' "$PWD/.venv/bin/python"
  # The Vulkan loader wants a folder of its own; any writable one keeps it quiet.
  printf 'export XDG_RUNTIME_DIR=%q\n' "$PWD/.cache/xdg"
} >.cache/env.sh
