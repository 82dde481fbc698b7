"""Two revisions in turns: `python -m benchmarks --against REVISION [NAME...]`.

The other revision is unpacked into a temporary folder and runs its own benchmarks, servers and newswire; so does this
work tree, and they take turns. Every second round begins with this tree. A figure that both have is shown as a ratio:
the median over the rounds, and its range. Below 1 is better here, for costs and for speeds alike. A figure is marked as
slower if its median is worse by more than 3% and every round was worse, since noise changes sign. The figures of others
(the floor in C, other decoders) show how large the noise is; peers that cost much time are left out.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.processes import Failed
from benchmarks.report import Cell, Say, Size, Table

ROOT: Final = Path(__file__).parent.parent
_MARGIN: Final = 1.03
# Which figures have a sense: a smaller one is better if the first matches, a larger one if the second does.
_COST: Final = re.compile(r"µs|\bms\b|\bs\b|KB|MB|CPU")
_SPEED: Final = re.compile(r"/s\b|a second of CPU")
# What runs in each tree, whatever its revision: one benchmark, its tables as JSON.
_DRIVER: Final = """
import importlib, json, sys
from benchmarks.report import Size
name, size, target = sys.argv[1:]
module = importlib.import_module(f"benchmarks.{name}")
left_out = set()
if hasattr(module, "fresh"):
    from benchmarks.measure import Window
    fresh, nothing = module.fresh, Window(**dict.fromkeys(Window.__dataclass_fields__, 1))
    def ours(contender, *given, **more):
        if contender.name.startswith(("newswire", "floor")):
            return fresh(contender, *given, **more)
        left_out.add(contender.name)
        return nothing
    module.fresh = ours
tables = module.run(Size(size), lambda what: None)
rows = [(t.title, list(t.columns), [list(row) for row in t.rows if row[0] not in left_out]) for t in tables]
with open(target, "w") as file:
    json.dump(rows, file)
"""
Key: TypeAlias = tuple[str, str, str]  # table, row, column


def compare(name: str, revision: str, size: Size, rounds: int, say: Say) -> list[Table]:
    """Run one benchmark in this tree and in another revision, in turns."""
    here: dict[Key, list[float]] = {}
    there: dict[Key, list[float]] = {}
    with unpacked(revision) as other:
        for number in range(rounds):
            turns = [(other, there, revision), (ROOT, here, "this tree")]
            for tree, figures, who in turns if number % 2 == 0 else turns[::-1]:
                say(f"round {number + 1} of {rounds}: {who}")
                for key, value in measured(tree, name, size).items():
                    figures.setdefault(key, []).append(value)
    return _summary(name, revision, here, there)


@contextlib.contextmanager
def unpacked(revision: str) -> Iterator[Path]:
    """A revision of the repository in a folder of its own."""
    command = ["git", "archive", revision, "src", "benchmarks", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise Failed(done.stderr.decode().strip())
    with tempfile.TemporaryDirectory(prefix="newswire-") as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def measured(tree: Path, name: str, size: Size) -> dict[Key, float]:
    """The figures of one run of one benchmark in one tree."""
    paths = [str(tree / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.NamedTemporaryFile("r") as answer:
        command = [sys.executable, "-c", _DRIVER, name, size.value, answer.name]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{name} in {tree}: {done.stderr[-2000:]}")
        tables = json.load(answer)
    figures: dict[Key, float] = {}
    for title, columns, rows in tables:
        for first, *cells in rows:
            for column, cell in zip(columns[1:], cells, strict=True):
                if type(cell) in (int, float) and sense(title, column):
                    figures[title, str(first), column] = float(cell)
    return figures


def sense(title: str, column: str) -> int:
    """-1: a smaller figure is better; 1: a larger one; 0: neither."""
    if _SPEED.search(column) or _SPEED.search(title):
        return 1
    return -1 if _COST.search(column) else 0


def _summary(name: str, revision: str, here: dict[Key, list[float]], there: dict[Key, list[float]]) -> list[Table]:
    """Every figure that both have, and in the notes of the last table what is slower."""
    tables: dict[str, list[list[Cell]]] = {}
    slower: list[str] = []
    others: list[float] = []
    ours = {title for title, row, _ in here if "newswire" in row}  # the tables that have others beside newswire
    for key in (key for key in here if key in there):
        title, row, column = key
        pairs = [(a, b) for a, b in zip(there[key], here[key], strict=False) if a > 0 and b > 0]
        if not pairs:
            continue
        ratios = [a / b if sense(title, column) > 0 else b / a for a, b in pairs]
        middle = statistics.median(ratios)
        other = title in ours and "newswire" not in row
        worse = not other and middle > _MARGIN and min(ratios) > 1
        if other:
            others.append(middle)
        mark = "SLOWER" if worse else "better" if middle < 1 / _MARGIN and max(ratios) < 1 else ""
        if worse:
            slower.append(f"Slower: {title}: {row}, {column}: {middle:.3f}.")
        before, after = (statistics.median(values) for values in zip(*pairs, strict=True))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        tables.setdefault(title, []).append([f"{row}, {column}", before, after, f"{middle:.3f}", spread, mark])
    notes = slower or [f"{name}: no figure is worse by more than 3% in every round."]
    if others:
        notes.append(f"Noise: the ratios of those that are not newswire are {min(others):.2f} to {max(others):.2f}.")
    if alone := len(here.keys() ^ there.keys()):
        notes.append(f"{alone} figures are of one of the two only and are not shown.")
    columns = ("figure", revision, "here", "ratio", "rounds", "")
    last = list(tables)[-1:]
    return [Table(title, columns, rows, notes if [title] == last else ()) for title, rows in tables.items()]
