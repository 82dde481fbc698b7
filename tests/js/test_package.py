"""The npm package in `js/`: its own tests, its types, what it weighs, and what npm would publish."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NODE = next(
    str(path) for path in (Path(sys.executable).parent / "node", shutil.which("node")) if path and Path(path).exists()
)


def node(*arguments: str) -> str:
    """What a node program prints; it must succeed."""
    done = subprocess.run([NODE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_units() -> None:
    """js/test passes in node's own test runner."""
    node("--test", "js/test/*.test.ts")


def test_the_types() -> None:
    """`tsc --strict` accepts the package; a wrong name or field and a missing case are errors (js/test/types.ts)."""
    node("node_modules/typescript/bin/tsc", "-p", "js/tsconfig.json", "--noEmit")


def test_the_served_file_is_fresh() -> None:
    """`newswire.js` in the wheel is what js/src gives: after a change, `make js`."""
    node("js/build.mjs", "--check")


def test_the_core_is_small() -> None:
    """`connect`, with resume, back-off and watchdog, weighs at most 4 KB with gzip."""
    sizes: list[dict[str, Any]] = json.loads(node("js/sizes.mjs", "--json"))
    core = next(one for one in sizes if one["name"].startswith("connect"))
    assert core["gzip"] <= 4096, sizes
