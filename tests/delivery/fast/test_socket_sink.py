"""The direct path: which responses take it, and that a connection is afterwards as it was before."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import re
import socket
import threading
import types
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.fixtures.in_thread import Threaded, uvicorn_in_thread
from uvicorn.protocols.http import flow_control, httptools_impl

import newswire.delivery.fast.uvicorn as direct
from newswire import EventSourceResponse, Hub, StreamOptions
from newswire.delivery.fast import limits, uvicorn_cycle
from newswire.delivery.middleware import StreamMiddleware
from newswire.server.app import create_app
from newswire.server.settings import Settings


class Upper:
    """A middleware that changes bodies, as one that compresses, signs or rewrites does."""

    def __init__(self, app: Any, **more: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def changed(message: Any) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": message.get("body", b"").replace(b"hello", b"HELLO")}
            await send(message)

        await self._app(scope, receive, changed)


class GzipAll:
    """A middleware that compresses streams too, block by block."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        packer = zlib.compressobj(wbits=31)

        async def packed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"content-encoding", b"gzip")]}
            elif message["type"] == "http.response.body":
                data = packer.compress(message.get("body", b"")) + packer.flush(zlib.Z_SYNC_FLUSH)
                if not message.get("more_body"):
                    data += packer.flush()
                message = {**message, "body": data}
            await send(message)

        await self._app(scope, receive, packed if scope["type"] == "http" else send)


async def passing(request: Request, call_next: Any) -> Response:
    return await call_next(request)  # type: ignore[no-any-return]


def site(*middleware: Middleware, options: StreamOptions | None = None) -> Starlette:
    hub = Hub()

    async def events(request: Request) -> Response:
        asyncio.get_running_loop().call_later(0.05, publish)
        return EventSourceResponse(hub.subscribe("news"), options=options or StreamOptions(max_age=0.3))

    def publish() -> None:
        task = asyncio.ensure_future(hub.publish("news", "hello " * 100))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def options_of_socket(request: Request) -> Response:
        return JSONResponse(None)

    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with hub:
            yield

    tasks: set[asyncio.Future[Any]] = set()
    app = Starlette(
        routes=[Route("/events", events), Route("/plain", options_of_socket)],
        middleware=list(middleware),
        lifespan=contextlib.asynccontextmanager(lifespan),
    )
    app.state.hub = hub
    return app


def lent(server: Threaded) -> list[bool]:
    """Of each connection, whether it is lent to the hub."""
    return [getattr(one, "_sink", None) is not None for one in server.server.server_state.connections]


# -- which responses take it


CORS = Middleware(CORSMiddleware, allow_origins=["*"])
BASE = Middleware(BaseHTTPMiddleware, dispatch=passing)
STACKS: dict[str, list[Middleware]] = {
    "gzip": [Middleware(GzipAll)],
    "cors, gzip, base": [CORS, Middleware(GzipAll), BASE],
    "base, gzip, cors": [BASE, Middleware(GzipAll), CORS],
    "cors, starlette's gzip, base": [CORS, Middleware(GZipMiddleware, minimum_size=1, exclude_content_types=()), BASE],
}


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("outer", [lambda app: app, StreamMiddleware], ids=["bare", "handed"])
def test_a_body_is_as_its_head_says(stack: str, outer: Callable[[Any], Any]) -> None:
    """With a middleware that compresses, the client gets a head that says gzip, and gzip: a real client decodes it."""
    if "starlette" in stack and "exclude_content_types" not in inspect.signature(GZipMiddleware).parameters:
        pytest.skip("this Starlette never compresses streams")
    with uvicorn_in_thread(outer(site(*STACKS[stack]))) as server:
        url = f"http://127.0.0.1:{server.port}/events"
        answer = httpx2.get(url, headers={"origin": "http://page", "accept-encoding": "gzip"}, timeout=30)
        assert answer.headers["content-encoding"] == "gzip"
        assert f"data: {'hello ' * 100}\n\n" in answer.text
        assert "newswire.goodbye" in answer.text
        with server.get("/events", "Accept-Encoding: gzip", "Connection: close") as raw:
            data = b""
            while got := raw.connection.recv(65536):
                data += got
        body = b"".join(re.findall(rb"\r\n[0-9a-f]+\r\n(.*?)(?=\r\n[0-9a-f]+\r\n)", data, re.DOTALL))
        assert b"data: " not in body


