"""The short ways of requests for a channel and Starlette's way: whatever is sent, all answer alike and count alike."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import threading
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import newswire.delivery.fast.uvicorn as direct
from newswire import Hub
from newswire.server import Denied, Settings, create_app
from newswire.server.publish import FastChannel

SETTINGS = Settings(log="memory://", max_body=200, max_batch=3, cors_origins=("https://page.example",))
PATHS = ("/channels/a", "/channels/a.b", "/channels/a%20b", "/channels/%FF", "/channels/", "/channels/a/b",
         "/channels/a*", "/channels/$runs.x", "/channels/denied", "/channels/broken", "/channels/teapot",
         "/channels/a..b", "/channels/%C3%BC", "/channels/a/events", "/stream", "/channels", "//channels/a",
         "/channels/" + "x" * 300)  # fmt: skip
QUERIES = (b"", b"event=note", b"event=", b"event=error", b"event=%FF", b"evt=x", b"event=a&event=b", b"event=a%0Ab")
HEADERS = (
    (b"content-type", b"application/x-ndjson"), (b"content-type", b"Application/X-NDJSON; charset=UTF-8"),
    (b"content-type", b"text/plain; charset=latin-1"), (b"content-type", b"multipart/form-data; boundary=x"),
    (b"content-type", b"application/json"), (b"content-encoding", b"gzip"), (b"content-encoding", b"identity"),
    (b"content-length", b"9999"), (b"content-length", b"x"), (b"content-length", b"5"),
    (b"origin", b"https://page.example"), (b"origin", b"https://evil.example"), (b"origin", b"http://localhost"),
    (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-site", b"same-origin"), (b"origin", b"http://["), (b"origin", b""),
    (b"host", b"evil.example"), (b"host", b""), (b"x-other", b"\xff"),
    (b"idempotency-key", b"one"), (b"idempotency-key", b""), (b"idempotency-key", b"x" * 256),
)  # fmt: skip
BODIES = (b"x", b"", b"\xff", b'{"data": 1}\n{"data": "b", "event": "own"}', b'{"data": NaN}', b'{"data": 1}\n' * 4,
          b"\n", b'{"dta": 1}', b"x" * 201, b'{"data": "error", "event": "error"}')  # fmt: skip


async def authorize(request: Request, action: object, channels: Any) -> None:
    """One that refuses, fails, and raises what Starlette's own do, by the channel's name."""
    assert request.path_params["channel"] == channels[0]
    if channels == ("denied",):
        raise Denied("not for you", authenticate="Bearer")
    if channels == ("teapot",):
        raise HTTPException(418, "a teapot")
    if channels == ("broken",):
        raise ZeroDivisionError


class Untouched:
    """A middleware of somebody else's that changes nothing."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def both() -> tuple[Any, Any]:
    """An application as it is made, and one that Starlette's way has to be taken in."""
    fast, slow = (create_app(SETTINGS, Hub("memory://"), authorize) for _ in range(2))
    slow.user_middleware.append(Middleware(Untouched))
    return fast, slow


def is_fast(app: Any) -> bool:
    """Whether publish requests take the short way."""
    return isinstance(app.middleware_stack, FastChannel)


