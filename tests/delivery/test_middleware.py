"""`StreamMiddleware` takes streams over from their frameworks, where no middleware between would miss anything."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from tests.fixtures.asgi_request import Client, Send, request_id
from tests.fixtures.asgi_servers import SERVERS, Server, running

from newswire import EventSourceResponse, Hub, StreamOptions
from newswire.delivery import response
from newswire.delivery.fast import ENABLED
from newswire.delivery.middleware import StreamMiddleware

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not ENABLED, reason="handing over needs delivery/fast")]

App = Callable[[Any, Any, Any], Awaitable[None]]


class Site:
    """A Starlette application in a `StreamMiddleware`, and what goes on inside.

    Attributes:
        app: to put middlewares around its only route.
        inner: what the `StreamMiddleware` calls; a test may put something around it.
        left: set when a call of it is over, however it ended.
        response: makes the response.
    """

    def __init__(self, hub: Hub) -> None:
        self.app = Starlette()
        self.inner: App = self.app
        self.left = asyncio.Event()
        self.options = StreamOptions()
        self.response: Callable[[Request], Response] = lambda request: EventSourceResponse(
            hub.subscribe("news"), options=self.options
        )
        self.app.add_route("/events", self._route)
        self.outer = StreamMiddleware(self._watched)

    async def _route(self, request: Request) -> Response:
        request_id.set("mine")
        return self.response(request)

    async def _watched(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.inner(scope, receive, send)
        finally:
            self.left.set()

    async def is_left(self) -> None:
        async with asyncio.timeout(10):
            await self.left.wait()


@asynccontextmanager
async def streaming(site: Site, client: Client, *headers: tuple[bytes, bytes]) -> AsyncIterator[asyncio.Task[None]]:
    """A stream to `client`; it has begun, and is ended at the end."""
    task = asyncio.create_task(begin(site, client, *headers))
    try:
        await client.until(lambda: bool(client.sent) or task.done())
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def begin(site: Site, client: Client, *headers: tuple[bytes, bytes]) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "path": "/events",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
    }
    await site.outer(scope, client.receive, client.send)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


@pytest.fixture
def site(hub: Hub) -> Site:
    return Site(hub)


async def test_the_framework_is_done_when_the_stream_has_begun(hub: Hub, site: Site) -> None:
    """Its frames are left and the request is freed; the stream goes on in the server's task and the route's context."""
    requests = []
    made = site.response

    def response(request: Request) -> Response:
        requests.append(weakref.ref(request))
        return made(request)

    site.response = response
    client = Client()
    async with streaming(site, client) as task:
        await site.is_left()
        gc.collect()
        assert [request() for request in requests] == [None]
        await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)
        assert set(client.tasks) == {task}
        assert set(client.ids) == {"mine"}
        client.left.set()
        async with asyncio.timeout(10):
            await task
    assert hub.stats().subscribers == 0


async def test_middlewares_that_only_see_the_head(hub: Hub, site: Site) -> None:
    """CORS, sessions and body limits have had their say: the head has what they add, and the stream is taken over."""
    made = site.response

    def response(request: Request) -> Response:
        request.session["seen"] = "yes"
        return made(request)

    site.response = response
    site.app.add_middleware(CORSMiddleware, allow_origins=["http://page"], allow_credentials=True)
    site.app.add_middleware(SessionMiddleware, secret_key="secret")
    site.app.add_middleware(RequestBodyLimitMiddleware, max_body_size=1000)
    client = Client()
    async with streaming(site, client, (b"origin", b"http://page")):
        await site.is_left()
        assert client.headers[b"access-control-allow-origin"] == b"http://page"
        assert client.headers[b"set-cookie"].startswith(b"session=")
        await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)


async def test_fastapi(hub: Hub, site: Site) -> None:
    """A route of FastAPI too, mounted, with limits for bodies; its dependency with `yield` ends before the stream."""
    app, outer = FastAPI(max_body_size=1000), FastAPI(max_body_size=2000)
    outer.mount("/", app)
    ended = []

    async def dependency() -> AsyncIterator[None]:
        yield
        ended.append(hub.stats().subscribers)

    @app.get("/events", dependencies=[Depends(dependency)])
    async def events() -> EventSourceResponse:
        return EventSourceResponse(hub.subscribe("news"))

    site.inner = outer
    client = Client()
    async with streaming(site, client):
        await site.is_left()
        assert ended == [0]
        await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)


class Listening:
    """A middleware with a `send` and a `receive` of its own, which hears all, though its class says that it needn't."""

    def __init__(self, app: App, part: str) -> None:
        self.app = app
        self.part = part
        self.heard = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.part == "receive":
            await self.app(scope, functools.partial(receive), send)
            return

        async def _send(message: Any) -> None:
            self.heard += message.get("body", b"")
            await send(message)

        if self.part == "disguised send":
            _send.__module__ = "starlette.middleware.errors"
            _send.__qualname__ = "ServerErrorMiddleware.__call__.<locals>._send"
        await self.app(scope, receive, _send)


