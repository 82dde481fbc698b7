"""The files of an SQLite log: who may read them, links to them, and that those in use are those at their paths."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import time
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from newswire import Event
from newswire.errors import LogCorrupt, LogUnavailable
from newswire.log.retention import Retention
from newswire.log.sqlite import SqliteLog, file, hold, retention
from newswire.log.sqlite.file import WAL_CHECKPOINT, WAL_LIMIT, LogFile
from newswire.testing.log_base import opened, publish, read_all

pytestmark = pytest.mark.anyio


def modes(path: Path) -> dict[str, int]:
    """The permissions of a log's files, by the end of their names."""
    return {each.name.removeprefix(path.name): stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_read_it(umask: int, tmp_path: Path) -> None:
    """Every file that the log makes is 0600, whatever the umask, while it is open and after it was killed or closed."""
    path = tmp_path / "log.db"
    before = os.umask(umask)
    try:
        async with opened(SqliteLog(path)) as log:
            await publish(log, "a", "1")
            assert modes(path) == dict.fromkeys(["", "-wal", "-shm", "-life"], 0o600)
    finally:
        os.umask(before)
    assert modes(path) == dict.fromkeys(["", "-life"], 0o600)


async def test_the_mode_of_an_existing_file(tmp_path: Path) -> None:
    """It is its owner's choice: it stays, and the files beside it get the same."""
    path = tmp_path / "log.db"
    path.touch()
    path.chmod(0o640)
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
        assert modes(path) == dict.fromkeys(["", "-wal", "-shm", "-life"], 0o640)


@pytest.mark.slow
@pytest.mark.parametrize("link", ["file", "folder"])
async def test_through_a_link(link: str, tmp_path: Path) -> None:
    """A log that is opened through a symbolic link is the same log, and its write-ahead log starts again as any."""
    (tmp_path / "real").mkdir()
    path = tmp_path / "real" / "log.db"
    name = tmp_path / "link" if link == "folder" else tmp_path / "link.db"
    name.symlink_to(path.parent if link == "folder" else path)
    name = name / "log.db" if link == "folder" else name
    wal = anyio.Path(f"{path}-wal")
    async with opened(SqliteLog(name, synchronous="NORMAL")) as log:
        largest = 0
        for number in range(160):
            await log.append([(f"c.{number}", Event("x" * 10_000))] * 100)
            await anyio.sleep(0.01)
            largest = max(largest, (await wal.stat()).st_size)
    assert WAL_CHECKPOINT < largest < WAL_LIMIT * 3 / 4
    async with opened(SqliteLog(path)) as log:
        assert (await log.span()).latest == 16_000


@pytest.mark.parametrize("quiet", [False, True], ids=["changed lately", "quiet folder"])
@pytest.mark.parametrize("which", ["", "-wal", "-shm"])
@pytest.mark.parametrize("what", ["deleted", "moved", "replaced"])
async def test_a_file_that_is_gone(what: str, which: str, quiet: bool, tmp_path: Path) -> None:
    """Once one of the files is not at its path, nothing is acknowledged; what was acknowledged before is kept."""
    path = tmp_path / "log.db"
    gone = tmp_path / f"log.db{which}"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
        if quiet:
            os.utime(tmp_path, (time.time() - 60, time.time() - 60))
            await publish(log, "a", "2")
        if what == "replaced":
            shutil.copy(gone, tmp_path / "copy")
            (tmp_path / "copy").replace(gone)
        elif what == "moved":
            gone.rename(tmp_path / "elsewhere")
        else:
            gone.unlink()
        for _ in range(2):
            with pytest.raises(LogUnavailable, match=f"{gone} was deleted, moved, replaced or emptied while in use"):
                await publish(log, "a", "lost")
            with pytest.raises(LogUnavailable, match="was deleted, moved, replaced or emptied while in use"):
                await read_all(log, "a")
    if which:  # the last one to close brings what was stored to the database
        async with opened(SqliteLog(path)) as log:
            assert [entry.data for entry in await read_all(log, "a")] == ["1", "2"][: 1 + quiet]


async def test_a_folder_that_is_gone_is_looked_for_without_haste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention tries again at its next tick, not at once."""
    monkeypatch.setattr(retention, "_TICK_SECONDS", 0.1)
    tries: list[float] = []
    connect = LogFile.connect

    def counted(self: LogFile) -> sqlite3.Connection:
        tries.append(time.monotonic())
        return connect(self)

    (tmp_path / "logs").mkdir()
    async with opened(SqliteLog(tmp_path / "logs" / "log.db", retention=Retention(max_age=60))) as log:
        await publish(log, "a", "1")
        shutil.rmtree(tmp_path / "logs")
        with pytest.raises(LogUnavailable):
            await publish(log, "a", "lost")
        monkeypatch.setattr(LogFile, "connect", counted)
        with anyio.fail_after(20):
            while len(tries) < 5:
                await anyio.sleep(0.01)
    assert tries[4] - tries[0] > 0.3


async def test_replaced_beside_a_write_ahead_log(tmp_path: Path) -> None:
    """A database that was moved over one in use is not opened with the write-ahead log of the former; then it is."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
    shutil.copy(path, tmp_path / "backup.db")
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "2")
        (tmp_path / "backup.db").replace(path)
        async with opened(SqliteLog(path)) as other:
            with pytest.raises(LogCorrupt, match="is still that of the file that was there before"):
                await publish(other, "a", "3")
    (tmp_path / "log.db-wal").unlink()
    (tmp_path / "log.db-shm").unlink()
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "4")
        assert [entry.data for entry in await read_all(log, "a")] == ["1", "4"]


