"""Pages, and modules, name files of the repository that are there; architecture.md, modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "src" / "newswire"
PAGE: Final = ROOT / "docs" / "explain" / "architecture.md"


def test_where_to_read_names_what_is_there() -> None:
    """Each module and folder of a floor is below one of the floors that its paragraph is about."""
    section = PAGE.read_text().partition("## Where to read")[2].partition("\n## ")[0]
    paragraphs = re.findall(r"^\* \*\*(.+?)\*\*: (.*?)(?=^\* |\Z)", section, re.MULTILINE | re.DOTALL)
    assert len(paragraphs) >= 8
    for floors, text in paragraphs:
        folders = [SOURCE, *(SOURCE / floor for floor in floors.split(", "))]
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", text):
            assert any((folder / name).exists() for folder in folders), f"{floors}: {name}"


def test_files_that_are_named_are_there() -> None:
    """A page or a docstring that names a file of the repository names one that exists."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *SOURCE.rglob("*.py")]
    named = [
        (page, name)
        for page in pages
        for name in re.findall(r"\b(?:src/newswire|tests|scripts|examples|benchmarks)/[\w/]+\.py\b", page.read_text())
    ]
    assert len(named) > 20
    assert [(str(page.relative_to(ROOT)), name) for page, name in named if not (ROOT / name).exists()] == []
