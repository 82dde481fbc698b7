"""`GET /channels/{channel}/events`: a page of kept events; see `newswire.delivery.history`."""

from __future__ import annotations

from starlette.requests import Request

from newswire.delivery.history import PageRequest, page
from newswire.delivery.query import Query, channel_of
from newswire.server.service import service_of
from newswire.serving.answers import JsonAnswer


async def history(request: Request) -> JsonAnswer:
    """Answer with one page."""
    service = service_of(request)
    channel = channel_of(request.scope)
    asked = PageRequest.of(Query(request.scope["query_string"]), service.parameters)
    await service.allow(request, "read", channel)
    return JsonAnswer(await page(service.hub, channel, asked))
