"""`GET /channels/{channel}/events`: kept events as JSON, a page at a time, oldest first.

Each page says the position to go on from; what retention removed is told, as on a stream.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from newswire.log.channels import name_or_pattern
from newswire.log.position import Position
from newswire.server.problem import Problem
from newswire.server.query import Query, channel_of
from newswire.server.service import service_of

_DEFAULT: Final = 100
_MOST: Final = 1000


async def history(request: Request) -> JSONResponse:
    """Answer with one page."""
    service = service_of(request)
    channel = channel_of(request.scope)
    query = Query(request.scope["query_string"])
    query.only("after", "limit", also=service.parameters)
    after = query.one("after") or None
    limit = _limit(query)
    await service.allow(request, "read", channel)
    latest = (await service.hub.log.span()).latest
    page, position = await service.hub.history(name_or_pattern(channel), after=after, limit=limit)
    epoch = position.epoch
    events = [
        {
            "id": str(Position(epoch, entry.offset)),
            "channel": entry.channel,
            "event": entry.event,
            "data": entry.data,
            "time": entry.time,
        }
        for entry in page.entries
    ]
    answer: dict[str, object] = {"events": events, "next": str(position), "more": position.offset < latest}
    if after is not None:
        offset, through = Position.parse(after).offset, max(page.lost, page.doubt)
        if through > offset:
            gap: dict[str, object] = {"reason": "trimmed", "after": after, "through": str(Position(epoch, through))}
            answer["gap"] = gap if page.lost > offset else gap | {"certain": False}
    return JSONResponse(answer, headers={"cache-control": "no-store"})


def _limit(query: Query) -> int:
    text = query.one("limit")
    if text is None:
        return _DEFAULT
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= _MOST):
        detail = f"limit is a number from 1 to {_MOST}, not {text[:40]!r}"
        raise Problem(400, "invalid_query", detail, field="limit")
    return int(text)
