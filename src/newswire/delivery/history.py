"""Kept events as JSON, a page at a time, oldest first; or the newest few: `GET /channels/{channel}/events`.

Each page has the position to go on from, and reports what retention removed, as a stream does. The server and the WSGI
application answer with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self

from newswire.delivery.problem import Problem
from newswire.delivery.query import Query
from newswire.hub.hub import Hub
from newswire.log.channels import Channels, Pattern, name_or_pattern
from newswire.log.engine import PAGE_BYTES, Entry, Span
from newswire.log.position import Lives, Position

_DEFAULT: Final = 100
_MOST: Final = 1000


class PageRequest(NamedTuple):
    """What a request for a page asks for.

    Attributes:
        after: a position; None: from the earliest event.
        limit: the most events.
        last: the number of the newest events; None: a page after `after`.
    """

    after: str | None
    limit: int | None
    last: int | None

    @classmethod
    def of(cls, query: Query, parameters: Iterable[str] = ()) -> Self:
        """Read a query.

        Args:
            query: the request's.
            parameters: further names that it may have.

        Raises:
            Problem: a parameter is unknown, or has a value that it can't have.
        """
        query.only("after", "limit", "last", also=parameters)
        found = cls(query.one("after") or None, query.count("limit", _MOST), query.count("last", _MOST))
        if found.last is not None and (found.after is not None or found.limit is not None):
            raise Problem(400, "invalid_query", "last is for itself: leave out after and limit", field="last")
        return found


async def page(hub: Hub[Any], channel: str, asked: PageRequest) -> dict[str, object]:
    """The answer's object.

    Args:
        hub: the hub.
        channel: a name or a pattern.
        asked: the request.

    Raises:
        Problem: it asks for the newest events of a pattern.
        InvalidPosition, InvalidChannel, LogUnavailable: what `Hub.history` raises.
    """
    if asked.last is not None:
        return await _newest(hub, channel, asked.last)
    span = await hub.log.span()
    after = asked.after
    begin, gap = _begin(after, span)
    found, position = await hub.history(name_or_pattern(channel), after=begin, limit=asked.limit or _DEFAULT)
    events = _as_json(found.entries, span.lives)
    answer: dict[str, object] = {"events": events, "next": str(position), "more": position.offset < span.latest}
    if gap is not None:
        answer["gap"] = gap
    elif after is not None:
        offset, through = Position.parse(after).offset, max(found.lost, found.doubt)
        if through > offset:
            gap = {"reason": "trimmed", "after": after, "through": str(Position(position.epoch, through))}
            answer["gap"] = gap if found.lost > offset else gap | {"certain": False}
    return answer


async def _newest(hub: Hub[Any], channel: str, count: int) -> dict[str, object]:
    """Answer with the newest `count` events, or as many of them as an answer may hold.

    A log reads forwards only: after which offset they begin is found by halving.
    """
    if isinstance(name_or_pattern(channel), Pattern):
        raise Problem(400, "invalid_query", "last is for one channel, and this is a pattern", field="last")
    channels = Channels([channel])
    span = await hub.log.span()
    low, high = span.earliest, span.latest
    found, fit = await _read(hub, channels, low, span, count)
    while not fit and high - low > 1:  # those after `low` are too many, those after `high` are not
        middle = (low + high) // 2
        newer, these_fit = await _read(hub, channels, middle, span, count)
        if these_fit:
            high, found = middle, newer
            if len(newer) == count:
                break
        else:
            low = middle
    position = str(Position(span.epoch, span.latest))
    return {"events": _as_json(found, span.lives), "next": position, "more": False}


async def _read(hub: Hub[Any], channels: Channels, after: int, span: Span, count: int) -> tuple[list[Entry], bool]:
    """The events after an offset, up to the span's end; and whether they fit into an answer. One event always does."""
    found: list[Entry] = []
    size = 0
    while after < span.latest:
        piece = await hub.log.read(channels, after, count + 1 - len(found), epoch=span.epoch)
        found += [entry for entry in piece.entries if entry.offset <= span.latest]
        size += sum(len(entry.data) for entry in piece.entries)
        if len(found) > count or (size > PAGE_BYTES and len(found) > 1):
            return found, False
        after = piece.through
    return found, True


def _begin(after: str | None, span: Span) -> tuple[str | None, dict[str, object] | None]:
    """Where to begin; and the gap of a reader that has seen more than the log has, as a stream's would be."""
    if after is not None:
        position = Position.parse(after)
        resumed = span.lives.resume(position.epoch, position.offset)
        if resumed is not None and (resumed.lost or resumed.offset > span.latest):
            shared = str(Position(span.epoch, resumed.offset)) if resumed.lost else None
            return None, {"reason": "future", "after": shared, "through": None}
    return after, None


def _as_json(entries: Iterable[Entry], lives: Lives) -> list[dict[str, object]]:
    return [
        {
            "id": str(Position(lives.epoch_at(entry.offset), entry.offset)),
            "channel": entry.channel,
            "event": entry.event,
            "data": entry.data,
            "time": entry.time,
        }
        for entry in entries
    ]
