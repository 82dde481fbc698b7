"""Starlette: newswire run examples.frameworks.starlette_app:app"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from newswire import EventSourceResponse, Hub, last_event_id
from newswire.integrations.starlette import problems

hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))


async def events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(hub.subscribe(request.path_params["channel"], after=last_event_id(request)))


async def publish(request: Request) -> JSONResponse:
    return JSONResponse({"id": await hub.publish(request.path_params["channel"], await request.body())})


app = Starlette(
    routes=[
        Route("/events/{channel}", events),
        Route("/events/{channel}", publish, methods=["POST"]),
    ],
    lifespan=hub.lifespan,
    exception_handlers=problems,
)
