"""The hub's one promise, at random: each subscriber gets its channels' events, once and in order, or a gap that covers
what is missing. Whatever the window, the pages, the budgets, the sinks, retention, and the number of hubs that publish.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from newswire import Decoder, Event, Hub, HubOptions, Position, Retention, StreamOptions
from newswire.hub import group, history, runtime, scheduler, shared_rounds
from newswire.hub.frames import Chunk
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels, Pattern, name_or_pattern
from newswire.log.memory import MemoryLog
from newswire.log.retention import RetentionRules
from newswire.log.sqlite import SqliteLog

pytestmark = pytest.mark.anyio

NAMES = ["a", "b", "a.x", "a.y", "a.x.1", "b.x", "c"]
WANTED = [*NAMES, "*", "a.*", "a.>", "*.x", ">", "none", "none.*"]
STEPS = 130


class SlowSink:
    """A connection that holds what it was given for as long as its dice say.

    Attributes:
        events: what came out of it.
        held: whether it can take no more.
        ended: whether the stream was ended.
    """

    def __init__(self, dice: random.Random, patience: float) -> None:
        self.events: list[Event] = []
        self.held = False
        self.ended = False
        self._dice = dice
        self._patience = patience
        self._decoder = Decoder()

    def write(self, chunk: Chunk) -> bool:
        assert not self.held, "a sink that holds something is given nothing"
        assert not self.ended
        self.events += self._decoder.feed(chunk.raw)
        self.held = self._dice.random() > self._patience
        return not self.held

    def end(self, last: Chunk | None) -> None:
        self.ended = True

    def cut(self) -> None:
        self.ended = True


class Reader:
    """One subscriber, by a sink or in process, and what it has a right to.

    Attributes:
        channels: what it subscribed to.
        after: the offset it began at; None for the earliest event.
        hub: where.
        told: the offset through which loss is no news: a reader of the earliest event takes what is kept then.
    """

    def __init__(self, hub: Hub, channels: Channels, after: int | None, subscription: Subscription) -> None:
        self.hub = hub
        self.channels = channels
        self.after = after
        self.subscription = subscription
        self.sink: SlowSink | None = None
        self.task: asyncio.Task[None] | None = None
        self.told = 0
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events if self.sink is None else self.sink.events

    async def read(self, dice: random.Random) -> None:
        async for event in self.subscription:
            self._events.append(event)
            while dice.random() < 0.3:
                await asyncio.sleep(0)

    def go_on(self) -> None:
        if self.sink is not None and self.sink.held:
            self.sink.held = False
            self.subscription.resume()

    def stop(self) -> None:
        self.subscription.close()
        if self.sink is not None:
            self.subscription.ended()

    def check(self, published: dict[int, tuple[str, str]], kept: set[int]) -> None:
        """See that what came is what was published, and that a gap covers every hole."""
        at = self.after
        told = self.told
        for event in self.events:
            offset = Position.parse(event.id or "").offset
            if event.event == "newswire.gap":
                gap = event.json()
                assert gap["reason"] == "trimmed"
                assert Position.parse(gap["after"]).offset == offset, "a gap's id is where the stream goes on from"
                through = Position.parse(gap["through"]).offset
                assert through > (at or 0), "a gap is told of what is missing, and once"
                assert through > told or told == self.told
                told = max(told, through)
                continue
            assert (event.channel or self.channels.single, event.data) == published[offset]
            assert at is None or offset > at, "order, and once"
            self._check_hole(published, kept, at, offset, told)
            at = offset
        end = max((offset for offset, (channel, _) in published.items() if channel in self.channels), default=0)
        self._check_hole(published, kept, at, end + 1, told)

    def _check_hole(
        self, published: dict[int, tuple[str, str]], kept: set[int], at: int | None, before: int, told: int
    ) -> None:
        for missed in range((at or 0) + 1, before):
            if missed in published and published[missed][0] in self.channels:
                assert missed not in kept, f"{missed} is kept, and was left out after {at}"
                assert missed <= told, f"{missed} was lost after {at} without a word"


class World:
    """Hubs on one log, what was published, and the readers."""

    def __init__(self, seed: int, hubs: list[Hub], dice: random.Random) -> None:
        self.dice = dice
        self.hubs = hubs
        self.published: dict[int, tuple[str, str]] = {}
        self.readers: list[Reader] = []
        self.past: list[Reader] = []

    async def publish(self) -> None:
        dice = self.dice
        size = dice.choice([1, 1, 1, 2, 7, 40])
        batch = [(dice.choice(NAMES), f"{dice.random()}" + "x" * dice.choice([0, 0, 50, 900])) for _ in range(size)]
        positions = await dice.choice(self.hubs).publish_many(batch)
        self.published.update({at.offset: pair for at, pair in zip(positions, batch, strict=True)})

    async def subscribe(self) -> None:
        dice = self.dice
        hub = dice.choice(self.hubs)
        wanted = Channels(map(name_or_pattern, dice.sample(WANTED, dice.choice([1, 1, 2, 4]))))
        names = [*wanted.names, *map(Pattern, wanted.patterns)]
        offset: int | None = dice.choice([0, *self.published])
        kind = dice.choice(["after", "after", "earliest", "latest"])
        if kind == "after":
            subscription = hub.subscribe(*names, after=Position(hub.epoch, offset or 0))
        else:
            subscription = hub.subscribe(*names, start=kind)  # type: ignore[arg-type]
        await subscription.open()
        after = None if kind == "earliest" else subscription.cursor
        reader = Reader(hub, wanted, after, subscription)
        if dice.random() < 0.6:
            reader.sink = SlowSink(dice, dice.choice([0.0, 0.5, 0.9, 1.0]))
            subscription.attach(reader.sink, StreamOptions(retry=None, heartbeat=None, write_timeout=None))
        else:
            reader.task = asyncio.create_task(reader.read(dice))
            while not hub.stats().subscribers or subscription not in subscription.runtime.members:
                await asyncio.sleep(0)  # until the task has begun
        self.readers.append(reader)
        if after is None:
            while not subscription.cursor and self.published and " ready " not in repr(subscription):
                await asyncio.sleep(0)
            reader.told = max(self.published, default=0)

    async def leave(self) -> None:
        if self.readers:
            reader = self.readers.pop(self.dice.randrange(len(self.readers)))
            reader.stop()
            if reader.task is not None:
                await reader.task
            self.past.append(reader)

    async def go_on(self) -> None:
        for reader in self.readers:
            if self.dice.random() < 0.5:
                reader.go_on()

    async def rest(self) -> None:
        for _ in range(self.dice.choice([1, 5, 30])):
            await asyncio.sleep(0)

    async def trim(self) -> None:
        await self.dice.choice(self.hubs).log.trim()

    async def count(self) -> None:
        for hub in self.hubs:
            here = [reader for reader in self.readers if reader.hub is hub]
            assert hub.stats().subscribers == len(here)
            for name in [*NAMES, "none", "none.x"]:
                assert hub.subscribers(name) == sum(name in reader.channels for reader in here)
            expected: dict[str, int] = {}
            for reader in here:
                for name in [*reader.channels.names, *map(Pattern, reader.channels.patterns)]:
                    expected[name] = expected.get(name, 0) + 1
            assert hub.channels() == expected

    async def finish(self) -> None:
        """Publish one last event to each channel, and let everyone come to it."""
        positions = await self.hubs[0].publish_many([(name, "end") for name in NAMES])
        self.published.update({at.offset: (name, "end") for at, name in zip(positions, NAMES, strict=True)})
        for reader in self.readers:
            last = max(
                (at.offset for at, name in zip(positions, NAMES, strict=True) if name in reader.channels), default=0
            )
            async with asyncio.timeout(20):
                while last and not (reader.events and (reader.events[-1].id or "").endswith(f"-{last}")):
                    reader.go_on()
                    await asyncio.sleep(0)

    async def kept(self) -> set[int]:
        found: set[int] = set()
        after = 0
        log = self.hubs[0].log
        while after < (await log.span()).latest:
            page = await log.read(Channels([Pattern(">")]), after, 1000)
            found |= {entry.offset for entry in page.entries}
            after = page.through
        return found


def rules(dice: random.Random) -> RetentionRules:
    few = Retention(max_events=dice.randint(1, 30))
    return dice.choice([None, few, {"a.>": few, "b": Retention(max_bytes=2000)}])


def options(dice: random.Random) -> HubOptions:
    return HubOptions(
        window_bytes=dice.choice([1, 2_000, 20_000, 10**7]),
        write_budget=dice.choice([1, 500, 5_000, 65_536]),
    )


@pytest.fixture(autouse=True)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's constants are drawn too: small ones bring what is rare."""
    dice = random.Random(request.node.name)
    monkeypatch.setattr(history, "PAGE_EVENTS", dice.choice([1, 3, 16, 512]))
    monkeypatch.setattr(history, "PAGE_CACHE_BYTES", dice.choice([1, 5_000, 10**7]))
    monkeypatch.setattr(scheduler, "SLICE_SECONDS", dice.choice([1e-9, 0.004]))
    monkeypatch.setattr(runtime, "MANY", dice.choice([1, 2, 16]))
    for module in (group, shared_rounds):
        monkeypatch.setattr(module, "STEP", dice.choice([1, 3, 64]))


