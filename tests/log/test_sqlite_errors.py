"""A file that can't be used says what is wrong and what to do; what passes is over when it has passed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from newswire import Event, Hub
from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.channels import Channels
from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import closing, opened, publish, read_all, take

pytestmark = pytest.mark.anyio

TROUBLE = Path(__file__).with_name("trouble.py")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer, "folder")
        folder.mkdir()
        yield folder
        folder.chmod(0o755)


def get_into(trouble: str, folder: Path) -> None:
    """Run a log in a process that is in trouble."""
    done = subprocess.run(
        [sys.executable, str(TROUBLE), trouble, str(folder)], check=False, timeout=60, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


async def every_call_says(log: SqliteLog, kind: type[LogError], words: str) -> None:
    """Every call of a log fails in the same words."""
    for call in (
        lambda: log.append([("a", Event("x"))]),
        lambda: log.read(Channels(["a"]), 0, 10),
        log.span,
        lambda: anext(log.follow(0)),
    ):
        with pytest.raises(kind, match=words):
            await call()


async def test_locked(tmp_path: Path) -> None:
    """Another program's transaction: a clear error after `busy_timeout`; then everything goes on by itself."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path, busy_timeout=0.1)) as log:
        await publish(log, "a", "1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match=r"locked by another process for more than 0\.1 s"):
            await publish(log, "a", "2")
        assert [entry.data for entry in await read_all(log, "a")] == ["1"]  # readers don't wait for writers
        other.execute("ROLLBACK")
        await publish(log, "a", "3")
        assert [entry.data for entry in await read_all(log, "a")] == ["1", "3"]
        other.close()


async def test_closing_waits_for_a_lock_once(tmp_path: Path) -> None:
    """What is queued behind is tried, and fails at once: a server that stops is not held up by each of its jobs."""
    path = tmp_path / "log.db"
    go = threading.Event()
    async with opened(SqliteLog(path, busy_timeout=0.05)) as log:
        await publish(log, "a", "1")
        writer = log.engine._writer  # type: ignore[attr-defined]
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            jobs: list[Any] = [
                asyncio.ensure_future(writer.run(call))
                for call in (
                    lambda connection: go.wait(),
                    lambda connection: connection.execute("BEGIN IMMEDIATE"),
                    lambda connection: connection.execute("PRAGMA busy_timeout").fetchone(),
                )
            ]
            ending = asyncio.ensure_future(log.close())
            while not writer._ending:
                await asyncio.sleep(0)
            go.set()
            _, locked, patience = await asyncio.gather(*jobs, return_exceptions=True)
            assert isinstance(locked, LogUnavailable)
            assert patience == (0,)
            await ending
    async with opened(SqliteLog(path)) as log:
        assert [entry.data for entry in await read_all(log, "a")] == ["1"]


async def test_locked_while_it_is_opened(tmp_path: Path) -> None:
    """A hub on a file that is locked says so, and is opened by the next call."""
    path = tmp_path / "log.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LogUnavailable, match="locked"):
        async with Hub(f"sqlite:///{path}?busy_timeout=0.1"):
            pass
    hub = Hub(f"sqlite:///{path}?busy_timeout=0.1")
    with pytest.raises(LogUnavailable, match="locked"):
        await hub.publish("a", "1")
    other.execute("ROLLBACK")
    other.close()
    await hub.publish("a", "2")
    await hub.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["limit", "tmpfs"] if os.geteuid() == 0 else ["limit"])
def test_full(folder: Path, kind: str) -> None:
    """No room: nothing of the batch is stored, the error says so, and once there is room publishing goes on."""
    get_into(f"full-{kind}", folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_read_only(folder: Path, kind: str) -> None:
    """A file or a folder that this user may not write to: the error names it, and what to check."""
    get_into(f"read-only-{kind}", folder)


async def test_not_a_database(tmp_path: Path) -> None:
    """Any other file is left as it is."""
    path = tmp_path / "log.db"
    path.write_text("Dear diary, " * 1000)
    async with opened(SqliteLog(path)) as log:
        await every_call_says(log, LogCorrupt, "is not an SQLite database: name another file")
    assert path.read_text().startswith("Dear diary, ")


async def test_a_database_of_something_else(tmp_path: Path) -> None:
    """A database that says that it is another program's is left as it is."""
    path = tmp_path / "log.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA application_id = 252006673")  # Fossil's
    other.execute("CREATE TABLE events (id)")
    other.commit()
    async with opened(SqliteLog(path)) as log:
        await every_call_says(log, LogCorrupt, "no newswire log: name another file")
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("events",)]
    other.close()


