"""Channels with a state: the newest event of each, then everything, on one stream with one cursor."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract.shop import Price, events
from tests.fixtures.slow_readers import cost_of_one

from newswire import Event, Hub, HubOptions, Pattern, Position, Retention, StreamOptions
from newswire.hub.frames import Chunk, Frame
from newswire.hub.latest import FORGOTTEN, LatestRules
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels
from newswire.log.memory import MemoryLog
from newswire.testing import next_event
from newswire.wire import Decoder

pytestmark = pytest.mark.anyio

STATE = Pattern("p.*")
LIVE = "newswire.live"


@pytest.fixture(params=["memory", "sqlite"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hub]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db"
    async with Hub(url, latest=["p.*"], options=HubOptions(window_bytes=8_000, write_budget=2_000)) as hub:
        yield hub


async def take(iterator: AsyncIterator[Event], until: str = LIVE) -> list[str]:
    """The data of events up to the first of a type."""
    found = []
    while (event := await next_event(iterator)).event != until:
        found.append(event.data)
    return found


async def test_a_reader_gets_each_key_once_then_everything(hub: Hub) -> None:
    """The newest of each in the order of the log, the end of the snapshot, and the exact tail."""
    for turn in range(50):
        for key in "abc":
            await hub.publish(f"p.{key}", f"{key}{turn}")
    await hub.publish("p.a", "again")
    reader = aiter(hub.subscribe(STATE))
    assert await take(reader) == ["b49", "c49", "again"]
    for text in ("one", "two"):
        await hub.publish("p.b", text)
    assert [(await next_event(reader)).data for _ in range(2)] == ["one", "two"]


async def test_a_reader_that_returns_gets_what_has_changed(hub: Hub) -> None:
    """However much happened while it was away, each key once; and no gap, though the log keeps one event a key."""
    for key in "abc":
        await hub.publish(f"p.{key}", key)
    reader = aiter(hub.subscribe(STATE))
    seen = [await next_event(reader) for _ in range(4)]
    for turn in range(300):
        await hub.publish_many([("p.a", f"a{turn}"), ("p.d", f"d{turn}")])
    await hub.log.trim()
    assert await take(aiter(hub.subscribe(STATE, after=seen[-1].id))) == ["a299", "d299"]
    assert await take(aiter(hub.subscribe(STATE, after=seen[0].id))) == ["b", "c", "a299", "d299"]
    assert await take(aiter(hub.subscribe("p.d", after=seen[0].id))) == ["d299"]


async def test_a_hub_that_is_opened_later_reads_the_state_from_the_log(tmp_path: Path) -> None:
    """Also another process's, whose events come while it reads."""
    url = f"sqlite:///{tmp_path}/log.db"
    async with Hub(url, latest=["p.*"]) as first:
        await first.publish_many([(f"p.{number % 100}", f"{number}") for number in range(1_000)])
        async with Hub(url, latest=["p.*"]) as second:
            reader = aiter(second.subscribe(STATE))
            assert await take(reader) == [f"{number}" for number in range(900, 1_000)]
            await first.publish("p.7", "new")
            assert (await next_event(reader)).data == "new"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["valkey", "postgres", "nats"])
async def test_every_engine_gives_the_same(engine: str, request: pytest.FixtureRequest) -> None:
    """Also one that reads the log later, and one that returns: each key once, no gap, then everything."""
    server = request.getfixturevalue(engine)
    url = f"{server.url}?namespace=state"
    async with Hub(url, latest=["p.*"]) as first, Hub(url, latest=["p.*"]) as second:
        await first.publish_many([(f"p.{number % 50}", f"{number}") for number in range(500)])
        position = await first.publish("news", "x")
        async with asyncio.timeout(10):
            while second.latest < position.offset:
                await asyncio.sleep(0.01)
        reader = aiter(second.subscribe(STATE))
        assert await take(reader) == [f"{number}" for number in range(450, 500)]
        for text in ("one", "two"):
            await first.publish("p.7", text)
        seen = [await next_event(reader) for _ in range(2)]
        assert [event.data for event in seen] == ["one", "two"]
        for number in range(20):
            await first.publish("p.8", f"{number}")
        last = await first.publish("p.9", "last")
        async with asyncio.timeout(10):
            while second.latest < last.offset:
                await asyncio.sleep(0.01)
        await first.log.trim()
        assert await take(aiter(second.subscribe(STATE, after=seen[-1].id))) == ["19", "last"]


