"""Every call that waits for the log's threads comes to an end: at `close`, when a thread dies, when a loop has gone."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from newswire import Event
from newswire.errors import Closed, LogError, LogUnavailable
from newswire.log.channels import Channels
from newswire.log.engine import Batch, Condition, Entry, Outcome
from newswire.log.retention import Retention
from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import PATIENCE, closing, opened, publish, read_all, take

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_trim_while_the_log_is_closed(tmp_path: Path) -> None:
    """It ends, with `Closed`, at whatever step of its work the log is closed."""
    for steps in range(8):
        log = SqliteLog(tmp_path / f"{steps}.db", retention=Retention(max_events=1), synchronous="NORMAL")
        await log.append([(f"c.{number % 7}", Event("x")) for number in range(5000)])
        trimming = asyncio.ensure_future(log.trim())
        await log.span()
        for _ in range(steps):
            await asyncio.sleep(0)
        with anyio.fail_after(PATIENCE):
            await log.close()
            try:
                await trimming
            except Closed:
                pass
    with pytest.raises(Closed):
        await log.trim()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
async def test_every_call_ends_when_the_log_is_closed(seed: int, tmp_path: Path) -> None:
    """Calls of all kinds, a close at any moment among them, and more calls: each returns, or says `Closed`."""
    dice = random.Random(seed)
    log = SqliteLog(tmp_path / "log.db", retention={"a": Retention(max_events=5)}, synchronous="NORMAL")
    await publish(log, "a", *"123456789")

    async def submit() -> Sequence[Outcome]:
        done: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        condition = Condition("b", dice.choice([0, 10**6]))
        log.submit([Batch([("b", Event("x"))], condition)], lambda outcomes, epoch: done.set_result(outcomes))
        return await done

    async def follow() -> list[Entry]:
        async with closing(log.follow(dice.choice([None, 0, 5]))) as follower:
            return [entry async for batch in follower for entry in batch]

    calls: list[Callable[[], object]] = [
        lambda: log.append([("a", Event("x"))] * dice.choice([1, 100])),
        lambda: log.read(Channels(["a", "b"]), 0, 10),
        lambda: log.newest(["a"]),
        lambda: log.drop({"b": 10**6}),
        log.span,
        log.trim,
        submit,
        follow,
    ]
    running: list[asyncio.Future[object]] = []
    close_at = dice.randrange(40)
    for step in range(50):
        call = log.close if step == close_at else dice.choice(calls)
        running.append(asyncio.ensure_future(call()))  # type: ignore[arg-type]
        for _ in range(dice.choice([0, 0, 1, 5])):
            await asyncio.sleep(0)
    with anyio.fail_after(PATIENCE):
        ends = await asyncio.gather(*running, return_exceptions=True)
    failed = [end for end in ends if isinstance(end, BaseException)]
    assert all(isinstance(end, LogError if "TrimmedAway" in repr(end) else Closed) for end in failed), failed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("newswire log")]


async def test_a_clock_that_fails(tmp_path: Path) -> None:
    """What it was to date is refused with the reason; the rest is stored."""
    moments = iter([1.0, None, 2.0])

    def clock() -> float:
        moment = next(moments)
        if moment is None:
            raise OSError("no clock")
        return moment

    async with opened(SqliteLog(tmp_path / "log.db", clock=clock)) as log:
        await publish(log, "a", "1")
        with pytest.raises(LogError, match="no clock"):
            await publish(log, "a", "2")
        await publish(log, "a", "3")
        assert [(entry.data, entry.time) for entry in await read_all(log, "a")] == [("1", 1.0), ("3", 2.0)]


async def test_the_writer_dies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All its publishers hear of it; it is logged; the next publish starts another."""
    deadly = False

    def clock() -> float:
        if deadly:
            sys.exit("now")  # ends a thread without a word
        return time.time()

    async with opened(SqliteLog(tmp_path / "log.db", clock=clock)) as log:
        await publish(log, "a", "1")
        deadly = True
        with anyio.fail_after(PATIENCE):
            ends = await asyncio.gather(*(publish(log, "a", "x") for _ in range(5)), return_exceptions=True)
        assert [type(end) for end in ends] == [LogUnavailable] * 5
        assert "died" in caplog.text
        deadly = False
        await publish(log, "a", "2")
        assert [entry.data for entry in await read_all(log, "a")] == ["1", "2"]


