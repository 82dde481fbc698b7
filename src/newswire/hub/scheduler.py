"""When things run in a hub: turns, and calls after a time.

`Scheduler` gives turns to jobs that serve a few connections each: groups with something new, and single subscriptions
that catch up. It works in slices, so that a channel with many subscribers starves neither another channel nor the event
loop. `Deadlines` calls back after a time, with one timer of the event loop for all. Neither knows what it calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Final, Protocol, TypeAlias

logger: logging.Logger = logging.getLogger("newswire.hub")

# How long jobs may hold the event loop: a loop that serves 5,000 subscribers then answers within 20 ms.
SLICE_SECONDS: Final = 0.004
_TICK: Final = 0.25  # seconds: how exact deadlines are

# A call may return the seconds after which it is to be called again.
Call: TypeAlias = Callable[[], float | None]


class Job(Protocol):
    """Something that takes turns."""

    queued: bool

    def step(self) -> bool:
        """Do a little. Returns whether there is more to do now."""
        ...

    def failed(self) -> None:
        """`step` has raised."""
        ...


class Scheduler:
    """The run queue of a hub.

    Args:
        loop: the event loop.
        on_idle: called when the queue is empty.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_idle: Callable[[], None]) -> None:
        self._loop = loop
        self._on_idle = on_idle
        self._queue: deque[Job] = deque()
        self._running = False

    def enqueue(self, job: Job) -> None:
        """Give `job` a turn soon, once."""
        if not job.queued:
            job.queued = True
            self._queue.append(job)
            if not self._running:
                self._running = True
                self._loop.call_soon(self.run)

    def later(self, seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        """Call `call` after `seconds`, more exactly than `Deadlines` does."""
        return self._loop.call_later(seconds, call)

    def reserve(self) -> bool:
        """Let what is enqueued from here on wait for a call of `run`, which must follow.

        Returns:
            False, and changes nothing, if turns are given already or will be soon.
        """
        if self._running:
            return False
        self._running = True
        return True

    def run(self) -> None:
        """Give turns for as long as a slice; the rest waits for the next pass of the event loop."""
        queue = self._queue
        stop = perf_counter() + SLICE_SECONDS
        try:
            while queue:
                job = queue.popleft()
                job.queued = False
                try:
                    if job.step() and not job.queued:
                        job.queued = True
                        queue.append(job)
                except (Exception, asyncio.CancelledError) as error:  # the outermost frame of a turn
                    logger.error("events could not be handed on", exc_info=error)
                    job.failed()
                if queue and perf_counter() > stop:
                    break
        finally:  # whatever happened: nothing but this gives the next turns
            if queue:
                self._loop.call_soon(self.run)
            else:
                self._running = False
                self._on_idle()


class Deadlines:
    """Calls that wait for their time. A call is its own key: bound methods of one object are equal."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ticks: dict[int, dict[Call, None]] = {}  # what is due at each tick
        self._waiting: dict[Call, int] = {}  # at which tick each call is due
        self._now = _now()
        self._timer: asyncio.TimerHandle | None = None  # while something waits
        self._closed = False

    def start(self, call: Call, seconds: float) -> None:
        """Call `call` after `seconds`. Changes nothing if it waits already."""
        if call not in self._waiting:
            if self._timer is None and not self._closed:
                self._now = _now()
                self._timer = self._loop.call_later(_TICK, self._tick)
            tick = max(round((monotonic() + seconds) / _TICK), self._now + 1)
            self._waiting[call] = tick
            self._ticks.setdefault(tick, {})[call] = None

    def cancel(self, call: Call) -> None:
        """Do not call `call`. Idempotent."""
        tick = self._waiting.pop(call, None)
        if tick is not None:
            self._ticks[tick].pop(call, None)

    def close(self) -> None:
        """Call nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        if not self._waiting:  # a process with nothing to do sleeps
            self._timer = None
            self._ticks.clear()
            return
        self._timer = self._loop.call_later(_TICK, self._tick)
        before, self._now = self._now, _now()
        for tick in range(before + 1, self._now + 1):
            due = self._ticks.get(tick, {})
            while due:  # a call may cancel others
                call, _ = due.popitem()
                del self._waiting[call]
                try:
                    again = call()
                except (Exception, asyncio.CancelledError) as error:  # the outermost frame of each: the others go on
                    logger.error("a stream could not be looked after", exc_info=error)
                else:
                    if again is not None:
                        self.start(call, again)
            self._ticks.pop(tick, None)


def _now() -> int:
    return int(monotonic() / _TICK)