async def run(seed: int, logs: Callable[[RetentionRules], list[MemoryLog] | list[SqliteLog]]) -> None:
    """One world, from its first event to its last."""
    dice = random.Random(seed)
    hubs = [Hub(log, options=options(dice)) for log in logs(rules(dice))]
    world = World(seed, hubs, dice)
    chances: list[tuple[Callable[[], Awaitable[None]], int]] = [
        (world.publish, 10), (world.subscribe, 4), (world.leave, 2), (world.go_on, 8), (world.rest, 5), (world.trim, 2),
        (world.count, 2),
    ]  # fmt: skip
    try:
        for hub in hubs:
            await hub.open()
        for step in dice.choices([each for each, _ in chances], [weight for _, weight in chances], k=STEPS):
            await step()
        await world.finish()
        kept = await world.kept()
        for reader in world.readers:
            reader.check(world.published, kept)
        await world.count()
        while world.readers:
            await world.leave()
        await world.count()
        assert all(hub.stats().stalled == 0 for hub in hubs)
    finally:
        for hub in hubs:
            await hub.close()
        tasks = [reader.task for reader in [*world.readers, *world.past] if reader.task is not None]
        await asyncio.gather(*tasks)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
async def test_on_the_log_in_memory(seed: int) -> None:
    """One hub, forty worlds."""
    await run(seed, lambda rules: [MemoryLog(retention=rules)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
async def test_on_sqlite(tmp_path: Path, seed: int) -> None:
    """One, two or three hubs on one file, as in as many processes."""

    def logs(rules: RetentionRules) -> list[SqliteLog]:
        return [SqliteLog(tmp_path / "log.db", retention=rules, synchronous="NORMAL") for _ in range(1 + seed % 3)]

    await run(seed, logs)


async def test_who_began_with_the_window_is_told_of_later_loss() -> None:
    """Asking for the earliest event is no licence to lose what came after it."""
    log = MemoryLog(retention=Retention(max_events=3))
    async with Hub(log, options=HubOptions(window_bytes=2_000, write_budget=1)) as hub:
        sink = SlowSink(random.Random(0), patience=0.0)
        subscription = hub.subscribe("a", start="earliest")
        await subscription.open()
        subscription.attach(sink, StreamOptions(retry=None))
        positions = [await hub.publish("a", "0")]
        while not sink.held:
            await asyncio.sleep(0)
        positions += [await hub.publish("a", f"{number}") for number in range(1, 30)]
        await log.trim()
        while not sink.events or sink.events[-1].data != "29":
            sink.held = False
            subscription.resume()
            await asyncio.sleep(0)
        assert [event.data for event in sink.events if event.event == "message"] == ["0", "27", "28", "29"]
        gap = sink.events[1].json()
        assert gap == {"reason": "trimmed", "after": str(positions[0]), "through": str(positions[26])}
        subscription.cut()


@pytest.mark.slow
async def test_what_is_at_hand_comes_with_the_opening() -> None:
    """Streams that start at one place begin with the same bytes in one write, and live events follow."""
    async with Hub() as hub:
        positions = [await hub.publish("a", f"{number}") for number in range(5)]
        chunks: list[Chunk] = []
        sinks = [SlowSink(random.Random(0), patience=1.0) for _ in range(2)]
        for sink in sinks:
            subscription = hub.subscribe("a", after=positions[1])
            await subscription.open()
            subscription.attach(FirstKept(sink, chunks), StreamOptions())
            assert [event.data for event in sink.events] == ["2", "3", "4"]
        assert len(chunks) == 2
        assert chunks[0] is chunks[1]
        assert chunks[0].raw.startswith(b"retry:")
        await hub.publish("a", "live")
        while any(sink.events[-1].data != "live" for sink in sinks):
            await asyncio.sleep(0)
        assert [[event.data for event in sink.events] for sink in sinks] == [["2", "3", "4", "live"]] * 2
        assert hub.stats().delivered == 8


class FirstKept:
    """A sink that keeps the first chunk too."""

    def __init__(self, sink: SlowSink, chunks: list[Chunk]) -> None:
        self._sink = sink
        self._chunks = chunks
        self._began = False

    def write(self, chunk: Chunk) -> bool:
        if not self._began:
            self._began = True
            self._chunks.append(chunk)
        return self._sink.write(chunk)

    def end(self, last: Chunk | None) -> None:
        self._sink.end(last)

    def cut(self) -> None:
        self._sink.cut()
