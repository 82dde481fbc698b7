"""The write queue: what all producers of one process have written, on its way into the log.

Producers don't wait for a disk. What they write together in one pass of the event loop, and while the batch before is
being stored, is stored together: one call of the log for all runs of the process. Each run's part has its own
condition. So a producer whose run was stopped, or taken over, can't write any more, and the others don't notice.

If the log has stored a batch when the call returns (the memory log does), each event is stored at once.

Producers that are ahead of the log wait (`Claim.room`). The bound is one for all of them, since each waits for what all
have written: with a bound for each, a thousand producers would make a token wait for megabytes. While the log is away
everything is kept, in order, and tried again. Any other error of the log concerns one run: what was stored together is
tried again run by run, and the run that fails alone is given up (`Claim.refused`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from newswire.errors import Closed, LogError, LogUnavailable, LogUncertain, RunOver
from newswire.log.engine import Batch, Condition, Outcome
from newswire.log.failures import as_log_error
from newswire.log.log import Log
from newswire.log.retry import Outage, Retry
from newswire.runs.store.record import Record, out_channel, record_channel
from newswire.wire.event import Event

logger: logging.Logger = logging.getLogger("newswire.runs")

# How far all producers of a process may be ahead of the log, in bytes: some 500 tokens, which a disk stores in a few
# milliseconds. A producer of which nothing is pending may write one event all the same.
_AHEAD: Final = 64 * 2**10
_EVENT_OVERHEAD: Final = 100
_AHEAD_IN_THREADS: Final = 256  # events that a thread may be ahead of the event loop
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0  # seconds between attempts while the log is away; see `Retry`


class Claim:
    """The right to write to a run, as long as its record is the one that was claimed.

    Attributes:
        record: that record.
        written: events that were put here.
        first_at, last_at: when the first content (not progress) and the last event were put, by `time.monotonic()`.
        over: nothing more can be written.
        error: why, if the log refused to store what was written.
        suspect: the log refused a call that this claim had a part in; its next call is for this claim alone.
        producer: the task that writes here. It is cancelled once nothing more can be written, unless it has itself
            closed the claim.
        queued: the queue will take what is pending.
    """

    def __init__(self, queue: WriteQueue, record: Record) -> None:
        self.record = record
        self.over: bool = False
        self.written: int = 0
        self.first_at: float | None = None
        self.last_at: float = monotonic()
        self.error: LogError | None = None
        self.suspect = False
        self.producer: asyncio.Task[Any] | None = None
        self.queued: bool = False
        self._queue = queue
        self._out = out_channel(record.id)
        self._condition = Condition(record_channel(record.id), record.offset)
        self._pending: list[tuple[str, Event]] = []
        self._again: Batch | None = None  # what the log may have: it comes again as it was, under its token
        self._ahead = 0  # bytes that were written and are not stored yet …
        self._in_flight = 0  # … and those of them that the log has been given
        self._drained: asyncio.Event | None = None  # while somebody waits for the log
        self._closing: asyncio.Future[bool] | None = None
        self._lock = threading.Lock()
        self._from_threads: list[Event] = []  # under the lock, as the next
        self._taking_planned = False  # the event loop will take them
        self._room_for_threads = threading.Event()
        self._room_for_threads.set()
        self._threads_wait = False  # it was cleared

    # -- in the event loop

    def put(self, event: Event) -> bool:
        """Write an event, soon.

        Returns:
            whether the producer should wait for `room` now.

        Raises:
            RunOver: nothing more can be written.
            InvalidEvent, LimitExceeded: no log may store it.
        """
        if self.over:
            self._check()
        queue = self._queue
        size = len(event.data)
        if event.id is not None or event.retry is not None or size > queue.unweighed:
            [size] = queue.log.check([(self._out, event)])
        self.written += 1
        self.last_at = monotonic()
        if self.first_at is None and event.event != "progress":
            self.first_at = self.last_at
        self._pending.append((self._out, event))
        size += _EVENT_OVERHEAD
        self._ahead += size
        queue.ahead += size
        if not self.queued:
            queue.enqueue(self)
        return self._ahead > 0 and queue.ahead >= _AHEAD

    def _check(self) -> None:
        if self.over:
            if self.error is not None:
                raise RunOver(f"run {self.record.id}: the log refused to store a part of it") from self.error
            raise RunOver(f"run {self.record.id} has ended, or another process produces it now")

    @property
    def full(self) -> bool:
        """Whether the producer should wait for `room`."""
        return self._ahead > 0 and self._queue.ahead >= _AHEAD

    async def room(self) -> None:
        """Wait until the log has stored what was written here, or has caught up with all."""
        while self.full and not self.over:
            await self._wait()

    async def flushed(self) -> None:
        """Wait until all that was written is stored.

        Raises:
            RunOver: some of it never will be.
        """
        while self._ahead and not self.over:
            await self._wait()
        self._check()

    async def _wait(self) -> None:
        if self._drained is None:
            self._drained = asyncio.Event()
        await self._drained.wait()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set()

    async def close(self, last: list[tuple[str, Event]]) -> bool:
        """Store `last` behind all that was written, and nothing after it.

        Returns:
            False if the record had changed, and nothing was stored.

        Raises:
            LimitExceeded: no log may store it. The claim stays open.
        """
        if self.over:
            return False
        self._take_from_threads()
        self._queue.log.check(last)
        self.over = True
        self._stop_producer()
        self._closing = asyncio.get_running_loop().create_future()
        self._pending += last
        if not self.queued:
            self._queue.enqueue(self)
        return await self._closing

    async def closed(self) -> None:
        """If the claim is being closed, wait until that is done."""
        if self._closing is not None and not self._closing.done():
            await asyncio.wait([self._closing])

    def _stop_producer(self) -> None:
        task = self.producer
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    # -- for the queue

    def take(self) -> Batch:
        """All that is pending, for the log."""
        self.queued = False
        again, self._again = self._again, None
        if again is not None:
            if self._pending:
                self._queue.enqueue(self)
            return again
        events, self._pending = self._pending, []
        self._in_flight = self._ahead
        if self._condition.newest != self.record.offset:
            self._condition = self._condition._replace(newest=self.record.offset)
        return Batch(events, self._condition, secrets.token_hex(12) if self._queue.tokens else None)

    def took(self) -> None:
        """The log has it."""
        self._ahead -= self._in_flight
        self._queue.ahead -= self._in_flight
        self._in_flight = 0
        if self._closing is not None and not self._pending and not self._closing.done():
            self._closing.set_result(True)
        if self._drained is not None:
            self._wake()
        if self._threads_wait:
            self._make_room_for_threads()

    def _make_room_for_threads(self) -> None:
        if not self.full:
            self._threads_wait = False
            self._room_for_threads.set()

    def give_back(self, batch: Batch) -> None:
        """The log does not have it: it comes again, before what was written since."""
        if batch.token is None:
            self._pending = [*batch.events, *self._pending]
        else:
            self._again = batch
        if not self.queued:
            self._queue.enqueue(self)

    def refused(self, error: LogError) -> None:
        """The log won't store what is pending, now or later: nothing more can be written."""
        self.error = error
        self.lost()

    def lost(self) -> None:
        """The record has changed: nothing more can be written."""
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(False)
        was_over, self.over = self.over, True
        self._pending.clear()
        self._again = None
        if self.queued:
            self.queued = False
            self._queue.remove(self)
        self._queue.ahead -= self._ahead
        self._ahead = self._in_flight = 0
        self._wake()
        self._room_for_threads.set()
        if not was_over:
            self._stop_producer()

    # -- in other threads

    def in_loop(self) -> bool:
        """Whether the caller is in the event loop."""
        return self._queue.in_loop()

    def call(self, call: Callable[[], None]) -> None:
        """Call something in the event loop: now, or soon from another thread."""
        if self._queue.in_loop():
            call()
        else:
            self._queue.call(call)

    def put_from_thread(self, event: Event) -> None:
        """As `put`, from any thread but the event loop's; waits while the producer is too far ahead."""
        # It is looked at again now and then: the event may have been set just before it was cleared.
        while not self.over and not self._room_for_threads.wait(0.05):
            if not self.full and len(self._from_threads) < _AHEAD_IN_THREADS:
                break
            if self._queue.is_gone:
                self.over = True  # nothing will ever make room
        self._check()
        self._queue.log.check([(self._out, event)])
        with self._lock:
            self._from_threads.append(event)
            waiting = len(self._from_threads)
            planned, self._taking_planned = self._taking_planned, True
        if not planned and not self._queue.call(self._take_from_threads):
            self.over = True
            self._check()
        if waiting >= _AHEAD_IN_THREADS or self.full:
            self._room_for_threads.clear()
            self._threads_wait = True  # last, or the event could stay cleared

    def _take_from_threads(self) -> None:
        with self._lock:
            events, self._from_threads = self._from_threads, []
            self._taking_planned = False
        for event in events:
            if not self.over:
                self.put(event)
        self._make_room_for_threads()


