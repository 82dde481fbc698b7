"""The write-ahead log of the SQLite log: how much of it is in use, and that it begins anew again and again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest

from newswire import Event
from newswire.log.sqlite import SqliteLog
from newswire.log.sqlite_file import WAL_CHECKPOINT, WAL_LIMIT, LogFile
from newswire.testing.log_base import opened

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
        connection.execute("INSERT INTO channels (name) VALUES (?)", ("x" * 2000 + str(count),))
    _, in_log, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert frames() == (in_log, in_log) == (moved, moved)
    connection.execute("INSERT INTO channels (name) VALUES ('y')")
    had, has = frames()
    assert had == in_log
    assert 0 < has < 5
    connection.close()


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
    assert connection.execute("SELECT count(*), sum(length(data)) FROM events").fetchone() == (16_000, 160_000_000)
    connection.close()
