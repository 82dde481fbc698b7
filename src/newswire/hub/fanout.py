"""Fan-out: whose turn it is, and for how long.

A run queue of jobs, each of which serves a few connections and says whether it has more to do: groups with something
new, and single subscribers that are catching up. The queue is worked off in slices, so that a channel with many
subscribers starves neither another channel nor the event loop. One timer looks after all the idle, the stalled and
the old.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from newswire.hub.frames import Chunks
from newswire.hub.options import HubOptions
from newswire.hub.window import Window

if TYPE_CHECKING:
    from newswire.hub.group import Group
    from newswire.hub.subscription import Subscription

logger = logging.getLogger("newswire.hub")

_TICK: Final = 0.25  # seconds: how exact heartbeats and time-outs are


class Job(Protocol):
    """Something that wants turns."""

    queued: bool

    def step(self) -> bool:
        """Do a little. Returns whether there is more to do now."""
        ...

    def failed(self) -> None:
        """`step` has raised."""
        ...


class Fanout:
    """The run queue and the timer of one hub.

    Attributes:
        window: the newest frames.
        chunks: the chunks that are going out.
        options: the hub's.
        delivered: events given to subscribers so far.
    """

    def __init__(self, window: Window, options: HubOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.window = window
        self.options = options
        self.chunks = Chunks()
        self.delivered = 0
        self.stalled: dict[Subscription, float] = {}  # since when; the longest first
        self._aging: dict[Subscription, float] = {}  # until when
        self._loop = loop
        self._queue: deque[Job] = deque()
        self._running = False
        self._beats: dict[Group, float] = {}  # when to look next
        self._waiting: dict[Subscription, float] = {}  # catching up and waiting; when to look next
        self._timer: asyncio.TimerHandle | None = None

    # -- turns

    def enqueue(self, job: Job) -> None:
        """Give `job` a turn soon, once."""
        if not job.queued:
            job.queued = True
            self._queue.append(job)
            if not self._running:
                self._running = True
                self._loop.call_soon(self.run)

    def reserve(self) -> bool:
        """Let what is enqueued from here on wait for a call of `run`, which must follow.

        Returns:
            False, and nothing is changed, if turns are being given already or will be soon.
        """
        if self._running:
            return False
        self._running = True
        return True

    def run(self) -> None:
        """Give turns, for as long as a slice is; the rest is for the next pass of the event loop."""
        queue = self._queue
        stop = perf_counter() + self.options.slice_seconds
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
                if perf_counter() > stop:
                    break
        finally:  # whatever happened: nothing but this gives the next turns
            if queue:
                self._loop.call_soon(self.run)
            else:
                self._running = False
                self.chunks.clear()

    # -- time

    def start(self) -> None:
        """Begin to look after time."""
        self._timer = self._loop.call_later(_TICK, self._tick)

    def stop(self) -> None:
        """End it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def watch(self, group: Group) -> None:
        """Send `group` heartbeats while it is silent: looks at it twice an interval, first at a random moment."""
        if group.heartbeat is not None:
            self._beats[group] = monotonic() + random.uniform(0, group.heartbeat / 2)

    def forget(self, group: Group) -> None:
        """`group` has no members any more."""
        self._beats.pop(group, None)

    def limit_age(self, member: Subscription, max_age: float) -> None:
        """Send `member` away after `max_age` seconds, give or take a tenth, so that not all come back at once."""
        self._aging[member] = monotonic() + max_age * random.uniform(0.9, 1.1)

    def waits(self, member: Subscription, heartbeat: float | None) -> None:
        """`member` is catching up and has to wait: it gets heartbeats by itself, until it is with its group."""
        if heartbeat is not None and member not in self._waiting:
            self._waiting[member] = monotonic() + random.uniform(0, heartbeat / 2)

    def caught_up(self, member: Subscription) -> None:
        """`member` gets its group's heartbeats now."""
        self._waiting.pop(member, None)

    def gone(self, member: Subscription) -> None:
        """`member` has left."""
        self.stalled.pop(member, None)
        self._aging.pop(member, None)
        self._waiting.pop(member, None)

    def stall(self, member: Subscription) -> None:
        """`member` can't take more now (or has just taken a little): its write time-out counts from here."""
        self.stalled.pop(member, None)
        self.stalled[member] = monotonic()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_TICK, self._tick)
        now = monotonic()
        calls: list[Callable[[], None]] = []
        for group, due in self._beats.items():
            if due <= now and group.heartbeat is not None:
                self._beats[group] = now + group.heartbeat / 2
                calls.append(group.beat)
        for member, due in self._waiting.items():
            if due <= now and member.heartbeat is not None:
                self._waiting[member] = now + member.heartbeat / 2
                calls.append(member.beat)
        calls += [member.cut for member, since in self.stalled.items() if member.timed_out(now - since)]
        calls += [member.goodbye for member, until in self._aging.items() if until <= now]
        for call in calls:
            try:
                call()
            except (Exception, asyncio.CancelledError) as error:  # the outermost frame of each: the others have theirs
                logger.error("a stream could not be looked after", exc_info=error)
