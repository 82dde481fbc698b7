"""A third engine is one class, and one line in each suite; a hub lives on it through whatever it does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.log.jsonl import JsonLines
from tests.runs.suite.suite import RunSuite

from newswire import Event, Hub, HubOptions, Pattern, Position
from newswire.errors import EpochChanged, InvalidPosition, LogError, LogUnavailable, LogUncertain
from newswire.log.channels import Channels
from newswire.log.engine import Entry
from newswire.log.log import Log
from newswire.log.position import Lives
from newswire.log.retry import Retry
from newswire.runs.store.record import out_channel
from newswire.runs.store.store import RunStore
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog, opened

PATIENCE = 30.0


class TestJsonLines(LogSuite):
    """The suite of logs."""

    tailed_first = False

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> MakeLog:
        return lambda **options: Log(JsonLines(tmp_path / "log.jsonl", **options))


class TestRunsOnJsonLines(RunSuite):
    """The suite of runs."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> MakeLog:
        return lambda **options: Log(JsonLines(tmp_path / "log.jsonl", **options))


class TestTrouble:
    """What applications meet when an engine is in trouble."""

    pytestmark = pytest.mark.anyio

    async def test_an_engine_that_hangs(self, tmp_path: Path) -> None:
        """Calls end after the engine's limit: readers get `LogUnavailable`, publishers `LogUncertain`."""
        engine = JsonLines(tmp_path / "log.jsonl", answer_seconds=0.02)
        async with opened(Log(engine)) as log:
            await log.append([("a", Event("1"))])
            engine.stalled = True
            for call in (log.span(), log.read(Channels(["a"]), 0, 1), log.newest(["a"]), log.drop({"a": 1})):
                with pytest.raises(LogUnavailable, match=r"not answered for 0\.02 s"):
                    await call
            appends = [log.append([("a", Event(str(number)))], token=f"{number}") for number in range(2, 5)]
            ends = await asyncio.gather(*appends, return_exceptions=True)
            assert [type(end) for end in ends] == [LogUncertain] * 3
            assert len({id(end) for end in ends}) == 3
            engine.stalled = False
            positions = [await log.append([("a", Event(str(n)))], token=f"{n}") for n in range(2, 5)]
            assert [position.offset for [position] in positions] == [2, 3, 4]
            assert (await log.span()).latest == 4

    async def test_another_life(self, tmp_path: Path) -> None:
        """The epoch changes while the log is open: a page, a span, an append and a tail report it."""
        engine = JsonLines(tmp_path / "log.jsonl")
        async with opened(Log(engine)) as log:
            [*_, last] = await log.append([("a", Event(data)) for data in "123"])
            tail = asyncio.ensure_future(log.tail(last.offset, last.epoch, print))
            await asyncio.sleep(0)
            engine.roll_back(2)
            with pytest.raises(EpochChanged) as caught:
                await tail
            span = await log.span()
            [new] = await log.append([("a", Event("new"))])
            page = await log.read(Channels(["a"]), 0, 10)
            assert caught.value.epoch == span.epoch == page.epoch == new.epoch != last.epoch
            assert [entry.data for entry in page.entries] == ["1", "new"]
            assert new.offset == 2
            resumed = span.lives.resume(last.epoch, last.offset)
            assert resumed is not None
            assert (resumed.offset, resumed.lost) == (1, True)

    async def test_a_place_in_the_life_before(self, tmp_path: Path) -> None:
        """Reading on from a place of another life raises; so a reader of several pages can't mix two lives."""
        engine = JsonLines(tmp_path / "log.jsonl")
        async with opened(Log(engine)) as log:
            [*_, last] = await log.append([("a", Event(data)) for data in "123"])
            assert len((await log.read(Channels(["a"]), 0, 1, epoch=last.epoch)).entries) == 1
            engine.roll_back(2)
            with pytest.raises(EpochChanged):
                await log.read(Channels(["a"]), 1, 1, epoch=last.epoch)

    async def test_pieces_of_a_run(self, tmp_path: Path) -> None:
        """What is read of a run is of one life of the log, or an error that says to try again."""
        engine = JsonLines(tmp_path / "log.jsonl")
        async with opened(Log(engine)) as log:
            store = RunStore(log)
            [first, *_] = await log.append([(out_channel("r"), Event(data, "text")) for data in "123"])
            upto = Position(first.epoch, 3)
            assert [piece.data async for piece in store.pieces("r", 0, upto)] == ["1", "2", "3"]
            engine.roll_back(2)
            with pytest.raises(LogUnavailable):
                _ = [piece async for piece in store.pieces("r", 0, upto)]
            assert [piece.data async for piece in store.pieces("r", 0)] == ["1"]

    async def test_a_hint(self, tmp_path: Path) -> None:
        """A tail of some channels gets these at least."""
        async with opened(Log(JsonLines(tmp_path / "log.jsonl"))) as log:
            epoch = (await log.span()).epoch
            taken: list[Entry] = []
            tail = asyncio.ensure_future(
                log.tail(0, epoch, lambda e, last: taken.extend(e), Channels([Pattern("a.*")]))
            )
            await log.append([("a.1", Event("1")), ("b", Event("2")), ("a.2", Event("3"))])
            async with asyncio.timeout(PATIENCE):
                while len(taken) < 2:
                    await asyncio.sleep(0)
            assert [entry.data for entry in taken] == ["1", "3"]
            tail.cancel()


