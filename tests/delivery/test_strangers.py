"""What strangers can make a process hold: one budget for all that is unfinished, and honest requests go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.fixtures.asgi_servers import Server, running
from tests.fixtures.in_thread import Threaded, uvicorn_in_thread

from newswire.delivery.fast import limits
from newswire.delivery.strangers import BUDGET, Budget


async def size(request: Request) -> Response:
    return JSONResponse({"size": len(await request.body()), "fields": len(request.headers.raw)})


async def ignored(request: Request) -> Response:
    return JSONResponse({"size": None})


@pytest.fixture
def server() -> Iterator[Threaded]:
    app = Starlette(routes=[Route("/size", size, methods=["GET", "POST"]), Route("/ignored", ignored)])
    with uvicorn_in_thread(app) as server:
        yield server
    assert BUDGET.used == 0


def head(*fields: bytes, path: bytes = b"/size", method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: localhost", *fields]) + b"\r\n\r\n"


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of one answer."""
    text = b""
    length, found = 0, None
    while found is None or len(text) < length:
        data = connection.recv(65536)
        assert data, text
        text += data
        found = re.search(rb"content-length: (\d+).*?\r\n\r\n", text, re.DOTALL)
        length = 0 if found is None else found.end() + int(found[1])
    return int(text[9:12]), json.loads(text[found.end() :])


# -- a head


@pytest.mark.slow
@pytest.mark.parametrize("length", [100, 20_000, 60_000])
@pytest.mark.parametrize("step", [1_000, 65_536, 10**7])
def test_heads_up_to_64_kib(server: Threaded, length: int, step: int) -> None:
    """A head of any length below the limit is served, however it comes, also behind another request."""
    request = head(b"X-Long: " + b"x" * length)
    with server.connect() as connection:
        for _ in range(2):
            for start in range(0, len(request), step):
                connection.sendall(request[start : start + step])
            assert answer(connection) == (200, {"size": 0, "fields": 2})


@pytest.mark.slow
@pytest.mark.parametrize("step", [1_000, 65_536, 10**7])
@pytest.mark.parametrize(
    "fields",
    [[b"X-Long: " + b"x" * 66_000], [b"X-Long: " + b"x" * 2**20], [b"a:b"] * 300, [b"a:b"] * 20_000],
    ids=["one field", "1 MiB", "300 fields", "20,000 fields"],
)
def test_larger_heads_are_431(server: Threaded, fields: list[bytes], step: int) -> None:
    """A head beyond a limit is refused with a problem, and the connection closes."""
    request = head(*fields)
    with server.connect() as connection:
        refused = threading.Thread(target=_send_all, args=(connection, request, step))
        refused.start()
        try:
            status, problem = answer(connection)
        except ConnectionResetError:
            pass  # the answer is lost where we still talk
        else:
            assert (status, problem["code"]) == (431, "head_too_large")
        refused.join()


def _send_all(connection: socket.socket, data: bytes, step: int) -> None:
    try:
        for start in range(0, len(data), step):
            connection.sendall(data[start : start + step])
    except OSError:
        pass


def test_pipelined_requests_are_not_one_head(server: Threaded) -> None:
    """Many requests in one piece, longer than a head may be, with bodies between, are answered one by one."""
    body = b"x" * 50_000
    post = head(b"Content-Length: 50000", method=b"POST") + body
    one = head(b"X-Long: " + b"x" * 40_000)
    with server.connect() as connection:
        sending = threading.Thread(target=connection.sendall, args=((post + one) * 5,))
        sending.start()
        text = b""
        while text.count(b'"size"') < 10:
            data = connection.recv(65536)
            assert data, text[-300:]
            text += data
        sending.join()
        assert text.count(b"HTTP/1.1 200") == 10
        assert text.count(b'"size":50000') == 5


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_fields_behind_a_body_are_no_headers(server: Threaded, cut: int) -> None:
    """A proxy has not checked them: they are dropped, wherever the pieces begin, and however many there are."""
    request = head(b"Transfer-Encoding: chunked", method=b"POST")
    body = b"2\r\nhi\r\n0\r\nHost: evil.example\r\n" + b"a: b\r\n" * 300 + b"\r\n"
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(request + body[:cut])
            connection.sendall(body[cut:])
            assert answer(connection) == (200, {"size": 2, "fields": 2})


