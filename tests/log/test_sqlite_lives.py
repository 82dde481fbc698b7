"""Copies, restored copies, moves and reboots: a cursor goes on without a gap exactly if the log has what it saw."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from newswire import Hub, Pattern, Position
from newswire.errors import InvalidPosition
from newswire.log.sqlite import SqliteLog, hold, writer
from newswire.log.sqlite.hold import Note
from newswire.testing.log_base import PATIENCE, opened, publish

pytestmark = pytest.mark.anyio


def over(copy: Path, path: Path) -> None:
    """As `cp` does: the file stays, with other bytes."""
    path.write_bytes(copy.read_bytes())


def anew(copy: Path, path: Path) -> None:
    """As `rm` and `cp` do."""
    path.unlink()
    shutil.copy2(copy, path)


def moved(copy: Path, path: Path) -> None:
    """As `mv` does."""
    shutil.copy2(copy, path.with_name("moving"))
    path.with_name("moving").replace(path)


RESTORES: list[Callable[[Path, Path], None]] = [over, anew, moved]


async def publish_all(path: Path, *data: str) -> list[Position]:
    """Open a hub, publish, and close it."""
    async with Hub(f"sqlite:///{path}") as hub:
        return [await hub.publish("a", each) for each in data]


def reading(hub: Hub, channel: str, **start: Any) -> aclosing[Any]:
    """A subscription that is closed at the end of the block."""
    return aclosing(cast(Any, aiter(hub.subscribe(channel, **start))))


async def resume(path: Path, after: Position | str) -> tuple[dict[str, object] | None, list[str]]:
    """What a reader gets that comes back: a gap's data, and the data of the events."""
    async with Hub(f"sqlite:///{path}") as hub, reading(hub, "a", after=after) as events:
        await hub.publish("a", "end")
        gap, found = None, []
        with anyio.fail_after(PATIENCE):
            async for event in events:
                if event.event == "newswire.gap":
                    gap = event.json()
                    continue
                found.append(event.data)
                if event.data == "end":
                    return gap, found
    raise AssertionError


