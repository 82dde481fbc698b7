"""Whatever a log raises, wherever: what was stored comes to every subscriber, once and in order, when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import weakref
from pathlib import Path

import pytest
from tests.hub.test_every_subscriber import Reader, SlowSink
from tests.hub.test_hub_life import Connection
from tests.hub.troubled import ERRORS, Odd, TroubledLog

from newswire import Event, Hub, HubOptions, Pattern, Position, StreamOptions
from newswire.errors import Closed, LogError, LogUnavailable
from newswire.hub import history
from newswire.log.channels import Channels
from newswire.log.engine import Entry
from newswire.log.log import Log
from newswire.log.memory import MemoryLog
from newswire.log.retry import Retry
from newswire.log.sqlite import SqliteLog
from newswire.testing import next_event

pytestmark = pytest.mark.anyio

NAMES = ["a", "b", "a.x", "c"]
WANTED = [*NAMES, Pattern("*"), Pattern("a.*"), Pattern(">")]
STEPS = 150


@pytest.fixture(autouse=True)
def _short_waits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages of milliseconds (the waits themselves have tests of their own), and pages of drawn sizes."""
    monkeypatch.setattr(Retry.__init__, "__defaults__", (0.001, 0.005))
    dice = random.Random(request.node.name)
    monkeypatch.setattr(history, "PAGE_EVENTS", dice.choice([1, 3, 512]))
    monkeypatch.setattr(history, "PAGE_CACHE_BYTES", dice.choice([1, 10**7]))


class Walk:
    """One hub on a log in trouble."""

    def __init__(self, seed: int, inner: Log) -> None:
        self.dice = dice = random.Random(seed)
        self.log = TroubledLog(inner, random.Random(seed), immediate=dice.choice([False, True]))
        options = HubOptions(
            window_bytes=dice.choice([1, 2_000, 10**7]),
            write_budget=dice.choice([1, 500, 65_536]),
        )
        self.hub = Hub(self.log, options=options)
        self.readers: list[Reader] = []
        self.refused = 0

    async def publish(self) -> None:
        batch = [(self.dice.choice(NAMES), f"{self.dice.random()}") for _ in range(self.dice.choice([1, 1, 3, 20]))]
        with contextlib.suppress(Exception, asyncio.CancelledError, Odd):  # what was stored is what the log has
            await self.hub.publish_many(batch)

    async def subscribe(self) -> None:
        dice = self.dice
        wanted = Channels(dice.sample(WANTED, dice.choice([1, 2])))
        names = [*wanted.names, *map(Pattern, wanted.patterns)]
        after = dice.choice([0, self.hub.latest])
        subscription = self.hub.subscribe(*names, after=Position(self.hub.epoch, after))
        try:
            await subscription.open()
        except (LogError, Closed, Odd):
            self.refused += 1
            return
        reader = Reader(self.hub, wanted, after, subscription)
        reader.sink = SlowSink(dice, dice.choice([0.0, 0.5, 1.0]))
        subscription.attach(reader.sink, StreamOptions(retry=None, heartbeat=None, write_timeout=None))
        self.readers.append(reader)

    async def leave(self) -> None:
        if len(self.readers) > 2:
            self.readers.pop(self.dice.randrange(len(self.readers))).stop()

    async def go_on(self) -> None:
        for reader in self.readers:
            reader.go_on()

    async def rest(self) -> None:
        for _ in range(self.dice.choice([1, 5, 30])):
            await asyncio.sleep(0)
        await asyncio.sleep(self.dice.choice([0, 0, 0, 0.003]))

    async def worsen(self) -> None:
        self.log.engine.trouble = self.dice.choice([0.0, 0.05, 0.3, 1.0])

    async def finish(self) -> None:
        self.log.engine.trouble = 0.0
        async with asyncio.timeout(20):
            while self.hub_is_down():
                await asyncio.sleep(0.001)
        last = (await self.hub.publish_many([(name, "end") for name in NAMES]))[-1].offset
        for reader in self.readers:
            async with asyncio.timeout(20):
                while not (reader.events and reader.events[-1].data == "end" and self.is_at(reader, last)):
                    reader.go_on()
                    await asyncio.sleep(0)

    def is_at(self, reader: Reader, last: int) -> bool:
        first = last - len(NAMES) + 1
        own = max(first + index for index, name in enumerate(NAMES) if name in reader.channels)
        return (reader.events[-1].id or "").endswith(f"-{own}")

    def hub_is_down(self) -> bool:
        return not self.hub.following

    async def check(self) -> None:
        inner = self.log.engine.inner
        found: list[Entry] = []
        while (at := found[-1].offset if found else 0) < (await inner.span()).latest:
            found += (await inner.read(Channels([Pattern(">")]), at, 1000)).entries
        published = {entry.offset: (entry.channel, entry.data) for entry in found}
        for reader in self.readers:
            assert not reader.sink or not reader.sink.ended
            reader.check(published, set(published))