async def test_where_a_reader_begins(hub: Hub) -> None:
    """`latest` begins with what is published from now on, `earliest` with what is kept; other channels as always."""
    await hub.publish("p.a", "a")
    await hub.publish("news", "old")
    assert await take(aiter(hub.subscribe(STATE, start="latest"))) == []
    mixed = aiter(hub.subscribe(STATE, "news"))
    assert await take(mixed) == ["a"]
    await hub.publish("news", "new")
    assert (await next_event(mixed)).data == "new"
    assert await take(aiter(hub.subscribe(STATE, "news", start="earliest"))) == ["a", "old", "new"]
    plain = aiter(hub.subscribe("news", start="earliest", live=True))
    assert await take(plain) == ["old", "new"]
    everything = aiter(hub.subscribe(Pattern(">"), start="earliest"))  # of all channels: no state
    assert [(await next_event(everything)).data for _ in range(3)] == ["a", "old", "new"]


class SlowSink:
    """A connection that takes so many bytes, then none until it has room again."""

    def __init__(self, subscription: Subscription[Any], room: float) -> None:
        self.frames: list[Frame] = []
        self.raw = b""
        self.room = room
        self._subscription = subscription

    def write(self, chunk: Chunk) -> bool:
        self.frames.extend(chunk.frames)
        self.raw += chunk.raw
        self.room -= sum(frame.size for frame in chunk.frames)
        return self.room > 0

    def drain(self, room: float) -> None:
        if self.room <= 0:
            self.room = room
            self._subscription.resume()

    def end(self, last: Chunk | None) -> None:
        self._subscription.ended()

    def cut(self) -> None:
        pass


class WalkReader:
    """A reader of a random walk, and what it knows."""

    def __init__(self, walk: Walk, channels: list[str], fast: bool) -> None:
        self.walk = walk
        self.channels = channels
        self.fast = fast
        self.state: dict[str, int] = {}
        self.cursor: str | None = None
        self.wanted = Channels(channels)
        self.sink: SlowSink | None = None
        self.snapshots = 0
        self.began = self.exact = self.connected = 0

    async def connect(self, rng: random.Random) -> None:
        subscription = self.walk.hub.subscribe(*self.channels, after=self.cursor)
        self.began = (await subscription.open()).offset
        self.exact = self.walk.offset if self.cursor is None else self.began  # of channels without a state
        self.connected = self.walk.offset
        self.sink = SlowSink(subscription, float("inf") if self.fast else rng.choice([100, 500, 3_000]))
        self.subscription = subscription
        self.marks = 0
        subscription.attach(self.sink, StreamOptions(heartbeat=None, write_timeout=None))
        await asyncio.sleep(0)  # its first turn, which says where the state ends

    def disconnect(self) -> None:
        self.check()
        self.sink = None
        self.subscription.close()

    def check(self) -> None:
        """Compare what has come with what was published."""
        assert self.sink is not None
        position = self.began
        conflated, seen = True, set[str]()  # it begins with the newest of each key
        for frame in self.sink.frames:
            assert frame.event != "newswire.gap", (frame.data, self.channels)
            if frame.event == LIVE:
                assert frame.offset >= position
                self._whole(frame.offset)
                position, conflated = max(position, frame.offset), False
                self.snapshots += 1
                continue
            assert frame.offset > position
            between = self.walk.between(self.wanted, position, frame.offset)
            assert not [each for each in between if each[0] > self.exact and not each[1].startswith("p.")]
            skipped = [each for each in between if each[1].startswith("p.") and each[0] > self.connected]
            assert not (self.fast and skipped), "a fast reader gets everything that comes after it"
            if frame.offset <= self.connected and frame.channel.startswith("p."):
                assert conflated
                assert frame.channel not in seen, "each key once"
                seen.add(frame.channel)
            position = frame.offset
            self.cursor = frame.id
            if frame.channel.startswith("p."):
                self.state[frame.channel] = frame.offset
        began = self.sink.frames
        self.sink.frames = []
        if began:
            self.began = position

    def _whole(self, offset: int) -> None:
        """At the end of a snapshot it has the newest event of each key."""
        for channel, offsets in self.walk.offsets.items():
            if channel in self.wanted and channel.startswith("p."):
                newest = max((each for each in offsets if each <= offset), default=None)
                assert self.state.get(channel) == newest, channel