@pytest.mark.slow
def test_a_middleware_that_rewrites() -> None:
    """One that is not known sees every byte of every event."""
    with uvicorn_in_thread(site(Middleware(Upper))) as server, server.get("/events") as stream:
        stream.until("HELLO")
        assert lent(server) == [False]
        assert "hello" not in stream.until("goodbye")


class Instead:
    """A middleware that sends an answer of its own once it sees the head of one."""

    def __init__(self, app: Any, **more: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def own(message: Any) -> None:
            if message["type"] == "http.response.start":
                await JSONResponse("instead")(scope, receive, send)

        await self._app(scope, receive, own if scope.get("path") == "/events" else send)


def test_a_middleware_that_answers_itself() -> None:
    """Its answer is whole, though a stream's head waits for its first bytes, and so is the next on the connection."""
    with uvicorn_in_thread(site(Middleware(Instead))) as server, server.get("/events") as stream:
        stream.until('"instead"')
        assert lent(server) == [False]
        stream.text = ""
        stream.send("/plain")
        stream.until("null")


@pytest.mark.parametrize("stack", [[], [CORS]], ids=["bare", "cors"])
def test_what_only_sees_heads_keeps_the_direct_path(stack: list[Middleware]) -> None:
    """Starlette's own closures and those middlewares that change no body don't slow a stream down."""
    with (
        uvicorn_in_thread(site(*stack)) as server,
        server.get("/events", "Origin: http://page") as stream,
    ):
        stream.until("hello")
        assert lent(server) == [True]


@pytest.mark.parametrize("headers", [[], ["Origin: http://page.example"]], ids=["plain", "other origin"])
def test_the_standalone_server_streams_directly(headers: list[str]) -> None:
    """Its own middlewares are known to look at heads only."""
    app = create_app(Settings(log="memory://", cors_origins=("http://page.example",)))
    with uvicorn_in_thread(app) as server, server.get("/channels/news", *headers) as stream:
        stream.until("id: ")
        assert lent(server) == [True]


# -- while it lasts


def test_max_bytes() -> None:
    """A stream ends with a goodbye after so many bytes, and its connection serves the next request."""
    app = site(options=StreamOptions(max_bytes=500))
    with uvicorn_in_thread(app) as server, server.get("/events") as stream:
        stream.until("id: ")
        assert lent(server) == [True]
        stream.until(r"newswire\.goodbye\n[^$]*\r\n0\r\n\r\n$")
        assert len(stream.text) < 2000
        stream.text = ""
        stream.send("/plain")
        stream.until("null")


def test_max_bytes_of_a_compressed_stream() -> None:
    """It counts what is sent, and the body ends as a gzip body does; the connection serves the next request."""
    app = site(options=StreamOptions(max_bytes=100, compress=True))
    with uvicorn_in_thread(app) as server, httpx2.Client(timeout=30) as http:
        for _ in range(2):
            answer = http.get(f"http://127.0.0.1:{server.port}/events")
            assert answer.headers["content-encoding"] == "gzip"
            assert f"data: {'hello ' * 100}\n\n" in answer.text
            assert answer.text.endswith("}\n\n")
            assert "newswire.goodbye" in answer.text
            assert 100 < answer.num_bytes_downloaded < 400
        assert http.get(f"http://127.0.0.1:{server.port}/plain").text == "null"


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_a_next_head_that_comes_in_parts(cut: int) -> None:
    """A next request is answered, wherever it was cut and whether its begin came with the first request or behind."""
    for before in (True, False):
        following = b"GET /plain HTTP/1.1\r\nHost: localhost\r\nX-Some: header of the next\r\n\r\n"
        first = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with uvicorn_in_thread(site()) as server, server.get("/plain") as stream:
            stream.until("null")
            stream.text = ""
            stream.connection.sendall(first + (following[:cut] if before else b""))
            stream.until("hello")
            stream.connection.sendall(following[:cut] if not before else b"")
            stream.until("goodbye")
            stream.connection.sendall(following[cut:])
            stream.until("null")
            assert stream.text.count("HTTP/1.1 200") == 2


@pytest.mark.parametrize("late", [False, True])
def test_a_task_that_waits_for_the_disconnect_beside_it(late: bool) -> None:
    """Whenever it calls `receive` beside a stream, it gets `http.disconnect` when the client leaves and not before."""
    hub = Hub()
    got: list[str] = []
    over = threading.Event()

    async def watcher(receive: Any) -> None:
        if late:
            await begins.wait()
        while (message := await receive())["type"] != "http.disconnect":
            pass
        got.append(message["type"])
        over.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/begin":
            begins.set()
            await JSONResponse(None)(scope, receive, send)
            return
        tasks.append(asyncio.create_task(watcher(receive)))
        await asyncio.sleep(0)
        await EventSourceResponse(hub.subscribe("news"))(scope, receive, send)

    begins = asyncio.Event()
    tasks: list[Any] = []
    with uvicorn_in_thread(app, lifespan="off") as server:
        with server.get("/events") as stream:
            stream.until("id: ")
            assert lent(server) == [True]
            for _ in range(2):  # the second answer comes after the watcher has begun
                with server.get("/begin") as other:
                    other.until("null")
            assert got == []
        assert over.wait(10)
        assert got == ["http.disconnect"]


@pytest.mark.slow
def test_socket_options_are_as_before() -> None:
    """After a stream the connection has the options that it had, for whatever it serves next."""
    names = [(socket.SOL_SOCKET, socket.SO_SNDBUF)]
    names += [(socket.IPPROTO_TCP, option) for option in (socket.TCP_NOTSENT_LOWAT, socket.TCP_USER_TIMEOUT)]
    names += [(socket.IPPROTO_TCP, socket.TCP_NODELAY)]

    def look(server: Threaded) -> list[int]:
        [protocol] = server.server.server_state.connections
        connection = protocol.transport.get_extra_info("socket")
        return [connection.getsockopt(*one) for one in names]

    with uvicorn_in_thread(site()) as server, server.get("/plain") as stream:
        stream.until("null")
        before = look(server)
        stream.text = ""
        stream.send("/events")
        stream.until("hello")
        assert look(server) != before
        stream.until("0\r\n\r\n")
        stream.send("/plain")
        stream.until("null")
        assert look(server) == before


# -- another uvicorn


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["_unset_keepalive_if_required", "on_response_complete", "timeout_keep_alive_handler", "send_400_response"]
)
def test_a_private_method_that_is_gone(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ordinary requests and streams are served by uvicorn's own protocol then, and one warning says so."""
    kind = httptools_impl.HttpToolsProtocol
    own = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}

    class Renamed(kind):  # type: ignore[misc, valid-type]
        """Calls it by another name; the old one is no method any more."""

    code = own.pop(name)
    setattr(Renamed, f"{name}_renamed", code)
    monkeypatch.setattr(Renamed, name, None)
    monkeypatch.setattr(httptools_impl, "HttpToolsProtocol", Renamed)
    try:
        importlib.reload(direct)
        assert direct.DirectHttpProtocol is Renamed
        [warning] = caplog.records
        assert name in warning.getMessage()
        monkeypatch.undo()
        with uvicorn_in_thread(site()) as server, server.get("/plain") as stream:
            stream.until("null")
            stream.send("/events")
            stream.until("hello")
    finally:
        monkeypatch.undo()
        importlib.reload(direct)
    assert direct.DirectHttpProtocol.__name__ == "DirectHttpProtocol"


