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
        while queue:
            job = queue.popleft()
            job.queued = False
            try:
                if job.step() and not job.queued:
                    job.queued = True
                    queue.append(job)
            except Exception:  # the outermost frame of a turn: the others have theirs
                logger.exception("events could not be handed on")
            if perf_counter() > stop:
                break
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

    def gone(self, member: Subscription) -> None:
        """`member` has left."""
        self.stalled.pop(member, None)
        self._aging.pop(member, None)

    def stall(self, member: Subscription) -> None:
        """`member` can't take more now (or has just taken a little): its write time-out counts from here."""
        self.stalled.pop(member, None)
        self.stalled[member] = monotonic()

    def _tick(self) -> None:
        now = monotonic()
        for group, due in self._beats.items():
            if due <= now and group.heartbeat is not None:
                group.beat()
                self._beats[group] = now + group.heartbeat / 2
        for member in [member for member, since in self.stalled.items() if member.timed_out(now - since)]:
            member.cut()
        for member in [member for member, until in self._aging.items() if until <= now]:
            member.goodbye()
        self._timer = self._loop.call_later(_TICK, self._tick)
