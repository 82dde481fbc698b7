"""Retention of the SQLite log in its own ways: in the background, by counts that the file keeps."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from pathlib import Path

import anyio
import pytest

from newswire.log.channels import Channels, Pattern
from newswire.log.retention import Retention
from newswire.log.sqlite import SqliteLog
from newswire.log.sqlite import retention as sqlite_retention
from newswire.log.sqlite.retention import forget
from newswire.testing.log_base import PATIENCE, offsets, opened, publish, read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


async def until_trimmed(log: SqliteLog, channel: str, count: int) -> None:
    """Wait until retention in the background has left so many events of a channel."""
    with anyio.fail_after(PATIENCE):
        while len(await read_all(log, channel)) > count:
            await anyio.sleep(0.05)


def counts(path: Path) -> list[tuple[str, int, int]]:
    """What the file says of each channel that has events, and what it has; they must be the same."""
    connection = sqlite3.connect(path)
    query = """SELECT name, {} FROM newswire_channels
               WHERE EXISTS (SELECT 1 FROM newswire_events WHERE channel = id) ORDER BY name"""
    kept = "(SELECT {} FROM newswire_events WHERE channel = id)"
    says = connection.execute(query.format("events, bytes")).fetchall()
    has = connection.execute(query.format(f"{kept.format('count(*)')}, {kept.format('sum(size)')}")).fetchall()
    connection.close()
    assert says == has
    return says


@pytest.mark.slow
async def test_while_channels_are_dropped(tmp_path: Path) -> None:
    """Retention in the background goes on while channels are dropped all the time."""
    rules = {"kept": Retention(max_events=10)}
    async with opened(SqliteLog(tmp_path / "log.db", synchronous="NORMAL", retention=rules)) as log:
        await log.append([("kept", Event("x"))] * 20_000)
        dropped = 0
        with anyio.fail_after(PATIENCE):
            while (left := len((await log.read(Channels(["kept"]), 0, 100)).entries)) > 10:
                [position] = await log.append([(f"run.{dropped}", Event("y"))])
                dropped += await log.drop({f"run.{dropped}": position.offset})
        assert left == 10
        assert dropped > 10
    assert counts(tmp_path / "log.db") == [("kept", 10, 10)]


async def test_counts_outlive_the_process(tmp_path: Path) -> None:
    """The counts are the file's: right after drops and trims, with other rules, and in a log that is opened later."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path, retention=Retention(max_events=50))) as log:
        numbers = await publish(log, "a", *map(str, range(60)))
        await log.append([(f"b.{number % 7}", Event("x" * number)) for number in range(60)])
        await log.trim()
        await log.drop({"a": numbers[30], "b.1": 10**9})
        await log.trim()
    assert counts(path)[0][:2] == ("a", 29)
    async with opened(SqliteLog(path, retention={"a": Retention(max_bytes=20), "b.*": Retention(max_events=3)})) as log:
        assert await log.trim() == 19 + 6 * 5 + 3
        assert offsets(await read_all(log, "a")) == numbers[-10:]
    counts(path)


