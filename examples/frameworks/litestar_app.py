"""Litestar: uvicorn examples.frameworks.litestar_app:app"""

import os
from typing import Any

from litestar import Litestar, Request, get, post

from newswire import EventSourceResponse, Hub, last_event_id
from newswire.integrations.litestar import problems

hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))


@get("/events/{channel:str}")
async def events(request: Request[Any, Any, Any]) -> EventSourceResponse:
    return EventSourceResponse(hub.subscribe(request.path_params["channel"], after=last_event_id(request)))


@post("/events/{channel:str}", status_code=200)
async def publish(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"id": await hub.publish(request.path_params["channel"], await request.body())}


app = Litestar([events, publish], on_shutdown=[hub.close], exception_handlers=problems)
