"""Requests on the short way: in order, once each, whatever the chunks; a stop, a client that leaves, and refusals."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Coroutine
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

import newswire.delivery.fast.uvicorn as direct
from newswire.delivery.asgi import Answer, AnswersWhole
from newswire.delivery.fast import ENABLED
from newswire.delivery.problem import Problem
from newswire.delivery.strangers import BUDGET

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not ENABLED, reason="there is no short way then"),
]


class Application(AnswersWhole):
    """Answers with the body of each request; one of `later` after a turn or two, one of `gone` with an error.

    Attributes:
        short: the bodies that went the short way.
    """

    def __init__(self) -> None:
        self.short: list[bytes] = []
        self.held: asyncio.Event | None = None  # answers on the short way wait for it

    def whole(self, scope: Any, body: bytes) -> Coroutine[Any, Any, Answer] | None:
        if body.startswith(b"decline"):
            return None
        self.short.append(body)
        return self._answer(body)

    async def _answer(self, body: bytes) -> Any:
        if body.startswith(b"later"):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if self.held is not None:
            await self.held.wait()
        if body.startswith(b"gone"):
            return Problem(503, "away", body.decode())
        return b"content-length: %d\r\n\r\n%b" % (len(body), body)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if body.startswith(b"gone"):
            await Problem(503, "away", body.decode())(scope, receive, send)
            return
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reading = True
        self.protocol: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)}.get(name, default)

    def get_protocol(self) -> Any:
        return self.protocol

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture
async def wire(app: Application) -> Wire:
    """A connection to `app`."""
    config = uvicorn.Config(app, log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"now")]
    wire = Wire()
    protocol = wire.protocol = direct.DirectHttpProtocol(config, state, {}, asyncio.get_running_loop())
    protocol.access_log = False
    protocol.connection_made(wire)
    return wire


def request(body: bytes, *, target: str = "/a", method: str = "POST", more: str = "") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def settled(wire: Wire, answers: int) -> None:
    """Wait for so many answers."""
    for _ in range(1000):
        if wire.written.count(b"date: now") >= answers:
            break
        await asyncio.sleep(0)


async def test_a_whole_request_is_answered_in_one_write(app: Application, wire: Wire) -> None:
    """With the server's own headers; the next one likewise."""
    for body in (b"one", b"", b"two"):
        wire.written = b""
        wire.protocol.data_received(request(body))
        await settled(wire, 1)
        assert wire.written == b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    assert app.short == [b"one", b"", b"two"]
    assert not wire.closed
    assert wire.protocol.server_state.total_requests == 3


@pytest.mark.parametrize("seed", range(40))
async def test_in_order_whatever_the_chunks(app: Application, wire: Wire, seed: int) -> None:
    """Pipelined, cut anywhere, some on uvicorn's way, some refused, some answered late."""
    random_ = random.Random(seed)
    kinds = ("decline", "later", "now", "gone")
    bodies = [f"{random_.choice(kinds)} {number} {'x' * random_.choice((0, 5, 3000))}" for number in range(12)]
    sent = b"".join(
        request(
            body.encode(),
            target=random_.choice(("/a", "/a?b=c", "/%61")),
            method=random_.choice(("POST", "POST", "PUT")),
            more=random_.choice(("", "", "expect: 100-continue\r\n")),
        )
        for body in bodies
    )
    while sent:
        cut = min(len(sent), random_.choice((1, 7, 100, 400, 4000, 20_000)))
        wire.protocol.data_received(sent[:cut])
        sent = sent[cut:]
        for _ in range(random_.choice((0, 0, 1, 6))):
            await asyncio.sleep(0)
    await settled(wire, len(bodies))
    await asyncio.sleep(0)
    answers = wire.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").split(b"HTTP/1.1 ")[1:]
    told = [re.findall(rb"(?:decline|later|now|gone) (\d+)", answer) for answer in answers]
    assert told == [[str(number).encode()] for number in range(len(bodies))]
    assert [b"503" in answer[:4] for answer in answers] == [body.startswith("gone") for body in bodies]
    assert len(set(app.short)) == len(app.short)
    assert wire.reading
    assert not wire.closed


