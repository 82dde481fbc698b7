"""In which scopes a response can be called, and that event loops which are gone are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tests.fixtures.asgi_request import Client
from tests.fixtures.in_thread import uvicorn_in_thread

from newswire import EventSourceResponse, Hub
from newswire.delivery import drain
from newswire.runs import RunOptions, Runs

pytestmark = pytest.mark.anyio
EXTENSION: dict[str, Any] = {"websocket.http.response": {}}


class Handshake:
    """A WebSocket's handshake up to the ASGI interface."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self._connected = False

    async def receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        await self.left.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if b"id: " in message.get("body", b""):
            self.left.set()


async def respond(response: Any, handshake: Handshake, **scope: Any) -> None:
    async with asyncio.timeout(10):
        await response({"type": "websocket", "path": "/", "headers": [], **scope}, handshake.receive, handshake.send)


@pytest.mark.parametrize("kind", ["list", "subscription"])
async def test_a_handshake_is_answered_by_its_extension(kind: str) -> None:
    """With `websocket.http.response` the head and the body are messages of that extension."""
    async with Hub() as hub:
        content = ["one", "two"] if kind == "list" else hub.subscribe("news")
        handshake = Handshake()
        await respond(EventSourceResponse(content), handshake, extensions=EXTENSION)
        types = [message["type"] for message in handshake.sent]
        assert types[0] == "websocket.http.response.start"
        assert set(types[1:]) == {"websocket.http.response.body"}
        assert handshake.sent[0]["status"] == 200
        body = b"".join(message.get("body", b"") for message in handshake.sent)
        assert b"data: two\n\n" in body if kind == "list" else b"id: " in body


async def test_an_error_answers_a_handshake_too() -> None:
    """A problem instead of a stream goes the same way."""
    hub = Hub()
    await hub.close()
    handshake = Handshake()
    await respond(EventSourceResponse(hub.subscribe("news")), handshake, extensions=EXTENSION)
    start, body = handshake.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert json.loads(body["body"])["code"] == "stopping"


@pytest.mark.parametrize("scope", [{}, {"extensions": {}}, {"extensions": None}, {"type": "lifespan"}])
async def test_other_scopes_are_a_clear_error(scope: dict[str, Any]) -> None:
    """A response in a WebSocket that has no such answer, or in a lifespan, says what is wrong."""
    hub = Hub()
    for response in (
        EventSourceResponse(["one"]),
        EventSourceResponse(hub.subscribe("news")),
        Runs(hub).response({"type": "http", "method": "GET", "headers": []}, "0123456789abcdef"),
    ):
        handshake = Handshake()
        with pytest.raises(RuntimeError, match=r"WebSocket|lifespan"):
            await respond(response, handshake, **scope)
        assert handshake.sent == []


def test_a_real_handshake() -> None:
    """uvicorn sends the stream instead of switching protocols, and a client of HTTP reads it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(["one", "two"])(scope, receive, send)

    with uvicorn_in_thread(app, lifespan="off") as server:
        headers = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        answer = httpx2.get(f"http://127.0.0.1:{server.port}/", headers=headers, timeout=10)
        assert answer.status_code == 200
        assert answer.text == "data: one\n\ndata: two\n\n"
    with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect("/"):
        pass


# -- event loops


def test_event_loops_are_not_kept() -> None:
    """A loop whose streams have ended is forgotten; so is one that was closed while streams were open."""
    loops = []

    async def stream() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        client = Client()
        await EventSourceResponse(["one"])(
            {"type": "http", "method": "GET", "http_version": "1.1", "headers": []}, client.receive, client.send
        )
        async with Hub() as hub:
            client.left.set()
            await EventSourceResponse(hub.subscribe("news"))(
                {"type": "http", "method": "GET", "http_version": "1.1", "headers": []}, client.receive, client.send
            )

    class Stream:
        finite = False

        def stop(self) -> None: ...

        def cut(self) -> None: ...

    async def left_open() -> None:
        loop = asyncio.get_running_loop()
        loops.append(weakref.ref(loop))
        drain.drain_of(loop).enter(Stream())

    for _ in range(3):
        asyncio.run(stream())
        with contextlib.closing(asyncio.new_event_loop()) as loop:  # which puts no handler of its own on signals
            loop.run_until_complete(left_open())
        del loop
    asyncio.run(stream())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 6


@pytest.mark.parametrize("content", [Hub(), 5, None, "text", {"a": 1}])
def test_content_that_is_no_iterable_of_events(content: Any) -> None:
    """It is refused where the response is made, and the error says what it can be."""
    with pytest.raises(TypeError, match=r"^content is (hub\.subscribe\(\.\.\.\), or )?an iterable of events"):
        EventSourceResponse(content)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"status_code": "200"}, "status_code is a number from 100 to 599, not '200'"),
        ({"status_code": None}, "status_code is a number from 100 to 599, not None"),
        ({"headers": [("a", "b")]}, "headers is a mapping of texts to texts, not [('a', 'b')]"),
        ({"headers": {"a": 3}}, "headers is a mapping of texts to texts, and has 'a': 3"),
        ({"headers": {"a": "b\r\nc: d"}}, "HTTP can't carry the header 'a' with that value"),
        ({"headers": {"a": "\u20ac"}}, "HTTP can't carry the header 'a' with that value"),
        ({"headers": {"a b": "c"}}, "HTTP can't carry the header 'a b' with that value"),
    ],
)
def test_a_head_that_can_not_be_sent(given: dict[str, Any], text: str) -> None:
    """It is refused where the response is made, also by a run's; a line break would begin another header."""
    runs = Runs(Hub())
    for make in (lambda: EventSourceResponse(["a"], **given), lambda: runs.response(None, "chat.1", **given)):
        with pytest.raises((TypeError, ValueError)) as caught:
            make()
        assert str(caught.value) == text


def test_what_goes_with_a_stream() -> None:
    """Its options, and what is to be done behind it."""
    with pytest.raises(TypeError, match="options is a StreamOptions, not RunOptions"):
        EventSourceResponse(["a"], options=RunOptions())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_shutdown is an event that can be set, or a function, not 3"):
        EventSourceResponse(["a"], on_shutdown=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="background is a function to await, not 3"):
        EventSourceResponse(["a"], background=3)  # type: ignore[arg-type]
