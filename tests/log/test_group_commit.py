"""Group commit, against a server that a test plays: what is in which group, and when publishers go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from time import thread_time

import pytest

from newswire.errors import LogUncertain
from newswire.log import group_commit
from newswire.log.engine import Batch, EngineLimits, Entry, Outcome
from newswire.log.group_commit import CallAnswer, GroupCommit, GroupPace
from newswire.log.server import LinkLost, RemoteServer
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio

PUBLISHERS = 64


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is always busy: time passes for it only while it works, whatever else the machine does."""
    monkeypatch.setattr(group_commit, "perf_counter", thread_time)


class OpenLink:
    """A connection that is there at once."""

    def __init__(self) -> None:
        self.is_open = True

    async def enter(self) -> None:
        """See `RemoteLink`."""

    async def close(self) -> None:
        """See `RemoteLink`."""


class Writer(GroupCommit):
    """Stores in memory, when the test says so.

    Attributes:
        calls: the sizes of the groups, in the order in which they were sent.
        stored: all events.
        at_server: the call that the server works on; the test sets its result.
        fast: the server answers at once.
        alone: how often publishers got outcomes while the server had nothing to do.
    """

    def __init__(self, limits: EngineLimits) -> None:
        server = RemoteServer("test", 0.02, True)
        server.epoch = "life"
        super().__init__(server, [OpenLink()], limits, self._take)
        self.calls: list[int] = []
        self.stored: list[str] = []
        self.taken: list[int] = []
        self.at_server: asyncio.Future[None] | None = None
        self.fast = False
        self.alone = 0
        self._works = False

    def _take(self, before: int, make: Callable[[], list[Entry]], latest: int) -> None:
        self.alone += not self._works
        self.taken += [entry.offset for entry in make()]

    async def _call(
        self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool, after: int | None
    ) -> CallAnswer | None:
        events = [event.data for batch in batches for _, event in batch.events]
        self.calls.append(len(events))
        self.at_server = asyncio.get_running_loop().create_future()
        self._works = True
        self.acknowledge()
        if self.fast:
            await asyncio.sleep(0)
        else:
            await self.at_server
        self.at_server = None
        self._works = False
        before = len(self.stored)
        self.stored += events
        return CallAnswer("life", 0, before, None)


class Losing(Writer):
    """Never gets the answer to its second call.

    Attributes:
        lost: how often it was sent.
    """

    lost = 0

    async def _call(
        self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool, after: int | None
    ) -> CallAnswer | None:
        if number == 2:
            self.lost += 1
            raise LinkLost("no answer")
        return await super()._call(number, batches, stale, sent, after)


