"""Publish from one request, read in all others: `newswire run examples.quickstart:app`, then

curl -N localhost:8000/events
curl -d 'It works' localhost:8000/news
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from newswire import EventSourceResponse, Hub, last_event_id

hub = Hub("memory://")  # sqlite:///events.db to remember across restarts


async def events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(hub.subscribe("news", after=last_event_id(request)))


async def publish(request: Request) -> JSONResponse:
    position = await hub.publish("news", await request.body(), event="headline")
    return JSONResponse({"id": str(position)})


app = Starlette(routes=[Route("/events", events), Route("/news", publish, methods=["POST"])])