@pytest.mark.parametrize("part", ["receive", "send", "disguised send"])
async def test_middlewares_that_may_want_every_message(hub: Hub, site: Site, part: str) -> None:
    """Where another `send` or `receive` stands between, the stream stays inside, and all goes by way of them."""
    middleware = site.inner = Listening(site.app, part)
    client = Client()
    async with streaming(site, client) as task:
        await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)
        assert not site.left.is_set()
        if part != "receive":
            assert middleware.heard == client.text.encode()
        client.left.set()
        async with asyncio.timeout(10):
            await task


async def passing(request: Request, call_next: Any) -> Response:
    return await call_next(request)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("kind", "arguments"), [(GZipMiddleware, {}), (BaseHTTPMiddleware, {"dispatch": passing})])
async def test_middlewares_that_rewrite_bodies(hub: Hub, site: Site, kind: Any, arguments: Any) -> None:
    """GZip and BaseHTTPMiddleware, which hold messages back or carry them to another task, keep the stream inside."""
    site.app.add_middleware(kind, **arguments)
    client = Client()
    async with streaming(site, client, (b"accept-encoding", b"gzip")):
        await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)
        assert not site.left.is_set()


async def test_background_comes_after_the_stream(hub: Hub, site: Site) -> None:
    """A response with a `background` stays inside: it is awaited after the stream's end, where it always was."""
    ended = []

    async def background() -> None:
        ended.append(hub.stats().subscribers)

    site.response = lambda request: EventSourceResponse(hub.subscribe("news"), background=background)
    client = Client()
    async with streaming(site, client) as task:
        assert not site.left.is_set()
        assert not ended
        client.left.set()
        async with asyncio.timeout(10):
            await task
    assert ended == [0]


async def test_what_fails_after_the_handover_is_raised_in_the_end(hub: Hub, site: Site) -> None:
    """A framework that fails while it ends the request hurts no stream; its server hears of it afterwards."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await site.app(scope, receive, send)
        raise ValueError("too late")

    site.inner = failing
    client = Client()
    async with streaming(site, client) as task:
        await site.is_left()
        await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)
        client.left.set()
        with pytest.raises(ValueError, match="too late"):
            async with asyncio.timeout(10):
                await task
    assert hub.stats().subscribers == 0


async def test_what_fails_before_a_stream_is_raised_at_once(site: Site) -> None:
    """An application's error without a stream is its own: a 500, and the error for the server."""

    def response(request: Request) -> Response:
        raise ValueError("at once")

    site.response = response
    with pytest.raises(ValueError, match="at once"):
        await begin(site, Client())