class Publishers:
    """Tasks that publish one event after the other, and their outcomes; gathered as `Submissions` does."""

    def __init__(self, writer: Writer, count: int) -> None:
        self.told: list[tuple[str, Outcome]] = []
        self._writer = writer
        self._gathered: list[tuple[Batch, asyncio.Future[Outcome]]] = []
        self._tasks = [asyncio.ensure_future(self._publish(number)) for number in range(count)]

    async def _publish(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        for round in range(10):
            batch = Batch([("news", Event(f"{number}-{round}"))])
            batch.sizes, batch.size = [1], 1
            stored: asyncio.Future[Outcome] = loop.create_future()
            if not self._gathered:
                loop.call_soon(self._flush)
            self._gathered.append((batch, stored))
            self.told.append((batch.events[0][1].data, await stored))

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        for begin in range(0, len(gathered), 16):
            part = gathered[begin : begin + 16]

            def done(outcomes: Sequence[Outcome], _: str, part: Sequence[tuple[Batch, asyncio.Future[Outcome]]] = part):
                for (_, stored), outcome in zip(part, outcomes, strict=True):
                    stored.set_result(outcome)

            self._writer.submit([batch for batch, _ in part], done)

    @property
    def done(self) -> bool:
        """Whether all have published."""
        return all(task.done() for task in self._tasks)

    async def wait(self) -> None:
        """Wait until all have published."""
        await asyncio.gather(*self._tasks)

    async def end(self) -> None:
        """Let the server answer at once, until all have published."""
        while not self.done:
            await answer(self._writer)


async def passes(count: int = 10) -> None:
    """Let the event loop do what it has to do."""
    for _ in range(count):
        await asyncio.sleep(0)


async def answer(writer: Writer) -> None:
    """The server answers the call that it is at."""
    await passes()
    if writer.at_server is not None:
        writer.at_server.set_result(None)
    await passes()


async def test_groups_are_halves() -> None:
    """While the server stores one half of what publishers send, the other half of them publish again."""
    writer = Writer(EngineLimits())
    publishers = Publishers(writer, PUBLISHERS)
    await answer(writer)
    for _ in range(8):
        assert writer.calls[-1] == PUBLISHERS // 2
        told = len(publishers.told)
        assert told % (PUBLISHERS // 2) == 0
        await answer(writer)
        assert len(publishers.told) == told + PUBLISHERS // 2
        assert writer.at_server is not None, "the server has the next group, before all publishers go on"
    await publishers.end()
    assert all(offset == writer.stored.index(data) + 1 for data, offset in publishers.told)
    assert writer.taken == list(range(1, 10 * PUBLISHERS + 1))


async def test_a_fast_server_does_not_join_the_halves() -> None:
    """An answer that comes before the publishers of the other half have published again waits for them: the server gets
    their group first, and has something to do while the hub works on the answer."""
    writer = Writer(EngineLimits())
    writer.fast = True
    publishers = Publishers(writer, PUBLISHERS)
    await publishers.wait()
    assert set(writer.calls) == {PUBLISHERS // 2}
    assert writer.alone <= 2  # at the end, when no more comes


async def test_groups_are_whole_where_the_server_takes_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this process mostly waits, a group is all that is there."""
    writer = Writer(EngineLimits())
    writer._pace.divided = False
    monkeypatch.setattr(writer._pace, "answered", lambda: None)
    publishers = Publishers(writer, PUBLISHERS)
    await answer(writer)
    await answer(writer)
    assert writer.calls[-1] == PUBLISHERS
    await publishers.end()
    assert len(writer.stored) == 10 * PUBLISHERS


async def test_few_events_are_not_divided() -> None:
    """Groups of a few events cost more than they gain."""
    writer = Writer(EngineLimits())
    publishers = Publishers(writer, 16)
    await answer(writer)
    assert writer.calls[-1] == 16
    await publishers.end()


async def test_a_group_has_its_limit() -> None:
    """A group is no larger than the limit, whatever waits."""
    writer = Writer(EngineLimits(group_events=20))
    publishers = Publishers(writer, 200)
    await publishers.end()
    assert max(writer.calls) <= 20
    assert len(writer.stored) == 2000


@pytest.mark.parametrize(("part", "divided"), [(0.1, False), (0.45, False), (0.9, True)])
def test_the_pace(part: float, divided: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are divided as long as this process is busy for most of the time between answers."""
    now = worked = 0.0
    monkeypatch.setattr(group_commit, "perf_counter", lambda: now)
    monkeypatch.setattr(group_commit, "thread_time", lambda: worked)
    pace = GroupPace()
    pace.begin()
    assert pace.divided
    for _ in range(40):
        now, worked = now + 0.001, worked + 0.001 * part
        pace.answered()
    assert pace.divided is divided
    for _ in range(40):
        now, worked = now + 0.001, worked + 0.0009
        pace.answered()
    assert pace.divided


async def test_an_answer_that_is_lost_while_others_wait() -> None:
    """The half whose answer is lost is uncertain, if it can't be repeated in time; no one else is."""
    writer = Losing(EngineLimits())
    publishers = Publishers(writer, PUBLISHERS)
    await passes()
    while not publishers.done:
        await answer(writer)
        await asyncio.sleep(0.001)
    uncertain = [data for data, outcome in publishers.told if isinstance(outcome, LogUncertain)]
    assert writer.lost > 1, "it was tried again"
    assert len(uncertain) == PUBLISHERS // 2
    assert not set(uncertain) & set(writer.stored)
    assert len(writer.stored) == 10 * PUBLISHERS - len(uncertain)


class Piped(GroupCommit):
    """Has a server that takes two calls at once, answers them one after the other when the test says so, and knows the
    last call of each place. Its connection may break.

    Attributes:
        waiting: the calls at the server, by number, with what they wait for.
        stored: all events, in order.
        most: how many calls were at the server at once.
    """

    def __init__(self) -> None:
        server = RemoteServer("test", 0.5, True)
        server.epoch = "life"
        self.link = OpenLink()
        super().__init__(server, [self.link], EngineLimits(), lambda *_: None, depth=2)
        self.waiting: dict[int, tuple[asyncio.Future[None], Sequence[Batch]]] = {}
        self.stored: list[str] = []
        self.most = 0
        self._known: dict[int, tuple[int, int]] = {}  # by place: the last call's number, and the answer to it

    async def _call(
        self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool, after: int | None
    ) -> CallAnswer | None:
        assert all(number % 2 != other % 2 for other in self.waiting), "one call for each place"
        self.link.is_open = True
        answered = asyncio.get_running_loop().create_future()
        self.waiting[number] = answered, batches
        self.most = max(self.most, len(self.waiting))
        self.acknowledge()
        await answered
        return CallAnswer("life", 0, self._known[number % 2][1], None)

    def _keep(self, number: int, batches: Sequence[Batch]) -> None:
        known, _ = self._known.get(number % 2, (-1, 0))
        assert known <= number
        if known != number:
            self._known[number % 2] = number, len(self.stored)
            self.stored += [event.data for batch in batches for _, event in batch.events]

    def answer(self) -> None:
        """The server answers its first call."""
        if self.waiting:
            number = next(iter(self.waiting))
            answered, batches = self.waiting.pop(number)
            self._keep(number, batches)
            answered.set_result(None)

    def lose(self, dice: random.Random) -> None:
        """The connection breaks, when the server has stored some of its calls, and could not say so."""
        stored = dice.randrange(3)
        self.link.is_open = False
        waiting, self.waiting = self.waiting, {}
        for index, (number, (answered, batches)) in enumerate(waiting.items()):
            if index < stored:
                self._keep(number, batches)
            answered.set_exception(LinkLost("no answer"))


class Doubled(GroupCommit):
    """Has a server that takes two calls at once over two connections, in any order, and refuses one that overtakes the
    one before it. Each connection may break.

    Attributes:
        waiting: the calls at the server, by number: what they wait for, what is to be stored, and the call before.
        stored: all events, in order.
        most: how many calls were at the server at once.
        refused: how many it has refused.
    """

    def __init__(self) -> None:
        server = RemoteServer("test", 0.5, True)
        server.epoch = "life"
        self.links = [OpenLink(), OpenLink()]
        super().__init__(server, self.links, EngineLimits(), lambda *_: None, depth=2)
        self.waiting: dict[int, tuple[asyncio.Future[CallAnswer | None], Sequence[Batch], int | None]] = {}
        self.stored: list[str] = []
        self.most = self.refused = 0
        self._known: dict[int, int] = {}  # by call, what was stored before it
        self._dice = random.Random(0)

    async def _call(
        self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool, after: int | None
    ) -> CallAnswer | None:
        assert all(number % 2 != other % 2 for other in self.waiting), "one call for each connection"
        self.links[number % 2].is_open = True
        answered: asyncio.Future[CallAnswer | None] = asyncio.get_running_loop().create_future()
        self.waiting[number] = answered, batches, after
        self.most = max(self.most, len(self.waiting))
        self.acknowledge()
        return await answered

    def _keep(self, number: int, batches: Sequence[Batch], after: int | None) -> CallAnswer | None:
        if number not in self._known:
            if after is not None and after not in self._known:
                self.refused += 1
                return None
            self._known[number] = len(self.stored)
            self.stored += [event.data for batch in batches for _, event in batch.events]
        return CallAnswer("life", 0, self._known[number], None)

    def answer(self) -> None:
        """The server answers one of its calls."""
        if self.waiting:
            number = self._dice.choice(list(self.waiting))
            answered, batches, after = self.waiting.pop(number)
            answered.set_result(self._keep(number, batches, after))

    def lose(self, dice: random.Random) -> None:
        """A connection breaks; the server may have stored its call, and could not say so."""
        place = dice.randrange(2)
        self.links[place].is_open = False
        for number in [number for number in self.waiting if number % 2 == place]:
            answered, batches, after = self.waiting.pop(number)
            if dice.randrange(2):
                self._keep(number, batches, after)
            answered.set_exception(LinkLost("no answer"))


async def test_the_server_has_the_next_group_before_it_answers() -> None:
    """Where it takes more than one call; never more than two, and each publisher gets its own outcome."""
    writer = Piped()
    publishers = Publishers(writer, PUBLISHERS)
    await passes()
    assert len(writer.waiting) == 1, "the first one shows that the server takes calls"
    writer.answer()
    await passes()
    for _ in range(8):
        assert len(writer.waiting) == 2
        writer.answer()
        await passes()
    while not publishers.done:
        writer.answer()
        await passes()
    assert writer.most == 2
    assert len(writer.stored) == 10 * PUBLISHERS
    assert all(offset == writer.stored.index(data) + 1 for data, offset in publishers.told)


@pytest.mark.parametrize("kind", [Piped, Doubled])
@pytest.mark.parametrize("seed", range(20))
async def test_calls_that_are_repeated_keep_their_order(kind: type[Piped | Doubled], seed: int) -> None:
    """Whatever the server had stored of them when the connection broke: nothing doubles or overtakes."""
    dice = random.Random(seed)
    writer = kind()
    told: list[Outcome] = []
    submitted = 0

    def submit() -> None:
        nonlocal submitted
        count = dice.choice([1, 16, 20])
        batch = Batch([("news", Event(str(submitted + number))) for number in range(count)])
        batch.sizes, batch.size = [1] * count, count
        submitted += count
        writer.submit([batch], lambda outcomes, _: told.extend(outcomes))

    batches = 0
    while batches < 200:
        if dice.random() < 0.6:
            submit()
            batches += 1
        await passes(dice.randrange(4))
        if dice.random() < 0.1:
            writer.lose(dice)
            await asyncio.sleep(0.002)
        elif dice.random() < 0.5:
            writer.answer()
    while len(told) < batches:
        writer.answer()
        await passes()
        await asyncio.sleep(0.001)
    assert writer.most == 2
    assert all(isinstance(outcome, int) for outcome in told)
    assert told == sorted(told), "publishers hear of what was stored first before those of what came later"
    assert writer.stored == [str(number) for number in range(submitted)]
    assert isinstance(writer, Piped) or writer.refused > 0
