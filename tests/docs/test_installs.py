"""What a page installs is enough for the commands that follow it: the tests' own environment has every extra."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path
from typing import Final

import pytest
from tests.docs.test_docs import ROOT

PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONSOLE: Final = re.compile(r"^```(?:console|sh)?[^\n`]*\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLED: Final = re.compile(r"newswire\[([\w,-]+)\]")
NEEDS: Final = {
    "server": re.compile(r"\$ newswire (?:serve|run|relay|top|token|ticket|key|init)\b"),
    "auth": re.compile(r"\$ (?:\w+=\$\()?newswire (?:token|ticket)\b"),
    "redis": re.compile(r"--log (?:redis|valkey)s?://"),
    "nats": re.compile(r"--log (?:nats|tls)://"),
    "postgres": re.compile(r"--log postgresql://"),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_extras_are_enough(page: Path) -> None:
    """Each exists; a block that installs newswire and then runs a command has installed what the command imports."""
    text = page.read_text()
    known = metadata("newswire").get_all("Provides-Extra") or []
    assert {extra for found in INSTALLED.findall(text) for extra in found.split(",")} <= set(known)
    for block in CONSOLE.findall(text):
        installed = {extra for found in INSTALLED.findall(block) for extra in found.split(",")}
        if "pip install" in block and "newswire" in block:
            needed = {extra for extra, command in NEEDS.items() if command.search(block)}
            assert needed <= installed, block