class Walk:
    """What was published."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.offset = 0
        self.log: list[tuple[int, str]] = []
        self.offsets: dict[str, list[int]] = {}

    async def publish(self, channel: str, size: int) -> None:
        position = await self.hub.publish(channel, "x" * size)
        await asyncio.sleep(0)  # fast readers keep up
        self.offset = position.offset
        self.log.append((position.offset, channel))
        self.offsets.setdefault(channel, []).append(position.offset)

    def between(self, wanted: Channels, after: int, before: int) -> list[tuple[int, str]]:
        return [each for each in self.log if after < each[0] < before and each[1] in wanted]


async def walk(hub: Hub, seed: int, steps: int) -> list[WalkReader]:
    """Publish, connect, drain, disconnect and return, in any order; then let every reader catch up."""
    rng = random.Random(seed)
    model = Walk(hub)
    kinds: list[list[str]] = [[STATE], [STATE, "news"], ["p.1"], ["p.1", "p.2"], ["p.1", "p.2", "news"]]
    readers = [WalkReader(model, rng.choice(kinds), fast=number % 3 == 0) for number in range(6)]
    for _ in range(steps):
        match rng.randrange(12):
            case 0 | 1 | 2 | 3 | 4 | 5:
                for _ in range(rng.choice([1, 1, 3, 40])):
                    channel = "news" if rng.random() < 0.2 else f"p.{rng.randrange(12)}"
                    await model.publish(channel, rng.choice([5, 50, 300]))
            case 6 | 7 | 8:
                reader = rng.choice(readers)
                if reader.sink is not None:
                    reader.sink.drain(rng.choice([50, 400, 5_000]))
            case 9:
                reader = rng.choice(readers)
                if reader.sink is None:
                    await reader.connect(rng)
                else:
                    await asyncio.sleep(0)
                    reader.disconnect()
            case 10:
                await hub.log.trim()
            case _:
                await asyncio.sleep(0)
    for reader in readers:
        if reader.sink is None:
            await reader.connect(rng)
    await model.publish("p.1", 10)
    for _ in range(3_000):
        await asyncio.sleep(0.001 if _ % 50 == 0 else 0)
        for reader in readers:
            assert reader.sink is not None
            reader.sink.drain(5_000)
        last = [reader.sink.frames[-1].offset if reader.sink.frames else 0 for reader in readers if reader.sink]
        if all(each >= model.offset for each in last):
            break
    for reader in readers:
        assert reader.sink is not None
        reader.check()
        newest = {channel: offsets[-1] for channel, offsets in model.offsets.items()}
        wanted = {name: offset for name, offset in newest.items() if name in reader.wanted and name != "news"}
        assert reader.state == wanted
    return readers


@pytest.mark.slow
@pytest.mark.parametrize(("url", "seed"), [*(("memory://", seed) for seed in range(8)), ("sqlite:///{}/log.db", 1)])
async def test_a_random_walk_agrees_with_a_model(tmp_path: Path, url: str, seed: int) -> None:
    """Each key once, whole at each marker, then the exact tail; other channels on the same stream lose nothing."""
    options = HubOptions(window_bytes=60_000, write_budget=20_000)
    async with Hub(url.format(tmp_path), latest=["p.*"], options=options) as hub:
        readers = await walk(hub, seed, 400 if url == "memory://" else 150)
        assert sum(reader.snapshots for reader in readers) >= len(readers)
        assert hub.stats().gaps == 0


async def test_the_marker_has_no_id_and_the_stream_resumes_inside_a_snapshot(hub: Hub) -> None:
    """On the wire: the cursor of a reader that breaks off in the middle leads to the rest, with no key twice."""
    for key in range(9):
        await hub.publish(f"p.{key}", "x" * 300)
    subscription = hub.subscribe(STATE)
    await subscription.open()
    sink = SlowSink(subscription, 100)
    subscription.attach(sink, StreamOptions(heartbeat=None))
    await asyncio.sleep(0.01)
    first = Decoder().feed(sink.raw)
    assert 0 < len(first) < 9
    rest = hub.subscribe(STATE, after=first[-1].id)
    await rest.open()
    whole = SlowSink(rest, float("inf"))
    rest.attach(whole, StreamOptions(heartbeat=None))
    await asyncio.sleep(0.01)
    *more, marker = Decoder().feed(whole.raw)
    assert [event.channel for event in (*first, *more)] == [f"p.{key}" for key in range(9)]
    assert whole.raw.endswith(
        b'event: newswire.live\ndata: {"position": "%s"}\n\n' % marker.json()["position"].encode()
    )
    subscription.close()
    rest.close()


@pytest.mark.parametrize("also", [(), ("room.1",)])
async def test_a_key_that_is_removed_while_a_slow_reader_takes_its_state(also: tuple[str, ...]) -> None:
    """A member who had left when the reader came, and is forgotten before it read that: it gets a gap, then everybody.

    With messages too, some of which are lost: it gets that gap first, which says more than the other.
    """
    log = MemoryLog()
    members = [f"$presence.here.room.1.m{number}" for number in range(9)]
    joined = await log.append([(each, Event("join" * 100)) for each in members])
    await log.append([("room.1", Event("1")), *((each, Event("update" * 100)) for each in members[1:])])
    left, *_ = await log.append([(members[0], Event("leave")), ("room.1", Event("2")), ("room.1", Event("3"))])
    await log.drop({"room.1": left.offset + 1})
    async with Hub(log, presence=["room.*"], options=HubOptions(write_budget=500)) as hub:
        channels = (Pattern("$presence.here.room.1.*"), *also)
        subscription = hub.subscribe(*channels, after=joined[-1])
        await subscription.open()
        sink = SlowSink(subscription, 1)
        subscription.attach(sink, StreamOptions(heartbeat=None))
        while not any("update" in frame.data for frame in sink.frames):
            await asyncio.sleep(0)
            sink.drain(1)
        text = json.dumps({"channels": {members[0]: left.offset}, "upto": left.offset})
        await log.append_one(FORGOTTEN, Event(text, "forgotten"))
        here = set(members)
        async with asyncio.timeout(10):
            while not sink.frames or sink.frames[-1].event != LIVE:
                await asyncio.sleep(0)
                sink.drain(1)
        for frame in sink.frames:
            if frame.event == "newswire.gap":
                here.clear()
            elif frame.channel in members:
                here = here - {frame.channel} if frame.data == "leave" else here | {frame.channel}
        assert here == set(members[1:])
        subscription.close()


async def test_a_slow_reader_holds_its_cursor_and_gets_the_newest(hub: Hub) -> None:
    """It skips what is old by then, and the hub holds nothing for it."""
    await hub.publish("p.a", "first")
    subscription = hub.subscribe(STATE)
    await subscription.open()
    sink = SlowSink(subscription, 1)
    subscription.attach(sink, StreamOptions(heartbeat=None))
    await asyncio.sleep(0)
    for turn in range(500):
        await hub.publish_many([("p.a", f"{turn}".rjust(200)), ("p.b", f"{turn}".rjust(200))])
    before = len(sink.frames)
    sink.drain(1e9)
    await asyncio.sleep(0.01)
    assert [frame.data.strip() for frame in sink.frames[before:]][:2] == ["499", "499"]
    assert [frame.event for frame in sink.frames[before:]][2:] == [LIVE]
    subscription.close()


async def test_a_rate_counts_for_each_key(hub: Hub) -> None:
    """At most so many events of a key, the newest; the last value always comes."""
    reader = aiter(hub.subscribe(STATE, max_rate=20))
    assert await take(reader) == []
    found: list[Event] = []

    async def read() -> None:
        while not found or found[-1].data != "end":
            found.append(await anext(reader))

    reading = asyncio.create_task(read())
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 0.5:
        await hub.publish_many([("p.a", "a"), ("p.b", "b"), ("p.b", "b")])
        await asyncio.sleep(0.005)
    await hub.publish("p.a", "end")
    await asyncio.wait_for(reading, 5)
    seconds = loop.time() - began
    for channel in ("p.a", "p.b"):
        count = sum(event.channel == channel for event in found)
        assert 3 <= count <= seconds * 20 + 2


async def test_small_events_travel_together() -> None:
    """They wait for each other, in order; a full write does not wait."""
    hub = Hub(options=HubOptions(write_budget=2_000))
    subscription = hub.subscribe("news", coalesce=0.1)
    await subscription.open()
    sink = SlowSink(subscription, float("inf"))
    writes: list[int] = []
    write: Callable[[Chunk], bool] = sink.write

    def count(chunk: Chunk) -> bool:
        writes.append(len(chunk.frames))
        return write(chunk)

    sink.write = count  # type: ignore[method-assign]
    subscription.attach(sink, StreamOptions(heartbeat=None, retry=None))
    for number in range(5):
        await hub.publish("news", f"{number}")
    assert sink.frames == []
    await asyncio.sleep(0.2)
    assert writes == [5]
    for _ in range(40):
        await hub.publish("news", "x" * 100)
    await asyncio.sleep(0)
    assert sum(writes) > 20
    await asyncio.sleep(0.2)
    assert [frame.offset for frame in sink.frames] == [*range(1, 46)]
    await hub.close()


async def test_a_hub_says_which_channels_may_wait() -> None:
    """A stream waits as long as its most urgent channel may; a reader may say otherwise."""
    async with Hub(coalesce={"ticks.*": 0.05, Pattern("ticks.>"): 0.2}) as hub:
        wanted: list[tuple[list[str], float | None]] = [
            (["ticks.a"], 0.05),
            ([Pattern("ticks.*"), "ticks.a.b"], 0.05),
            ([Pattern("ticks.a.>")], 0.2),
            (["ticks.a", "news"], None),
            ([Pattern(">")], None),
        ]
        for channels, seconds in wanted:
            pace = hub.subscribe(*channels).pace
            assert (None if pace is None else pace.delay) == seconds, channels
        assert hub.subscribe("ticks.a", coalesce=0).pace is None
    with pytest.raises(ValueError, match="coalesce is a time"):
        Hub(coalesce=-1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_rate": 0}, "max_rate is a number"),
        ({"max_rate": 1e6}, "max_rate is a number"),
        ({"coalesce": -1}, "coalesce is a time"),
        ({"coalesce": 1e3}, "coalesce is a time"),
    ],
)
async def test_numbers_out_of_range(hub: Hub, options: dict[str, float], says: str) -> None:
    """They are errors of the call."""
    with pytest.raises(ValueError, match=says):
        hub.subscribe(STATE, **options)


async def test_a_rate_needs_a_state(hub: Hub) -> None:
    """It leaves out events, and no other channel may lose one."""
    with pytest.raises(ValueError, match="channels that have a state"):
        hub.subscribe("news", max_rate=1)


async def test_values_of_a_contract(hub: Hub) -> None:
    """A typed reader gets values alone: the marker is newswire's own."""
    async with Hub(contract=events, latest=["p.*"]) as typed:
        await typed.publish("p.A", Price(symbol="A", value=1))
        await typed.publish("p.A", Price(symbol="A", value=2))
        reader = aiter(typed.subscribe(STATE))
        assert (await next_event(reader)).data == Price(symbol="A", value=2)
        await typed.publish("p.A", Price(symbol="A", value=3))
        assert (await next_event(reader)).data == Price(symbol="A", value=3)


