"""sse-starlette, a queue a client."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from benchmarks.servers.control import Control
from benchmarks.servers.queues import Queues

queues = Queues()


async def stream() -> AsyncIterator[ServerSentEvent]:
    """One client's events."""
    async for id, data in queues.subscribe():
        yield ServerSentEvent(data, id=id)


async def events(request: Request) -> EventSourceResponse:
    """Everybody gets everything."""
    return EventSourceResponse(stream())


app = Starlette(routes=[Route("/events", events), *Control(queues.publish, queues.look).routes()])
