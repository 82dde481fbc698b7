"""Where a subscription starts: from what a client says to a place in the log.

A cursor comes from outside and is never trusted: any bytes lead to a stream, from the right place or with a gap. A
cursor that can't be placed starts at the earliest kept event, and the gap says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from newswire.errors import InvalidPosition
from newswire.log.engine import Span
from newswire.log.position import Position


class From(Enum):
    """A start that is not a position."""

    EARLIEST = "earliest"
    LATEST = "latest"
    STATE = "state"  # the newest event of each channel that has a state, and what comes of the others


Start: TypeAlias = Position | str | From

# The reader asked for whatever is kept, or a gap says already that something is missing: no second gap.
_ALL_REPORTED: Final = -1


@dataclass(frozen=True, slots=True)
class StartPoint:
    """A place to start.

    Attributes:
        cursor: the offset after which to go on.
        reported: loss up to here needs no gap event (-1: all that the first page reports).
        gap: the data of a gap event to begin with, or None.
    """

    cursor: int
    reported: int = 0
    gap: str | None = None


def resolve_start(start: Start, span: Span) -> StartPoint:
    """Find the place that `start` means in a log that spans `span`."""
    if start is From.LATEST:
        return StartPoint(span.latest)
    if start is From.EARLIEST or start is From.STATE:
        return StartPoint(0, _ALL_REPORTED)
    if isinstance(start, str):
        try:
            start = Position.parse(start)
        except InvalidPosition:
            return _earliest("invalid")
    resumed = span.lives.resume(start.epoch, start.offset)
    if resumed is None:
        return _earliest("epoch")
    if resumed.lost:
        return _earliest("future", str(Position(span.epoch, resumed.offset)))
    if resumed.offset > span.latest:
        return _earliest("future")
    return StartPoint(resumed.offset)


def _earliest(reason: str, after: str | None = None) -> StartPoint:
    return StartPoint(0, _ALL_REPORTED, gap_data(reason, after, None))


def gap_data(reason: str, after: str | None, through: str | None, *, certain: bool = True) -> str:
    """The data of a gap event.

    Args:
        reason: `trimmed` (retention removed events), `epoch` (the cursor belongs to another log), `future` (it is
            past the log's end, or past what the log still has of the time before it was restored from a copy; `after`
            says how far that goes), `invalid` (it is no position at all) or `slow` (`StreamOptions.max_behind`).
        after: the position after which something is missing; None if that is unknown.
        through: the position of the newest event that is missing; None if that is unknown.
        certain: False: something may be missing, but the log can't know (`Page.doubt`).
    """
    data: dict[str, object] = {"reason": reason, "after": after, "through": through}
    return json.dumps(data if certain else data | {"certain": False})
