"""A hub's life: one event loop, threads beside it, the ways in which its streams end, and what is left: nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from newswire import Decoder, Event, Hub, Pattern, Position, StreamOptions
from newswire.errors import Closed, InvalidEvent
from newswire.hub.frames import Chunk
from newswire.hub.subscription import Subscription
from newswire.testing import next_event

pytestmark = pytest.mark.anyio


class Connection:
    """A sink that takes everything, or nothing after its first chunk."""

    def __init__(self, *, takes: bool = True) -> None:
        self.events: list[Event] = []
        self.text = ""
        self.takes = takes
        self.over = ""
        self._decoder = Decoder()
        self.subscription: Subscription

    def write(self, chunk: Chunk) -> bool:
        self.text += chunk.raw.decode()
        self.events += self._decoder.feed(chunk.raw)
        return self.takes

    def end(self, last: Chunk | None) -> None:
        self.over = "ended"
        if self.takes:
            self.text += "" if last is None else last.raw.decode()
            self.subscription.ended()

    def cut(self) -> None:
        self.over = "cut"


async def connect(hub: Hub, *, takes: bool = True, **options: float | None) -> Connection:
    connection = Connection(takes=takes)
    connection.subscription = hub.subscribe("a")
    await connection.subscription.open()
    connection.subscription.attach(connection, StreamOptions(**options))  # type: ignore[arg-type]
    return connection


def test_a_hub_belongs_to_one_event_loop(tmp_path: Path) -> None:
    """Another loop is refused in words while the hub is open; making a hub needs no loop at all."""
    hub = Hub()
    first = asyncio.new_event_loop()
    first.run_until_complete(hub.publish("a", "1"))

    async def elsewhere() -> None:
        for call in (hub.publish("a", "2"), hub.open(), hub.subscribe("a").open(), hub.history("a")):
            with pytest.raises(
                RuntimeError, match=r"open in another event loop: use hub\.sync, but outside of an event loop"
            ):
                await call

    asyncio.run(elsewhere())
    assert first.run_until_complete(hub.publish("a", "2")).offset == 2
    first.run_until_complete(hub.close())
    first.close()


async def test_many_threads_publish() -> None:
    """Each gets the position of its own event, and its errors; subscribers get all of them, in order."""
    async with Hub() as hub:
        events = aiter(hub.subscribe("a", start="earliest"))
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(8) as pool:
            calls = [loop.run_in_executor(pool, hub.sync.publish, "a", f"{number}") for number in range(200)]
            batch = loop.run_in_executor(pool, hub.sync.publish_many, [("a", "x"), ("b", "y"), ("a", "z")])
            bad = loop.run_in_executor(pool, hub.sync.publish, "a", b"\xff")
            offsets = {(await call).offset: f"{number}" for number, call in enumerate(calls)}
            first, _, last = await batch
            with pytest.raises(InvalidEvent, match="UTF-8"):
                await bad
        offsets |= {first.offset: "x", last.offset: "z"}
        seen = {Position.parse((event := await next_event(events)).id or "").offset: event.data for _ in range(202)}
        assert seen == offsets
        assert list(seen) == sorted(seen)
        await events.aclose()


def test_threads_without_a_loop(tmp_path: Path) -> None:
    """Scripts and workers share one background loop, which ends with the hub."""
    hub = Hub(f"sqlite:///{tmp_path}/log.db")
    with ThreadPoolExecutor(4) as pool:
        positions = list(pool.map(lambda number: hub.sync.publish("a", f"{number}"), range(50)))
    assert sorted(position.offset for position in positions) == list(range(1, 51))
    hub.sync.close()
    with pytest.raises(Closed):
        hub.sync.publish("a", "x")
    hub.sync.close()
    for thread in threading.enumerate():
        if thread.name.startswith(("newswire hub", "newswire log")):
            thread.join(10)
            assert not thread.is_alive()


async def test_presence_counts_who_is_there() -> None:
    """By name and by pattern, from the first moment to the last."""
    async with Hub() as hub:
        assert (hub.subscribers("a"), dict(hub.channels())) == (0, {})
        named = await connect(hub)
        pattern = aiter(hub.subscribe(Pattern("*"), "b"))
        waiting = asyncio.ensure_future(anext(pattern))
        while hub.stats().subscribers < 2:
            await asyncio.sleep(0)
        assert [hub.subscribers(name) for name in ("a", "b", "c.d")] == [2, 1, 0]
        assert dict(hub.channels()) == {"a": 1, "*": 1, "b": 1}
        named.subscription.close()
        assert [hub.subscribers(name) for name in ("a", "b", "c.d")] == [1, 1, 0]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (hub.subscribers("a"), dict(hub.channels())) == (1, {"*": 1, "b": 1})
        await pattern.aclose()
        assert (hub.subscribers("a"), dict(hub.channels()), hub.stats().subscribers) == (0, {}, 0)


@pytest.mark.parametrize("mode", ["goodbye", "drain"])
async def test_shutdown_says_goodbye(mode: str) -> None:
    """Every stream says when to come back, each with a time of its own; no new one is taken; publishing goes on."""
    async with Hub() as hub:
        connections = [await connect(hub, retry=1000) for _ in range(50)]
        reading = aiter(hub.subscribe("a"))
        waiting = asyncio.ensure_future(anext(reading, None))
        while hub.stats().subscribers < 51:
            await asyncio.sleep(0)
        await hub.shutdown(mode=mode)  # type: ignore[arg-type]
        assert await waiting is None
        waits = set()
        for connection in connections:
            assert connection.over == "ended"
            retry, event, data = connection.text.split("\n")[-5:-2]
            assert (event, data) == (
                "event: newswire.goodbye",
                'data: {"retry": ' + retry.removeprefix("retry: ") + "}",
            )
            waits.add(int(retry.removeprefix("retry: ")))
        assert len(waits) > 25
        assert all(500 <= wait <= 1500 for wait in waits)
        with pytest.raises(Closed, match="shutting down: connect again"):
            await hub.subscribe("a").open()
        assert (await hub.publish("a", "x")).offset == 1


async def test_all_in_an_envelope_has_the_same_members() -> None:
    """newswire's own events too, the goodbye among them: what a reader looks up is there."""
    async with Hub() as hub:
        connection = Connection()
        connection.subscription = hub.subscribe("a", after="junk", envelope=True, live=True)
        await connection.subscription.open()
        connection.subscription.attach(connection, StreamOptions())
        await hub.publish("a", "x")
        await asyncio.sleep(0.01)
        connection.subscription.goodbye("expired")
        lines = [line.removeprefix("data: ") for line in connection.text.splitlines() if line.startswith("data: ")]
        found = [json.loads(line) for line in lines]
        assert {tuple(each) for each in found} == {("channel", "event", "data", "time")}
        own = {"newswire.gap", "newswire.live", "newswire.goodbye"}
        assert {each["event"]: each["time"] is None for each in found} == {"message": False} | dict.fromkeys(own, True)


