#!/usr/bin/env bash
# Runs `make test` on every Python that newswire supports, each in an environment of its own: scripts/test_all.sh [VERSION...]
#
# TARGET=quick runs `make quick` instead. An interpreter is looked for on PATH and among pyenv's; uv downloads one that
# this machine lacks. A version that can't be had is a failure; but for 3.14, of which the last lines then say so.
# Every command starts with a fresh interpreter, which takes a quarter longer; see tests/fixtures/fork_server.py.
set -euo pipefail
cd "$(dirname "$0")/.."
TARGET=${TARGET:-test}
export NEWSWIRE_TEST_FORKS=${NEWSWIRE_TEST_FORKS:-off}
newest=3.14
asked=${*:-3.11 3.12 3.13 $newest}

is_version() { [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]; }

find_python() {
    local candidate
    for candidate in "$(command -v "python$1")" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if is_version "$candidate" "$1"; then echo "$candidate"; return; fi
    done
    .venv/bin/python -m pip install --quiet --constraint constraints.txt uv >&2 || return
    .venv/bin/uv python install --quiet "$1" && .venv/bin/uv python find "$1"
}

[ -x .venv/bin/python ] || make setup
failed=()
left=()
for version in $asked; do
    echo "=== Python $version"
    if python=$(find_python "$version"); then
        make "$TARGET" PYTHON="$python" VENV=".venv-$version" || failed+=("$version")
    else
        echo "there is no Python $version here, and uv can't download one" >&2
        if [ $# -eq 0 ] && [ "$version" = $newest ]; then left+=("$version"); else failed+=("$version"); fi
    fi
done
[ ${#left[@]} -eq 0 ] || echo "not run, for want of an interpreter: Python ${left[*]}" >&2
[ ${#failed[@]} -eq 0 ] || { echo "failed on Python: ${failed[*]}" >&2; exit 1; }
