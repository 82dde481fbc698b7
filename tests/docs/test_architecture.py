"""Pages, and modules, name files of the repository that are there; architecture.md, modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from newswire.log import engine

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


def test_the_floors_import_what_the_page_says() -> None:
    """The table has a row for each package, with all that its modules import directly, beside the last row's."""
    table = PAGE.read_text().partition("| floor | what it is | it imports |\n")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[1:]]
    *said, last = [(re.findall(r"`(\w+)`", cells[0]), set(re.findall(r"`(\w+)`", cells[2]))) for cells in rows]
    for_all = set(last[0])
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert {name: names for (name,), names in said} == {
        name: imported(SOURCE / name) - for_all - {name} for name in folders - {"testing"}
    }
    assert {path.stem for path in SOURCE.glob("[!_]*.py")} == for_all


def imported(folder: Path) -> set[str]:
    """The packages and modules of newswire that a folder's modules import."""
    codes = [re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL) for path in folder.rglob("*.py")]
    return {name for code in codes for name in re.findall(r"^ *(?:from|import) newswire\.(\w+)", code, re.MULTILINE)}


def test_where_to_read_has_each_package() -> None:
    """A reader finds a few words on each package's modules."""
    section = PAGE.read_text().partition("## Where to read")[2].partition("\n## ")[0]
    named = {
        floor for floors in re.findall(r"^\* \*\*(.+?)\*\*: ", section, re.MULTILINE) for floor in floors.split(", ")
    }
    assert named == {path.parent.name for path in SOURCE.glob("*/__init__.py")}


def test_the_glossary_is_short() -> None:
    """A reader can learn at most twenty words of newswire's own."""
    glossary = PAGE.read_text().partition("## Glossary")[2]
    words = re.findall(r"^\| (?!word |---)([^|]+) \|", glossary, re.MULTILINE)
    assert 10 <= len(words) <= 20
    assert len(set(words)) == len(words)


def test_how_many_methods_an_engine_has() -> None:
    """The contract of an engine and its guide give the number that an author has to write."""
    number = ["six", "seven", "eight", "nine", "ten"][len(engine.Engine.__abstractmethods__) - 6]
    for text in (engine.__doc__ or "", (PAGE.parent / "log-engines.md").read_text()):
        assert re.findall(r"\b(\w+) methods", text)[0] == number
