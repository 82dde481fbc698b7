"""Files of earlier versions open, keep all that they hold, and end with the tables of a new file."""

from __future__ import annotations

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from newswire import Event
from newswire.log.channels import Channels
from newswire.log.sqlite import SqliteLog
from newswire.log.sqlite.file import LogFile
from newswire.log.sqlite.schema import STEPS
from newswire.testing.log_base import lost, offsets, opened, read_all

pytestmark = pytest.mark.anyio

OLD = sorted(Path(__file__).parent.joinpath("files").glob("version-*.sql"))


def restore(dump: Path, path: Path) -> None:
    """Make a file from its text."""
    connection = sqlite3.connect(path)
    connection.executescript(dump.read_text("utf-8"))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def tables(path: Path) -> set[str]:
    """The tables and indexes of a file, each as the statement that makes it, without comments."""
    connection = sqlite3.connect(path)
    statements = connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL").fetchall()
    found = {" ".join(re.sub('--.*|"', "", sql).split()) for (sql,) in statements}
    connection.close()
    return found


@pytest.mark.parametrize("dump", OLD, ids=lambda path: path.stem)
async def test_a_file_of_an_earlier_version(dump: Path, tmp_path: Path) -> None:
    """It holds ten events, of which retention removed the first four; everything about them is as it was."""
    path = tmp_path / "log.db"
    restore(dump, path)
    async with opened(SqliteLog(path)) as log:
        assert [(entry.offset, entry.channel, entry.event, entry.data) for entry in await read_all(log, "c.*")] == [
            (number, f"c.{number % 2}", "message" if number % 3 else "third", str(number)) for number in range(5, 11)
        ]
        assert (await lost(log, "c.1"), await lost(log, "c.0")) == (3, 4)
        [position] = await log.append([("c.0", Event("11"))])
        assert position.offset == 11
        assert offsets((await log.read(Channels(["c.0"]), 8, 10)).entries) == [10, 11]
    async with opened(SqliteLog(tmp_path / "new.db")) as log:
        await log.span()
    assert tables(path) == tables(tmp_path / "new.db")


@pytest.mark.slow
@pytest.mark.parametrize("dump", [None, *OLD], ids=lambda path: "new" if path is None else path.stem)
def test_many_at_once(dump: Path | None, tmp_path: Path) -> None:
    """Of several that open a file at the same time, one makes or migrates it, and all agree on its epoch."""
    for number in range(10):
        path = tmp_path / f"{number}.db"
        if dump is not None:
            restore(dump, path)
        files = [LogFile(path, synchronous="NORMAL", patience=10) for _ in range(4)]
        with ThreadPoolExecutor(len(files)) as threads:
            connections = list(threads.map(LogFile.connect, files))
        assert len({file.epoch for file in files}) == 1
        for connection in connections:
            assert connection.execute("SELECT format FROM newswire_meta").fetchone() == (len(STEPS),)
            connection.close()
