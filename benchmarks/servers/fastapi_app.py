"""FastAPI's own server-sent events, a queue a client."""

from __future__ import annotations

from collections.abc import AsyncIterable

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from benchmarks.servers.control import Control
from benchmarks.servers.queues import Queues

queues = Queues()
app = FastAPI()
app.router.routes.extend(Control(queues.publish, queues.look).routes())


@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterable[ServerSentEvent]:
    """Everybody gets everything."""
    async for id, data in queues.subscribe():
        yield ServerSentEvent(raw_data=data, id=id)
