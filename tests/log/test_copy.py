"""A copy of a log: whole, in parts, while the original is in use, and what it refuses."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey

from newswire.errors import LimitExceeded, LogError, LogUnavailable
from newswire.hub.hub import Hub
from newswire.log import Channels, Log, MemoryLog, Retention, open_log
from newswire.log.copy import CopyProgress, copy
from newswire.log.engine import Copied, EngineLimits
from newswire.log.nats.engine import NatsLog
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio
_numbers = itertools.count()


@pytest.fixture(params=["memory", "sqlite", "valkey", "postgres", "nats"])
def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Log]:
    """Makes a new and empty log of each engine."""

    def make(**options: Any) -> Log:
        options.setdefault("retention", Retention())
        if request.param == "memory":
            return MemoryLog(**options)
        if request.param == "sqlite":
            return open_log(f"sqlite:///{tmp_path}/{next(_numbers)}.db", **options)
        server: Valkey | Postgres | Nats = request.getfixturevalue(request.param)
        return open_log(f"{server.url}?namespace=copy{os.getpid()}-{next(_numbers)}", **options)

    return make


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., Log]:
    """Makes an original: of an engine whose rules are for each channel."""
    return lambda **options: open_log(f"sqlite:///{tmp_path}/source.db", **options)


async def missing(log: Log, channel: str) -> int:
    """Up to where a reader of a channel hears of a gap."""
    page = await log.read(Channels([channel]), 0, 1)
    return max(page.lost, page.doubt)


async def state(holds: Callable[[], bool]) -> None:
    """Wait for a state."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_copy_of_many_pages_is_whole(make_log: Callable[..., Log], make_source: Callable[..., Log]) -> None:
    """With holes, and with the losses that readers have to hear of; progress never goes back."""
    async with opened(make_source(retention={"few": Retention(max_events=10)})) as source, opened(make_log()) as target:
        for number in range(30):
            await source.append([("all", Event(f"{number}.{each}")) for each in range(50)] + [("few", Event("x"))] * 50)
        await source.trim()
        seen: list[int] = []
        done = await copy(source, target, on_progress=lambda progress: seen.append(progress.through))
        assert seen == sorted(seen)
        assert (done.through, done.latest, done.events) == (3000, 3000, 1510)
        assert await target.span() == await source.span()
        nats = isinstance(target, NatsLog)  # it knows up to where something may be missing
        assert [await missing(target, channel) for channel in ("few", "all")] == [2990, 2990 if nats else 0]
        for channel in ("all", "few"):
            assert await read_all(target, channel) == await read_all(source, channel)


async def test_what_is_lost_after_it_was_copied_is_no_loss_of_the_copy(
    make_log: Callable[..., Log], make_source: Callable[..., Log]
) -> None:
    """A reader of the copy must not hear of a gap where it has every event."""
    rules = {"few": Retention(max_events=1)}
    async with opened(make_source(retention=rules)) as source, opened(make_log()) as target:
        await publish(source, "few", "1", "2", "3")
        await source.trim()
        stop = asyncio.Event()
        shown: list[CopyProgress] = []
        following = asyncio.create_task(copy(source, target, until=stop, on_progress=shown.append))
        await state(lambda: bool(shown) and shown[-1].is_whole)
        await publish(source, "few", "4")
        await state(lambda: shown[-1].through == 4)
        await publish(source, "few", "5")
        await source.trim()
        stop.set()
        await following
        assert await missing(source, "few") == 4
        assert await missing(target, "few") == 2
        assert [entry.data for entry in await read_all(target, "few")] == ["3", "4", "5"]


async def test_a_copy_goes_on_where_it_was(make_log: Callable[..., Log]) -> None:
    """Only if that is wanted; nothing is there twice."""
    async with opened(make_log()) as source, opened(make_log()) as target:
        await publish(source, "a", *map(str, range(20)))
        first = await source.scan(0, 7)
        lives = (await source.span()).lives
        await target.restore(Copied(entries=first.entries, through=first.through, lives=lives))
        with pytest.raises(LogError, match="has the events up to 7 of this log already"):
            await copy(source, target)
        done = await copy(source, target, resume=True)
        assert (done.begin, done.through, done.events) == (7, 20, 13)
        assert await read_all(target, "a") == await read_all(source, "a")
        again = await copy(source, target, resume=True)
        assert again.events == 0


