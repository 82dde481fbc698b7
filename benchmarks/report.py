"""Tables: how results are summed up, printed, and written into docs/benchmarks.md.

Every benchmark returns `Table`s and prints nothing itself; `python -m benchmarks` prints them and, with `--write-docs`,
puts them between the markers of the results page, beside the command that made them. Nothing here measures.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, TypeAlias

Cell: TypeAlias = str | int | float | None
Say: TypeAlias = Callable[[str], None]

DOCS: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_PACKAGES: Final = ("uvicorn", "uvloop", "httptools", "sse-starlette", "fastapi", "starlette")


class Size(Enum):
    """How much a benchmark does."""

    FULL = "full"
    """What the results page shows."""
    QUICK = "quick"
    """Enough to see a change of a tenth; less than half the time."""
    SMOKE = "smoke"
    """Only that it runs; the figures mean nothing."""

    def pick(self, full: float, quick: float, smoke: float) -> float:
        """The number for this size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.SMOKE: smoke}[self]

    def count(self, full: int, quick: int, smoke: int) -> int:
        """The whole number for this size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.SMOKE: smoke}[self]


@dataclass(frozen=True, slots=True)
class Table:
    """One result.

    Attributes:
        title: what was measured, with its unit where all columns share one.
        columns: headings; the first column names the row.
        rows: cells; a float is shown with three digits that count, None as a dash.
        notes: what a reader must know to judge the figures, one sentence or two each.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.title!r}: a row of {len(row)} cells under {len(self.columns)} columns: {row!r}"
                )

    def text(self) -> str:
        """For a terminal."""
        cells = [list(self.columns), *([shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = [self.title, "-" * len(self.title)]
        for row in cells:
            rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
        return "\n".join([*lines, *(f"* {note}" for note in self.notes)])

    def markdown(self) -> str:
        """For the results page."""
        lines = [f"**{self.title}**", "", _row(self.columns), _row(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_row([shown(cell) for cell in row]) for row in self.rows]
        if self.notes:
            lines += ["", *(f"* {note}" for note in self.notes)]
        return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def shown(cell: Cell) -> str:
    """A cell as text: thousands apart, three digits that count."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    size = abs(cell)
    return f"{cell:,.0f}" if size >= 100 else f"{cell:.1f}" if size >= 10 else f"{cell:.2f}"


# -- summing up


def median(values: Iterable[float | None]) -> float | None:
    """The median of the values that are there; None if there is none."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def times(value: float | None, base: float | None) -> str | None:
    """`value` as a multiple of `base`, such as `1.07x`."""
    if value is None or not base:
        return None
    ratio = value / base
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def spread(values: Iterable[float | None]) -> str | None:
    """The lowest and the highest of the rounds: how much to trust their median."""
    there = [value for value in values if value is not None]
    return f"{shown(min(there))} to {shown(max(there))}" if there else None


def machine() -> str:
    """One line: what the figures were measured on, and with what."""
    model = platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1].strip() if found else model
    except OSError:
        pass
    packages = ", ".join(f"{name} {installed}" for name in _PACKAGES if (installed := _version(name)))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{model}, {os.cpu_count()} cores, {system}, Python {platform.python_version()}; {packages}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# -- the results page


def write_docs(
    name: str, command: str, tables: Sequence[Table], *, path: Path = DOCS, images: Sequence[Path] = ()
) -> None:
    """Put `tables`, and `images` of the page's folder, between the markers of benchmark `name`.

    Raises:
        LookupError: the page has no markers for it.
    """
    begin, end = f"<!-- results of {name} -->", f"<!-- end of {name} -->"
    page = path.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise LookupError(f"{path} has no place for {name}: write {begin} and {end} where its results belong")
    shown_images = [f"![{image.stem}]({image.relative_to(path.parent)})" for image in images]
    head, rest = page.split(begin, 1)
    tail = rest.split(end, 1)[1]
    results = "\n\n".join([f"`{command}`", *(table.markdown() for table in tables), *shown_images, f"_{machine()}_"])
    path.write_text(f"{head}{begin}\n\n{results}\n\n{end}{tail}", encoding="utf-8")