async def until_stored(log: SqliteLog, data: str) -> int:
    """Publish until the log takes it. Returns the offset."""
    async with asyncio.timeout(20):
        while True:
            with suppress(LogUnavailable):
                return (await publish(log, "a", data))[0]
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("what", ["deleted", "deleted with its write-ahead log", "an older copy", "a copy"])
@pytest.mark.slow
async def test_it_begins_with_what_is_there(what: str, tmp_path: Path) -> None:
    """A file that stays away is given up: the log goes on with what is at its path, as another life; so do others."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
    shutil.copy(path, tmp_path / "copy")
    async with opened(SqliteLog(path)) as log, opened(SqliteLog(path)) as other:
        await publish(log, "a", "2")
        await publish(other, "a", "3")
        before = await log.span()
        if what == "an older copy":
            (tmp_path / "copy").replace(path)
        elif what == "a copy":
            shutil.copy(path, tmp_path / "again")
            (tmp_path / "again").replace(path)
        else:
            path.unlink()
            if what != "deleted":
                (tmp_path / "log.db-wal").unlink()
                (tmp_path / "log.db-shm").unlink()
        for each in (log, other):
            with pytest.raises(LogUnavailable, match="deleted, moved, replaced or emptied"):
                await publish(each, "a", "refused")
        opening = asyncio.create_task(until_stored(other, "b"))
        await until_stored(log, "a")
        await opening
        after = await log.span()
        assert after.epoch != before.epoch
        assert (await other.span()).epoch == after.epoch
        kept = ["1"] if "copy" in what else []
        events = [entry.data for entry in await read_all(log, "a")]
        assert events[: len(kept)] == kept
        assert sorted(events[len(kept) :]) == ["a", "b"]
        assert (after.lives.resume(before.epoch, 1) is not None) == bool(kept)
    async with opened(SqliteLog(path)) as log:
        assert [entry.data for entry in await read_all(log, "a")] == events
        assert (await log.span()).epoch == after.epoch


@pytest.mark.parametrize("checkpoint", ["", "PASSIVE", "TRUNCATE"])
async def test_a_database_that_was_emptied(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is acknowledged that is gone at the next start."""
    monkeypatch.setattr(file, "GONE_SECONDS", 0.05)
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", *map(str, range(50)))
        if checkpoint:
            with closing(sqlite3.connect(path)) as other:
                other.execute(f"PRAGMA wal_checkpoint({checkpoint})")
        os.truncate(path, 0)
        with pytest.raises(LogUnavailable, match=f"{path} was deleted, moved, replaced or emptied while in use"):
            await publish(log, "a", "lost")
        stored: list[str] = []
        for number in range(20):
            with suppress(LogUnavailable, LogCorrupt):
                await publish(log, "a", f"after {number}")
                stored.append(f"after {number}")
            await anyio.sleep(0.02)
    if stored:
        async with opened(SqliteLog(path)) as log:
            assert [entry.data for entry in await read_all(log, "a")][-len(stored) :] == stored