async def test_a_target_that_is_in_use_is_refused(make_log: Callable[..., Log]) -> None:
    """It has events of its own, more events, or another one at an offset: no copy would be right."""
    async with opened(make_log()) as source, opened(make_log()) as target, opened(make_log()) as own:
        await publish(own, "a", "mine")
        with pytest.raises(LogError, match="has events of its own"):
            await copy(source, own, resume=True)
        await publish(source, "a", "1", "2")
        await copy(source, target)
        await publish(target, "a", "3")
        with pytest.raises(LogError, match="is not in the original"):
            await copy(source, target, resume=True)
        await publish(source, "a", "another 3")
        with pytest.raises(LogError, match="event 3 of the target is another"):
            await copy(source, target, resume=True)


async def test_an_event_that_the_target_can_t_store_is_named() -> None:
    """Before anything of its page is stored."""
    async with opened(MemoryLog()) as source, opened(MemoryLog()) as target:
        target.limits = EngineLimits(event_bytes=5, nul=False)
        await publish(source, "a", "1", "too large")
        with pytest.raises(LimitExceeded, match="size in bytes of event 2 of a"):
            await copy(source, target)
        await source.drop({"a": 2})
        await publish(source, "a", "\0")
        with pytest.raises(LogError, match="event 3 of a has the character NUL"):
            await copy(source, target)


async def test_an_empty_log_is_copied_with_its_epoch(make_log: Callable[..., Log]) -> None:
    """A reader that waits for the first event has a cursor too."""
    async with opened(make_log()) as source, opened(make_log()) as target:
        await copy(source, target)
        assert await target.span() == await source.span()
        assert await publish(target, "a", "first") == [1]


async def test_a_hub_moves_house_with_its_readers(make_log: Callable[..., Log]) -> None:
    """A cursor of the one is good in the other: no gap, nothing lost, nothing twice."""
    async with opened(make_log()) as source, opened(make_log()) as target:
        async with Hub(source) as hub:
            reader = aiter(hub.subscribe("a", after=await hub.publish("a", "0")))
            await hub.publish("a", "1")
            seen = [await anext(reader)]
            await hub.publish("a", "2")
        source.reopen()
        await copy(source, target)
        async with Hub(target) as hub:
            reader = aiter(hub.subscribe("a", after=seen[-1].id))
            await hub.publish("a", "3")
            seen += [await anext(reader), await anext(reader)]
        assert [event.data for event in seen] == ["1", "2", "3"]
        assert len({(event.id or "").partition("-")[0] for event in seen}) == 1


@pytest.mark.parametrize("saved", [False, True])
async def test_a_target_that_loses_its_end_gets_it_again(make_source: Callable[..., Log], saved: bool) -> None:
    """A server that keeps no file is killed and started again while it follows the original: the copy is whole."""
    with Valkey("--dbfilename", "log.rdb") as server:
        async with opened(make_source()) as source, opened(open_log(server.url, retention=Retention())) as target:
            until, seen = asyncio.Event(), CopyProgress("", 0, 0, 0)

            def on_progress(progress: CopyProgress) -> None:
                nonlocal seen
                seen = progress

            await publish(source, "a", *"123")
            task = asyncio.create_task(copy(source, target, until=until, on_progress=on_progress))
            await state(lambda: seen.through == 3)
            if saved:
                assert server.ask("SAVE") == b"+OK\r\n"
            await publish(source, "a", *"456")
            await state(lambda: seen.through == 6 and seen.idle > 0)
            server.kill()
            server.start()
            await publish(source, "a", "7")
            await state(lambda: task.done() or seen.through == 7)
            until.set()
            await task
            assert [entry.data for entry in await read_all(target, "a")] == [*"1234567"]
            assert await target.span() == await source.span()