async def ask(
    app: Any, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], parts: list[bytes], gone: bool
) -> Any:
    """One request. Returns all that could be seen of it."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = gone
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = scope_of(method, path, query, headers)
    raised = None
    try:
        await app(scope, receive, send)
    except Exception as error:  # what the server's log would show
        raised = repr(error)
    start, *rest = sent
    body = b"".join(message.get("body", b"") for message in rest).decode()
    return seen_of(start["status"], start["headers"], body, raised)


def scope_of(method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """As a server makes it."""
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "root_path": "", "query_string": query,
        "headers": headers if any(name == b"host" for name, _ in headers) else [(b"host", b"localhost"), *headers],
        "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1),
    }  # fmt: skip


def seen_of(status: int, headers: list[tuple[bytes, bytes]], body: str, raised: str | None) -> Any:
    """What of an answer has to be alike."""
    body = re.sub(r"[0-9a-z]{8}(-\d+)", r"EPOCH\1", body)
    return status, {name: value for name, value in headers if name != b"retry-after"}, body, raised


async def ask_whole(app: Any, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Any:
    """A publish request whose body is there, as the direct protocol offers it."""
    answer = app.whole(scope := scope_of("POST", path, query, headers), body)
    if answer is None:
        return await ask(app, "POST", path, query, headers, [body], False)
    answer = await answer
    if isinstance(answer, bytes):
        head, _, rest = answer.partition(b"\r\n\r\n")
        lines = [line.partition(b": ")[::2] for line in head.split(b"\r\n")]
        return seen_of(200, lines, rest.decode(), None)
    app = answer
    return await ask(lambda _, receive, send: app(scope, receive, send), "POST", path, query, headers, [body], False)


@pytest.mark.slow
@given(
    st.sampled_from(["POST", "POST", "POST", "POST", "GET", "PUT", "OPTIONS", "HEAD"]),
    st.sampled_from(PATHS),
    st.sampled_from(QUERIES),
    st.lists(st.sampled_from(HEADERS), max_size=4),
    st.lists(st.sampled_from(BODIES), min_size=1, max_size=3),
    st.booleans(),
)
@example("POST", "/channels/a", b"", [], [b"x"], False)
@example("POST", "/channels/broken", b"", [], [b"x"], False)
@example("POST", "/channels/a", b"", [(b"content-length", b"9999")], [b"x"], False)
@settings(max_examples=150, deadline=None)
def test_both_ways_answer_alike(
    method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], parts: list[bytes], gone: bool
) -> None:
    """Status, headers, body, what is raised, what is stored and what is counted."""
    if method in ("GET", "HEAD"):  # streams have no end
        path = "/channels/a/events"

    async def check() -> None:
        (fast, slow), (whole, _) = both(), both()
        # The protocol's parser has found the end of the body: where it is declared, it is there.
        lengths = {value for name, value in headers if name == b"content-length"}
        at_once = method == "POST" and len(parts) == 1 and not gone and lengths <= {b"%d" % len(parts[0])}
        seen = []
        for app in (fast, slow, whole):
            async with app.router.lifespan_context(app):
                if app is whole and at_once and "%" not in path:
                    # the first request, whatever it is, makes the short way
                    await ask(app, "OPTIONS", "/", b"", [(b"host", b"evil.example")], [b""], False)
                    app.state.service.stats.counters.clear()
                    answer = await ask_whole(app, path, query, list(headers), parts[0])
                else:
                    answer = await ask(app, method, path, query, list(headers), parts, gone)
                page, _ = await app.state.service.hub.history("a", limit=100)
                stored = [(entry.event, entry.data) for entry in page.entries]
                counters = app.state.service.stats.counters
                seen.append(
                    (
                        answer,
                        stored,
                        {name: count for name, count in counters.items() if name[:5] == "http_"},
                        counters["published"],
                    )
                )
        assert is_fast(fast)
        assert not is_fast(slow)
        assert seen[0] == seen[1] == seen[2]

    asyncio.run(check())


STREAMS = (b"", b"from=earliest", b"from=never", b"envelope=json", b"frm=latest", b"last_event_id=x", b"from=%FF")


@pytest.mark.anyio
@pytest.mark.parametrize("path", [path for path in PATHS if not path.endswith("/events")])
async def test_both_ways_stream_alike(path: str) -> None:
    """Status, headers, the first bytes, what is raised and what is counted, for each query and header."""
    fast, slow = both()
    async with fast.router.lifespan_context(fast), slow.router.lifespan_context(slow):
        for app in (fast, slow):
            await app.state.service.hub.publish("a", "kept")
        for query in STREAMS:
            for header in (None, (b"last-event-id", b"no position"), *HEADERS):
                headers = [] if header is None else [header]
                answers = [await ask(app, "GET", path, query, headers, [b""], False) for app in (fast, slow)]
                assert answers[0] == answers[1], (query, header)
                if path == "/channels/a" and header is None and query == b"from=earliest":
                    assert answers[0][0] == 200
                    assert "data: kept\n\n" in answers[0][2]
        counted = [app.state.service.stats.counters for app in (fast, slow)]
        assert {name: count for name, count in counted[0].items() if name[:5] == "http_"} == {
            name: count for name, count in counted[1].items() if name[:5] == "http_"
        }
    assert is_fast(fast)
    assert not is_fast(slow)


@pytest.mark.anyio
async def test_what_an_application_adds_sees_publish_requests() -> None:
    """A route before ours, a handler of its own: then there is no short way round it."""

    async def mine(request: Request) -> PlainTextResponse:
        return PlainTextResponse("mine")

    async def handled(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("handled", 400)

    routed, handling = create_app(SETTINGS), create_app(SETTINGS)
    routed.router.routes.insert(0, Route("/channels/{name}", mine, methods=["POST"]))
    handling.add_exception_handler(Denied, handled)
    for app, body in ((routed, "mine"), (handling, json.dumps({"id": "EPOCH-1"}, separators=(",", ":")) + "\n")):
        async with app.router.lifespan_context(app):
            answer = await ask(app, "POST", "/channels/a", b"", [], [b"x"], False)
            assert answer[2] == body
            assert not is_fast(app)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_publish_request_leaves_nothing_to_the_garbage_collector() -> None:
    """Reference counting frees it: a collector that has to would pause all streams."""
    app = create_app(SETTINGS)
    async with app.router.lifespan_context(app):
        await ask(app, "POST", "/channels/a", b"", [], [b"x"], False)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await ask(app, "POST", "/channels/a", b"", [], [b"x"], False)
            assert gc.collect() < 50  # of what the test and the log make now and then
        finally:
            gc.enable()


@pytest.mark.slow
def test_a_request_of_the_direct_protocol_leaves_nothing_either() -> None:
    """Its scope holds the offer of the connection, which refers to the scope: that circle is opened with the answer."""
    config = uvicorn.Config(create_app(SETTINGS), http=direct.DirectHttpProtocol, log_level="critical")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        gc.disable()
        try:
            with httpx2.Client() as client:
                for _ in range(50):
                    assert client.post(f"{url}/channels/a", content="x").status_code == 200
                left = sum(type(one).__name__ == "_Offer" for one in gc.get_objects())
            assert left <= 2
        finally:
            gc.enable()
            server.should_exit = True
            thread.join()