def test_each_private_name_is_in_the_check() -> None:
    """Whatever of uvicorn's the protocol uses or overrides is looked for at import."""
    ours = ast.parse(
        "\n".join(inspect.getsource(module) for module in (direct, limits, uvicorn_cycle)).replace(
            "from __future__ import annotations", ""
        )
    )
    used = {node.attr for node in ast.walk(ours) if isinstance(node, ast.Attribute)} | methods(ours)
    theirs: set[str] = set()
    for module in (httptools_impl, flow_control):
        tree = ast.parse(inspect.getsource(module))
        stored = (
            node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        )
        theirs |= methods(tree) | {node.attr for node in stored}
    without = types.SimpleNamespace()  # a uvicorn that has nothing of it
    assert used & theirs - {"__init__"} <= set(uvicorn_cycle.missing(without))
    assert uvicorn_cycle.missing(httptools_impl) == []


def methods(tree: ast.AST) -> set[str]:
    """The names of all functions."""
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("name", ["RequestResponseCycle", "FlowControl"])
def test_a_private_class_that_is_gone(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same, where uvicorn has a class by another name."""
    monkeypatch.delattr(httptools_impl, name)
    try:
        importlib.reload(direct)
        assert direct.DirectHttpProtocol is httptools_impl.HttpToolsProtocol
        assert len(caplog.records) == 1
    finally:
        monkeypatch.undo()
        importlib.reload(direct)
