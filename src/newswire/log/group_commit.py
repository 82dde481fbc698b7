"""Group commit: what comes while a server stores one group is the next group. Used by engines on servers.

An engine's writer says how a server is called. The rest is here: one group after the other, in the order in which they
were submitted; the work of telling their publishers is done while the server has the next one; and while the server is
known to be away, publishing fails at once.

Publishers that have their outcomes publish again. If all of them were in one group, the server would wait while this
process works, and the other way round. So a group is at most half of what they publish: the server has one half while
this process is busy with the other. That makes more calls, each with a round trip and perhaps a sync of a disk. Where
this process mostly waits for the server, that is what costs most, and a group is everything.

A server may have two calls at once: then it has the next group before its answer to this one is read. They are sent
over one connection that takes requests before it has answered the ones before, or over two; then the server refuses a
call that overtakes the one before it. A call that has to be repeated waits for the ones before it.

A call has a number. If its answer is lost it is sent again under the same number, and the server gives the outcomes
that it had: so a batch is never there twice. A call that the server may have got and that can't be repaired in time has
the outcome `LogUncertain`; one that was never sent, `LogUnavailable`, at once.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from time import perf_counter, thread_time
from typing import Final, NamedTuple, Protocol, TypeAlias

from newswire.errors import LogCorrupt, LogError, LogUnavailable, LogUncertain
from newswire.log.engine import Batch, EngineLimits, Entry, OnDone, Outcome, outcome_of, weigh
from newswire.log.position import Lives
from newswire.log.server import HINT, LinkLost, RemoteServer

# Called with the newest offset before new entries, a function that makes these, and the newest offset.
OnStored: TypeAlias = Callable[[int, Callable[[], list[Entry]], int], object]

_PATIENCE: Final = 3  # times the timeout, in which a call whose answer was lost is tried again
_HALF: Final = 16  # events: a group of so many is not divided
# Parts of the time between answers in which this process is busy: above the one it begins to divide groups, below the
# other it stops.
_DIVIDE: Final = 0.4
_JOIN: Final = 0.5
_PASSES: Final = 2  # of the event loop, in which a publisher that has its outcome publishes again
_SHARE: Final = 1 / 8  # of the newest answer in the mean
_ATTEMPTS: Final = 100  # when the log begins one life after the other


class Submitted(NamedTuple):
    """What was submitted together.

    Attributes:
        batches: what to store.
        on_done: whom to tell.
        epoch: what conditions of batches are about.
        events, size: of all batches, in bytes.
    """

    batches: Sequence[Batch]
    on_done: OnDone
    epoch: str
    events: int
    size: int


class CallAnswer(NamedTuple):
    """What a server says to a call.

    Attributes:
        epoch: in which it stored.
        micros: the time of all that it stored, in microseconds since the Unix epoch.
        before: the newest offset before.
        offsets: a number for each batch; see `outcome_of`. None: all were stored, one after the other.
    """

    epoch: str
    micros: int
    before: int
    offsets: Sequence[int] | None


class _Call(NamedTuple):
    """A call that has begun: its number, and what is done when it has its answer, or has given up."""

    number: int
    ended: asyncio.Future[None]

    async def wait(self) -> None:
        if not self.ended.done():
            await asyncio.wait([self.ended])


class RemoteLink(Protocol):
    """A writer's connection."""

    @property
    def is_open(self) -> bool: ...

    async def enter(self) -> None: ...

    async def close(self) -> None: ...


class GroupPace:
    """Whether groups are divided; see the module.

    Dividing costs another round trip, and gives this process something to do meanwhile. So it is worth it if a call's
    fixed time is less than what this process has to do for what all publish.

    Attributes:
        divided: the same.
    """

    def __init__(self) -> None:
        self.divided: bool = True
        self._busy = 1.0  # the part of the time between answers in which this thread works
        self._at = self._worked = 0.0

    def begin(self) -> None:
        """The first call is sent."""
        self._at, self._worked = perf_counter(), thread_time()

    def answered(self) -> None:
        """A call was answered; if there is more to do, the next one is sent now."""
        at, worked = self._at, self._worked
        self.begin()
        busy = (self._worked - worked) / max(self._at - at, 1e-9)
        self._busy += (min(busy, 1.0) - self._busy) * _SHARE
        self.divided = self._busy > (_JOIN if self.divided else _DIVIDE)