@pytest.mark.parametrize("path", [b"/size", b"/ignored"])
@pytest.mark.parametrize(
    "beside",
    [b"2;" + b"x" * 2**20, b"2\r\nhi\r\n0\r\na: " + b"b" * 2**20, b"2\r\nhi\r\n0\r\n" + b"a: b\r\n" * 200_000],
    ids=["extension", "field", "fields"],
)
def test_what_a_chunked_body_has_beside_its_data_is_bounded(server: Threaded, path: bytes, beside: bytes) -> None:
    """The parser would keep it, and copy it for each piece. The connection closes, after one answer."""
    with server.connect() as connection:
        connection.sendall(head(b"Transfer-Encoding: chunked", path=path))
        sending = threading.Thread(target=_send_all, args=(connection, beside, 10_000))
        sending.start()
        text = b""
        with contextlib.suppress(ConnectionResetError):  # where we still talk
            while data := connection.recv(65536):
                text += data
        sending.join()
    assert text.count(b"HTTP/1.1 ") <= 1
    assert not text or (b"HTTP/1.1 431" in text) == (path == b"/size")  # the answer is lost where we still talk


def test_a_body_in_tiny_chunks(server: Threaded) -> None:
    """Its chunks' sizes are longer than what a head may be, and no piece of it is without data."""
    with server.connect() as connection:
        body = b"1;of=one\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
        connection.sendall(head(b"Transfer-Encoding: chunked", method=b"POST") + body)
        assert answer(connection) == (200, {"size": 20_000, "fields": 2})


def test_what_is_no_http_is_a_problem(server: Threaded) -> None:
    """Garbage gets an answer in the same shape as every error."""
    with server.connect() as connection:
        connection.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
        assert answer(connection)[1]["code"] == "invalid_request"


# -- the budget


def test_a_slow_upload_on_a_quiet_server(server: Threaded) -> None:
    """A body larger than the whole budget, in many parts, arrives."""
    parts = BUDGET.limit // 2**20 + 8
    with server.connect() as connection:
        connection.sendall(head(b"Content-Length: %d" % (parts * 2**20), method=b"POST"))
        for _ in range(parts):
            connection.sendall(b"x" * 2**20)
        assert answer(connection) == (200, {"size": parts * 2**20, "fields": 2})


def test_the_oldest_are_refused(server: Threaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the budget is spent, unfinished heads that wait longest get a 503, the newest go on, and so do others."""
    monkeypatch.setattr(BUDGET, "limit", 20 * 60_000)
    part = head(b"X-Long: " + b"x" * 60_000)[:-2]
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(30)]
        for connection in connections:
            connection.sendall(part)
            with server.get("/ignored") as honest:
                honest.until('"size":null')
        for connection in connections[:5]:
            status, problem = answer(connection)
            assert (status, problem["code"]) == (503, "unfinished")
            assert connection.recv(1) == b""
        connections[-1].sendall(b"\r\n")
        assert answer(connections[-1])[0] == 200
    assert BUDGET.used <= BUDGET.limit


def _memory(server: Server) -> int:
    """The resident memory of a server's process, in bytes."""
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["heads", "fields", "bodies", "pipelined"])
def test_a_thousand_strangers(what: str) -> None:
    """1,000 connections with all that they may withhold cost less than 100 MB, and the server serves."""
    unfinished = {
        "heads": head(b"X-Long: " + b"x" * 63_000)[:-2],
        "fields": head(*[b"a%d:b" % number for number in range(20_000)])[:64_000],
        "bodies": head(b"Content-Length: 1048576", method=b"POST", path=b"/never") + b"x" * (2**20 - 1),
        "pipelined": head(path=b"/events") + head(b"X-Long: " + b"x" * 60_000)[:-2],
    }[what]
    with running("direct") as server, ExitStack() as stack:
        server.stats()
        before = _memory(server)
        most = 0
        for number in range(1000):
            connection = stack.enter_context(server.connect())
            connection.setblocking(False)
            try:
                connection.send(unfinished)
            except (BlockingIOError, ConnectionError):
                pass
            if number % 50 == 0:
                server.stats()
                most = max(most, _memory(server))
        server.stats()
        most = max(most, _memory(server))
        assert most - before < 100e6, f"{(most - before) / 1e6:.0f} MB"