async def walk(seed: int, inner: Log) -> None:
    world = Walk(seed, inner)
    await world.hub.open()
    steps = [world.publish, world.subscribe, world.leave, world.go_on, world.rest, world.worsen]
    try:
        for step in world.dice.choices(steps, [10, 4, 1, 6, 8, 3], k=STEPS):
            await step()
        await world.finish()
        await world.check()
        assert world.log.engine.fails
    finally:
        world.log.engine.trouble = 0.0
        for reader in world.readers:
            reader.stop()
        await world.hub.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
async def test_on_the_log_in_memory(seed: int) -> None:
    """Errors of all classes in appends, reads, spans, iterations and callbacks: thirty worlds."""
    await walk(seed, MemoryLog())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 108))
async def test_on_sqlite(seed: int, tmp_path: Path) -> None:
    """The same on a file, whose callbacks come from its writer."""
    await walk(seed, SqliteLog(tmp_path / "log.db", synchronous="NORMAL"))


@pytest.mark.parametrize("error", [*ERRORS, GeneratorExit()], ids=repr)
async def test_while_the_log_cannot_be_followed_new_streams_are_refused(error: BaseException) -> None:
    """The open ones stay, and go on from where they were when the log is back; the new ones get `LogUnavailable`."""

    class Log(MemoryLog):
        away = False

        async def tail(self, *args, **options):  # type: ignore[no-untyped-def]
            tail = asyncio.ensure_future(super().tail(*args, **options))
            while not tail.done() and not self.away:
                await asyncio.wait([tail], timeout=0.001)
            tail.cancel()
            await asyncio.wait([tail])
            raise type(error)(*error.args)

    log = Log()
    async with Hub(log) as hub:
        events = aiter(hub.subscribe("a", start="earliest"))
        await hub.publish("a", "before")
        assert (await next_event(events)).data == "before"
        log.away = True
        while hub.following:
            await asyncio.sleep(0.001)
        with pytest.raises(LogUnavailable, match="can't be followed"):
            await hub.subscribe("a").open()
        await hub.publish("a", "meanwhile")
        log.away = False
        assert (await next_event(events)).data == "meanwhile"
        assert hub.following
        late = hub.subscribe("a")
        await late.open()
        late.close()
        await events.aclose()


