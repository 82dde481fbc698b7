"""Storing: single events one behind the other, without waiting; several together as an atomic batch.

Messages of one connection are stored in the order in which they were sent. What needs more than that (a condition, a
batch of several events) is done when all before it is answered. An atomic batch costs the server some milliseconds, so
batches that come together are stored as one.

A batch with a token has it as the id of its first message, which the server knows for ten minutes: it is sent again
when an answer was lost. One without a token whose answer was lost has the outcome `LogUncertain`. What was never sent
has `LogUnavailable`, at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from newswire.deadline import Deadline
from newswire.errors import LogError, LogUnavailable, LogUncertain, TokenReused
from newswire.log.engine import Batch, EngineLimits, Known, OnDone
from newswire.log.nats.link import Msg, NatsRefused, NoResponders, is_nobody, refused
from newswire.log.nats.pages import NatsPages
from newswire.log.nats.stream import EXPECTED, WRONG_SEQUENCE, NatsStream
from newswire.log.nats.subjects import COUNT, EVENT, type_as_header
from newswire.log.nats.units import Outcomes, Unit
from newswire.log.server import HINT, LinkLost
from newswire.wire.event import Event

_MANY: Final = 512  # batches that wait: then they are stored as one, which takes less than as many answers
_FLIGHT: Final = 1024  # single events that are sent and not answered
_BATCH_BYTES: Final = 8 * 2**20  # of batches that are stored together
_PATIENCE: Final = 3  # times the timeout, in which a batch whose answer was lost is sent again
_ATTEMPTS: Final = 10  # at a batch that the server neither stores nor refuses for good
_DUPLICATE: Final = 10201
_IN_PROCESS: Final = 10158
_ID: Final = "Nats-Msg-Id"


class NatsWriter:
    """Stores batches."""

    def __init__(self, stream: NatsStream, pages: NatsPages, limits: EngineLimits) -> None:
        self._stream = stream
        self._pages = pages
        self._limits = limits
        self._queue: deque[Unit] = deque()
        self._outcomes = Outcomes(stream)
        self._flight: dict[Unit, str] = {}
        self._lost: list[Unit] = []  # whose answers were
        self._nobody: list[Unit] = []  # that no stream took
        self._known: list[tuple[Unit, int]] = []  # whose tokens are known, and the offsets
        self._look = False  # an answer can't be of the stream that is known
        self._number = itertools.count(1)
        self._answered_number = 0
        self._answered_at = 0.0
        self._newest = (0, "")  # offset and epoch of the last answer
        self._batch_id = secrets.token_hex(8)
        self._batches = itertools.count(1)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        stream.link.on_denied.append(self._denied)

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        stream = self._stream
        if self._task is not None and stream.away:  # one attempt at a time, which the others don't wait for
            on_done([LogUnavailable(f"the server {stream} can't be reached now")] * len(batches), "")
            return
        self._queue += self._outcomes.expect(batches, on_done)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire nats writer")
        else:
            self._wake.set()

    async def close(self) -> None:
        """Store what was submitted."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._queue or self._flight or self._lost or self._nobody or self._known:
                try:
                    await self._go_on()
                except LogError as error:
                    await self._failed(error)
        except Exception as error:  # the outermost frame of a task: those who submitted get it
            self._give_up(LogError(f"the log failed: {error!r}"))
        finally:
            self._task = None
            self._give_up(LogUnavailable("the log gave up"))  # cancelled from outside

    async def _go_on(self) -> None:
        queue, flight = self._queue, self._flight
        trouble = self._lost or self._nobody or self._known or self._look
        if trouble and not flight:
            await self._repair()
        elif queue and not trouble:
            stream = self._stream
            if not stream.is_ready() and flight:
                await self._wait()
                return
            await stream.apply()
            if not flight and len(queue) >= _MANY and queue[0].id is None:
                await self._store()
                return
            while queue and queue[0].single and len(flight) < _FLIGHT and stream.is_ready():
                await self._send_single(queue.popleft())
            if queue and not flight and stream.is_ready():
                await self._store()
            elif flight:
                await self._wait()
        elif flight:
            await self._wait()

    async def _wait(self) -> None:
        """Wait for answers, or for more to do."""
        self._wake.clear()
        before = self._answered_at
        try:
            async with Deadline(self._stream.link.timeout):
                await self._wake.wait()
        except TimeoutError:
            if self._flight and self._answered_at == before:
                self._stream.link.drop()

    # -- single events

    async def _send_single(self, unit: Unit) -> None:
        [(channel, event)] = unit.batch.events
        headers = None if event.event == "message" else {EVENT: type_as_header(event.event)}
        if unit.id is not None:
            headers = {**(headers or {}), _ID: unit.id}
        link = self._stream.link
        reply = link.expect(partial(self._answered, unit))
        self._flight[unit] = reply
        unit.number = next(self._number)
        try:
            await link.send(self._stream.subjects.of(channel), event.data.encode(), reply, headers)
        except LinkLost:
            pass  # which calls `_answered`
        except LogError as error:
            self._flight.pop(unit, None)
            link.forget(reply)
            self._outcomes.settle(unit, error)
        else:
            if not unit.sent:
                unit.sent = self._now()

    def _answered(self, unit: Unit, message: Msg | None) -> None:
        reply = self._flight.pop(unit, None)
        if reply is None:
            return
        if message is None:
            self._lost.append(unit)
        elif is_nobody(message):
            self._nobody.append(unit)
        else:
            self._stream.link.forget(reply)
            self._answered_at = self._now()
            self._take(unit, message.data)
            self._answered_number = unit.number
        if not self._flight or (self._queue and len(self._flight) <= _FLIGHT // 2):
            self._wake.set()

    def _denied(self, subject: str) -> None:
        """This user may not publish to a subject: what is on its way there was not stored."""
        link = self._stream.link
        subjects = {unit: self._stream.subjects.of(unit.batch.events[0][0]) for unit in self._flight}
        for unit, sent_to in subjects.items():
            if sent_to.lower() == subject:
                link.forget(self._flight.pop(unit))
                self._outcomes.settle(unit, link.denied(sent_to))
        self._wake.set()

    def _take(self, unit: Unit, data: bytes) -> None:
        try:
            seq, again = _ack(data)
        except NatsRefused as error:
            if error.code == _IN_PROCESS and unit.attempts < _ATTEMPTS:
                self._nobody.append(unit)
            else:
                self._outcomes.settle(unit, LogUnavailable(f"the stream {self._stream} can't store it: {error}"))
            return
        if again:
            self._known.append((unit, seq))
        else:
            self._stored([unit], seq)

    def _stored(self, units: Sequence[Unit], first: int) -> None:
        stream = self._stream
        epoch = stream.epoch
        newest, known = self._newest
        if first <= newest and known == epoch:  # it was made again, by someone else
            self._look = True
            for unit in units:
                self._outcomes.settle(unit, LogUncertain(f"the stream {stream} was made again; {HINT}"))
            return
        last = first + sum(len(unit.batch.sizes) for unit in units) - 1
        self._newest = last, epoch
        stream.seen = max(stream.seen, last)
        for unit in units:
            self._outcomes.settle(unit, first, epoch)
            first += len(unit.batch.sizes)

    async def _settle_known(self, unit: Unit, first: int) -> None:
        """A batch with this token is stored: by an attempt whose answer was lost, or by somebody else."""
        count = await self._pages.count(first)
        if count not in (None, len(unit.batch.sizes)):
            self._outcomes.settle(unit, TokenReused())
        else:
            self._outcomes.settle(unit, first if unit.resent else Known(first), self._stream.epoch)

    async def _repair(self) -> None:
        """Decide what becomes of events whose answers were lost, or that no stream took; or whose tokens are known."""
        while self._known:
            await self._settle_known(*self._known[0])
            del self._known[0]
        lost, self._lost = self._lost, []
        nobody, self._nobody = self._nobody, []
        again = []
        patience = _PATIENCE * self._stream.link.timeout
        for unit in lost:
            if unit.id is None or self._now() >= unit.sent + patience:
                self._outcomes.settle(unit, LogUncertain(f"{self._stream} did not answer; {HINT}"))
            else:
                unit.resent = True
                again.append(unit)
        for unit in nobody:
            unit.attempts += 1
            if unit.attempts > _ATTEMPTS or unit.number < self._answered_number:  # others are stored already
                self._outcomes.settle(unit, LogUnavailable(f"the stream {self._stream} is away"))
            else:
                again.append(unit)
        again.sort(key=lambda unit: unit.number)
        self._queue.extendleft(reversed(again))
        if nobody or self._look:
            self._look = False
            await self._stream.look_again()

    # -- batches, and conditions

    async def _store(self) -> None:
        units = self._next_group()
        try:
            await self._store_group(units)
        except (LinkLost, NoResponders) as error:
            again = []
            for unit in units:
                unit.attempts += 1
                if isinstance(error, LinkLost) and unit.id is None:
                    self._outcomes.settle(unit, LogUncertain(f"{error}; {HINT}"))
                elif unit.attempts > _ATTEMPTS:
                    self._outcomes.settle(unit, error)
                else:
                    unit.resent = unit.resent or isinstance(error, LinkLost)
                    again.append(unit)
            self._queue.extendleft(reversed(again))
            if isinstance(error, NoResponders):
                await self._stream.look_again()
        except LogError as error:
            for unit in units:
                self._outcomes.settle(unit, error)
        except BaseException:
            self._queue.extendleft(reversed(units))
            raise

    def _next_group(self) -> list[Unit]:
        queue = self._queue
        first = queue.popleft()
        group = [first]
        if first.expected is None and first.id is None:
            count, size = len(first.batch.sizes), first.batch.size
            while queue and queue[0].expected is None and queue[0].id is None:
                batch = queue[0].batch
                count, size = count + len(batch.sizes), size + batch.size
                if count > (self._limits.batch_events or 1) or size > _BATCH_BYTES:
                    break
                group.append(queue.popleft())
        return group

    async def _store_group(self, units: Sequence[Unit]) -> None:
        unit = units[0]
        events = [event for each in units for event in each.batch.events]
        first: dict[str, str] = {}
        condition = unit.batch.condition
        if condition is not None:
            if unit.is_stale(self._stream):
                await self._settle_stale(unit)
                return
            first[EXPECTED] = str(unit.expected)
            first[f"{EXPECTED}-Subject"] = self._stream.subjects.of(condition.channel)
        if not events:
            await self._judge(unit)
            return
        if unit.id is not None:
            first[_ID] = unit.id
            if len(events) > 1:
                first[COUNT] = str(len(events))
        for each in units:
            each.sent = each.sent or self._now()
        try:
            seq, again = await self._exchange(events, first)
        except NatsRefused as error:
            await self._refused(unit, error)
        else:
            if again:
                await self._settle_known(unit, seq)
            else:
                self._stored(units, seq)

    async def _settle_stale(self, unit: Unit) -> None:
        """A condition is about a life that has ended; a batch that was stored then is known all the same."""
        known = None if unit.id is None else await self._find(unit.id)
        if known is None:
            self._outcomes.settle(unit, None)
        else:
            await self._settle_known(unit, known)

    async def _judge(self, unit: Unit) -> None:
        """A batch without events stores nothing; only its condition counts."""
        condition = unit.batch.condition
        if condition is not None:
            [newest] = await self._pages.newest([condition.channel])
            if (newest.offset if newest else 0) != condition.newest:
                self._outcomes.settle(unit, None)
                return
        self._outcomes.settle(unit, self._stream.seen + 1, self._stream.epoch)

    async def _exchange(self, events: Sequence[tuple[str, Event]], first: dict[str, str]) -> tuple[int, bool]:
        """Store events. Returns the offset of the first, and whether it was there before."""
        link, of = self._stream.link, self._stream.subjects.of
        count = len(events)
        batch = f"{self._batch_id}-{next(self._batches)}"
        headers = first
        for number, (channel, event) in enumerate(events, 1):
            if event.event != "message":
                headers[EVENT] = type_as_header(event.event)
            if count > 1:
                headers["Nats-Batch-Id"] = batch
                headers["Nats-Batch-Sequence"] = str(number)
            if number < count:
                await link.send(of(channel), event.data.encode(), "", headers)
                headers = {}
        if count > 1:
            headers["Nats-Batch-Commit"] = "1"
        answer = await link.ask(of(channel), event.data.encode(), headers)
        seq, again = _ack(answer.data)
        return seq - count + 1, again

    async def _refused(self, unit: Unit, error: NatsRefused) -> None:
        """Find out why a batch was refused: whether its token is known, or its condition does not hold."""
        unit.attempts += 1
        if unit.id is not None and error.code in (*WRONG_SEQUENCE, _DUPLICATE):
            known = await self._find(unit.id)
            if known is not None:
                await self._settle_known(unit, known)
                return
        condition = unit.batch.condition
        if condition is not None and error.code in WRONG_SEQUENCE:
            [newest] = await self._pages.newest([condition.channel])
            if newest is None and 0 < condition.newest <= (await self._stream.state()).floor:
                unit.expected = 0  # retention has removed all of the channel, and no one knows which was the newest
            elif (newest.offset if newest else 0) != condition.newest:
                self._outcomes.settle(unit, None)
                return
        elif error.code not in (_DUPLICATE, _IN_PROCESS):
            unit.attempts = _ATTEMPTS + 1
        if unit.attempts > _ATTEMPTS:
            self._outcomes.settle(unit, LogUnavailable(f"the stream {self._stream} can't store it: {error}"))
        else:
            self._queue.appendleft(unit)

    async def _find(self, id: str) -> int | None:
        """The offset of the message with this id, if the server knows it. Asked for by storing one that is refused."""
        stream = self._stream
        answer = await stream.link.ask(stream.subjects.floor, b"", {_ID: id, "Nats-Expected-Last-Msg-Id": "-"})
        try:
            return _ack(answer.data)[0]
        except NatsRefused:
            return None

    # -- outcomes

    async def _failed(self, error: LogError) -> None:
        """The server is away: what was never sent has failed, and the rest waits for it, for some time."""
        stream, now = self._stream, self._now()
        patience = _PATIENCE * stream.link.timeout
        kept = [unit for unit in self._queue if unit.sent and now < unit.sent + patience]
        others = [unit for unit in self._queue if not unit.sent or now >= unit.sent + patience]
        self._queue = deque(kept)
        for unit in others:
            self._outcomes.settle(unit, LogUncertain(f"{error}; {HINT}") if unit.sent else error)
        if kept:
            await asyncio.sleep(min(stream.wait(), max(kept[0].sent + patience - now, 0.001)))

    def _give_up(self, error: LogError) -> None:
        units = [*self._lost, *self._nobody, *self._flight, *[unit for unit, _ in self._known], *self._queue]
        self._lost, self._nobody, self._known = [], [], []
        for reply in self._flight.values():
            self._stream.link.forget(reply)
        self._flight.clear()
        self._queue.clear()
        for unit in units:
            self._outcomes.settle(unit, LogUncertain(f"{error}; {HINT}") if unit.sent else error)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _ack(data: bytes) -> tuple[int, bool]:
    answer: dict[str, Any] = json.loads(data.decode())
    refused(answer)
    return int(answer["seq"]), bool(answer.get("duplicate"))
