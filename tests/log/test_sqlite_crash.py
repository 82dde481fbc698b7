"""kill -9 in the middle of appends: whole batches only, none that was acknowledged lost, and the file goes on."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from newswire.log.sqlite import SqliteLog
from newswire.log.sqlite.hold import Note
from newswire.testing.log_base import opened, read_all

pytestmark = pytest.mark.anyio

APPENDER = Path(__file__).with_name("appender.py")


def start(path: Path, name: str, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(APPENDER), str(path), name, str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def kill_after(process: subprocess.Popen[bytes], acknowledgements: int) -> set[int]:
    """Kill after so many acknowledgements. Returns all of them, also those that the test had not read yet."""
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(acknowledgements)]
    process.kill()
    rest = process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    return {int(line) for line in [*seen, *rest] if line.endswith(b"\n")}


@pytest.mark.slow
async def test_whole_batches_only_and_none_that_was_acknowledged_lost(tmp_path: Path) -> None:
    """Six rounds at random moments, with two processes on one file, of which one, the other or both are killed."""
    dice = random.Random(7)
    path = tmp_path / "log.db"
    acknowledged: dict[str, set[int]] = {}
    ends: list[tuple[str, int]] = []
    for round in range(6):
        pair = {name: start(path, name, dice.randrange(10**6)) for name in (f"a{round}", f"b{round}")}
        for name, process in pair.items():
            acknowledged[name] = kill_after(process, dice.randint(1, 150))
        noted = Note(str(path)).unchanged()  # else it was killed in a checkpoint, which costs a life; no reader notices
        async with opened(SqliteLog(path)) as log:
            span = await log.span()
            stored = await read_all(log, ">")
        for epoch, latest in ends:
            place = span.lives.resume(epoch, latest)
            assert place is not None
            assert not place.lost
            assert place.offset == latest
        if ends and noted:
            assert span.epoch == ends[-1][0]
        ends.append((span.epoch, span.latest))
    assert [entry.offset for entry in stored] == list(range(1, len(stored) + 1))
    batches: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
    for entry in stored:
        name, number, index, size = entry.data.split(" ")[:4]
        batches.setdefault((name, int(number)), []).append((entry.offset, int(index), int(size)))
    for events in batches.values():
        first, _, size = events[0]
        assert events == [(first + index, index, size) for index in range(size)]
    for name, numbers in acknowledged.items():
        assert numbers
        assert {(name, number) for number in numbers} <= batches.keys()


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_opening(tmp_path: Path) -> None:
    """A file that is being made when its process dies is whole, or is made by the next one."""
    dice = random.Random(11)
    for round in range(6):
        path = tmp_path / f"{round}.db"
        process = start(path, "x", round)
        assert process.stdout is not None
        waited = 0
        while not path.exists() and waited < 10**6:
            waited += 1
        for _ in range(dice.randrange(3000)):
            path.exists()
        process.kill()
        process.stdout.close()
        process.wait()
        async with opened(SqliteLog(path)) as log:
            span = await log.span()
            assert [entry.offset for entry in await read_all(log, ">")] == list(range(1, span.latest + 1))