async def test_a_body_that_comes_later_goes_the_ordinary_way(app: Application, wire: Wire) -> None:
    """Its bounds in size and time are there."""
    whole = request(b"body in two parts")
    wire.protocol.data_received(whole[:-3])
    await asyncio.sleep(0)
    wire.protocol.data_received(whole[-3:])
    await settled(wire, 1)
    assert wire.written.endswith(b"\r\n\r\nbody in two parts")
    assert app.short == []


async def test_what_comes_meanwhile_waits_and_is_bounded(app: Application, wire: Wire) -> None:
    """The next request is read when the first is answered; past 64 KB the client is not read from."""
    app.held = asyncio.Event()
    wire.protocol.data_received(request(b"first"))
    wire.protocol.data_received(request(b"second"))
    await asyncio.sleep(0)
    assert app.short == [b"first"]
    assert wire.reading
    wire.protocol.data_received(request(b"x" * 100_000))
    assert not wire.reading
    app.held.set()
    await settled(wire, 3)
    assert wire.written.count(b"HTTP/1.1 200") == 3
    assert wire.written.endswith(b"x" * 100_000)
    assert wire.reading


async def test_a_stop_lets_the_answer_out(app: Application, wire: Wire) -> None:
    """Then the connection closes, and says so."""
    app.held = asyncio.Event()
    wire.protocol.data_received(request(b"first"))
    wire.protocol.shutdown()
    await asyncio.sleep(0)
    assert not wire.closed
    app.held.set()
    await settled(wire, 1)
    assert b"\r\nconnection: close\r\n" in wire.written
    assert wire.written.endswith(b"first")
    assert wire.closed


async def test_a_client_that_left_gets_no_answer(app: Application, wire: Wire) -> None:
    """The request is done all the same."""
    app.held = asyncio.Event()
    wire.protocol.data_received(request(b"first"))
    wire.close()
    wire.protocol.connection_lost(None)
    app.held.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert app.short == [b"first"]
    assert wire.written == b""
    assert not wire.protocol.tasks


async def test_a_request_that_is_cancelled_ends_its_connection(app: Application, wire: Wire) -> None:
    """As a server does whose time to stop is over: what came of the request is not known."""
    app.held = asyncio.Event()
    wire.protocol.data_received(request(b"first"))
    await asyncio.sleep(0)
    (task,) = wire.protocol.tasks
    task.cancel()
    await asyncio.wait([task])
    assert wire.closed
    assert wire.written == b""


async def test_one_that_is_refused_for_what_it_holds_is_answered_first(app: Application, wire: Wire) -> None:
    """The budget of strangers takes what came early, and not the answer."""
    app.held = asyncio.Event()
    wire.protocol.data_received(request(b"first"))
    wire.protocol.data_received(request(b"second")[:-1])
    BUDGET.release(wire.protocol)  # as the budget does before it refuses
    wire.protocol.refuse_unfinished()
    await asyncio.sleep(0)
    assert wire.written == b""
    app.held.set()
    await settled(wire, 1)
    assert wire.written.endswith(b"first")
    assert wire.closed


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.0\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
        b"PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
        b"POST /a#b HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",  # one has to say which path that is
    ],
)
async def test_what_is_out_of_the_ordinary_goes_the_ordinary_way(app: Application, wire: Wire, head: bytes) -> None:
    """Other versions, methods and connections are uvicorn's."""
    wire.protocol.data_received(head)
    await settled(wire, 1)
    assert b" 200 OK\r\n" in wire.written
    assert wire.written.endswith(b"x")
    assert app.short == []


async def test_where_each_request_is_logged_uvicorn_does_it(
    app: Application, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """An access log has a line for every request."""
    wire.protocol.access_log = True
    with caplog.at_level(logging.INFO, "uvicorn.access"):
        wire.protocol.data_received(request(b"first"))
        await settled(wire, 1)
    assert app.short == []
    assert "POST /a" in caplog.text