@pytest.mark.parametrize(
    ("channels", "state", "rest"),
    [
        (["a"], None, ["a"]),
        (["p.1", "a"], ["p.1"], ["a"]),
        ([Pattern("p.*")], [Pattern("p.*")], None),
        ([Pattern("p.>")], None, [Pattern("p.>")]),
        ([Pattern("q.>"), Pattern("q.a.*")], [Pattern("q.>"), Pattern("q.a.*")], None),
        ([Pattern("q.*.b"), "$q"], [Pattern("q.*.b")], ["$q"]),
        ([Pattern(">")], None, [Pattern(">")]),
        ([Pattern("*.1")], None, [Pattern("*.1")]),
    ],
)
def test_which_part_of_a_subscription_has_a_state(
    channels: list[str], state: list[str] | None, rest: list[str] | None
) -> None:
    """A pattern has one if all of its channels have."""
    rules = LatestRules(["p.*", "q.>"])
    expected = tuple(None if each is None else Channels(each) for each in (state, rest))
    assert rules.split(Channels(channels)) == expected


def test_the_log_keeps_the_newest_of_each_key() -> None:
    """Unless the application says otherwise for the same pattern."""
    rules = LatestRules(["p.*"])
    assert rules.kept(None, "memory://") == {"p.*": Retention(max_events=1)}
    assert list(rules.kept(None, "sqlite:///x.db") or {}) == ["p.*", ">"]  # type: ignore[arg-type]
    mine = {"p.*": Retention(max_age=60)}
    assert rules.kept(mine, "redis://x") == mine
    assert rules.kept(None, "nats://x") is None  # its limits are for all channels together
    with pytest.raises(TypeError, match="list of names"):
        LatestRules("p.*")