_Key = tuple[str, int]  # of an event: the epoch in which it was stored, and its offset


class World:
    """Hubs on one log in trouble, and what the log had in each of its lives."""

    def __init__(self, seed: int, path: Path) -> None:
        self.dice = dice = random.Random(seed)
        self.engines = [
            JsonLines(path, dice=random.Random(seed + number), answer_seconds=0.05)
            for number in range(dice.choice([1, 2]))
        ]
        options = HubOptions(window_bytes=dice.choice([1, 2_000, 10**7]))
        self.hubs = [Hub(Log(engine), options=options) for engine in self.engines]
        self.lives: dict[str, list[tuple[_Key, str, str]]] = {}  # by epoch: all that it ever had, in order
        self.readers: list[Reader] = []
        self.publishing: set[asyncio.Task[None]] = set()
        self.published = 0

    def note(self) -> None:
        """Note what is in the log now."""
        store = self.engines[0].store
        lives = Lives(store.lives)
        self.lives[lives.epoch] = [
            ((lives.epoch_at(entry.offset), entry.offset), entry.channel, entry.data) for entry in store.entries
        ]

    async def publish(self) -> None:
        """Publish, and try again under the same token until it is there."""
        self.published += 1
        number = self.published
        log = self.dice.choice(self.hubs).log
        batch = [(self.dice.choice(NAMES), Event(f"{number}.{part}")) for part in range(self.dice.choice([1, 1, 4]))]
        task = asyncio.ensure_future(self._publish(log, batch, f"token {number}"))
        self.publishing.add(task)
        task.add_done_callback(self.publishing.discard)

    async def _publish(self, log: Log, batch: Sequence[tuple[str, Event]], token: str) -> None:
        while True:
            try:
                await log.append(batch, token=token)
                return
            except LogError:
                await asyncio.sleep(0.002)

    async def subscribe(self) -> None:
        """Add a reader of a few channels, from the beginning."""
        hub = self.dice.choice(self.hubs)
        self.readers.append(Reader(hub, self.dice.choice(WANTED)))

    async def rest(self) -> None:
        for _ in range(self.dice.choice([1, 5, 20])):
            await asyncio.sleep(0)
        await asyncio.sleep(self.dice.choice([0, 0, 0.003]))

    async def worsen(self) -> None:
        for engine in self.engines:
            engine.trouble = self.dice.choice([0.0, 0.0, 0.1, 0.5, 1.0])
            engine.stalled = self.dice.random() < 0.2

    async def lose(self) -> None:
        """Lose events, or all of them."""
        self.note()
        engine = self.dice.choice(self.engines)
        if self.dice.random() < 0.2:
            engine.wipe()
        else:
            engine.roll_back(self.dice.choice([0, 1, 3, 50]))

    async def finish(self) -> None:
        """Let it be well, and wait until each reader has the last event."""
        for engine in self.engines:
            engine.trouble, engine.stalled = 0.0, False
        async with asyncio.timeout(PATIENCE):
            while self.publishing or not all(hub.following for hub in self.hubs):
                await asyncio.sleep(0.002)
            last = await self.hubs[0].publish_many([(name, "end") for name in NAMES])
            self.note()
            for reader in self.readers:
                wanted = max(at for at, name in zip(last, NAMES, strict=True) if name in reader.channels)
                while not reader.events or reader.events[-1].id != wanted:
                    reader.check_alive()
                    await asyncio.sleep(0.001)

    def check(self) -> None:
        """Each reader got what one life of the log had after what it had before, or a gap."""
        for life in self.lives.values():
            assert max(Counter(data for _, _, data in life if data != "end").values(), default=1) == 1
        for reader in self.readers:
            before: _Key | None = None
            names = {name for name in NAMES if name in reader.channels}
            lives = [[(each, data) for each, name, data in life if name in names] for life in self.lives.values()]
            for event in reader.events:
                position = Position.parse(event.id or "")
                key = (position.epoch, position.offset)
                if event.event != "newswire.gap":
                    assert any(_follows(life, before, key, event.data) for life in lives)
                before = key


