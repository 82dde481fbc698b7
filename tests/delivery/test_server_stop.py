"""Streams end in order however their server stops, on each way that their bytes can go."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.fixtures.asgi_request import Client
from tests.fixtures.in_thread import Threaded, hypercorn_in_thread, uvicorn_in_thread

from newswire import EventSourceResponse, Hub
from newswire.delivery.middleware import StreamMiddleware

GOODBYE = r"retry: \d+\nevent: newswire\.goodbye\n"
Serving = Callable[[Any], AbstractContextManager[Threaded]]
SERVERS: dict[str, Serving] = {
    "direct": lambda app: uvicorn_in_thread(app, "direct"),
    "httptools": lambda app: uvicorn_in_thread(app, "httptools"),
    "h11": lambda app: uvicorn_in_thread(app, "h11"),
    "hypercorn": hypercorn_in_thread,
}


async def endless() -> AsyncIterator[str]:
    while True:
        yield "tick"
        await asyncio.sleep(0.01)


async def quiet() -> AsyncIterator[str]:
    yield "tick"
    await asyncio.Event().wait()


def blocked() -> Iterator[str]:
    yield "tick"
    threading.Event().wait(600)


async def passing(request: Request, call_next: Any) -> Response:
    return await call_next(request)  # type: ignore[no-any-return]


class Slotted:
    """What a middleware puts before `send` or `receive`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, *message: Any) -> Any:
        return await self._inner(*message)


class Slots:
    """A middleware whose callables keep the server's own in slots."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, Slotted(receive), Slotted(send))


class Boxes:
    """A middleware whose closures keep the server's own in a dictionary and a list, in a scope without extensions."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        box, boxes = {"send": send}, [receive]

        async def sends(message: Any) -> None:
            await box["send"](message)

        async def receives() -> Any:
            return await boxes[0]()

        await self._app({key: scope[key] for key in scope if key != "extensions"}, receives, sends)


def site(*, wrapped: bool = False) -> Starlette:
    """An application with every kind of stream."""
    hub = Hub()

    async def events(request: Request) -> Response:
        return EventSourceResponse(hub.subscribe("news"))

    def stream(make: Callable[[], Any]) -> Any:
        async def endpoint(request: Request) -> Response:
            return EventSourceResponse(make())

        return endpoint

    async def plain(request: Request) -> Response:
        return PlainTextResponse("plain")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with hub:
            yield

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=passing)] if wrapped else []
    routes = [Route("/events", events), Route("/plain", plain)]
    routes += [Route(f"/{make.__name__}", stream(make)) for make in (endless, quiet, blocked)]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


AROUND: dict[str, Any] = {"handed": StreamMiddleware, "slots": Slots, "boxes": Boxes}


def opened(server: Threaded, stack: ExitStack) -> list[Any]:
    """Open streams of every kind, each begun."""
    streams = [stack.enter_context(server.get(f"/{name}")) for name in ("events", "endless", "quiet", "blocked")]
    for stream in streams:
        stream.until("id: |tick")
    return streams


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("form", ["bare", "wrapped", "handed", "slots", "boxes"])
def test_a_server_that_is_asked_without_a_signal(name: str, form: str) -> None:
    """A flag or a trigger: subscriptions and iterables say goodbye, and the server has nothing to wait for."""
    app: Any = site(wrapped=form == "wrapped")
    if form in AROUND:
        app = AROUND[form](app)
    with SERVERS[name](app) as server, ExitStack() as stack:
        streams = opened(server, stack)
        server.stop()
        for stream in streams:
            assert re.search(GOODBYE, stream.rest()), stream.text
        assert server.has_stopped()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["direct", "httptools", "h11"])
def test_a_limit_of_requests(protocol: str) -> None:
    """A server that stops after so many requests ends its streams too."""
    with uvicorn_in_thread(site(), protocol, limit_max_requests=3) as server, ExitStack() as stack:
        streams = opened(server, stack)
        for _ in range(3):
            with server.get("/plain", "Connection: close") as plain:
                plain.rest()
        for stream in streams:
            assert re.search(GOODBYE, stream.rest()), stream.text
        assert server.has_stopped()