async def refused_then_stored(path: Path, log: SqliteLog, other: SqliteLog, *, stored_since: bool) -> None:
    """Two logs on a file whose write-ahead log was damaged: both refuse first, then store "b" and "c"."""
    if stored_since:  # by a program that does not notice
        with closing(sqlite3.connect(path)) as application:
            application.execute("CREATE TABLE orders (id)")
    await anyio.sleep(0.01)  # longer than between two looks
    for each in (log, other):
        with pytest.raises(LogUnavailable, match=f"{path}-wal was deleted, moved, replaced or emptied while in use"):
            await publish(each, "a", "refused")
    opening = asyncio.create_task(until_stored(other, "b"))
    await until_stored(log, "c")
    await opening


@pytest.mark.parametrize("stored_since", [False, True])
async def test_a_write_ahead_log_that_was_emptied(
    stored_since: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is acknowledged; the log goes on, in another life, with what the database itself had."""
    monkeypatch.setattr(file, "GONE_SECONDS", 0.05)
    path = tmp_path / "log.db"
    wal = tmp_path / "log.db-wal"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
    async with opened(SqliteLog(path)) as log, opened(SqliteLog(path)) as other:
        await publish(log, "a", *map(str, range(2, 50)))
        await publish(other, "a", "50")
        before = await log.span()
        os.truncate(wal, 0)
        await refused_then_stored(path, log, other, stored_since=stored_since)
        after = await log.span()
        assert after.lives.lost(before.epoch, 50)
        assert (await other.span()).epoch == after.epoch
        events = [entry.data for entry in await read_all(log, "a")]
        assert (events[0], sorted(events[1:])) == ("1", ["b", "c"])
    async with opened(SqliteLog(path)) as log:
        assert [entry.data for entry in await read_all(log, "a")] == events


@pytest.mark.parametrize(("within", "stored_since"), [("a frame", False), ("a frame", True), ("the last frame", False)])
async def test_a_write_ahead_log_that_was_cut(
    within: str, stored_since: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is acknowledged; the log goes on, in another life, with the transactions that are still whole."""
    monkeypatch.setattr(file, "GONE_SECONDS", 0.05)
    path = tmp_path / "log.db"
    wal = tmp_path / "log.db-wal"
    async with opened(SqliteLog(path)) as log, opened(SqliteLog(path)) as other:
        for number in range(1, 50):
            await publish(log, "a", str(number))
        await publish(other, "a", "50")
        before = await log.span()
        os.truncate(wal, wal.stat().st_size - (2000 if within == "the last frame" else 70_000))
        await refused_then_stored(path, log, other, stored_since=stored_since)
        after = await log.span()
        assert after.lives.lost(before.epoch, 50)
        events = [entry.data for entry in await read_all(log, "a")]
        kept = len(events) - 2
        assert kept == 49 if within == "the last frame" else 20 < kept < 49
        assert events[:kept] == [*map(str, range(1, kept + 1))]
        assert sorted(events[kept:]) == ["b", "c"]
        assert not after.lives.lost(before.epoch, kept)


def test_a_log_that_opens_while_the_last_one_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log was cut: whoever opens the file next is alone, and begins another life."""
    first, second = (LogFile(tmp_path / "log.db", synchronous="NORMAL", patience=1) for _ in range(2))
    connections: list[sqlite3.Connection] = []

    def open_second(seconds: float) -> None:
        if not connections:
            second.enter()
            connections.append(second.connect())

    first.enter()
    connection = first.connect()
    connection.execute("INSERT INTO newswire_channels (name) VALUES ('news')")
    os.truncate(f"{first.path}-wal", os.stat(f"{first.path}-wal").st_size - 2000)
    first.close(connection)
    monkeypatch.setattr(hold.time, "sleep", open_second)  # the last that `leave` does
    first.leave()
    monkeypatch.undo()
    assert second.epoch != first.epoch
    second.close(connections[0])
    second.leave()


@pytest.mark.slow
async def test_several_processes_that_make_one_file(tmp_path: Path) -> None:
    """However many open a new file at once, it has one life."""
    for number in range(12):
        path = tmp_path / f"{number}.db"
        logs = [SqliteLog(path) for _ in range(6)]
        spans = await asyncio.gather(*(log.span() for log in logs))
        await asyncio.gather(*(log.close() for log in logs))
        assert len({span.epoch for span in spans}) == 1
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM newswire_lives").fetchone() == (1,)
