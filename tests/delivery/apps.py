"""The application that delivery's tests put on real servers. `NEWSWIRE_TEST_LOG` names its log."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import itertools
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from newswire import EventSourceResponse, Hub, StreamOptions, last_event_id
from newswire.delivery.asgi import Receive, Scope, Send
from newswire.delivery.drain import drain_of
from newswire.delivery.middleware import StreamMiddleware
from newswire.integrations import sse_starlette

hub = Hub(os.environ.get("NEWSWIRE_TEST_LOG", "memory://"))
closed: list[str] = []
inside = 0  # how many requests are going on within `handed`


async def events(request: Request) -> Response:
    options = StreamOptions(
        heartbeat=float(request.query_params.get("heartbeat", 15)),
        write_timeout=float(request.query_params.get("write_timeout", 30)),
        max_age=float(request.query_params["max_age"]) if "max_age" in request.query_params else None,
        compress="compress" in request.query_params,
    )
    channels = request.query_params.getlist("channel") or ["news"]
    return EventSourceResponse(hub.subscribe(*channels, after=last_event_id(request)), options=options)


async def dropped_in(request: Request) -> Response:
    """What sse-starlette's users write, with only the import replaced."""
    stopping = anyio.Event()

    async def ticks() -> AsyncIterator[dict[str, object]]:
        try:
            for number in itertools.count():
                if stopping.is_set():
                    yield {"event": "farewell", "data": "bye"}
                    return
                yield {"data": number, "id": str(number)}
                with anyio.move_on_after(0.05):
                    await stopping.wait()
        finally:
            closed.append("sse-starlette")

    return sse_starlette.EventSourceResponse(ticks(), ping=1, shutdown_event=stopping, shutdown_grace_period=2)


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


async def finite() -> AsyncIterator[str]:
    yield "first"
    await asyncio.sleep(0.7)
    yield "last"


async def never() -> AsyncIterator[str]:
    try:
        await asyncio.sleep(600)
        yield "at last"
    finally:
        closed.append("never")


def blocking() -> Iterator[str]:
    try:
        yield "one"
        while True:
            threading.Event().wait(0.2)
            yield "more"
    finally:
        closed.append("blocking")


async def flood() -> AsyncIterator[str]:
    try:
        while True:
            yield "x" * 60_000
    finally:
        closed.append("flood")


async def content(request: Request) -> Response:
    kinds = {"tokens": tokens, "endless": endless, "finite": finite, "never": never, "blocking": blocking}
    options = StreamOptions(retry=None, write_timeout=float(request.query_params.get("write_timeout", 30)))
    return EventSourceResponse({**kinds, "flood": flood}[request.path_params["kind"]](), options=options)


async def broken(request: Request) -> Response:
    async def content() -> AsyncIterator[str]:
        if request.query_params.get("after"):
            yield "first"
        raise ValueError("secret")

    return EventSourceResponse(content())


async def stats(request: Request) -> Response:
    return JSONResponse({"subscribers": hub.stats().subscribers, "closed": closed, "inside": inside})


async def memory(request: Request) -> Response:
    """What this process holds, in KiB, when all that is free has been given back."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # a C library that has no such call
            ctypes.CDLL(None).malloc_trim(0)
    status = await asyncio.to_thread(Path("/proc/self/status").read_text)
    return JSONResponse({"resident": int(status.partition("VmRSS:")[2].split()[0])})


async def drain(request: Request) -> Response:
    drain_of(asyncio.get_running_loop()).mode = "drain"
    drain_of(asyncio.get_running_loop()).grace = float(request.query_params["grace"])
    return JSONResponse({})


async def passing(request: Request, call_next: object) -> Response:
    return await call_next(request)  # type: ignore[operator, no-any-return]


app = Starlette(
    routes=[
        Route("/events", events, methods=["GET", "POST"]),
        Route("/publish", publish, methods=["POST"]),
        Route("/broken", broken),
        Route("/drain", drain),
        Route("/stats", stats),
        Route("/memory", memory),
        Route("/sse-starlette", dropped_in),
        Route("/{kind}", content, methods=["GET", "POST"]),
    ]
)
wrapped = Starlette(routes=app.routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)])
zipped = Starlette(routes=app.routes, middleware=[Middleware(GZipMiddleware, minimum_size=1)])


async def _counted(scope: Scope, receive: Receive, send: Send) -> None:
    global inside
    counts = scope["type"] == "http"
    inside += counts
    try:
        await app(scope, receive, send)
    finally:
        inside -= counts


handed = StreamMiddleware(_counted)