def test_one_server_of_two() -> None:
    """Only the streams of the server that stops are ended."""
    app = site()
    with (
        uvicorn_in_thread(app, "httptools") as first,
        uvicorn_in_thread(site(), "httptools") as second,
        first.get("/quiet") as ends,
        second.get("/endless") as goes_on,
    ):
        ends.until("tick")
        goes_on.until("tick")
        first.stop()
        assert re.search(GOODBYE, ends.rest())
        assert first.has_stopped()
        goes_on.text = ""
        goes_on.until("tick")
        assert "goodbye" not in goes_on.text


def test_nothing_stays_on_a_connection() -> None:
    """A keep-alive connection whose stream has ended has uvicorn's own `shutdown` again."""

    async def short() -> AsyncIterator[str]:
        yield "one"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await EventSourceResponse(short())(scope, receive, send)
            over.set()

    over = threading.Event()
    with uvicorn_in_thread(app, "httptools", lifespan="off") as server, server.get("/") as stream:
        stream.until("0\r\n\r\n")
        assert over.wait(10)
        [protocol] = server.server.server_state.connections
        assert "shutdown" not in vars(protocol)
        stream.text = ""
        stream.send("/")
        stream.until("0\r\n\r\n")


EMBEDDED = """
import asyncio, socket, sys
from granian.server.embed import Server
from newswire import EventSourceResponse, Hub

async def quiet():
    yield "tick"
    await asyncio.Event().wait()

async def main():
    hub = Hub()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            content = quiet() if scope["path"] == "/quiet" else hub.subscribe("news")
            await EventSourceResponse(content)(scope, receive, send)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(app, address="127.0.0.1", port=port, interface="asgi", log_enabled=False)
    serving = asyncio.create_task(server.serve())
    for path in ("/quiet", "/events"):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.01)
        writer.write(f"GET {path} HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n".encode())
        text = b""
        while b"tick" not in text and b"id: " not in text:
            text += await reader.read(1000)
        readers.append((reader, writer))
    server.stop()
    for reader, writer in readers:
        text = b""
        while b"newswire.goodbye" not in text:
            data = await reader.read(1000)
            assert data, text
            text += data
        writer.close()
    await serving
    print("stopped")

readers = []
asyncio.run(asyncio.wait_for(main(), 20))
"""


@pytest.mark.slow
def test_granian_s_embedded_server() -> None:
    """Its `stop()` ends the streams, and `serve()` returns."""
    done = subprocess.run([sys.executable, "-c", EMBEDDED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "stopped\n", done.stderr


@pytest.mark.anyio
async def test_the_end_of_a_lifespan() -> None:
    """A `StreamMiddleware` ends the streams of its application when the lifespan ends."""
    hub = Hub()
    client, other = Client(), Client()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                pass
        elif scope["path"] == "/events":
            await EventSourceResponse(hub.subscribe("news"))(scope, receive, send)
        else:
            await EventSourceResponse(quiet())(scope, receive, send)

    messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outer = StreamMiddleware(app)
    scope = {"type": "http", "method": "GET", "http_version": "1.1", "headers": []}
    lifespan = asyncio.create_task(outer({"type": "lifespan"}, messages.get, client.send))
    tasks = [
        asyncio.create_task(outer({**scope, "path": "/events"}, client.receive, client.send)),
        asyncio.create_task(outer({**scope, "path": "/quiet"}, other.receive, other.send)),
    ]
    await client.until(lambda: "id: " in client.text)
    await other.until(lambda: "tick" in other.text)
    messages.put_nowait({"type": "lifespan.shutdown"})
    async with asyncio.timeout(10):
        await asyncio.gather(lifespan, *tasks)
    assert re.search(GOODBYE, client.text)
    assert re.search(GOODBYE, other.text)
    await hub.close()
