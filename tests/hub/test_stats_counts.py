"""What a hub counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from newswire import Hub, HubOptions, Retention, StreamOptions, open_log
from newswire.hub.frames import Chunk
from newswire.hub.subscription import Subscription
from newswire.wire.encoder import HEARTBEAT

pytestmark = pytest.mark.anyio

QUIET = StreamOptions(heartbeat=None, write_timeout=None)


class Bytes:
    """A connection that keeps what it gets."""

    def __init__(self, subscription: Subscription, *, full: bool = False) -> None:
        self.got = b""
        self.full = full
        self.subscription = subscription

    def write(self, chunk: Chunk) -> bool:
        self.got += chunk.raw
        return not self.full

    def end(self, last: Chunk | None) -> None:
        self.got += b"" if last is None else last.raw
        self.subscription.ended()

    def cut(self) -> None:
        pass


async def connect(
    hub: Hub, *channels: str, options: StreamOptions = QUIET, full: bool = False, **more: object
) -> Bytes:
    subscription = hub.subscribe(*channels, **more)  # type: ignore[arg-type]
    await subscription.open()
    sink = Bytes(subscription, full=full)
    subscription.attach(sink, options)
    await asyncio.sleep(0)
    return sink


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def test_bytes_are_those_of_the_streams() -> None:
    """Live, replayed, private or shared; iterating in process counts none, and is no stream that began or ended."""
    async with Hub("memory://") as hub:
        first = await hub.publish("a", "0")
        iterator = aiter(hub.subscribe("a", start="earliest"))
        await anext(iterator)
        sinks = [await connect(hub, "a", after=first), await connect(hub, "a"), await connect(hub, "b")]
        for number in range(20):
            await hub.publish("a", f"{number}")
            await hub.publish("b", f"{number}")
        await until(lambda: all(b"data: 19\n" in sink.got for sink in sinks))
        sinks.append(await connect(hub, "a", "b", start="earliest"))
        await until(lambda: b"data: 19\n" in sinks[-1].got)
        sinks[0].subscription.goodbye()
        stats = hub.stats()
        assert stats.stream_bytes == sum(len(sink.got) for sink in sinks)
        assert stats.replayed == 41 + 1  # the iterator had one
        assert stats.resumes == {"current": 1, "new": 3}
        assert stats.ends == {"goodbye": 1}
        await iterator.aclose()


async def test_resumes_by_where_the_cursor_led(tmp_path: Path) -> None:
    """In memory, in the log, at the end, or nowhere; a gap has its reason."""
    log = open_log(f"sqlite:///{tmp_path}/log.db", retention={"a": Retention(max_events=3)})
    async with Hub(log, options=HubOptions(window_bytes=1)) as hub:
        positions = [await hub.publish("a", f"{i}") for i in range(10)]
        await log.trim()
        for after in (positions[0], positions[-1], "garbage", "zzzzzzzz-1"):
            sink = await connect(hub, "a", after=after)
            if after != positions[-1]:
                await until(lambda sink=sink: b"data: 9\n" in sink.got)
        stats = hub.stats()
        assert stats.resumes == {"log": 1, "current": 1, "gap": 2}
        assert stats.gap_reasons == {"trimmed": 1, "invalid": 1, "epoch": 1}
        assert stats.gaps == 3
        assert sum(stats.append.counts) >= 10
        assert sum(stats.read.counts) >= stats.pages_read > 0
    async with Hub("memory://") as hub:
        await hub.publish("a", "1")
        after = await hub.publish("a", "2")
        await hub.publish("a", "3")
        await connect(hub, "a", after=after)
        assert hub.stats().resumes == {"window": 1}


async def test_ends_by_reason() -> None:
    """Each way to end a stream has its own name, and each stream ends once."""
    async with Hub("memory://") as hub:
        (await connect(hub, "a")).subscription.ended()
        (await connect(hub, "a")).subscription.close()
        (await connect(hub, "a")).subscription.goodbye()
        (await connect(hub, "a")).subscription.goodbye("revoked")
        (await connect(hub, "a")).subscription.expire()
        (await connect(hub, "a")).subscription.cut()
        sink = await connect(hub, "a", options=StreamOptions(max_age=0.01, heartbeat=None))
        slow = await connect(hub, "a", options=StreamOptions(write_timeout=0.01, heartbeat=None), full=True)
        await until(lambda: sink.subscription.closed and slow.subscription.closed)

        def broken(chunk: Chunk) -> bool:
            raise OSError("broken")

        failing = await connect(hub, "a")
        failing.subscription.write = broken
        await hub.publish("a", "x")
        await until(lambda: failing.subscription.closed)
        ends = dict.fromkeys(("client", "closed", "revoked", "expired", "cut", "max_age", "slow", "failed"), 1)
        assert hub.stats().ends == {**ends, "goodbye": 1}


async def test_heartbeats_are_no_events() -> None:
    """Each silent stream gets its own, and no delivery is counted."""
    async with Hub("memory://") as hub:
        options = StreamOptions(heartbeat=0.5)
        sinks = [await connect(hub, "a", options=options) for _ in range(3)]
        await until(lambda: all(HEARTBEAT in sink.got for sink in sinks))
        stats = hub.stats()
        assert (stats.heartbeats, stats.delivered) == (3, 0)