async def test_the_reader_dies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Readers and followers hear of it; it is logged; a new follower misses nothing, of other processes' either."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log, opened(SqliteLog(path)) as other:
        await publish(log, "a", "1")
        async with closing(log.follow(0)) as follower:
            assert [entry.data for entry in await take(follower, 1)] == ["1"]
            with anyio.fail_after(PATIENCE):
                with pytest.raises(LogUnavailable, match="died"):
                    await log.engine._reader.query(lambda connection: sys.exit("now"))
                with pytest.raises(LogUnavailable, match="died"):
                    await anext(follower)
        assert "died" in caplog.text
        await publish(other, "a", "2")
        async with closing(log.follow(1)) as follower:
            assert [entry.data for entry in await take(follower, 1)] == ["2"]
            await publish(other, "a", "3")
            assert [entry.data for entry in await take(follower, 1)] == ["3"]


async def test_no_thread_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call says so, and once there can be threads everything works."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with opened(SqliteLog(tmp_path / "log.db")) as log:
        with monkeypatch.context() as patch, anyio.fail_after(PATIENCE):
            patch.setattr(threading.Thread, "start", start)
            for call in (log.span, lambda: publish(log, "a", "1"), log.trim):
                with pytest.raises(LogUnavailable, match="needs a thread"):
                    await call()
        await publish(log, "a", "2")
        assert [entry.data for entry in await read_all(log, "a")] == ["2"]


async def handed_over() -> None:
    """Let what is being appended reach the writer's queue, which takes two passes of the event loop."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_loop_that_has_gone(tmp_path: Path) -> None:
    """A publisher whose event loop was closed before its event was stored holds up none of another loop's."""
    path = tmp_path / "log.db"
    log = SqliteLog(path)

    async def give_up() -> None:
        await log.append([("a", Event("1"))])
        other.execute("BEGIN IMMEDIATE")
        for number in range(2, 5):  # the first waits for the lock, the others for the first
            asyncio.ensure_future(log.append([("a", Event(str(number)))]))
            await handed_over()

    async def go_on() -> None:
        appending = asyncio.ensure_future(log.append([("a", Event("5"))]))
        await handed_over()
        other.execute("ROLLBACK")
        async with asyncio.timeout(PATIENCE):
            [position] = await appending
            assert position.offset == 5
            await log.close()

    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    asyncio.run(give_up())
    asyncio.run(go_on())
    assert other.execute("SELECT group_concat(data, '') FROM newswire_events").fetchone() == ("12345",)
    other.close()
    gc.collect()


async def test_a_callback_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When several were stored in one transaction, the others are called; a tail's ends that tail."""

    def fail(*_: object) -> None:
        raise RuntimeError("not now")

    async with opened(SqliteLog(tmp_path / "log.db")) as log:
        await publish(log, "a", "1")
        async with closing(log.follow(1)) as follower:
            failing = asyncio.ensure_future(log.tail(1, (await log.span()).epoch, fail))
            following = asyncio.ensure_future(take(follower, 2))
            await handed_over()
            await log.span()  # comes behind what the followers ask first: they wait now
            log.submit([Batch([("a", Event("2"))], Condition("a", 1))], fail)
            with anyio.fail_after(PATIENCE):
                assert await publish(log, "a", "3") == [3]
                assert [entry.data for entry in await following] == ["2", "3"]
                with pytest.raises(RuntimeError, match="not now"):
                    await failing
        assert "a callback for what was appended failed" in caplog.text


@pytest.mark.slow
async def test_retention_whose_plan_could_not_be_carried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, though the writer could not even open the file."""
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def connection() -> sqlite3.Connection:
        loop.call_soon_threadsafe(failed.set)
        raise LogUnavailable("not now")

    async with opened(SqliteLog(tmp_path / "log.db", retention=Retention(max_events=1))) as log:
        await publish(log, "a", *"123")
        with monkeypatch.context() as patch, anyio.fail_after(PATIENCE):
            patch.setattr(log.engine._writer, "connection", connection)
            await failed.wait()
        with anyio.fail_after(PATIENCE):
            while len(await read_all(log, "a")) > 1:
                await anyio.sleep(0.05)