async def test_shutdown_cuts_who_takes_nothing() -> None:
    """After the grace time, and not before; `cut` does so at once."""
    for mode, grace in (("goodbye", 0.05), ("cut", 60)):
        async with Hub() as hub:
            stuck, healthy = await connect(hub, takes=False), await connect(hub)
            await asyncio.wait_for(hub.shutdown(grace, mode), 20)  # type: ignore[arg-type]
            assert stuck.over == "cut"
            assert healthy.over == ("ended" if mode == "goodbye" else "cut")
            assert hub.stats().subscribers == 0


async def test_a_stream_that_opens_during_the_shutdown() -> None:
    """Opened before and attached after it, it ends at once."""
    async with Hub() as hub:
        late = Connection()
        late.subscription = hub.subscribe("a")
        await late.subscription.open()
        await hub.shutdown()
        late.subscription.attach(late, StreamOptions())
        assert late.over == "ended"
        assert "newswire.goodbye" in late.text
        assert hub.stats().subscribers == 0


async def test_close_is_the_end() -> None:
    """A closed hub refuses each call in words; closing again, or before anything, does nothing."""
    hub = Hub()
    await hub.close()
    await hub.close()
    for call in (hub.publish("a", "x"), hub.subscribe("a").open(), hub.history("a")):
        with pytest.raises(Closed):
            await call
    with pytest.raises(Closed):
        await next_event(aiter(hub.subscribe("a")))
    assert (hub.subscribers("a"), dict(hub.channels())) == (0, {})


async def test_a_subscription_is_read_once() -> None:
    """A second reader hears that it needs a subscription of its own."""
    async with Hub() as hub:
        subscription = hub.subscribe("a", start="earliest")
        await hub.publish("a", "x")
        events = aiter(subscription)
        assert (await next_event(events)).data == "x"
        with pytest.raises(Closed, match="for each reader"):
            await next_event(aiter(subscription))
        await hub.publish("a", "y")
        assert (await next_event(events)).data == "y"
        await events.aclose()


async def test_nothing_is_left() -> None:
    """No task survives a hub, however its streams ended."""
    before = asyncio.all_tasks()
    async with Hub() as hub:
        await connect(hub)
        await connect(hub, takes=False)
        await hub.publish("a", "x")
        await hub.shutdown(grace=0.05)
    assert asyncio.all_tasks() == before