class GroupCommit(ABC):
    """Stores batches, in groups.

    Args:
        server: where they are stored.
        links: the connections to it, which calls use in turns.
        limits: how large a group may be.
        on_stored: gets what was stored, unless the log has another epoch by then.

    Attributes:
        depth: how many calls the server may have at once.
        part_events: how large a group is.
        last: when it last had an answer, in the event loop's time.
    """

    def __init__(
        self,
        server: RemoteServer,
        links: Sequence[RemoteLink],
        limits: EngineLimits,
        on_stored: OnStored,
        depth: int = 1,
    ) -> None:
        self.depth: int = depth
        self.last: float = 0.0
        self.part_events: int = min(limits.group_events, _HALF)
        self._server = server
        self._links = links
        self._limits = limits
        self._on_stored = on_stored
        self._number = itertools.count(1)
        self._queue: deque[Submitted] = deque()
        self._queued = 0  # events in it
        self._acknowledged = 0  # events of the group that was answered last: their publishers will be back
        self._crowd = 0.0  # how many events all publishers together have sent at a time, lately
        self._pace = GroupPace()
        self._tasks: list[asyncio.Task[None]] = []  # each makes one call after the other
        self._places = list(reversed(range(depth)))  # those of calls that could begin
        self._in_order = False  # the calls before were answered, and none has to be repeated
        self._last: _Call | None = None  # the one that began last
        self._answered: asyncio.Future[None] | None = None
        self._unseen: tuple[str, int, Callable[[], list[Entry]], int] | None = None  # epoch, and what `_on_stored` gets
        self._unacknowledged: tuple[list[Submitted], Sequence[Outcome], str] | None = None  # see `acknowledge`
        self._returning = False  # publishers got outcomes during this call: they may be about to publish again

    @abstractmethod
    async def _call(
        self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool, after: int | None
    ) -> CallAnswer | None:
        """Have the server store batches, in one call. Calls `acknowledge` as soon as the server has it to do.

        Args:
            number: of the call: the server does nothing twice that comes twice under one number. Modulo `depth`, calls
                that may be there at once have different numbers, and those with the same one grow.
            batches: what to store.
            stale: which of them, by number, have a condition that can't hold.
            sent: whether the server may have got it before.
            after: the number of the call before it, if that has no answer yet.

        Returns:
            what it has answered; None: the log has another epoch, or the server has not got the call before.
        """

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        server = self._server
        if self._tasks and server.away:  # one attempt at a time, which the others don't wait for
            on_done([LogUnavailable(f"the server {server.name} can't be reached now")] * len(batches), "")
            return
        events, size = weigh(batches)
        self._queue.append(Submitted(batches, on_done, server.epoch, events, size))
        self._queued += events
        if self._may_call(len(self._tasks)):
            if not self._tasks:
                self._pace.begin()
            run = self._run(self._places.pop())
            self._tasks.append(asyncio.get_running_loop().create_task(run, name="newswire log writer"))

    async def idle(self) -> None:
        """Wait until a call that the server is at now has its answer, if there is one."""
        if self._tasks:
            if self._answered is None:
                self._answered = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._answered)

    async def close(self) -> None:
        """Store what was submitted, then close the connection."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        for link in self._links:
            await link.close()

    def acknowledge(self) -> None:
        """Give publishers the outcomes of the group before; the hub works on them while the server stores the next."""
        unacknowledged, self._unacknowledged = self._unacknowledged, None
        if unacknowledged is None:
            return
        self._returning = True
        group, outcomes, epoch = unacknowledged
        unseen, self._unseen = self._unseen, None
        if unseen is not None and unseen[0] == self._server.epoch:
            self._on_stored(*unseen[1:])
        self._release()
        at = 0
        for submitted in group:
            count = len(submitted.batches)
            submitted.on_done(outcomes[at : at + count], epoch)
            at += count

    def _may_call(self, others: int) -> bool:
        """Whether what waits may be sent now. While the server has other calls, only a group that is full may."""
        if others == 0:
            return bool(self._queue)
        if others >= self.depth or not self._in_order or not self._pace.divided:
            return False
        return self._queued >= self.part_events

    async def _run(self, place: int) -> None:
        try:
            while self._may_call(len(self._tasks) - 1):
                group = self._next_group()
                self._returning = False
                number = next(self._number) * self.depth + place
                before = self._last
                call = self._last = _Call(number, asyncio.get_running_loop().create_future())
                try:
                    outcomes, epoch = await self._store(group, number, before)
                except Exception as error:  # the outermost frame of a task: those who submitted get it
                    self.acknowledge()
                    failed = error if isinstance(error, LogError) else LogError(f"the log failed: {error!r}")
                    outcomes, epoch = [failed] * sum(len(submitted.batches) for submitted in group), ""
                finally:
                    call.ended.set_result(None)
                self._pace.answered()
                self._set_part()
                self._unacknowledged = group, outcomes, epoch
                for _ in range(_PASSES if self._returning and len(self._tasks) == 1 else 0):
                    if not self._queue:
                        await asyncio.sleep(0)
                if not self._may_call(len(self._tasks) - 1):
                    self.acknowledge()
        finally:
            self._tasks.remove(asyncio.current_task())  # type: ignore[arg-type]
            self._places.append(place)
            self.acknowledge()
            self._release()
            if not self._tasks:
                self._fail_queue(LogUnavailable("the log gave up"))  # cancelled from outside

    async def _store(
        self, group: Sequence[Submitted], number: int, before: _Call | None
    ) -> tuple[Sequence[Outcome], str]:
        """Store a group, whatever it takes. Returns what became of each batch, and the epoch."""
        batches = [batch for submitted in group for batch in submitted.batches]
        server, link = self._server, self._links[number % self.depth % len(self._links)]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE * server.timeout
        sent = False
        for attempt in range(_ATTEMPTS):
            is_open = link.is_open
            if before is not None and (attempt or not is_open):
                await before.wait()
                is_open = link.is_open
            after = None if before is None or before.ended.done() else before.number
            try:
                if not is_open:
                    self.acknowledge()
                if not server.epoch:
                    await link.enter()
                stale = _stale_batches(group, server.lives)
                answer = await self._call(number, batches, stale, sent, after)
                if after is not None and before is not None:
                    await before.wait()  # over another connection this answer may come before its own
                self.acknowledge()
                if answer is not None:
                    self.last = loop.time()
                    self._in_order = self._in_order or len(self._tasks) == 1
                    return self._done(batches, answer), answer.epoch
                self._in_order = False
                await link.enter()
            except LogUnavailable as error:
                self._in_order = False
                self.acknowledge()
                sent = sent or isinstance(error, LinkLost)
                if not sent:
                    raise
                if not isinstance(error, LinkLost):  # the server is away
                    self._fail_queue(error)
                if loop.time() > deadline:
                    raise LogUncertain(f"{error}; {HINT}") from None
                await asyncio.sleep(min(server.wait(), max(deadline - loop.time(), 0.001)))
        raise self._corrupt()

    def _corrupt(self) -> LogCorrupt:
        name = self._server.name
        return LogCorrupt(f"the log on {name} does not agree with itself: look at what else writes to it")

    def _done(self, batches: Sequence[Batch], answer: CallAnswer) -> Sequence[Outcome]:
        epoch, micros, before, offsets = answer
        outcomes: Sequence[Outcome]
        if offsets is None:
            ends = list(accumulate([len(batch.sizes) for batch in batches], initial=before + 1))
            latest = ends.pop() - 1
            stored = ends
            outcomes = ends
        else:
            outcomes = [outcome_of(number) for number in offsets]
            batches, stored, latest = _stored(batches, offsets, before)
        if latest > before and epoch == self._server.epoch:
            self._server.seen = max(self._server.seen, latest)

            def entries() -> list[Entry]:
                time = micros / 1e6
                return [
                    Entry(at, channel, event.event, event.data, time)
                    for batch, offset in zip(batches, stored, strict=True)
                    for at, (channel, event) in enumerate(batch.events, offset)
                ]

            self._unseen = epoch, before, entries, latest
        return outcomes

    def _fail_queue(self, error: LogUnavailable) -> None:
        while self._queue:
            submitted = self._queue.popleft()
            self._queued -= submitted.events
            submitted.on_done([error] * len(submitted.batches), "")

    def _release(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_result(None)

    def _set_part(self) -> None:
        most = self._limits.group_events
        self.part_events = min(most, max(int(self._crowd / 2), _HALF)) if self._pace.divided else most

    def _next_group(self) -> list[Submitted]:
        queue, limits = self._queue, self._limits
        self._crowd = max(self._queued + self._acknowledged, self._crowd * (1 - _SHARE))
        self._set_part()
        most = self.part_events
        group = [queue.popleft()]
        events, size = group[0].events, group[0].size
        while queue and events + queue[0].events <= most and size + queue[0].size <= limits.group_bytes:
            submitted = queue.popleft()
            group.append(submitted)
            events, size = events + submitted.events, size + submitted.size
        self._queued -= events
        self._acknowledged = events
        return group


def _stored(batches: Sequence[Batch], offsets: Sequence[int], latest: int) -> tuple[list[Batch], list[int], int]:
    """Which batches were stored now: their conditions held, and their tokens were not known. Where, and up to where."""
    found: list[Batch] = []
    at: list[int] = []
    for batch, offset in zip(batches, offsets, strict=True):
        if offset > latest:
            found.append(batch)
            at.append(offset)
            latest = offset + len(batch.events) - 1
    return found, at, latest


def _stale_batches(group: Sequence[Submitted], lives: Lives | None) -> set[int]:
    """Which batches, by number, have a condition about events that were lost when the log began another life."""
    found: set[int] = set()
    index = 0
    for submitted in group:
        for batch in submitted.batches:
            if batch.condition is not None and batch.condition.is_lost(lives, submitted.epoch):
                found.add(index)
            index += 1
    return found
