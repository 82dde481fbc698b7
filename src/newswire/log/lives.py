"""The lives of a log: which of its past positions are still places in it. See docs/explain/log-lives.md.

An epoch names one life of a log. A log begins another when it may have lost its newest events: it was restored from a
copy, or a replica took over that had not got all. The new life begins after the newest event that is there. What lies
up to there is common to both, so a cursor of the old life goes on if it lies up to there; beyond it has seen events
that are no more. Engines store the lives with the events; nothing here knows how.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class Life(NamedTuple):
    """One life of a log.

    Attributes:
        epoch: its name; the epoch of positions that are given out in it.
        after: the newest offset when it began; 0 for the first.
    """

    epoch: str
    after: int


class Resumed(NamedTuple):
    """Where a position of some life leads.

    Attributes:
        offset: the newest offset up to it that is common to its life and the present one.
        lost: whether the position lies beyond that: what its reader saw after `offset` is not in the log.
    """

    offset: int
    lost: bool


class Lives:
    """All lives of a log that are known.

    Args:
        lives: oldest first; the last one is the present.

    Attributes:
        epoch: the present one's.
    """

    __slots__ = ("_begins", "_ends", "_epochs", "epoch")

    def __init__(self, lives: Sequence[Life]) -> None:
        self.epoch = lives[-1].epoch
        self._epochs = [life.epoch for life in lives]
        # A later life may have lost what an earlier one began with: it counts from the lowest place after it.
        self._begins = [life.after for life in lives]
        for index in range(len(lives) - 2, -1, -1):
            self._begins[index] = min(self._begins[index], self._begins[index + 1])
        self._ends = dict(zip(self._epochs, self._begins[1:], strict=False))

    @classmethod
    def single(cls, epoch: str) -> Lives:
        """The lives of a log that has had one."""
        return cls([Life(epoch, 0)])

    def resume(self, epoch: str, offset: int) -> Resumed | None:
        """Find the place of a position.

        Returns:
            where it leads; None if the epoch is not one of this log's, or was forgotten. Whether an offset of the
            present life is past the log's end is not known here.
        """
        if epoch == self.epoch:
            return Resumed(offset, False)
        end = self._ends.get(epoch)
        return None if end is None else Resumed(min(offset, end), offset > end)

    def epoch_at(self, offset: int) -> str:
        """The epoch in which an event was stored: the one that its position was given out with."""
        return self._epochs[max(bisect_left(self._begins, offset) - 1, 0)]
