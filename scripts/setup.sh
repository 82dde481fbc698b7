#!/usr/bin/env bash
# Makes the environment that `make demo`, `make test` and `make bench` run in: a virtual environment with newswire
# and its development tools, and node_modules with the browser. Safe to run again; needs no root.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

"$PYTHON" - <<'CHECK' || { echo "newswire needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