@pytest.mark.parametrize("restore", RESTORES)
async def test_a_restored_copy(restore: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """Its offsets are used again, in another epoch: what had gone past it gets a gap, what had not goes on."""
    path, copy = tmp_path / "log.db", tmp_path / "copy.db"
    early = await publish_all(path, "1", "2")
    shutil.copy2(path, copy)
    late = await publish_all(path, "3", "4")
    assert late[0].epoch == early[0].epoch
    restore(copy, path)
    new = await publish_all(path, "A", "B", "C")
    assert [position.offset for position in new] == [3, 4, 5]
    assert new[0].epoch != late[0].epoch
    for position in late:
        gap, events = await resume(path, position)
        assert gap == {"reason": "future", "after": f"{new[0].epoch}-2", "through": None}
        assert events[:5] == ["1", "2", "A", "B", "C"]
    assert await resume(path, early[0]) == (None, ["2", "A", "B", "C", "end"])
    gap, events = await resume(path, early[1])
    assert gap is None
    assert events[:3] == ["A", "B", "C"]


async def test_an_event_keeps_its_id(tmp_path: Path) -> None:
    """In a stream and in the history it is the position that `publish` returned, in whatever life it was."""
    path = tmp_path / "log.db"
    given = await publish_all(path, "1", "2")
    over(path, path)
    given += await publish_all(path, "3")
    path.with_name("log.db-life").unlink()
    async with Hub(f"sqlite:///{path}") as hub:
        given.append(await hub.publish("a", "4"))
        async with reading(hub, Pattern(">"), start="earliest") as events:
            assert [(await anext(events)).id for _ in given] == [str(position) for position in given]
        assert len({position.epoch for position in given}) == 3
        page, position = await hub.history("a", after=given[1])
        assert [entry.data for entry in page.entries] == ["3", "4"]
        assert (await hub.history("a", after=position))[0].entries == []


async def test_the_history(tmp_path: Path) -> None:
    """It refuses a position that is past what is left of its life, and goes on from others."""
    path = tmp_path / "log.db"
    [early] = await publish_all(path, "1")
    copy = path.read_bytes()
    [late] = await publish_all(path, "2")
    path.write_bytes(copy)
    await publish_all(path, "A", "B")
    async with Hub(f"sqlite:///{path}") as hub:
        page, _ = await hub.history("a", after=early)
        assert [entry.data for entry in page.entries] == ["A", "B"]
        with pytest.raises(InvalidPosition, match="past what this log has"):
            await hub.history("a", after=late)


@pytest.mark.slow
async def test_what_is_no_new_life(tmp_path: Path) -> None:
    """Opening it again, also after a kill, and others that open it at the same time, leave the epoch as it is."""
    path = tmp_path / "log.db"
    appender = [sys.executable, str(Path(__file__).with_name("appender.py")), str(path), "x", "1"]
    epochs = {position.epoch for _ in range(3) for position in await publish_all(path, "x")}
    for _ in range(3):
        process = subprocess.Popen(appender, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.communicate()
        epochs |= {position.epoch for position in await publish_all(path, "x")}
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "x")
        path.with_name("log.db-life").unlink()  # nothing says that it is as it was, but somebody has it open
        os.utime(path)
        async with opened(SqliteLog(path)) as other:
            epochs |= {(await other.span()).epoch, (await log.span()).epoch}
    assert len(epochs) == 1


@pytest.mark.parametrize("with_note", [True, False])
async def test_a_file_that_is_moved(with_note: bool, tmp_path: Path) -> None:
    """Moved while it is closed it has lost nothing, and readers go on without a gap."""
    path, other = tmp_path / "log.db", tmp_path / "other.db"
    positions = await publish_all(path, "1", "2")
    path.rename(other)
    if with_note:
        path.with_name("log.db-life").rename(tmp_path / "other.db-life")
    assert await resume(other, positions[0]) == (None, ["2", "end"])
    assert await resume(other, positions[1]) == (None, ["end"])


async def test_another_boot(tmp_path: Path) -> None:
    """It may have taken the last events, so a life begins; what is still there goes on without a gap."""
    path, life = tmp_path / "log.db", tmp_path / "log.db-life"
    positions = await publish_all(path, "1", "2")
    note = json.loads(life.read_text())
    note["database"][-1] = "another boot"
    life.write_text(json.dumps(note))
    assert await resume(path, positions[0]) == (None, ["2", "end"])
    [new] = await publish_all(path, "3")
    assert new.epoch != positions[0].epoch
    beyond = Position(positions[0].epoch, 3)  # was acknowledged, and the disk never had it
    gap, _ = await resume(path, beyond)
    assert gap is not None
    assert gap["reason"] == "future"


NORMAL = """
import asyncio, sys
from newswire import Hub
from newswire.log.sqlite import SqliteLog, hold, writer
from newswire.log.sqlite.hold import Note

async def main():
    hub = Hub(SqliteLog(sys.argv[1], synchronous="NORMAL"))
    for number in range(1, 21):
        print(await hub.publish("a", str(number)), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def shorter(wal: Path) -> None:
    """The file system had not got the last transactions."""
    os.truncate(wal, wal.stat().st_size - 5 * (4096 + 24))


def empty(wal: Path) -> None:
    """It had got the length of the file, and not what is in its second half."""
    size = wal.stat().st_size
    os.truncate(wal, size // 2)
    os.truncate(wal, size)


def hole(wal: Path) -> None:
    """Another program had cut it, and the last transactions were stored behind the hole."""
    whole = wal.read_bytes()
    wal.write_bytes(whole[: len(whole) // 2])
    with wal.open("r+b") as file:
        file.seek(len(whole) - 5 * (4096 + 24))
        file.write(whole[-5 * (4096 + 24) :])


@pytest.mark.slow
@pytest.mark.parametrize("lose", [shorter, empty, hole, Path.unlink])
@pytest.mark.parametrize("same_boot", [True, False])
async def test_the_last_transactions_are_cut_off(
    lose: Callable[[Path], object], same_boot: bool, tmp_path: Path
) -> None:
    """Whatever the boot, their offsets are used again in another epoch; what is left goes on without a gap."""
    path, life = tmp_path / "log.db", tmp_path / "log.db-life"
    given = await publish_all(path, "first")  # is in the database
    with subprocess.Popen([sys.executable, "-c", NORMAL, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        given += [Position.parse(process.stdout.readline().strip()) for _ in range(20)]
        process.kill()
    lose(path.with_name("log.db-wal"))
    if not same_boot:
        noted = json.loads(life.read_text())
        noted["database"][3] = "another"
        life.write_text(json.dumps(noted))
    new = await publish_all(path, "A", "B")
    assert new[0].epoch != given[0].epoch
    kept = new[0].offset - 1
    assert kept < 20
    for position in given:
        gap, events = await resume(path, position)
        if position.offset > kept:
            assert gap == {"reason": "future", "after": f"{new[0].epoch}-{kept}", "through": None}
        else:
            assert gap is None
            assert events[: kept - position.offset + 2] == [*map(str, range(position.offset, kept)), "A", "B"]


async def test_a_clock_that_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for a tick of the clock at most, not until the file's date has come."""
    pauses: list[float] = []
    then = time.time_ns() - 30 * 86_400 * 10**9
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append, time_ns=lambda: then)
    monkeypatch.setattr(hold, "time", clock)
    [position] = await publish_all(tmp_path / "log.db", "1")
    monkeypatch.undo()
    assert pauses
    assert max(pauses) <= 0.01
    assert await resume(tmp_path / "log.db", position) == (None, ["end"])


