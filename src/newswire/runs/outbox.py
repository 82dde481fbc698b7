"""The outbox: what all producers of one process have written, on its way into the log.

Producers don't wait for a disk. What they write together in one pass of the event loop, and while the batch before is
being stored, is stored together: one call of the log for all runs of the process. Each run's part is under its own
condition, so that a producer whose run was stopped, or taken over, can't write any more, and the others don't notice.

A producer that is far ahead waits (`Claim.room`). While the log is away everything is kept, in order, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from newswire.errors import Closed, LogError, LogUnavailable, RunOver
from newswire.log.batch import MAX_EVENT_BYTES, weigh_batch
from newswire.log.ledger import Guarded, Ledger, Outcome
from newswire.runs.record import Record, out_channel, record_channel
from newswire.wire.event import Event

logger = logging.getLogger("newswire.runs")

# How far a producer may be ahead of the log, in bytes: as much as a stream's write budget.
_AHEAD: Final = 64 * 2**10
_EVENT_OVERHEAD: Final = 100
_UNWEIGHED: Final = MAX_EVENT_BYTES // 4  # characters that no encoding makes too large
_AHEAD_IN_THREADS: Final = 256  # events that a thread may be ahead of the event loop
_SHORTEST_REST, _LONGEST_REST = 0.0002, 0.001  # seconds between two calls of the log
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0  # seconds between attempts while the log is away


class Claim:
    """The right to write to a run, as long as its record is the one that was claimed.

    Attributes:
        record: that record.
        written: events that were put here.
        first_at, last_at: when the first content (not progress) and the last event were put, by `time.monotonic()`.
        over: nothing more can be written.
        on_over: called once when that is because the record has changed (not after `close`).
    """

    def __init__(self, outbox: Outbox, record: Record, on_over: Callable[[], None] = lambda: None) -> None:
        self.record = record
        self.over = False
        self.written = 0
        self.first_at: float | None = None
        self.last_at = monotonic()
        self.on_over = on_over
        self._outbox = outbox
        self._out = out_channel(record.id)
        self._guard = record_channel(record.id)
        self._pending: list[tuple[str, Event]] = []
        self._queued = False
        self._ahead = 0  # bytes that were written and are not stored yet …
        self._in_flight = 0  # … and those of them that the log has been given
        self._drained = asyncio.Event()
        self._closing: asyncio.Future[bool] | None = None
        self._from_threads: deque[Event] = deque()
        self._room_for_threads = threading.Event()
        self._room_for_threads.set()

    # -- in the event loop

    def put(self, event: Event) -> None:
        """Write an event, soon.

        Raises:
            RunOver: nothing more can be written.
            InvalidEvent, LimitExceeded: no log may store it.
        """
        self._check()
        size = len(event.data)
        if event.id is not None or event.retry is not None or size > _UNWEIGHED:
            [size] = weigh_batch([(self._out, event)], (self._out,))
        self.written += 1
        self.last_at = monotonic()
        if self.first_at is None and event.event != "progress":
            self.first_at = self.last_at
        self._pending.append((self._out, event))
        self._ahead += size + _EVENT_OVERHEAD
        if not self._queued:
            self._enqueue()

    def _enqueue(self) -> None:
        self._queued = True
        self._outbox.enqueue(self)

    def _check(self) -> None:
        if self.over:
            raise RunOver(f"run {self.record.id} has ended, or another process produces it now")

    @property
    def full(self) -> bool:
        """Whether the producer should wait for `room`."""
        return self._ahead >= _AHEAD

    async def room(self) -> None:
        """Wait until the log has taken most of what was written."""
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
        self._drained.clear()
        await self._drained.wait()

    async def close(self, last: list[tuple[str, Event]]) -> bool:
        """Store `last` behind all that was written, and nothing after it.

        Returns:
            False if the record had changed, and nothing was stored.
        """
        if self.over:
            return False
        self._take_from_threads()
        weigh_batch(last, ())
        self.over = True
        self._closing = asyncio.get_running_loop().create_future()
        self._pending += last
        if not self._queued:
            self._enqueue()
        return await self._closing

    # -- for the outbox

    def take(self) -> Guarded:
        """All that is pending, for the log."""
        events, self._pending = self._pending, []
        self._queued = False
        self._in_flight = self._ahead
        return Guarded(events, self._guard, self.record.offset)

    def took(self) -> None:
        """The log has it."""
        self._ahead -= self._in_flight
        if self._closing is not None and not self._pending and not self._closing.done():
            self._closing.set_result(True)
        self._drained.set()
        if not self.full:
            self._room_for_threads.set()

    def give_back(self, batch: Guarded) -> None:
        """The log does not have it: it comes again, before what was written since."""
        self._pending = [*batch.events, *self._pending]
        if not self._queued:
            self._enqueue()

    def lost(self) -> None:
        """The record has changed: nothing more can be written."""
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(False)
        was_over, self.over = self.over, True
        self._pending.clear()
        self._ahead = 0
        self._drained.set()
        self._room_for_threads.set()
        if not was_over:
            self.on_over()

    # -- in other threads

    def put_from_thread(self, event: Event) -> None:
        """As `put`, from any thread but the event loop's; waits while the producer is too far ahead."""
        waiting = self._from_threads
        # It is looked at again now and then: the event may have been set just before it was cleared.
        while not self.over and not self._room_for_threads.wait(0.05):
            if not self.full and len(waiting) < _AHEAD_IN_THREADS:
                break
        self._check()
        weigh_batch([(self._out, event)], (self._out,))
        waiting.append(event)
        if len(waiting) == 1:
            self._outbox.call(self._take_from_threads)
        if len(waiting) >= _AHEAD_IN_THREADS or self.full:
            self._room_for_threads.clear()

    def _take_from_threads(self) -> None:
        waiting = self._from_threads
        while waiting:
            event = waiting.popleft()
            if not self.over:
                self.put(event)
        if not self.full:
            self._room_for_threads.set()