async def test_an_application_s_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An application's own database takes the log beside its tables, whatever these are called, and stays its own."""
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    for name in ("meta", "channels", "events", "lives", "tokens", "forgotten"):
        other.execute(f"CREATE TABLE {name} (id)")
    other.execute("PRAGMA user_version = 7")
    other.commit()
    for number in (1, 2):
        async with opened(SqliteLog(path)) as log:
            [position] = await log.append([("a", Event(str(number)))])
            assert position.offset == number
    assert caplog.text.count("has tables of an application") == 1
    assert other.execute("PRAGMA user_version").fetchone() == (7,)
    assert other.execute("PRAGMA application_id").fetchone() == (0,)
    assert other.execute("SELECT count(*) FROM events").fetchone() == (0,)
    other.close()


async def test_of_a_newer_version(tmp_path: Path) -> None:
    """A file that a later newswire wrote is left alone."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
    other = sqlite3.connect(path)
    other.execute("UPDATE newswire_meta SET format = 99")
    other.commit()
    other.close()
    async with opened(SqliteLog(path)) as log:
        await every_call_says(log, LogCorrupt, "written by a newer newswire")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["zeros", "noise", "cut"])
async def test_damaged(tmp_path: Path, damage: str) -> None:
    """Damage is reported as damage, with what can be done, and never as an event that was not published."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        for number in range(300):
            await log.append([(f"c{number % 7}", Event(f"{number} {'x' * 500}"))])
    whole = path.read_bytes()
    middle = len(whole) // 2
    rest = {"zeros": bytes(middle), "noise": os.urandom(middle), "cut": b""}[damage]
    path.write_bytes(whole[:middle] + rest)
    async with opened(SqliteLog(path)) as log:
        with pytest.raises(LogCorrupt, match=r"is damaged .* restore a backup"):
            await read_all(log, ">")
        with pytest.raises(LogCorrupt, match="is damaged"):
            for _ in range(300):
                await log.append([(f"new{number}", Event("x" * 2000)) for number in range(7)])


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced"])
@pytest.mark.slow
async def test_gone_while_open(tmp_path: Path, what: str) -> None:
    """Nothing is acknowledged that would go to a file that no process finds; followers fail too."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
        async with closing(log.follow(0)) as follower:
            assert [entry.data for entry in await take(follower, 1)] == ["1"]
            if what == "replaced":
                async with opened(SqliteLog(tmp_path / "other.db")) as other:
                    await publish(other, "a", "other")
                (tmp_path / "other.db").replace(path)
            elif what == "moved":
                path.rename(tmp_path / "moved.db")
            else:
                path.unlink()
            await every_call_says(log, LogUnavailable, "was deleted, moved, replaced or emptied")
            with pytest.raises(LogUnavailable, match="was deleted, moved, replaced or emptied"):
                await take(follower, 1)


async def test_put_back(tmp_path: Path) -> None:
    """A file that was moved and put back is used again."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")
        path.rename(tmp_path / "moved.db")
        with pytest.raises(LogUnavailable):
            await publish(log, "a", "lost")
        (tmp_path / "moved.db").rename(path)
        await publish(log, "a", "2")
        assert [entry.data for entry in await read_all(log, "a")] == ["1", "2"]


async def test_a_folder_and_no_folder(tmp_path: Path) -> None:
    """What is no place for a file is named."""
    async with opened(SqliteLog(tmp_path)) as log:
        await every_call_says(log, LogUnavailable, "is a folder: name a file in it")
    async with opened(SqliteLog(tmp_path / "none" / "log.db")) as log:
        await every_call_says(log, LogUnavailable, "does not exist: create it, or name another file")


async def test_a_hub_outlives_a_lock(tmp_path: Path) -> None:
    """Subscribers stay connected while publishing fails, and get what follows."""
    path = tmp_path / "log.db"
    async with Hub(f"sqlite:///{path}?busy_timeout=0.1") as hub:
        events = aiter(hub.subscribe("a", start="earliest"))
        await hub.publish("a", "1")
        assert (await anext(events)).data == "1"
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable):
            await hub.publish("a", "2")
        other.execute("COMMIT")
        other.close()
        await hub.publish("a", "3")
        assert (await anext(events)).data == "3"
        await events.aclose()
