"""Group commit: what comes while a server stores one group is the next group. Used by engines on servers.

An engine's writer says how a group is stored. The rest is here: one group at a time, in the order in which they were
submitted; the work of telling their publishers is done while the server has the next one; and while the server is known
to be away, publishing fails at once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from newswire.errors import LogError, LogUnavailable
from newswire.log.engine import Batch, Entry, Limits, OnDone, Outcome
from newswire.log.position import Lives

# What was submitted together: batches, whom to tell, and the epoch that their conditions are about.
Submitted: TypeAlias = tuple[Sequence[Batch], OnDone, str]

# Called with the newest offset before new entries, a function that makes these, and the newest offset.
OnStored: TypeAlias = Callable[[int, Callable[[], list[Entry]], int], object]

PATIENCE: Final = 3  # times the timeout, in which a call whose answer was lost is tried again


class GroupCommit(ABC):
    """Stores batches, a group at a time.

    Args:
        limits: how large a group may be.
        on_stored: gets what was stored, unless the log has another epoch by then.

    Attributes:
        last: when it last had an answer, in the event loop's time.
    """

    def __init__(self, limits: Limits, on_stored: OnStored) -> None:
        self.last = 0.0
        self._limits = limits
        self._on_stored = on_stored
        self._queue: deque[Submitted] = deque()
        self._task: asyncio.Task[None] | None = None
        self._answered: asyncio.Future[None] | None = None
        self._unseen: tuple[str, int, Callable[[], list[Entry]], int] | None = None  # epoch, and what `_on_stored` gets
        self._untold: tuple[list[Submitted], Sequence[Outcome], str] | None = None  # see `tell`

    @property
    @abstractmethod
    def epoch(self) -> str:
        """The log's epoch, as far as it is known."""

    @property
    @abstractmethod
    def away(self) -> LogUnavailable | None:
        """What to tell publishers while the server is known to be away."""

    @abstractmethod
    async def store(self, group: Sequence[Submitted]) -> tuple[Sequence[Outcome], str]:
        """Store a group, whatever it takes. Returns what became of each batch, and the epoch.

        It calls `tell` as soon as the server has it to do, and `stored` with what was stored.
        """

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        away = self.away
        if self._task is not None and away is not None:  # one attempt at a time, which the others don't wait for
            on_done([away] * len(batches), "")
            return
        self._queue.append((batches, on_done, self.epoch))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire log writer")

    async def idle(self) -> None:
        """Wait until the call that the server is at now has its answer, if there is one."""
        if self._task is not None:
            if self._answered is None:
                self._answered = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._answered)

    async def close(self) -> None:
        """Store what was submitted."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def stored(self, epoch: str, before: int, make: Callable[[], list[Entry]], latest: int) -> None:
        """The group's new entries are there, after the offset `before`."""
        self._unseen = epoch, before, make, latest

    def tell(self) -> None:
        """Tell of the outcomes of the group before: the hub's work for it is done while the server stores the next."""
        untold, self._untold = self._untold, None
        if untold is None:
            return
        group, outcomes, epoch = untold
        unseen, self._unseen = self._unseen, None
        if unseen is not None and unseen[0] == self.epoch:
            self._on_stored(*unseen[1:])
        self._release()
        at = 0
        for batches, on_done, _ in group:
            on_done(outcomes[at : at + len(batches)], epoch)
            at += len(batches)

    def fail_queue(self, error: LogUnavailable) -> None:
        """All that waits has this outcome."""
        while self._queue:
            batches, on_done, _ = self._queue.popleft()
            on_done([error] * len(batches), "")

    async def _run(self) -> None:
        try:
            while self._queue:
                group = self._next_group()
                try:
                    outcomes, epoch = await self.store(group)
                except Exception as error:  # the outermost frame of a task: those who submitted get it
                    self.tell()
                    failed = error if isinstance(error, LogError) else LogError(f"the log failed: {error!r}")
                    outcomes, epoch = [failed] * sum(len(batches) for batches, _, _ in group), ""
                self._untold = group, outcomes, epoch
                if not self._queue:
                    self.tell()
        finally:
            self._task = None
            self.tell()
            self._release()
            self.fail_queue(LogUnavailable("the log gave up"))  # cancelled from outside

    def _release(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_result(None)

    def _next_group(self) -> list[Submitted]:
        queue, limits = self._queue, self._limits
        group = [queue.popleft()]
        events, size = _weight(group[0])
        while queue:
            more, larger = _weight(queue[0])
            events, size = events + more, size + larger
            if events > limits.group_events or size > limits.group_bytes:
                break
            group.append(queue.popleft())
        return group


def stale_batches(group: Sequence[Submitted], lives: Lives | None) -> set[int]:
    """Which batches, by number, have a condition about events that were lost when the log began another life."""
    found: set[int] = set()
    index = 0
    for batches, _, epoch in group:
        for batch in batches:
            if epoch and lives is not None and epoch != lives.epoch and batch.condition is not None:
                place = lives.resume(epoch, batch.condition.newest)
                if batch.condition.newest and (place is None or place.lost):
                    found.add(index)
            index += 1
    return found


def _weight(submitted: Submitted) -> tuple[int, int]:
    batches = submitted[0]
    return sum(len(batch.sizes) for batch in batches), sum(sum(batch.sizes) for batch in batches)