class Outbox:
    """Stores what the claims of one process have pending."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger = ledger
        self._loop = loop
        self._queue: list[Claim] = []
        self._wake = asyncio.Event()
        self._ended = False
        self._task = loop.create_task(self._run(), name="newswire outbox")

    def call(self, call: Callable[[], None]) -> None:
        """Call something in the event loop, from another thread."""
        self._loop.call_soon_threadsafe(call)

    def enqueue(self, claim: Claim) -> None:
        """`claim` has something pending."""
        if self._ended:
            self._loop.call_soon(claim.lost)
            return
        self._queue.append(claim)
        self._wake.set()

    async def _run(self) -> None:
        claims: list[Claim] = []
        try:
            await self._store(claims)
        finally:
            self._ended = True  # cancelled, or the log was closed: nobody is to wait for us
            for claim in {*claims, *self._queue}:
                claim.lost()
            self._queue = []

    async def _store(self, claims: list[Claim]) -> None:
        wait = _FIRST_WAIT
        while True:
            await self._wake.wait()
            self._wake.clear()
            claims[:] = self._queue
            self._queue = []
            batches = [claim.take() for claim in claims]
            begun = monotonic()
            try:
                outcomes = await self._ledger.append_guarded(batches)
            except Closed:
                return
            except Exception as error:  # the outermost frame: what was checked when it was put can't be refused here
                logger.exception("runs could not be stored")
                outcomes = [error if isinstance(error, LogError) else LogError(str(error))] * len(batches)
            failed = self._settle(claims, batches, outcomes)
            if failed is None:
                wait = _FIRST_WAIT
                # Storing takes half of the time at most: what is written meanwhile costs one transaction, not many.
                rest = min(monotonic() - begun, _LONGEST_REST)
                if self._queue and rest > _SHORTEST_REST:
                    await asyncio.sleep(rest)
            else:
                logger.warning("runs can't be stored now, trying again: %s", failed)
                await asyncio.sleep(random.uniform(wait / 2, wait))
                wait = min(2 * wait, _LONGEST_WAIT)

    def _settle(self, claims: list[Claim], batches: list[Guarded], outcomes: list[Outcome]) -> LogError | None:
        failed: LogError | None = None
        for claim, batch, outcome in zip(claims, batches, outcomes, strict=True):
            if isinstance(outcome, int):
                claim.took()
            elif isinstance(outcome, LogUnavailable):
                failed = outcome
                claim.give_back(batch)
            else:
                if outcome is not None:
                    logger.error("run %s can't be stored any more: %s", claim.record.id, outcome)
                claim.lost()
        return failed

    async def close(self) -> None:
        """Stop; what is pending is not stored."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