async def test_a_failing_receiver_is_no_business_of_the_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub does with an event may fail; the event is stored, and comes to all readers a moment later."""
    async with Hub() as hub:
        sinks = [Connection() for _ in range(3)]
        for sink, name in zip(sinks, ("a", Pattern("*"), "a"), strict=True):
            sink.subscription = hub.subscribe(name)
            await sink.subscription.open()
            sink.subscription.attach(sink, StreamOptions())
        live = await hub.runtime()
        groups, calls = live.index.groups, 0

        def failing(channel: str):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls in (2, 3):
                raise ZeroDivisionError
            return groups(channel)

        monkeypatch.setattr(live.index, "groups", failing)
        for number in range(6):
            await hub.publish_many([("a", f"{number}"), ("a", f"{number}.")])
            await asyncio.sleep(0.002)
        expected = [text for number in range(6) for text in (f"{number}", f"{number}.")]
        async with asyncio.timeout(5):
            while any([event.data for event in sink.events] != expected for sink in sinks):
                await asyncio.sleep(0.001)


async def test_one_broken_connection_is_cut_and_the_others_are_served() -> None:
    """A sink that raises, also a cancellation, costs no other subscriber an event."""

    class Broken(Connection):
        def write(self, chunk):  # type: ignore[no-untyped-def]
            if chunk.frames:
                raise asyncio.CancelledError if self.takes else ZeroDivisionError
            return True

    async with Hub() as hub:
        sinks = [Connection(), Broken(), Connection(), Broken(takes=False), Connection()]
        for sink in sinks:
            sink.subscription = hub.subscribe("a")
            await sink.subscription.open()
            sink.subscription.attach(sink, StreamOptions())
        await asyncio.sleep(0)
        for number in range(3):
            await hub.publish("a", f"{number}")
        for sink in sinks[::2]:
            while len(sink.events) < 3:
                await asyncio.sleep(0)
            assert [event.data for event in sink.events] == ["0", "1", "2"]
        assert [sink.over for sink in sinks] == ["", "cut", "", "cut", ""]
        assert hub.stats().subscribers == 3


@pytest.mark.slow
async def test_heartbeats_go_on_while_the_log_is_away() -> None:
    """A stream that waits for a page stays alive for its proxies."""
    log = TroubledLog(MemoryLog(), random.Random(0))
    async with Hub(log, options=HubOptions(window_bytes=1)) as hub:
        first = await hub.publish("a", "x")
        await hub.publish("a", "x")
        await hub.publish("a", "y")
        sink = Connection()
        sink.subscription = hub.subscribe("a", after=first)
        await sink.subscription.open()
        log.engine.trouble = 1.0
        sink.subscription.attach(sink, StreamOptions(heartbeat=0.01))
        async with asyncio.timeout(10):
            while sink.text.count("\n:\n") < 1 or not sink.text.endswith(":\n:\n"):
                await asyncio.sleep(0.01)
        assert not sink.events
        log.engine.trouble = 0.0
        async with asyncio.timeout(10):
            while [event.data for event in sink.events] != ["x", "y"]:
                await asyncio.sleep(0.001)


@pytest.mark.slow
async def test_who_leaves_while_the_log_is_away_is_freed_at_once() -> None:
    """A storm of clients that come and go during an outage leaves nothing behind, and no reads that go on for ever."""
    log = TroubledLog(MemoryLog(), random.Random(0))
    async with Hub(log, options=HubOptions(window_bytes=1)) as hub:
        positions = [await hub.publish("a", "x") for _ in range(50)]
        gone = []
        subscriptions = [hub.subscribe("a", after=position) for position in positions[:-2]]
        for subscription in subscriptions:
            await subscription.open()
        log.engine.trouble = 1.0
        while subscriptions:
            sink = Connection()
            sink.subscription = subscriptions.pop()
            sink.subscription.attach(sink, StreamOptions())
            await asyncio.sleep(0)
            sink.subscription.close()
            gone.append(weakref.ref(sink))
            del sink
        await asyncio.sleep(0)
        del subscription
        gc.collect()
        assert [one for one in gone if one() is not None] == []
        async with asyncio.timeout(5):
            while [task for task in asyncio.all_tasks() if "can't be read" in task.get_name()]:
                await asyncio.sleep(0)


@pytest.mark.slow
async def test_who_is_further_than_this_process_and_leaves_is_freed() -> None:
    """A client that has seen more than has come here yet waits for it; if it leaves, nothing waits."""
    log = MemoryLog()
    async with Hub(log) as hub:
        live = await hub.runtime()
        position = await hub.publish("a", "x")
        sink = Connection()
        sink.subscription = hub.subscribe("a", after=position)
        await sink.subscription.open()
        sink.subscription.cursor += 5
        sink.subscription.attach(sink, StreamOptions())
        await asyncio.sleep(0)
        sink.subscription.close()
        gone = weakref.ref(sink)
        del sink
        gc.collect()
        assert gone() is None
        assert not live.members


async def test_iterators_go_on_in_a_log_that_was_replaced() -> None:
    """Behind a gap, after all that they had been given before; in whatever state they are, and however they wait."""
    log = TroubledLog(MemoryLog(), random.Random(0))
    async with Hub(log) as hub:
        await hub.publish_many([("a", "1"), ("a", "2")])
        from_earliest, waiting, quiet = [
            aiter(subscription)
            for subscription in (hub.subscribe("a", start="earliest"), hub.subscribe("a"), hub.subscribe("b"))
        ]
        assert (await next_event(from_earliest)).data == "1"  # and has "2" in hand
        tasks = [asyncio.create_task(anext(each)) for each in (waiting, quiet)]
        while hub.stats().subscribers < 3:
            await asyncio.sleep(0)
        closed = hub.subscribe("a")
        ends = aiter(closed)
        told = asyncio.create_task(anext(ends))
        while hub.stats().subscribers < 4:
            await asyncio.sleep(0)
        log.engine.inner = MemoryLog()
        await log.engine.inner.append([("a", Event("new")), ("b", Event("new"))])
        (await hub.runtime()).follower.restart(LogUnavailable("somebody replaced it"))
        while not hub.following or hub.epoch != (await log.engine.inner.span()).epoch:
            await asyncio.sleep(0.001)
        assert (await asyncio.wait_for(told, 5)).event == "newswire.gap"
        closed.close()
        assert await asyncio.wait_for(anext(ends, None), 5) is None
        assert (await next_event(from_earliest)).data == "2"
        gaps = [await next_event(from_earliest), *await asyncio.wait_for(asyncio.gather(*tasks), 5)]
        assert [(gap.event, gap.json()["reason"]) for gap in gaps] == [("newswire.gap", "epoch")] * 3
        for events in (from_earliest, waiting, quiet):
            assert (await next_event(events)).data == "new"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.001)
        await hub.publish_many([("a", "live"), ("b", "live")])
        for events in (from_earliest, waiting, quiet):
            assert (await next_event(events)).data == "live"
        await hub.close()
        for events in (from_earliest, waiting, quiet):
            assert await anext(events, None) is None


async def test_streams_stay_connected_when_the_log_is_replaced() -> None:
    """Put back may mean: another log. Streams and old cursors get a gap, then the new log's events with its ids."""
    log = TroubledLog(MemoryLog(), random.Random(0))
    async with Hub(log) as hub:
        old = [await hub.publish("a", "old") for _ in range(3)]
        sink = Connection()
        sink.subscription = hub.subscribe("a")
        await sink.subscription.open()
        sink.subscription.attach(sink, StreamOptions())
        log.engine.inner = MemoryLog()
        (await hub.runtime()).follower.restart(LogUnavailable("somebody replaced it"))
        async with asyncio.timeout(5):
            while not sink.events or not hub.following:
                await asyncio.sleep(0.001)
        assert sink.events[-1].json()["reason"] == "epoch"
        new = await hub.publish("a", "new")
        async with asyncio.timeout(5):
            while sink.events[-1].id != str(new):
                await asyncio.sleep(0.001)
        assert sink.over == ""
        assert new.epoch == hub.epoch != old[0].epoch
        events = aiter(hub.subscribe("a", after=old[-1]))
        gap = await next_event(events)
        assert gap.json()["reason"] == "epoch"
        assert (await next_event(events)).data == "new"
        await events.aclose()


async def test_a_log_that_is_replaced_between_opening_and_attaching() -> None:
    """A stream whose place was found in the old log begins with a gap in the new one."""
    log = TroubledLog(MemoryLog(), random.Random(0))
    async with Hub(log) as hub:
        await hub.publish("a", "old")
        sink = Connection()
        sink.subscription = hub.subscribe("a")
        await sink.subscription.open()
        log.engine.inner = new = MemoryLog()
        await new.append([("a", Event("new"))])
        (await hub.runtime()).follower.restart(LogUnavailable("somebody replaced it"))
        async with asyncio.timeout(5):
            while not hub.following or hub.epoch != (await new.span()).epoch:
                await asyncio.sleep(0.001)
            sink.subscription.attach(sink, StreamOptions())
            while len(sink.events) < 2:
                await asyncio.sleep(0.001)
        assert sink.events[0].json()["reason"] == "epoch"
        assert sink.events[1].data == "new"
