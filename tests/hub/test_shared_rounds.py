"""One event for many groups of one member: a channel that all share, beside one that each has for itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.log.jsonl import JsonLines

from newswire import Decoder, Event, Hub, StreamOptions
from newswire.hub import scheduler, shared_rounds
from newswire.hub.frames import Chunk
from newswire.hub.subscription import Subscription
from newswire.log.log import Log

pytestmark = pytest.mark.anyio

PATIENCE = 20
OPTIONS = StreamOptions(retry=None, heartbeat=None, write_timeout=None)


class Sink:
    """A connection that takes all, unless it is full or broken.

    Attributes:
        writes: the events of each write.
    """

    def __init__(self) -> None:
        self.writes: list[list[str]] = []
        self.full = False
        self.broken = False
        self.is_cut = False
        self.subscription: Subscription | None = None
        self._decoder = Decoder()

    @property
    def data(self) -> list[str]:
        """What came, in order."""
        return [data for write in self.writes for data in write]

    def write(self, chunk: Chunk) -> bool:
        if self.broken:
            raise RuntimeError("this connection is broken")
        events = self._decoder.feed(chunk.raw)
        self.writes.append([event.event if event.event.startswith("newswire.") else event.data for event in events])
        return not self.full

    def end(self, last: Chunk | None) -> None:
        if self.subscription is not None:
            self.subscription.ended()

    def cut(self) -> None:
        self.is_cut = True


async def subscribed(hub: Hub, *channels: str) -> tuple[Sink, Subscription]:
    """One more reader of what comes."""
    subscription = hub.subscribe(*channels)
    await subscription.open()
    sink = Sink()
    sink.subscription = subscription
    subscription.attach(sink, OPTIONS)
    return sink, subscription


async def everybody(hub: Hub, count: int = 40) -> list[tuple[Sink, Subscription]]:
    """Readers with a channel of their own each, and one for all."""
    return [await subscribed(hub, "all", f"user.{number}") for number in range(count)]


async def until(sinks: list[Sink], data: str) -> None:
    """Wait until this has come to all."""
    async with asyncio.timeout(PATIENCE):
        while any(data not in sink.data for sink in sinks):
            await asyncio.sleep(0)


async def test_all_get_the_same_bytes() -> None:
    """An event for all is encoded once, and counted for each."""
    async with Hub() as hub:
        readers = await everybody(hub)
        await hub.publish("all", "1")
        await until([sink for sink, _ in readers], "1")
        await hub.publish("user.7", "own")
        await until([readers[7][0]], "own")
        assert [sink.data for sink, _ in readers] == [["1", "own"] if n == 7 else ["1"] for n in range(40)]
        assert hub.stats().delivered == 41
        assert hub.stats().stream_bytes == sum(len(_bytes(hub, text)) for text in ["1"] * 40 + ["own"])


def _bytes(hub: Hub, data: str) -> bytes:
    channel = "user.7" if data == "own" else "all"
    return f"id: {hub.epoch}-{2 if data == 'own' else 1}\nchannel: {channel}\ndata: {data}\n\n".encode()


async def test_what_comes_in_one_pass_goes_out_in_one_write() -> None:
    """A second event for all, before any had its turn for the first."""
    async with Hub() as hub:
        readers = await everybody(hub)
        await hub.publish("all", "1")
        await hub.publish("user.3", "own")
        await hub.publish("all", "2")
        await until([sink for sink, _ in readers], "2")
        for number, (sink, _) in enumerate(readers):
            assert sink.writes == ([["1", "own", "2"]] if number == 3 else [["1", "2"]])


async def test_who_joins_before_the_turn() -> None:
    """A second reader of the same channels begins after the event; the first one gets it, and both the next, once."""
    async with Hub() as hub:
        readers = await everybody(hub)
        await hub.publish("all", "1")
        late, _ = await subscribed(hub, "all", "user.0")
        await hub.publish("all", "2")
        await until([late, *[sink for sink, _ in readers]], "2")
        await hub.publish("user.0", "own")
        await until([late, readers[0][0]], "own")
        assert late.data == ["2", "own"]
        assert readers[0][0].data == ["1", "2", "own"]


async def test_who_leaves_before_the_turn() -> None:
    """It gets nothing more; who takes its place begins for itself."""
    async with Hub() as hub:
        readers = await everybody(hub)
        await hub.publish("all", "1")
        gone, subscription = readers[5]
        subscription.close()
        late, _ = await subscribed(hub, "all", "user.5")
        await hub.publish("all", "2")
        await until([late, *[sink for sink, _ in readers if sink is not gone]], "2")
        assert gone.data == []
        assert late.data == ["2"]


async def test_one_that_can_take_no_more_and_one_that_breaks() -> None:
    """The others have theirs; the full one reads on when it can."""
    async with Hub() as hub:
        readers = await everybody(hub)
        full, subscription = readers[2]
        broken = readers[4][0]
        full.full = broken.broken = True
        await hub.publish("all", "1")
        await hub.publish("user.6", "own")
        others = [sink for sink, _ in readers if sink is not broken]
        await until(others, "1")
        await hub.publish("all", "2")
        await until([sink for sink in others if sink is not full], "2")
        assert full.data == ["1"]
        assert broken.is_cut
        full.full = False
        subscription.resume()
        await until([full], "2")
        for number, (sink, _) in enumerate(readers):
            if sink is not broken:
                assert sink.data == (["1", "own", "2"] if number == 6 else ["1", "2"])


async def test_the_log_is_another_one_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had its turn and whoever had not: each gets the event once, and then what the new life brings."""
    monkeypatch.setattr(shared_rounds, "STEP", 3)
    monkeypatch.setattr(scheduler, "SLICE_SECONDS", 0)
    engine = JsonLines(tmp_path / "log.jsonl")
    async with Hub(Log(engine)) as hub:
        readers = await everybody(hub)
        sinks = [sink for sink, _ in readers]
        await hub.publish("all", "1")
        async with asyncio.timeout(PATIENCE):
            while not any(sink.data for sink in sinks):
                await asyncio.sleep(0)
        assert not all(sink.data for sink in sinks)
        runtime = readers[0][1].runtime
        engine.roll_back(0)  # another life, which has all of the one before
        runtime.begin_again(await hub.log.span())
        await hub.publish("all", "2")
        await until(sinks, "2")
        assert [sink.data for sink in sinks] == [["1", "2"]] * 40


async def test_a_batch_is_one_write() -> None:
    """Several events that are published together go out together."""
    async with Hub() as hub:
        readers = await everybody(hub)
        await hub.publish_many([("all", Event(data)) for data in "123"])
        await until([sink for sink, _ in readers], "3")
        assert all(sink.writes == [["1", "2", "3"]] for sink, _ in readers)
