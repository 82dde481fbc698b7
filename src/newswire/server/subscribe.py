"""`GET /channels/{channel}` and `GET /stream`: what is asked for, checked, then an `EventSourceResponse`.

All that can refuse a stream does so before its head is sent. The cursor is the exception: whatever it is, it gives a
stream, from the right place or with a gap, because a refused EventSource never comes back.
"""

from __future__ import annotations

from starlette.requests import Request

from newswire.delivery.problem import Problem
from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.log.channels import name_or_pattern
from newswire.server.query import Query, channel_of
from newswire.server.service import Service, service_of


async def one_channel(request: Request) -> EventSourceResponse:
    """Stream one channel, or one pattern."""
    return await _stream(
        request, service_of(request), [channel_of(request.scope)], Query(request.scope["query_string"])
    )


async def many_channels(request: Request) -> EventSourceResponse:
    """Stream many channels and patterns on one connection, in the log's order."""
    service = service_of(request)
    limit = service.settings.max_channels
    query = Query(request.scope["query_string"], 2 * limit + 100)
    channels = query.all("channel")
    if not channels:
        detail = "name at least one channel: /stream?channel=news&channel=orders.*"
        raise Problem(400, "invalid_query", detail, field="channel")
    if len(channels) > limit:
        detail = f"a stream has at most {limit} channels here, and these are {len(channels)}: use a pattern"
        raise Problem(400, "too_many_channels", detail, field="channel", limit=limit)
    return await _stream(request, service, channels, query, "channel")


async def _stream(
    request: Request, service: Service, channels: list[str], query: Query, *more: str
) -> EventSourceResponse:
    query.only(*more, "from", "envelope", also=service.parameters, cursor=True)
    start = query.choice("from", "earliest", "latest")
    envelope = query.choice("envelope", "json")
    await service.allow(request, "subscribe", *channels)
    if request.method != "HEAD":
        service.check_room()
    subscription = service.hub.subscribe(
        *map(name_or_pattern, channels),
        after=last_event_id(request),
        start="earliest" if start == "earliest" else "latest",
        envelope=envelope is not None,
    )
    if request.method != "HEAD":
        await subscription.open()  # what fails here is still a status code
    return EventSourceResponse(subscription, options=service.settings.stream)
