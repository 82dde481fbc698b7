"""Iterating in process: waiting may be cancelled at any moment and tried again, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from newswire import Hub, HubOptions
from newswire.errors import Closed, LogUnavailable
from newswire.log.memory import MemoryLog
from newswire.runs import Runs
from newswire.testing import next_event
from newswire.testing.asgi import AppExchange

pytestmark = pytest.mark.anyio


async def wait_for(events: AsyncIterator[Any], seconds: float) -> Any:
    return await asyncio.wait_for(anext(events), seconds)


async def timeout(events: AsyncIterator[Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await anext(events)


async def cancelled_task(events: AsyncIterator[Any], seconds: float) -> Any:
    task = asyncio.ensure_future(anext(events))
    done, _ = await asyncio.wait([task], timeout=seconds)
    if done:
        return task.result()
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        raise TimeoutError from None


@pytest.mark.parametrize("way", [wait_for, timeout, cancelled_task])
async def test_a_waiting_that_timed_out_is_tried_again(way: Any) -> None:
    """By whatever cancels: the iterator goes on, from the first event to the last."""
    async with Hub() as hub:
        events = aiter(hub.subscribe("a"))
        for number in range(3):
            with pytest.raises(TimeoutError):
                await way(events, 0.001)
            await hub.publish("a", f"{number}")
            assert (await way(events, 5)).data == f"{number}"
        await events.aclose()
        assert hub.stats().subscribers == 0
        with pytest.raises(StopAsyncIteration):
            await anext(events)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
async def test_cancelled_at_random_moments(seed: int, tmp_path: Path) -> None:
    """Every event once and in order, on both logs, whether it was waited for in the log's pages, the window or live."""
    dice = random.Random(seed)
    url = "memory://" if seed % 2 else f"sqlite:///{tmp_path}/log.db?synchronous=NORMAL"
    options = HubOptions(window_bytes=dice.choice([1, 2_000, 10**6]), write_budget=dice.choice([1, 10_000]))
    async with Hub(url, options=options) as hub:
        events = aiter(hub.subscribe("a", start="earliest"))
        expected: list[str] = []
        seen: list[str] = []
        while len(seen) < 200:
            if len(expected) < 200:
                batch = [f"{len(expected) + index}" for index in range(dice.choice([0, 1, 5]))]
                await hub.publish_many([("a", text) for text in batch])
                expected += batch
            task = asyncio.ensure_future(anext(events))
            for _ in range(dice.choice([0, 1, 2, 3, 10])):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                seen.append((await task).data)
            if len(seen) < 200 <= len(expected) and dice.random() < 0.5:
                seen.append((await next_event(events)).data)
        assert seen == expected[: len(seen)]
        await events.aclose()


async def test_cancelled_while_it_opens() -> None:
    """The first waiting opens the hub and finds the place; cancelled there, it does so again."""
    hanging = asyncio.Event()

    class Log(MemoryLog):
        async def span(self):  # type: ignore[no-untyped-def]
            await hanging.wait()
            return await super().span()

    hub = Hub(Log())
    events = aiter(hub.subscribe("a", start="earliest"))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await wait_for(events, 0.001)
    hanging.set()
    await hub.publish("a", "x")
    assert (await next_event(events)).data == "x"
    await events.aclose()
    await hub.close()


async def test_an_error_at_the_first_event_is_tried_again() -> None:
    """A log that is away when a reader comes, and back when it asks again."""

    class Log(MemoryLog):
        away = True

        async def span(self):  # type: ignore[no-untyped-def]
            if self.away:
                raise LogUnavailable("away")
            return await super().span()

    log = Log()
    hub = Hub(log)
    events = aiter(hub.subscribe("a"))
    with pytest.raises(LogUnavailable):
        await anext(events)
    log.away = False
    waiting = asyncio.ensure_future(anext(events))
    while hub.subscribers("a") == 0:
        await asyncio.sleep(0)
    await hub.publish("a", "x")
    assert (await waiting).data == "x"
    await events.aclose()
    await hub.close()