# -- the arithmetic


class Holder:
    """A holder of some bytes."""

    def __init__(self) -> None:
        self.size = 0
        self.refused = False

    def unfinished(self) -> int:
        return self.size

    def refuse_unfinished(self) -> None:
        self.refused = True
        self.size = 0


@given(st.integers(), st.integers(1, 200))
def test_a_budget_is_never_overdrawn(seed: int, steps: int) -> None:
    """Whatever is held, taken and released: the sum is right, below the limit, and only the oldest were refused."""
    chance = random.Random(seed)
    budget = Budget(1000)
    holders: list[Holder] = []
    for _ in range(steps):
        if not holders or chance.random() < 0.4:
            holder = Holder()
            holders.append(holder)
        else:
            holder = chance.choice(holders)
            if chance.random() < 0.2:
                budget.release(holder)
                holders.remove(holder)
                continue
        holder.size = chance.randrange(400)
        budget.hold(holder, holder.size)
        refused = [number for number, one in enumerate(holders) if one.refused]
        older = holders[: max(refused, default=0)]
        assert all(one.refused or one.size == 0 for one in older)
        holders = [one for one in holders if not one.refused]
        assert budget.used <= 1000
        assert budget.used == sum(one.size for one in holders)


def test_direct_limits_are_what_the_docs_say() -> None:
    """64 KiB and 256 fields."""
    assert (limits.MAX_HEAD, limits.MAX_HEADERS) == (65_536, 256)


def test_an_application_that_waits_for_a_refused_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting body counts; if it has to go, its client gets a 503 and the application a disconnect."""
    got: list[str] = []
    begun, over = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.to_thread(go.wait, 30)  # takes nothing until then
        message = await receive()
        got.append(message["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"too late"})
        over.set()

    go = threading.Event()
    with uvicorn_in_thread(app, lifespan="off") as server, server.connect() as connection:
        monkeypatch.setattr(BUDGET, "limit", 10_000)
        connection.sendall(head(b"Content-Length: 100000", method=b"POST") + b"x" * 20_000)
        assert begun.wait(10)
        assert answer(connection)[0] == 503
        assert connection.recv(1) == b""
        go.set()
        assert over.wait(10)
        assert got == ["http.disconnect"]


@pytest.mark.slow
def test_two_servers_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers in threads of their own share the budget: one of them can make a connection of the other go."""
    app = Starlette(routes=[Route("/ignored", ignored), Route("/size", size)])
    part = head(b"X-Long: " + b"x" * 60_000)[:-2]
    with uvicorn_in_thread(app) as first, uvicorn_in_thread(app) as second:
        monkeypatch.setattr(BUDGET, "limit", 100_000)
        with first.connect() as oldest, second.connect() as newest:
            oldest.sendall(part)
            with first.get("/ignored") as served:
                served.until('"size":null')
            while BUDGET.used < 60_000:
                pass
            newest.sendall(part)
            assert answer(oldest)[0] == 503
            newest.sendall(b"\r\n")
            assert answer(newest)[0] == 200
