"""FastAPI: uvicorn examples.frameworks.fastapi_app:app"""

import os
from collections.abc import AsyncIterable

from fastapi import FastAPI, Request

from newswire import Hub, last_event_id
from newswire.integrations.fastapi import EventSourceResponse, ServerSentEvent, events, problems

hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))
app = FastAPI(lifespan=hub.lifespan, exception_handlers=problems)


@app.get("/events/{channel}")
async def stream(channel: str, request: Request) -> EventSourceResponse:
    return EventSourceResponse(hub.subscribe(channel, after=last_event_id(request)))


@app.get("/yielded/{channel}", response_class=EventSourceResponse)
async def yielded(channel: str, request: Request) -> AsyncIterable[ServerSentEvent]:
    async for event in events(hub.subscribe(channel, after=last_event_id(request))):
        yield event  # or what you make of it: your models, and they are in the OpenAPI document


@app.post("/events/{channel}")
async def publish(channel: str, request: Request) -> dict[str, str]:
    return {"id": await hub.publish(channel, await request.body())}
