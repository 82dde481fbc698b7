"""The README's figures are those of docs/benchmarks.md, rounded: after a run that renews that page, copy what fails."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?")
DIRECT, STARLETTE = "newswire, direct path", "newswire, ASGI path, Starlette"
QUEUE, FASTAPI = "sse-starlette, a queue a client", "FastAPI SSE, a queue a client"
FLOOR, MIDDLEWARE = "floor (C, epoll + send)", "newswire, ASGI path, Starlette in StreamMiddleware"
ONE, FIVE = "1,000 subscribers, 20 events", "5,000 subscribers, 4 events"
ONE_SLOW, FIVE_SLOW = "1,000 subscribers, 3 events", "5,000 subscribers, 1 events"
ANSWERS, IDLE, HELD = (
    "1,000 answers at once",
    "Resident memory for each idle subscriber",
    "5,000 subscribers, 100 events",
)
CPU, TOKEN, KB, OWN = "CPU µs/delivery", "CPU µs/token", "KB", "own CPU: longest, ms"
STORED = "Events of 200 bytes, one process"
BARE, MEMORY, SQLITE = (
    "a generator through StreamingResponse, uvicorn",
    "run, memory log",
    "run, SQLite log, synchronous=FULL",
)
# For each row of the README's table by its first words, the figures of its second and third cell in order: the part of
# the page, the begin of a table's title, the row and the column. A text instead of a table's is a note of that part.
FIGURES: Final[dict[str, list[tuple[str, str, str, str]]]] = {
    "CPU of the server": [("fanout", of, row, CPU) for row in (DIRECT, FLOOR) for of in (ONE, FIVE)],
    "the same through Starlette": [
        *(("fanout", of, row, CPU) for row in (STARLETTE, QUEUE) for of in (ONE_SLOW, FIVE_SLOW)),
        ("fanout", ONE_SLOW, FASTAPI, CPU),
    ],
    "memory of an idle": [("memory", IDLE, row, KB) for row in (DIRECT, STARLETTE, MIDDLEWARE, QUEUE, FASTAPI)],
    "the longest that one": [("loop", HELD, row, OWN) for row in (DIRECT, QUEUE)],
    "events/s stored": [
        ("publish", STORED, "SQLite, synchronous=FULL: 64 publishers", "events/s"),
        ("publish", "fdatasync runs", "", ""),
    ],
    "a token of a run": [("runs", ANSWERS, row, of) for row in (MEMORY, SQLITE, BARE) for of in (TOKEN, "p99 ms")],
}
SKIPPED: Final = {"the same through Starlette": ["1,000"]}  # numbers in these cells that are no figures


def part(name: str) -> str:
    """The results of a benchmark."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    return page.partition(f"<!-- results of {name} -->")[2].partition(f"<!-- end of {name} -->")[0]


def measured(name: str, title: str, row: str, column: str) -> float:
    """A cell of a table, or the number after some words of a note."""
    text = part(name)
    if not row:
        return number(text.partition(title)[2])
    table = text.partition(f"**{title}")[2].partition("\n\n")[2].partition("\n\n")[0]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines())
    [found] = [cells for cells in rows if cells[0] == row]
    return number(found[head.index(column)])


def number(text: str) -> float:
    found = NUMBER.search(text)
    assert found, text
    return float(found[0].replace(",", ""))


def is_rounded(figure: str, value: float) -> bool:
    """Whether a figure is a value, rounded to at most as many digits as it shows."""
    shown = Decimal(figure.replace(",", ""))
    *_, exponent = shown.as_tuple()
    zeros = (
        0 if "." in figure else len(re.findall("0", figure[len(figure.rstrip("0,")) :]))
    )  # they may be digits, or places
    places = (Decimal(1).scaleb(int(exponent) + more) for more in range(zeros + 1))
    return any(abs(shown - Decimal(str(value))) * 2 <= place for place in places)


def rows() -> dict[str, list[str]]:
    """The table of the README under "What it costs": the first cell of a row, and the numbers of the others."""
    text = (ROOT / "README.md").read_text().partition("## What it costs")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")][2:]
    return {cells[0].strip(): NUMBER.findall(" ".join(cells[1:])) for cells in lines}


def test_every_row_is_looked_up() -> None:
    assert [next((first for first in FIGURES if row.startswith(first)), row) for row in rows()] == list(FIGURES)


@pytest.mark.parametrize("first", FIGURES)
def test_the_readme_has_the_measured_figures(first: str) -> None:
    """In their order, each rounded."""
    [shown] = [numbers for row, numbers in rows().items() if row.startswith(first)]
    for text in SKIPPED.get(first, ()):
        shown.remove(text)
    assert len(shown) == len(FIGURES[first])
    for figure, place in zip(shown, FIGURES[first], strict=True):
        value = measured(*place)
        assert is_rounded(figure, value), f"{first}: the README has {figure}, the page {value:g} at {place}"


def test_what_is_rounded() -> None:
    """A figure may show fewer digits, and no others."""
    assert is_rounded("8.8", 8.82)
    assert is_rounded("850", 846)
    assert is_rounded("5", 5.14)
    assert is_rounded("50,000", 52_345)
    assert not is_rounded("50,000", 56_000)
    assert not is_rounded("8.9", 8.82)
    assert not is_rounded("17", 17.6)
