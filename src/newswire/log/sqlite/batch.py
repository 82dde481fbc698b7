"""What is to be stored as one in an SQLite log, the call that waits for it, and the rows and entries it becomes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from newswire.log.base import Entry
from newswire.log.ledger import Outcome
from newswire.wire.event import Event

logger = logging.getLogger("newswire.log")


class Batch:
    """What is to be stored as one, and how it came out.

    Attributes:
        guard: a channel, and the newest offset that it must have; see `Guarded`.
        refused: whether the guard held it back, in the transaction.
        settled: whether `outcome` is there.
        outcome: see `Ledger.append_guarded`.
    """

    __slots__ = ("bytes", "call", "events", "guard", "outcome", "refused", "settled", "sizes")

    def __init__(
        self, events: Sequence[tuple[str, Event]], sizes: list[int], guard: tuple[str, int] | None = None
    ) -> None:
        self.events = events
        self.sizes = sizes
        self.bytes = sum(sizes)
        self.guard = guard
        self.refused = False
        self.settled = False
        self.outcome: Outcome = None
        self.call: Call

    def settle(self, outcome: Outcome) -> None:
        """It was stored, refused, or could not be stored; in the event loop. What comes first counts."""
        if not self.settled:
            self.settled = True
            self.outcome = outcome
            try:
                self.call.settled()
            except Exception:  # the outermost frame of a call: the others of its transaction have theirs
                logger.exception("a publisher could not be given its outcome")


class Call:
    """One call of the log and the batches that it waits for.

    Attributes:
        loop: the event loop that it came from.
    """

    __slots__ = ("_left", "_settled", "loop")

    def __init__(self, batches: list[Batch], settled: Callable[[], object]) -> None:
        self.loop = asyncio.get_running_loop()
        self._left = len(batches)
        self._settled: Callable[[], object] | None = settled
        for batch in batches:
            batch.call = self

    def settled(self) -> None:
        """One of the batches has its outcome."""
        self._left -= 1
        if self._left == 0 and self._settled is not None:
            settled, self._settled = self._settled, None  # it knows the batches, which know us: no circle is to stay
            try:
                settled()
            except Exception:  # the outermost frame of a callback: others of its group wait for theirs
                logger.exception("a callback for what was appended failed")


def rows_of(group: list[Batch], ids: dict[str, int], guards: dict[str, int], newest: int, now: float) -> list[object]:
    """The values of a group's rows, one after the other; of batches that their guards let pass."""
    values: list[object] = []
    offset = newest
    for batch in group:
        if guards and _is_refused(batch, guards, offset):
            continue
        for (name, event), size in zip(batch.events, batch.sizes, strict=True):
            offset += 1
            kind = event.event
            values += (offset, ids[name], size, now, None if kind == "message" else kind, event.data)
    return values


def _is_refused(batch: Batch, guarded: dict[str, int], offset: int) -> bool:
    """Judge a batch that would be stored after `offset`; note in `guarded` what it changes if it is."""
    guard = batch.guard
    batch.refused = guard is not None and guarded[guard[0]] != guard[1]
    if not batch.refused:
        for index, (name, _) in enumerate(batch.events, offset + 1):
            if name in guarded:
                guarded[name] = index
    return batch.refused


def entries_of(group: list[Batch], first: int, now: float) -> list[Entry]:
    """The entries of a group that was stored from the offset `first` on."""
    pairs = [pair for batch in group for pair in batch.events]
    return [Entry(first + index, name, event.event, event.data, now) for index, (name, event) in enumerate(pairs)]
