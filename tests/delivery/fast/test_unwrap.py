"""Once the head is sent, events go past those middlewares that only look at heads, to the server's own `send`."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from tests.fixtures.asgi_request import Client

from newswire import EventSourceResponse, Hub
from newswire.delivery.fast.unwrap import unwrap

pytestmark = pytest.mark.anyio


class Server(Client):
    """A client that knows who called its `send` and its `receive`.

    Attributes:
        callers: the module of each message's caller.
        receiver: the module that waits for it to leave.
    """

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[str] = []
        self.receiver = ""

    async def receive(self) -> dict[str, Any]:
        self.receiver = sys._getframe(1).f_globals["__name__"]
        return await super().receive()

    async def send(self, message: dict[str, Any]) -> None:
        self.callers.append(sys._getframe(1).f_globals["__name__"])
        await super().send(message)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


async def test_events_are_sent_without_the_framework(hub: Hub) -> None:
    """In Starlette the head goes through each of its closures, and what follows through none."""

    async def events(request: Request) -> Response:
        return EventSourceResponse(hub.subscribe("news"))

    app = Starlette()
    app.add_route("/events", events)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=1000)
    server = Server()
    scope = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "path": "/events",
        "headers": [(b"origin", b"http://page")],
    }
    task = asyncio.create_task(app(scope, server.receive, server.send))  # type: ignore[arg-type]
    await server.until(lambda: "retry:" in server.text)
    await hub.publish("news", "one")
    await server.until(lambda: "data: one" in server.text)
    server.left.set()
    async with asyncio.timeout(10):
        await task
    assert server.headers[b"access-control-allow-origin"] == b"*"
    assert server.callers[0] == "starlette.middleware.errors"
    assert set(server.callers[1:]) == {"newswire.delivery.fast.eager_send"}
    assert server.receiver == "newswire.delivery.asgi"


class Sends(CORSMiddleware):
    """A middleware that changes what it inherits."""

    async def send(self, message: Any, send: Any, request_headers: Any) -> None:
        await send({**message, "body": b"changed"})


def ours(send: Any) -> Any:
    """A closure like Starlette's, of somebody else."""

    async def _send(message: Any) -> None:
        await send(message)

    return _send


def decorated(send: Any) -> Any:
    """Starlette's own closure, in a decorator that takes its name."""

    @functools.wraps(send)
    async def around(message: Any) -> None:
        await send(message)

    return around


@pytest.mark.parametrize(
    "around",
    [
        ours,
        decorated,
        lambda send: functools.partial(send),
        lambda send: functools.partial(Sends(Starlette(), allow_origins=["*"]).send, send=send, request_headers=None),
        lambda send: max,
    ],
)
async def test_what_is_not_known_is_not_passed_by(around: Callable[[Any], Any]) -> None:
    """Whatever else stands around Starlette's own `send` gets all: it may want each message."""
    seen = []

    async def endpoint(request: Request) -> Response:
        seen.append(request._send)
        return Response()

    app = Starlette()
    app.add_route("/", endpoint)
    client = Client()
    await app({"type": "http", "method": "GET", "path": "/", "headers": []}, client.receive, client.send)  # type: ignore[arg-type]
    [send] = seen
    assert unwrap(send) == client.send
    other = around(send)
    assert unwrap(other) is other
