"""Delivery without `delivery/fast`: streams are right, and nothing outside that package leans on private things."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from newswire.delivery.fast import ENABLED

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "newswire"
_PRIVATE = re.compile(
    r"(?:from|import) (?:uvicorn|starlette|fastapi|asyncio)[\w.]*\._\w"
    r"|from (?:uvicorn|starlette|fastapi|asyncio)[\w.]* import (?:.*, )?_\w"
    r"|\b(?:uvicorn|starlette|fastapi|asyncio)\._[a-z]"
    r"|\b_asyncio_\w+|\b_enter_task\b|\b_leave_task\b"
)


@pytest.mark.slow
@pytest.mark.skipif(not ENABLED, reason="this is the run without it")
def test_streams_are_right_without_fast() -> None:
    """The tests of streams pass with NEWSWIRE_FAST=off, as they do with it on."""
    names = ("test_stream", "test_iterable", "test_response", "test_response_release", "test_plain")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ended = subprocess.run(
        [*command, *(f"tests/delivery/{name}.py" for name in names)],
        cwd=ROOT,
        env={**os.environ, "NEWSWIRE_FAST": "off"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


def test_private_names_stand_in_fast_alone() -> None:
    """What uvicorn, Starlette and asyncio don't promise is used in delivery/fast, where its loss is provided for."""
    found = [
        f"{path.relative_to(SOURCE)}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        if path.parent != SOURCE / "delivery" / "fast"
        for line in path.read_text().splitlines()
        if _PRIVATE.search(line)
    ]
    assert found == []