async def test_a_log_that_is_replaced_gives_the_state_of_the_new_one(tmp_path: Path) -> None:
    """Behind a gap, since the positions are of another log."""
    async with Hub(latest=["p.*"]) as hub:
        await hub.publish("p.a", "a")
        reader = aiter(hub.subscribe(STATE, after=Position("another", 7)))
        assert (await next_event(reader)).event == "newswire.gap"
        assert await take(reader) == ["a"]


@pytest.mark.slow
async def test_a_log_that_begins_another_life_while_a_reader_takes_its_first_state(hub: Hub) -> None:
    """It has all of the former: what the reader did not want of other channels it does not get now either."""
    for key in range(9):
        await hub.publish(f"p.{key}", "x" * 300)
        await hub.publish("news", "old")
    subscription = hub.subscribe(STATE, "news")
    await subscription.open()
    sink = SlowSink(subscription, 100)
    subscription.attach(sink, StreamOptions(heartbeat=None))
    await asyncio.sleep(0.01)
    subscription.runtime.begin_again(await hub.log.span())
    await hub.publish("news", "new")
    async with asyncio.timeout(10):
        while not sink.frames or sink.frames[-1].data != "new":
            await asyncio.sleep(0)
            sink.drain(100)
    assert {frame.channel for frame in sink.frames} >= {f"p.{key}" for key in range(9)}
    assert [frame.data for frame in sink.frames if frame.channel == "news"] == ["new"]
    subscription.close()


