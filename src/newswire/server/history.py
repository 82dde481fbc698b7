"""`GET /channels/{channel}/events`: kept events as JSON, a page at a time, oldest first; or the newest few.

Each page has the position to go on from, and reports what retention removed, as a stream does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.requests import Request

from newswire.delivery.problem import Problem
from newswire.delivery.query import Query, channel_of
from newswire.hub.hub import Hub
from newswire.log.channels import Channels, Pattern, name_or_pattern
from newswire.log.engine import Entry, Span
from newswire.log.position import Lives, Position
from newswire.server.service import service_of
from newswire.serving.answers import JsonAnswer

_DEFAULT: Final = 100
_MOST: Final = 1000


async def history(request: Request) -> JsonAnswer:
    """Answer with one page."""
    service = service_of(request)
    channel = channel_of(request.scope)
    query = Query(request.scope["query_string"])
    query.only("after", "limit", "last", also=service.parameters)
    after = query.one("after") or None
    limit = query.count("limit", _MOST)
    last = query.count("last", _MOST)
    await service.allow(request, "read", channel)
    if last is not None:
        return await _newest(service.hub, channel, last, alone=after is None and limit is None)
    span = await service.hub.log.span()
    begin, gap = _begin(after, span)
    page, position = await service.hub.history(name_or_pattern(channel), after=begin, limit=limit or _DEFAULT)
    epoch = position.epoch
    events = _as_json(page.entries, span.lives)
    answer: dict[str, object] = {"events": events, "next": str(position), "more": position.offset < span.latest}
    if gap is not None:
        answer["gap"] = gap
    elif after is not None:
        offset, through = Position.parse(after).offset, max(page.lost, page.doubt)
        if through > offset:
            gap = {"reason": "trimmed", "after": after, "through": str(Position(epoch, through))}
            answer["gap"] = gap if page.lost > offset else gap | {"certain": False}
    return JsonAnswer(answer)


async def _newest(hub: Hub, channel: str, count: int, *, alone: bool) -> JsonAnswer:
    """Answer with the newest `count` events.

    A log reads forwards only: after which offset the channel has just so many is found by halving.
    """
    if not alone:
        raise Problem(400, "invalid_query", "last is for itself: leave out after and limit", field="last")
    if isinstance(name_or_pattern(channel), Pattern):
        raise Problem(400, "invalid_query", "last is for one channel, and this is a pattern", field="last")
    channels = Channels([channel])
    span = await hub.log.span()
    low, high = span.earliest, span.latest  # after `low` there are at least `count`, if there are; after `high` fewer
    found = await _read(hub, channels, low, span, count)
    while len(found) == count and found[-1].offset < span.latest and high - low > 1:
        middle = (low + high) // 2
        page = await _read(hub, channels, middle, span, count)
        if len(page) < count:
            high = middle
        else:
            low, found = middle, page
    position = str(Position(span.epoch, span.latest))
    answer = {"events": _as_json(found, span.lives), "next": position, "more": False}
    return JsonAnswer(answer)


async def _read(hub: Hub, channels: Channels, after: int, span: Span, count: int) -> list[Entry]:
    """The earliest events after an offset, up to the span's end, at most `count`."""
    found: list[Entry] = []
    while after < span.latest and len(found) < count:
        page = await hub.log.read(channels, after, count - len(found), epoch=span.epoch)
        found += [entry for entry in page.entries if entry.offset <= span.latest]
        after = page.through
    return found


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
