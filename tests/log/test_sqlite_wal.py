"""The write-ahead log of the SQLite log: how much of it is in use, and that it starts over again and again."""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from newswire import Event, posix
from newswire.errors import Closed, LogError
from newswire.log.sqlite import SqliteLog, reader
from newswire.log.sqlite.file import WAL_CHECKPOINT, WAL_LIMIT, LogFile
from newswire.log.sqlite.reader import SqliteReader
from newswire.testing.log_base import PATIENCE, opened, publish

pytestmark = pytest.mark.anyio


def test_what_is_in_use(tmp_path: Path) -> None:
    """None, some, and little again after a checkpoint, in a file that keeps its size; as SQLite says."""
    file = LogFile(tmp_path / "log.db", synchronous="NORMAL", patience=1)
    assert file.wal_size() == (0, 0)
    connection = file.connect()

    def frames() -> tuple[int, int]:
        size, used = file.wal_size()
        frame = 24 + connection.execute("PRAGMA page_size").fetchone()[0]
        assert used % frame == 0
        return (size - 32) // frame, used // frame

    for count in range(20):
        connection.execute("INSERT INTO newswire_channels (name) VALUES (?)", ("x" * 2000 + str(count),))
    _, in_log, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert frames() == (in_log, in_log) == (moved, moved)
    connection.execute("INSERT INTO newswire_channels (name) VALUES ('y')")
    had, has = frames()
    assert had == in_log
    assert 0 < has < 5
    connection.close()


def test_each_commit_changes_the_mark(tmp_path: Path) -> None:
    """Also where the log begins again, and of whatever program; nothing else changes it."""
    path = tmp_path / "log.db"
    file = LogFile(path, synchronous="NORMAL", patience=1)
    assert file.mark() == b""
    connection = file.connect()
    other = sqlite3.connect(path, isolation_level=None)
    marks = [file.mark()]
    for number in range(30):
        writer = connection if number % 2 else other
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO newswire_channels (name) VALUES (?)", (str(number),))
        assert file.mark() == marks[-1]
        writer.execute("COMMIT")
        marks.append(file.mark())
        connection.execute("SELECT count(*) FROM newswire_channels").fetchone()
        if number % 7 == 0:
            assert connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    assert len(set(marks)) == len(marks)
    assert b"" not in marks
    other.close()
    connection.close()


def test_a_quiet_file_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch asks SQLite after a commit, and now and then; in between a look at the mark is enough."""
    path = tmp_path / "log.db"
    found: list[int | LogError] = []
    watch = SqliteReader(LogFile(path, synchronous="NORMAL", patience=1), found.append, own=lambda: -1)
    watch.file.enter()
    asked: list[str] = []
    watch.connection().set_trace_callback(asked.append)
    other = sqlite3.connect(path, isolation_level=None)

    def asks() -> int:
        asked.clear()
        watch._watch()
        return asked.count("PRAGMA data_version")

    monkeypatch.setattr(reader, "_CHECK_SECONDS", 600.0)
    assert [asks() for _ in range(4)] == [1, 0, 0, 0]
    for _ in range(3):
        other.execute("INSERT INTO newswire_channels (name) VALUES (hex(randomblob(8)))")
        assert [asks() for _ in range(3)] == [1, 0, 0]
    assert len(found) == 4
    monkeypatch.setattr(reader, "_CHECK_SECONDS", 0.0)
    other.execute("INSERT INTO newswire_channels (name) VALUES ('x')")
    assert [asks() for _ in range(3)] == [1, 1, 1]
    other.close()
    watch._disconnect()
    watch.file.leave()


@pytest.mark.skipif(not posix.LINUX, reason="only Linux tells of writes")
async def test_a_commit_wakes_a_reader_that_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the next one, after it has slept again; and so do queries. Nothing else would wake it for ten minutes."""
    monkeypatch.setattr(reader, "_CHECK_SECONDS", 600.0)
    for name in ("_QUIET_SECONDS", "_SETTLE_SECONDS"):
        monkeypatch.setattr(reader, name, 0.0)
    path, batch = tmp_path / "log.db", [("news", Event("x"))]
    async with opened(SqliteLog(path)) as log, opened(SqliteLog(path)) as other:
        follower = log.follow()
        watch = log.engine._reader
        for number in range(1, 4):
            waiting = asyncio.ensure_future(anext(follower))
            with anyio.fail_after(PATIENCE):
                while not watch._sleeping or watch._next_watch < time.monotonic() + 300:
                    await anyio.sleep(0.001)
                assert (await log.span()).latest == number - 1
                await other.append(batch)
                assert [entry.offset for entry in await waiting] == [number]
        await follower.aclose()