async def test_a_slow_reader_holds_a_cursor_and_no_events() -> None:
    """It takes what a reader takes that keeps up, and no more while much is published."""
    fast, slow = await cost_of_one(slow=False), await cost_of_one(slow=True)
    assert fast[0] < 1_500
    assert abs(slow[0] - fast[0]) < 500
    assert max(slow[1], fast[1]) < 64


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_a_rate_loses_no_last_value(seed: int) -> None:
    """Fast and slow readers of one rate, and events that wait: in the end each has the newest of every key."""
    rng = random.Random(seed)
    async with Hub(latest=["p.*"], options=HubOptions(window_bytes=30_000, write_budget=3_000)) as hub:
        model = Walk(hub)
        sinks: list[SlowSink] = []
        for number in range(8):
            kinds: list[Any] = [(STATE,), (STATE, "news")]
            how: dict[str, Any] = {"max_rate": 100} if number % 4 else {"coalesce": 0.01}
            subscription = hub.subscribe(*rng.choice(kinds), **how)
            await subscription.open()
            sinks.append(SlowSink(subscription, float("inf") if number % 2 else 500))
            subscription.attach(sinks[-1], StreamOptions(heartbeat=None, write_timeout=None))
            for _ in range(rng.randrange(20)):
                await model.publish(f"p.{rng.randrange(30)}", 50)
        for _ in range(150):
            for _ in range(rng.choice([1, 5, 60])):
                await model.publish("news" if rng.random() < 0.1 else f"p.{rng.randrange(30)}", rng.choice([5, 200]))
            rng.choice(sinks).drain(rng.choice([100, 4_000]))
            await asyncio.sleep(rng.choice([0, 0.003]))
        newest = {name: offsets[-1] for name, offsets in model.offsets.items() if name != "news"}

        def behind() -> int:
            for sink in sinks:
                sink.drain(10_000)
            states = [{frame.channel: frame.offset for frame in sink.frames} for sink in sinks]
            return sum(newest != {name: state.get(name) for name in newest} for state in states)

        async with asyncio.timeout(20):
            while behind():
                await asyncio.sleep(0.01)
        for sink in sinks:
            offsets = [frame.offset for frame in sink.frames if frame.channel]
            assert offsets == sorted(set(offsets))
            news = [frame.offset for frame in sink.frames if frame.channel == "news"]
            published = model.offsets.get("news", [])
            assert news == (published[-len(news) :] if news else [])
        assert hub.stats().gaps == 0
