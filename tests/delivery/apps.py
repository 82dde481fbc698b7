"""The application that delivery's tests put on real servers. `NEWSWIRE_TEST_LOG` names its log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from newswire import EventSourceResponse, Hub, StreamOptions, last_event_id

hub = Hub(os.environ.get("NEWSWIRE_TEST_LOG", "memory://"))
closed: list[str] = []


async def events(request: Request) -> Response:
    options = StreamOptions(
        heartbeat=float(request.query_params.get("heartbeat", 15)),
        write_timeout=float(request.query_params.get("write_timeout", 30)),
    )
    channels = request.query_params.getlist("channel") or ["news"]
    return EventSourceResponse(hub.subscribe(*channels, after=last_event_id(request)), options=options)


async def publish(request: Request) -> Response:
    return JSONResponse({"id": str(await hub.publish("news", await request.body()))})


async def tokens() -> AsyncIterator[object]:
    try:
        yield "one"
        yield {"n": 2}
        await asyncio.sleep(0.05)
        yield b"three"
    finally:
        closed.append("tokens")


async def endless() -> AsyncIterator[str]:
    try:
        while True:
            yield "tick"
            await asyncio.sleep(0.01)
    finally:
        closed.append("endless")


async def broken(request: Request) -> Response:
    async def content() -> AsyncIterator[str]:
        if request.query_params.get("after"):
            yield "first"
        raise ValueError("secret")

    return EventSourceResponse(content())


async def stats(request: Request) -> Response:
    return JSONResponse({"subscribers": hub.stats().subscribers, "closed": closed})


async def passing(request: Request, call_next: object) -> Response:
    return await call_next(request)  # type: ignore[operator, no-any-return]


app = Starlette(
    routes=[
        Route("/events", events),
        Route("/publish", publish, methods=["POST"]),
        Route("/tokens", lambda request: EventSourceResponse(tokens())),
        Route("/endless", lambda request: EventSourceResponse(endless())),
        Route("/broken", broken),
        Route("/stats", stats),
    ]
)
wrapped = Starlette(routes=app.routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)])