@pytest.mark.parametrize("trouble", ["silent", "refused"])
async def test_where_writes_are_not_told(trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader whose system refuses to tell, or does not keep its word, looks for what is new."""

    def begin(self: posix.WriteWatch, path: str) -> None:
        if trouble == "refused":
            raise OSError(errno.ENOSPC, "too many watches")

    monkeypatch.setattr(posix.WriteWatch, "begin", begin)
    for name in ("_QUIET_SECONDS", "_SETTLE_SECONDS"):
        monkeypatch.setattr(reader, name, 0.0)
    path = tmp_path / "log.db"
    found: list[int | LogError] = []
    watch = SqliteReader(LogFile(path, synchronous="NORMAL", patience=1), found.append, own=lambda: -1)
    watch.file.enter()
    other = sqlite3.connect(path, isolation_level=None)
    pauses: list[float] = []
    for _ in range(4):
        watch._next_check = 0.0
        watch._watch()
        pauses += [watch._pause(), watch._pause()]
        other.execute("INSERT INTO newswire_events (channel, data, size, time) VALUES (1, '', 0, 0)")
    other.close()
    watch._over(Closed("over"))
    watch._disconnect()
    watch.file.leave()
    assert found == [0, 1, 2, 3]
    assert pauses[-4:] == [reader.WATCH_SECONDS] * 4


@pytest.mark.slow
async def test_it_begins_anew(tmp_path: Path) -> None:
    """While ten times as much as one round holds is stored, it stays far below the limit that stops publishers."""
    path = tmp_path / "log.db"
    wal = anyio.Path(f"{path}-wal")
    async with opened(SqliteLog(path, synchronous="NORMAL")) as log:
        largest = 0
        for number in range(160):
            await log.append([(f"c.{number}", Event("x" * 10_000))] * 100)
            await anyio.sleep(0.01)
            largest = max(largest, (await wal.stat()).st_size)
        assert (await log.span()).latest == 16_000
    assert WAL_CHECKPOINT < largest < WAL_LIMIT * 3 / 4
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*), sum(length(data)) FROM newswire_events").fetchone() == (
        16_000,
        160_000_000,
    )
    connection.close()


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT * FROM newswire_meta").fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning or worse."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
async def test_a_snapshot_that_is_held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It keeps the write-ahead log from being cut back, which is logged once, with whose it is; then it is cut back."""
    path = tmp_path / "log.db"
    wal = path.with_name("log.db-wal")
    events = [("a", Event("x" * 100_000))] * 50
    async with opened(SqliteLog(path, synchronous="NORMAL")) as log:
        await log.append(events)
        command = [sys.executable, "-c", HOLDER, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            while wal.stat().st_size <= WAL_LIMIT or not warnings_of(caplog):
                await log.append(events)
                log.engine._writer._next_wal_look = log.engine._writer._next_wal_check = 0
            for _ in range(3):
                log.engine._writer._next_wal_look = log.engine._writer._next_wal_check = 0
                await log.append(events)
            holder.communicate()
        assert len(warnings_of(caplog)) == 1
        assert f"the write-ahead log of {path} is " in caplog.text
        assert f"process {holder.pid} (python" in caplog.text
        with anyio.fail_after(PATIENCE):
            while wal.stat().st_size > WAL_LIMIT:
                log.engine._writer._next_wal_look = log.engine._writer._next_wal_check = 0
                await publish(log, "a", "x")