@pytest.mark.slow
async def test_a_channel_that_comes_again_has_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that was dropped or forgotten, and then made again, is limited as before."""
    monkeypatch.setattr(sqlite_retention, "_TICK_SECONDS", 0.05)
    monkeypatch.setattr(sqlite_retention, "EMPTY_KEPT", 0)
    monkeypatch.setattr(sqlite_retention, "_FORGET_SECONDS", 0.0)
    rules = {"a": Retention(max_events=3), "b": Retention(max_age=5)}
    now = 1000.0
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path, synchronous="NORMAL", retention=rules, clock=lambda: now)) as log:
        for _ in range(2):
            numbers = await publish(log, "a", *"1234567")
            await until_trimmed(log, "a", 3)
            await log.drop({"a": numbers[-1]})
            await publish(log, "b", *"12")
            now += 10
            await until_trimmed(log, "b", 0)
            with anyio.fail_after(PATIENCE):
                while (await log.read(Channels(["b"]), 0, 1)).lost:  # until it is forgotten
                    await anyio.sleep(0.05)
        await publish(log, "a", *"12")
        await log.trim()  # counts what is new
    assert counts(path) == [("a", 2, 2)]


@pytest.mark.slow
async def test_forgotten_until_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels without events are forgotten down to the number that is kept, those first that lost theirs first."""
    monkeypatch.setattr(sqlite_retention, "EMPTY_KEPT", 20)
    monkeypatch.setattr(sqlite_retention, "_FORGOTTEN_AT_ONCE", 30)
    monkeypatch.setattr(sqlite_retention, "_FORGET_SECONDS", 0.0)
    now = 1000.0
    path = tmp_path / "log.db"
    log = SqliteLog(path, synchronous="NORMAL", retention=Retention(max_age=5), clock=lambda: now)
    async with opened(log):
        await log.append([(f"user.{number}", Event("x")) for number in range(200)])
        now += 10
        [position] = await log.append([("user.1", Event("y"))])
        await log.trim()
        connection = sqlite3.connect(path)
        with anyio.fail_after(PATIENCE):
            while connection.execute("SELECT count(*) FROM newswire_channels").fetchone() != (21,):
                await anyio.sleep(0.05)
        names = {name for (name,) in connection.execute("SELECT name FROM newswire_channels")}
        connection.close()
        assert names == {"user.1", *(f"user.{number}" for number in range(180, 200))}
        pages = [await log.read(Channels([each]), 0, 9) for each in ("user.5", "user.190", "other", Pattern("user.*"))]
        assert [(page.lost, page.doubt) for page in pages] == [(0, 180), (191, 0), (0, 0), (200, 0)]
        assert offsets(pages[-1].entries) == [position.offset]


async def test_what_is_forgotten_by_shape(tmp_path: Path) -> None:
    """A forgotten channel is a loss of patterns that hold all channels like it, a doubt of others that may, and
    nothing to the rest; a channel that is made later has the doubt of before."""
    path = tmp_path / "log.db"
    rules = {"user.1": Retention(max_age=1), "$x.1": Retention(max_age=1)}
    now = 1000.0
    async with opened(SqliteLog(path, synchronous="NORMAL", retention=rules, clock=lambda: now)) as log:
        [gone], [internal] = await publish(log, "user.1", "x"), await publish(log, "$x.1", "x")
        await publish(log, "user.2", "there")
        now += 10
        await log.trim()
        connection = sqlite3.connect(path)
        ids = [id for (id,) in connection.execute("SELECT id FROM newswire_channels WHERE empty")]
        connection.close()
        await log.engine._writer.run(partial(forget, channels=ids))
        await publish(log, "user.3", "later")

        async def losses(*channels: str) -> tuple[int, int]:
            page = await log.read(Channels(channels), 0, 10)
            return page.lost, page.doubt

        assert await losses(Pattern("user.*")) == await losses(Pattern(">")) == (gone, 0)
        assert await losses("user.1") == await losses("user.3") == await losses("user.new") == (0, gone)
        assert await losses("user.2") == await losses("other.1") == await losses(Pattern("user.*.*")) == (0, 0)
        assert await losses(Pattern("*.2")) == (0, gone)
        assert await losses(Pattern("$x.*")) == (internal, 0)
        assert await losses("user.2", "user.new") == (0, gone)


async def test_a_million_channels_are_no_text(tmp_path: Path) -> None:
    """A pattern that matches very many channels reads none but those of its page."""
    async with opened(SqliteLog(tmp_path / "log.db", synchronous="NORMAL")) as log:
        for begin in range(0, 12_000, 4000):
            await log.append([(f"user.{number}", Event("x")) for number in range(begin, begin + 4000)])
        await log.read(Channels([Pattern("user.*")]), 0, 10)
        [known] = log.engine._pages._matches.values()
        assert len(known) == 10
        assert json.dumps(offsets(await read_all(log, Pattern("user.*"), after=11_990))) == json.dumps(
            list(range(11_991, 12_001))
        )