class Reader:
    """Reads some channels of a hub from the beginning, to the end."""

    def __init__(self, hub: Hub, wanted: Sequence[str]) -> None:
        self.channels = Channels(wanted)
        self.events: list[Event] = []
        self.task = asyncio.ensure_future(self._read(hub, wanted))

    async def _read(self, hub: Hub, wanted: Sequence[str]) -> None:
        while True:
            try:
                async for event in hub.subscribe(*wanted, start="earliest"):
                    self.events.append(event)
                return
            except LogError:
                assert not self.events, "an iteration that has begun goes on"
                await asyncio.sleep(0.002)

    def check_alive(self) -> None:
        assert not self.task.done(), self.task


def _follows(life: list[tuple[_Key, str]], before: _Key | None, key: _Key, data: str) -> bool:
    """Whether an event is the next after a place in what a life of the log had of some channels."""
    offset = 0 if before is None else before[1]
    return next(((each, text) for each, text in life if each[1] > offset), None) == (key, data)


NAMES = ["a", "b", "a.x", "c"]
WANTED: list[list[str]] = [["a"], ["b", "c"], [Pattern("a.*"), "a"], [Pattern(">")], [Pattern("*")]]


@pytest.mark.anyio
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 25))])
async def test_a_log_that_fails_stalls_rolls_back_and_changes_its_epoch(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reader gets complete and in order what the log has, or a gap; what is tried again is there once."""
    monkeypatch.setattr(Retry.__init__, "__defaults__", (0.001, 0.005))
    world = World(seed, tmp_path / "log.jsonl")
    for hub in world.hubs:
        await hub.open()
    steps = [world.publish, world.subscribe, world.rest, world.worsen, world.lose]
    try:
        for step in world.dice.choices(steps, [12, 4, 12, 3, 1], k=150):
            await step()
        await world.finish()
        world.check()
        assert world.readers
    finally:
        for engine in world.engines:
            engine.trouble, engine.stalled = 0.0, False
        for task in [*world.publishing, *(reader.task for reader in world.readers)]:
            task.cancel()
        for hub in world.hubs:
            await hub.close()


@pytest.mark.anyio
async def test_a_page_of_history_is_of_the_log_as_it_is_now(tmp_path: Path) -> None:
    """Also before the hub has taken in that another life began."""
    engine = JsonLines(tmp_path / "log.jsonl")
    async with Hub(Log(engine)) as hub:
        for number in range(4):
            await hub.publish("a", f"{number}")
        engine.roll_back(2)
        page, position = await hub.history("a")
        assert [entry.data for entry in page.entries] == ["0", "1"]
        engine.roll_back(1)
        with pytest.raises(InvalidPosition, match="past what this log has"):
            await hub.history("a", after=position)