@pytest.mark.slow
async def test_another_log_of_the_process(tmp_path: Path) -> None:
    """Opening a file once more looks at it without dropping SQLite's locks: a reader's snapshot is still protected."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
        with sqlite3.connect(path) as snapshot:
            snapshot.execute("BEGIN")
            snapshot.execute("SELECT count(*) FROM newswire_events").fetchone()
            async with opened(SqliteLog(path)) as other:
                await publish(other, "a", "2")
                empties = "from sqlite3 import connect; from sys import argv; "
                empties += "print(connect(argv[1], timeout=0.2).execute(argv[2]).fetchone()[0])"
                command = [sys.executable, "-c", empties, str(path), "PRAGMA wal_checkpoint(TRUNCATE)"]
                done = await anyio.run_process(command)
                assert done.stdout == b"1\n"  # busy
            snapshot.rollback()
        snapshot.close()


@pytest.mark.parametrize("note", [b"", b"\0" * 80, b"[]", b'{"database": 5, "wal": 5}', b'{"wal": [1, 2]}', b'"\xff"'])
async def test_a_note_that_makes_no_sense(note: bytes, tmp_path: Path) -> None:
    """It is as if there were none."""
    path = tmp_path / "log.db"
    [early] = await publish_all(path, "1")
    path.with_name("log.db-life").write_bytes(note)
    [late] = await publish_all(path, "2")
    assert late.epoch != early.epoch
    assert await resume(path, early) == (None, ["2", "end"])


@pytest.mark.slow
async def test_two_logs_that_move_the_write_ahead_log_to_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither takes what the other does for another program's change: no life begins."""
    monkeypatch.setattr(writer, "WAL_CHECKPOINT", 0)
    monkeypatch.setattr(writer, "_WAL_LOOK_SECONDS", 0.0)
    path = tmp_path / "log.db"
    epochs = set()
    for _ in range(3):
        async with opened(SqliteLog(path)) as one, opened(SqliteLog(path)) as other, anyio.create_task_group() as group:
            for log in (one, other):
                group.start_soon(publish, log, "a", *["x" * 10_000] * 200)
        async with opened(SqliteLog(path)) as log:
            epochs.add((await log.span()).epoch)
    assert len(epochs) == 1


async def test_a_checkpoint_while_another_process_is_at_one(tmp_path: Path) -> None:
    """It is put off: the other would not know whose change it was."""
    path = tmp_path / "log.db"
    await publish_all(path, "1")
    mine, its = Note(str(path)), Note(str(path))
    with mine.changing() as free:
        assert free
        os.utime(path)
        with its.changing() as free:
            assert not free
    assert mine.unchanged()
    with its.changing() as free:
        assert free


async def test_a_process_that_is_killed_while_it_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The former note is there until the new one is."""
    path = tmp_path / "log.db"
    [early] = await publish_all(path, "1")

    def dies(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", dies)
        with pytest.raises(KeyboardInterrupt):
            Note(str(path)).write()
    [late] = await publish_all(path, "2")
    assert late.epoch == early.epoch


async def test_a_copy_over_an_open_file(tmp_path: Path) -> None:
    """What that does is not seen while it is open; the next time, a life begins."""
    path = tmp_path / "log.db"
    await publish_all(path, "1")
    async with Hub(f"sqlite:///{path}") as hub:
        late = await hub.publish("a", "2")
        over(path, path)
    [new] = await publish_all(path, "3")
    assert new.epoch != late.epoch


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_a_random_walk(seed: int, tmp_path: Path) -> None:
    """Files that are copied, restored and published to: every cursor ever given gets what it has not seen, or a gap."""
    dice = random.Random(seed)
    files = [tmp_path / f"{number}.db" for number in range(3)]
    history: dict[Path, list[str]] = {files[0]: []}  # the data of a file's events
    seen: list[tuple[Position, list[str]]] = []  # a position, and the events up to it
    count = 0
    for _ in range(40):
        source, target = dice.choice(list(history)), dice.choice(files)
        if dice.random() < 0.6:
            data = [str(count := count + 1) for _ in range(dice.randint(1, 3))]
            for position, each in zip(await publish_all(source, *data), data, strict=True):
                history[source] = [*history[source], each]
                assert position.offset == len(history[source])
                seen.append((position, history[source]))
        elif source != target and source.exists():
            if target.exists():
                dice.choice(RESTORES)(source, target)
            else:
                shutil.copy2(source, target)
            history[target] = history[source]
    for file, events in history.items():
        if file.exists():
            await publish_all(file, "end")
            for position, had in dice.sample(seen, min(len(seen), 12)):
                async with Hub(f"sqlite:///{file}") as hub, reading(hub, "a", after=position) as subscription:
                    first = await anext(subscription)
                    if events[: len(had)] == had:
                        assert first.data == [*events, "end"][len(had)]
                    else:
                        assert first.event == "newswire.gap"
