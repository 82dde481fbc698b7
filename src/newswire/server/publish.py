"""`POST /channels/{channel}`: one event, or with `application/x-ndjson` a batch of them.

The body is bounded while it is read, in size and in time, and nothing is stored before all of it was checked.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from newswire.errors import LimitExceeded
from newswire.server.asked import Query, channel_of
from newswire.server.ndjson import parse_batch
from newswire.server.problem import Problem
from newswire.server.service import service_of

_NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


async def publish(request: Request) -> JSONResponse:
    """Store, then answer with the id of the event, or the ids of the batch."""
    service = service_of(request)
    began = time.perf_counter()
    channel = channel_of(request)
    query = Query(request)
    query.only("event")
    event = query.one("event")
    if event == "":
        detail = "the event's type can't be empty: leave ?event= out for 'message'"
        raise Problem(400, "invalid_event", detail, field="event")
    await service.allow(request, "publish", channel)
    is_batch = _content_type(request) in _NDJSON
    body = await _body(request, service.settings.max_body, service.settings.body_timeout)
    if is_batch:
        events = await parse_batch(body, event, service.settings.max_batch)
        ids = [str(position) for position in await service.hub.publish_many((channel, one) for one in events)]
        answer: dict[str, object] = {"id": ids[-1], "ids": ids}
    else:
        ids = [str(await service.hub.publish(channel, body, event="message" if event is None else event))]
        answer = {"id": ids[0]}
    service.numbers.published(len(ids), time.perf_counter() - began)
    return JSONResponse(answer, headers={"cache-control": "no-store"})


def _content_type(request: Request) -> str:
    """The media type of the body, in lower case.

    Raises:
        Problem: it is one that can't be an event's data.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        detail = f"the body is encoded as {encoding[:40]!r}: send it as it is, without Content-Encoding"
        raise Problem(415, "unsupported_encoding", detail, headers={"accept-encoding": "identity"})
    name, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    kind = name.strip()
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        detail = f"the body's charset is {charset[:40]!r}: events are UTF-8"
        raise Problem(415, "unsupported_charset", detail)
    if kind.startswith("multipart/"):
        detail = "a multipart body is no event: send the data itself as the body, or a batch as application/x-ndjson"
        raise Problem(415, "unsupported_type", detail)
    return kind


async def _body(request: Request, limit: int, seconds: float) -> bytes:
    """Read the body, no more of it than `limit` bytes.

    Raises:
        LimitExceeded: it is larger.
        Problem: it does not come within `seconds`.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:19]) > limit:
        raise _too_large(limit, int(announced[:19]))
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise _too_large(limit, len(body))
    except TimeoutError:
        detail = f"the body did not come within {seconds:g} seconds; nothing was stored"
        raise Problem(408, "body_timeout", detail, headers={"connection": "close"}) from None
    return bytes(body)


def _too_large(limit: int, actual: int) -> LimitExceeded:
    hint = "send smaller events, or fewer in a batch. Nothing was stored"
    return LimitExceeded("the body's size in bytes", limit=limit, actual=actual, hint=hint)