async def test_two_who_wait_for_one_iterator_are_refused() -> None:
    """The second one gets an error that says what to do; the first one its event."""
    async with Hub() as hub:
        events = aiter(hub.subscribe("a"))
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="subscribe for each reader"):
            await anext(events)
        while hub.subscribers("a") == 0:
            await asyncio.sleep(0)
        await hub.publish("a", "x")
        assert (await first).data == "x"
        await events.aclose()


async def test_closing_ends_a_waiting() -> None:
    """`aclose` from another task, also before anything was read."""
    async with Hub() as hub:
        events = aiter(hub.subscribe("a"))
        await aiter(hub.subscribe("a")).aclose()
        waiting = asyncio.ensure_future(anext(events, None))
        while hub.subscribers("a") == 0:
            await asyncio.sleep(0)
        await events.aclose()
        assert await waiting is None
        assert hub.stats().subscribers == 0


async def test_who_lets_go_of_an_iterator_frees_its_subscription() -> None:
    """By a break, by an error, by a cancelled task, by dropping it."""
    async with Hub() as hub:
        await hub.publish("a", "x")
        async for _ in hub.subscribe("a", start="earliest"):
            break
        with contextlib.suppress(ZeroDivisionError):
            async for _ in hub.subscribe("a", start="earliest"):
                raise ZeroDivisionError

        async def read_on() -> None:
            async for _ in hub.subscribe("a"):
                pass

        reading = asyncio.ensure_future(read_on())
        while hub.stats().subscribers < 1:
            await asyncio.sleep(0)
        reading.cancel()  # and is kept, with its traceback
        events = aiter(hub.subscribe("a", start="earliest"))
        await anext(events)
        del events
        gc.collect()
        while hub.stats().subscribers:
            await asyncio.sleep(0)


async def test_an_iterator_outlives_its_loop_in_peace() -> None:
    """One that is freed after its hub has closed does nothing."""
    async with Hub() as hub:
        events = aiter(hub.subscribe("a", start="earliest"))
        await hub.publish("a", "x")
        await anext(events)
    assert await anext(events, None) is None
    del events
    with pytest.raises(Closed):
        await anext(aiter(hub.subscribe("a")))


async def test_a_run_is_read_with_timeouts() -> None:
    """Up to and with its end, which comes once; then the iteration is over, and stays so."""
    hub = Hub()
    async with Runs(hub, public=True) as runs:
        go_on = asyncio.Queue[str]()

        async def source():  # type: ignore[no-untyped-def]
            while text := await go_on.get():
                yield text

        run = await runs.start("r", source())
        events = aiter(run.subscribe())
        for text in ("one", "two"):
            with pytest.raises(TimeoutError):
                await wait_for(events, 0.01)
            go_on.put_nowait(text)
            assert (await wait_for(events, 5)).data == text
        go_on.put_nowait("")
        seen = []
        with contextlib.suppress(StopAsyncIteration):
            while True:
                seen.append((await wait_for(events, 5)).event)
        assert seen == ["newswire.end"]
        assert await anext(events, None) is None
    await hub.close()


async def test_what_a_run_tracks_is_waited_for_with_timeouts() -> None:
    """`run.track` passes on what its items can do."""
    hub = Hub()
    async with Runs(hub, public=True) as runs, runs.attach((await runs.start("r")).id) as run:
        items = aiter(run.track(hub.subscribe("work")))
        with pytest.raises(TimeoutError):
            await wait_for(items, 0.01)
        await hub.publish("work", "x")
        assert (await wait_for(items, 5)).data == "x"
    await hub.close()


async def test_the_body_of_an_answer_in_memory_is_waited_for_with_timeouts() -> None:
    """`asgi_client`'s responses: a piece that was too late comes at the next asking."""
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await release.wait()
        await send({"type": "http.response.body", "body": b"late", "more_body": False})

    exchange = AppExchange(app, {}, b"")
    await exchange.started()
    pieces = aiter(exchange.pieces())
    with pytest.raises(TimeoutError):
        await wait_for(pieces, 0.01)
    release.set()
    assert await wait_for(pieces, 5) == b"late"
    assert await anext(pieces, None) is None
    assert await anext(pieces, None) is None
    await exchange.close()