async def test_cancelled_while_the_framework_ends_the_request(hub: Hub, site: Site) -> None:
    """A stream that no client will resume frees its slot."""
    after = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await site.app(scope, receive, send)
        after.set()
        await asyncio.Event().wait()

    site.inner = slow
    task = asyncio.create_task(begin(site, Client()))
    async with asyncio.timeout(10):
        await after.wait()
    assert hub.stats().subscribers == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hub.stats().subscribers == 0


async def test_events_that_come_while_the_framework_ends_the_request(hub: Hub, site: Site) -> None:
    """They wait, and reach the client in order."""
    after, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await site.app(scope, receive, send)
        after.set()
        await go_on.wait()

    site.inner = slow
    client = Client()
    task = asyncio.create_task(begin(site, client))
    async with asyncio.timeout(10):
        await after.wait()
    for text in ("one", "two", "three"):
        await hub.publish("news", text)
        await asyncio.sleep(0)
    go_on.set()
    await client.until(lambda: "data: three" in client.text)
    assert client.text.index("retry:") < client.text.index("one") < client.text.index("two")
    client.left.set()
    await task


async def test_cancelled_later_it_says_goodbye(hub: Hub, site: Site) -> None:
    """A server that cancels its requests to stop leaves each client a goodbye."""
    client = Client()
    async with streaming(site, client) as task:
        await site.is_left()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "newswire.goodbye" in client.text
    assert hub.stats().subscribers == 0


@pytest.mark.slow
async def test_a_middleware_that_runs_the_application_in_another_task(hub: Hub, site: Site) -> None:
    """The stream goes on in the task that it comes to, in the context that it comes from; cutting it reaches it."""

    async def elsewhere(scope: Any, receive: Any, send: Send) -> None:
        await asyncio.create_task(site.app(scope, receive, send))  # type: ignore[arg-type]

    site.inner = elsewhere
    site.options = StreamOptions(write_timeout=0.3)
    client = Client()
    async with streaming(site, client) as task:
        await site.is_left()
        await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)
        assert set(client.tasks) == {task}
        assert set(client.ids) == {"mine"}
        client.open.clear()
        await hub.publish("news", "two")
        async with asyncio.timeout(10):
            await task
        assert task.cancelling() == 0
        assert client.waiting == 0
    assert hub.stats().subscribers == 0


async def test_lifespans_pass_through() -> None:
    """What is no HTTP request is the application's alone, with the very scope and `send`."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    client = Client()
    receive, send = client.receive, client.send
    for scope in ({"type": "lifespan"}, {"type": "websocket"}):
        await StreamMiddleware(app)(scope, receive, send)
    assert seen[0][0] == {"type": "lifespan"}
    assert seen[0][2] == send
    assert seen[1] == ({"type": "websocket"}, receive, send)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SERVERS if name.endswith(", handed")])
def test_on_real_servers(name: str) -> None:
    """While a stream lives no call of the application does; events come, and a client that leaves is noticed."""

    def inside(server: Server) -> int:
        return int(str(server.stats()["inside"])) - 1  # itself

    with running(name) as server:
        with server.get("/events") as stream:
            stream.until("id: ")
            assert inside(server) == 0
            id = server.publish("hello")
            stream.until(f"id: {id}\ndata: hello\n\n")
            with server.get("/endless") as endless:
                endless.until("tick")
                assert inside(server) == 1  # an iterable's stream stays
        server.until_subscribers(0)
        server.stop()


@pytest.mark.parametrize("missing", [True, False])
async def test_a_warning_where_many_streams_keep_a_framework_waiting(
    site: Site, missing: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a process says how to add the middleware; streams that have ended don't count."""
    monkeypatch.setattr(response, "_MANY", 1)
    monkeypatch.setattr(response, "_warned", False)
    if missing:
        site.outer = site.app  # type: ignore[assignment]
    for _ in range(3):
        async with streaming(site, Client()):
            pass
    assert not caplog.records
    async with streaming(site, Client()), streaming(site, Client()), streaming(site, Client()):
        await asyncio.sleep(0)
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == missing
    assert all("StreamMiddleware(app)" in message for message in warned)