class WriteQueue:
    """Stores what the claims of one process have pending: one call of the log at a time.

    Attributes:
        ahead: bytes that all claims have written and the log has not stored yet.
        unweighed: characters of an event that no encoding makes too large, and that need no other look.
        tokens: whether batches have tokens, since the log's answers may get lost.
    """

    def __init__(self, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        self.log = log
        self.unweighed: int = log.limits.event_bytes // 4 if log.limits.nul else -1
        self.tokens: bool = log.engine.answers_get_lost
        self.ahead: int = 0
        self._loop = loop
        self._queue: list[Claim] = []
        self._storing: list[Claim] = []  # those whose batches the log has been given, …
        self._batches: list[Batch] = []  # … and these
        # Whether the log has stored what it is given when the call returns. Then the first event that a claim has in a
        # pass of the event loop needs not wait for the end of the pass; what it has behind that goes together.
        self._instant = False
        self._served: set[Claim] = set()
        self._next: asyncio.Handle | None = None  # the next call of the log, if one is due
        self._away = False  # the last call failed
        self._retry = Retry(_FIRST_WAIT, _LONGEST_WAIT)
        self._outage = Outage("runs can't be stored", logger)
        self._ended = False

    def in_loop(self) -> bool:
        """Whether the caller is in the queue's event loop."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    @property
    def is_gone(self) -> bool:
        """Whether nothing will be stored any more."""
        return self._ended or self._loop.is_closed()

    def call(self, call: Callable[[], None]) -> bool:
        """Call something in the event loop, from another thread; False if the loop has gone."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # closed
            return False
        return True

    def enqueue(self, claim: Claim) -> None:
        """`claim` has something pending."""
        claim.queued = True
        if self._ended:
            self._loop.call_soon(claim.lost)
            return
        if self._instant and not self._storing and claim not in self._served:
            if not self._served:
                self._loop.call_soon(self._served.clear)
            self._served.add(claim)
            self._give([claim])
            return
        self._queue.append(claim)
        if self._next is None and not self._storing:
            self._next = self._loop.call_soon(self._store)

    def remove(self, claim: Claim) -> None:
        """`claim` has nothing pending any more."""
        if claim in self._queue:
            self._queue.remove(claim)

    def _store(self) -> None:
        self._next = None
        queue, self._queue = self._queue, []
        if not queue:  # what was waiting is lost
            return
        if len(queue) > 1 and (suspect := next((claim for claim in queue if claim.suspect), None)) is not None:
            self._queue = [claim for claim in queue if claim is not suspect]
            queue = [suspect]
            suspect.suspect = False
        self._give(queue)

    def _give(self, claims: list[Claim]) -> None:
        self._storing = claims
        self._batches = list(map(Claim.take, claims))
        try:
            self.log.submit(self._batches, self._stored)
        except Closed:
            self.close()
        except Exception as error:  # the outermost frame of storing: whatever a log raises
            self._stored([as_log_error(error)] * len(self._batches), "")
        self._instant = not self._storing and not self._away

    def _stored(self, outcomes: Sequence[Outcome], epoch: str) -> None:
        if self._ended:
            return
        failed: LogError | None = None
        claims, self._storing = self._storing, []
        batches, self._batches = self._batches, []
        for claim, batch, outcome in zip(claims, batches, outcomes):  # noqa: B905  as many; `strict` costs 0.2 µs
            if isinstance(outcome, int):
                claim.took()
            elif outcome is None:
                claim.lost()
            elif isinstance(outcome, LogUnavailable) or (isinstance(outcome, LogUncertain) and batch.token is not None):
                failed = outcome
                self._instant = False
                claim.give_back(batch)
            elif len(claims) > 1 and not isinstance(outcome, LogUncertain):
                claim.suspect = True
                self._instant = False
                claim.give_back(batch)
            else:
                logger.error("run %s can't be stored any more", claim.record.id, exc_info=outcome)
                claim.refused(outcome)
        if failed is not None:
            self._away = True
            self._outage.failed(failed)
            if self._next is not None:
                self._next.cancel()
            self._next = self._loop.call_later(self._retry.next(), self._store)
            return
        if self._away:
            self._away = False
            self._retry.reset()
            self._outage.ended()
        if self._queue and self._next is None:
            self._next = self._loop.call_soon(self._store)

    def close(self) -> None:
        """Stop; what is pending is not stored."""
        self._ended = True
        if self._next is not None:
            self._next.cancel()
        for claim in {*self._storing, *self._queue}:
            claim.lost()  # no one is to wait for us
        self._queue, self._storing = [], []