async def test_a_target_that_is_away_when_losses_are_copied(make_source: Callable[..., Log]) -> None:
    """A copy that follows waits for it, as for every other call."""
    with Valkey("--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(make_source()) as source, opened(open_log(server.url, retention=Retention())) as target:
            until, seen = asyncio.Event(), CopyProgress("", 0, 0, 0)
            away: list[bool] = []

            def on_progress(progress: CopyProgress) -> None:
                nonlocal seen
                if not seen.through:
                    server.kill()  # what the original has lost comes next
                seen = progress
                away.append(progress.away is not None)

            await publish(source, "a", *"123")
            await source.drop({"a": 1})
            task = asyncio.create_task(copy(source, target, until=until, on_progress=on_progress))
            await state(lambda: seen.through == 3)
            await state(lambda: away[-1])
            server.start()
            await state(lambda: task.done() or seen.idle > 0)
            until.set()
            await task
            assert await missing(target, "a") == 1
            assert not away[-1]


async def test_a_target_that_is_away_at_the_end(
    make_source: Callable[..., Log], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is to end tries again until the rest is copied too, with pauses."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async with opened(make_source()) as source, opened(open_log(f"sqlite:///{tmp_path}/t.db")) as target:
        await publish(source, "a", *"123")
        restore, fails = target.restore, iter([True] * 5)

        async def restore_later(part: Copied) -> None:
            if next(fails, False):
                raise LogUnavailable("away")
            await restore(part)

        monkeypatch.setattr(target, "restore", restore_later)
        monkeypatch.setattr(asyncio, "sleep", paused)
        until = asyncio.Event()
        until.set()
        done = await copy(source, target, until=until)
        assert (done.through, done.away) == (3, None)
    assert len(pauses) == 5
    assert min(pauses) > 0


async def test_a_stream_whose_server_is_started_again_while_it_is_copied_to(make_source: Callable[..., Log]) -> None:
    """The copy goes on, and is whole. What stores there first begins the life that the log needs; no cursor ends."""
    with Nats() as server:
        async with opened(make_source()) as source:
            await publish(source, "a", *"123")
            async with opened(open_log(server.url, retention=Retention())) as target:
                await copy(source, target)
                server.kill()
                server.start()
                await publish(source, "a", *"45")
                await copy(source, target, resume=True)
            async with opened(open_log(server.url, retention=Retention())) as target:
                await publish(source, "a", "6")
                await copy(source, target, resume=True)
                span = await target.span()
                assert span == await source.span()
                [position] = await target.append([("a", Event("7"))])
                assert [entry.data for entry in await read_all(target, "a")] == [*"1234567"]
                after = await target.span()
                assert position.epoch == after.epoch != span.epoch
                assert after.lives.resume(span.epoch, 6) == (6, False)
                with pytest.raises(LogError, match="a life of its own"):
                    await copy(source, target, resume=True)


async def test_a_stream_that_loses_its_end_gets_it_again(make_source: Callable[..., Log]) -> None:
    """An older state of it is put back while it is copied to."""
    with Nats() as server:
        async with opened(make_source()) as source, opened(open_log(server.url, retention=Retention())) as target:
            await publish(source, "a", *"123")
            await copy(source, target)
            server.stop()
            shutil.copytree(server.folder / "jetstream", server.folder / "old")
            server.start()
            await publish(source, "a", *"45")
            await copy(source, target, resume=True)
            server.kill()
            shutil.rmtree(server.folder / "jetstream")
            shutil.move(server.folder / "old", server.folder / "jetstream")
            server.start()
            await publish(source, "a", "6")
            await copy(source, target, resume=True)
            assert [entry.data for entry in await read_all(target, "a")] == [*"123456"]
            assert await target.span() == await source.span()


async def test_a_stream_that_began_a_life_of_its_own_takes_no_more_of_a_copy(make_source: Callable[..., Log]) -> None:
    """What was noted when the server was started again has the offset of the original's next event: an error."""
    with Nats() as server:
        async with opened(make_source()) as source, opened(open_log(server.url, retention=Retention())) as target:
            await publish(source, "a", *"12")
            await copy(source, target)
            await publish(target, "a", "3")  # it is in use
            server.kill()
            server.start()
            await publish(source, "a", *"34")
            span = await source.span()
            page = await source.scan(3, 10)
            part = Copied(entries=page.entries, through=page.through, lives=span.lives, after=3)
            with pytest.raises(LogError, match="began a life of its own after 3"):
                await target.restore(part)
            assert [entry.data for entry in await read_all(target, "a")] == [*"123"]
