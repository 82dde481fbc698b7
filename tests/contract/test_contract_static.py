"""The types of contracts hold for type checkers: a wrong name, a wrong field and a missing case are errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILE = HERE / "typing" / "readers.py"


def expected(checker: str) -> list[int]:
    """The lines that have to be errors."""
    marks = (re.search(r"# error(?:: (\w+))?$", line) for line in FILE.read_text().splitlines())
    return [number for number, mark in enumerate(marks, 1) if mark and mark[1] in (None, checker)]


def run(*command: str) -> str:
    environment = os.environ | {"MYPYPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.stdout or done.stderr


@pytest.mark.slow
def test_mypy_finds_each_mistake_and_nothing_else(tmp_path: Path) -> None:
    """With --strict, and no plugin."""
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\nexplicit_package_bases = True\nnamespace_packages = True\n")
    cache = ROOT / ".mypy_cache" / "contracts"
    output = run("mypy", "--config-file", str(config), "--cache-dir", str(cache), str(FILE))
    found = [int(line) for line in re.findall(r"readers\.py:(\d+): error:", output)]
    assert sorted(set(found)) == expected("mypy"), output


@pytest.mark.slow
def test_pyright_finds_each_mistake_and_nothing_else(tmp_path: Path) -> None:
    """With its strict mode."""
    config = tmp_path / "pyrightconfig.json"
    settings = {
        "include": [os.path.relpath(FILE, tmp_path)],
        "extraPaths": [str(ROOT), str(ROOT / "src")],
        "typeCheckingMode": "strict",
        "reportUnusedExpression": False,
    }
    config.write_text(json.dumps(settings))
    report = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)))
    found = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    lines = sorted({each["range"]["start"]["line"] + 1 for each in found})
    assert lines == expected("pyright"), "\n".join(each["message"] for each in found)
