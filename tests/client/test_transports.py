"""The user's own client under a source, and responses that somebody else's code asked for."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import zlib
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from tests.fixtures.tasks import only

from newswire.client import (
    AsyncEventSource,
    EventSource,
    Hooks,
    Limits,
    Options,
    Resume,
    Timeouts,
    aiter_events,
    iter_events,
)
from newswire.errors import (
    BadStatus,
    ConnectFailed,
    InactivityTimeout,
    ResponseError,
    TooManyAttempts,
    WrongContentType,
)
from newswire.testing import Answer, BadServer, FakeClock
from newswire.testing.bad_server import every_byte
from newswire.testing.sockets import SocketServer

A = "id: ü\ndata: a\n\n".encode()
B = b"id: 2\ndata: b\n\n"
OVER = Answer(status=204)
PACED = {"chunked": Answer([A, B], chunked=True, end="hang", pace=0.05), "plain": Answer([A, B], end="hang", pace=0.05)}


def fast(**groups: Any) -> Options:
    return Options(clock=FakeClock(), **groups)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_users_sync_client(library: Any) -> None:
    """A source reads over the user's client, with its headers, past its 5 seconds of read timeout."""
    answers = [Answer([A, b":\n"], pace=0.2, end="reset"), Answer(B), OVER]
    with BadServer(answers) as server, library.Client(headers={"x-mine": "1"}, timeout=0.05) as client:
        with EventSource(server.url, client=client, options=fast()) as source:
            assert [event.data for event in source] == ["a", "b"]
        assert not client.is_closed
    assert [request.headers["x-mine"] for request in server.requests] == [b"1"] * 3
    assert server.requests[1].headers["last-event-id"] == "ü".encode()


def async_client(name: str, **arguments: Any) -> Any:
    if name == "aiohttp":
        return aiohttp.ClientSession(**arguments)
    return {"httpx": httpx, "httpx2": httpx2}[name].AsyncClient(**arguments)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_users_async_client(name: str) -> None:
    """An async source reads over the user's client or session, whatever breaks."""
    answers = [
        Answer([A], end="reset", chunked=True, pace=0.1),  # read before the reset: aiohttp drops what is not
        Answer(b"no", 502),
        Answer(status=307, headers={"location": "/x"}),
        Answer(B),
        OVER,
    ]
    with BadServer(answers) as server:
        async with (
            async_client(name, headers={"x-mine": "1"}) as client,
            AsyncEventSource(server.url, client=client, options=fast()) as source,
        ):
            assert [event.data async for event in source] == ["a", "b"]
    assert [request.headers["x-mine"] for request in server.requests] == [b"1"] * 5
    assert server.requests[3].headers["last-event-id"] == "ü".encode()
    assert server.requests[3].headers["accept-encoding"] == b"identity"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_clients_credentials_stay_with_their_origin(name: str) -> None:
    """What a client adds to each of its requests doesn't follow a redirect to another origin."""
    secrets = {"authorization": "Bearer t", "cookie": "a=b"}
    with (
        BadServer([Answer(A), OVER]) as other,
        BadServer([Answer(status=302, headers={"location": other.url}), OVER]) as server,
    ):
        async with (
            async_client(name, headers=secrets) as client,
            AsyncEventSource(server.url, client=client, options=fast()) as source,
        ):
            assert [event.data async for event in source] == ["a"]
    assert server.requests[0].headers["authorization"] == b"Bearer t"
    assert not {"authorization", "cookie"} & set(other.requests[0].headers)


@pytest.mark.anyio
async def test_a_session_that_raises_for_a_status() -> None:
    """The source itself knows which status is worth another attempt."""
    with BadServer([Answer(b"no", 503), Answer(A), Answer(b"none", 404)]) as server:
        async with (
            async_client("aiohttp", raise_for_status=True) as client,
            AsyncEventSource(server.url, client=client, options=fast(limits=Limits(attempts=3))) as source,
        ):
            assert (await anext(source)).data == "a"
            with pytest.raises(BadStatus, match="none"):
                await anext(source)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
async def test_a_client_with_a_hook_that_raises_for_a_status(name: str) -> None:
    """As without the hook: a redirect is followed, a 503 is followed by another attempt, and a 404 is a `BadStatus`."""

    async def check(response: Any) -> None:
        response.raise_for_status()

    steps = iter([(307, b""), (503, b"no"), (200, A), (404, b"none")] * 2)

    def answer(request: Any) -> Any:
        status, body = next(steps)
        headers = {"content-type": "text/event-stream", "location": "/"}
        return module.Response(status, headers=headers, content=body, request=request)

    module: Any = {"httpx": httpx, "httpx2": httpx2}[name]
    transport = module.MockTransport(answer)
    async with (
        async_client(name, transport=transport, event_hooks={"response": [check]}) as client,
        AsyncEventSource("http://test/", client=client, options=fast()) as source,
    ):
        assert (await anext(source)).data == "a"
        with pytest.raises(BadStatus):
            await anext(source)
    hooks = {"response": [lambda response: response.raise_for_status()]}
    with (
        module.Client(transport=transport, event_hooks=hooks) as client,
        EventSource("http://test/", client=client, options=fast()) as source,
    ):
        assert next(source).data == "a"
        with pytest.raises(BadStatus):
            next(source)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
async def test_clients_parameters(name: str) -> None:
    """What a client adds to each query takes nothing out of it, and stays with its origin."""
    key = {"api_key": "secret", "a": "not this"}
    with (
        BadServer([Answer(A), OVER]) as other,
        BadServer([Answer(B), Answer(status=307, headers={"location": f"{other.url}?c=%20"}), OVER]) as server,
    ):
        options = fast(resume=Resume(query="after"))
        async with (
            async_client(name, params=key) as client,
            AsyncEventSource(f"{server.url}?a=b%2Cc&flag", client=client, options=options) as source,
        ):
            assert [event.data async for event in source] == ["b", "a"]
    assert [request.target for request in server.requests] == [
        "/events?a=b%2Cc&flag&api_key=secret",
        "/events?a=b%2Cc&flag&after=2&api_key=secret",
        "/events?a=b%2Cc&flag&after=%C3%BC&api_key=secret",
    ]
    assert [request.target for request in other.requests] == ["/events?c=%20"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_a_proxy_that_leads_nowhere(name: str) -> None:
    """The request was never sent, so even a POST is tried again."""
    with BadServer([Answer(b"no", 502)] * 3) as proxy:
        options = fast(limits=Limits(attempts=3))
        async with (
            async_client(name, proxy=proxy.url) as client,
            AsyncEventSource("https://a.example/", body="x", client=client, options=options) as source,
        ):
            with pytest.raises(TooManyAttempts) as caught:
                await anext(source)
    assert isinstance(caught.value.__cause__, ConnectFailed)
    assert [request.method for request in proxy.requests] == ["CONNECT"] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["session", "environment"])
async def test_a_sessions_proxy_serves_other_origins_too(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to another origin goes the same way, with no password from a netrc file."""
    with BadServer([Answer(status=302, headers={"location": "http://b.example/x"}), Answer(A), OVER]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        arguments = {"proxy": proxy.url} if by == "session" else {"trust_env": True}
        async with (
            async_client("aiohttp", **arguments) as client,
            AsyncEventSource("http://a.example/", client=client, options=fast()) as source,
        ):
            assert [event.data async for event in source] == ["a"]
    assert [request.target for request in proxy.requests] == [
        "http://a.example/",
        "http://b.example/x",
        "http://a.example/",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_inactivity_over_each_client(name: str) -> None:
    """The inactivity timeout is the source's own, over any client."""
    failures: list[Any] = []
    with BadServer([Answer(A, end="hang"), OVER]) as server:
        async with async_client(name) as client:
            options = fast(timeouts=Timeouts(inactivity=0.1))
            async with AsyncEventSource(server.url, client=client, options=options) as source:
                assert [event.data async for event in source] == ["a"]
                failures.append(source.stats.failures)
    assert failures == [1]
    assert InactivityTimeout(0.1).seconds == 0.1


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_encodings_over_each_client(name: str) -> None:
    """The source itself decompresses, in pieces of bounded size, and refuses a stream in what it can't read."""
    packed = zlib.compressobj(wbits=31)
    many = packed.compress(A) + packed.flush(zlib.Z_SYNC_FLUSH) + packed.compress(bytes(10_000_000)) + packed.flush()
    answers = [
        Answer([gzip.compress(A)[:9], gzip.compress(A)[9:]], headers={"content-encoding": "x-gzip"}),
        Answer(zlib.compress(B)[2:-4], headers={"content-encoding": "deflate"}),
        Answer(b"\x0b\x02", 503, headers={"content-encoding": "br"}),
        Answer(many, headers={"content-encoding": "gzip"}, end="hang"),
    ]
    pieces: list[int] = []
    options = fast(hooks=Hooks(raw=lambda data: pieces.append(len(data))))
    brotli = Answer(b"\x0b\x02", headers={"content-encoding": "br"})
    with BadServer(answers) as server, BadServer([brotli]) as other:
        async with async_client(name) as client:
            async with AsyncEventSource(server.url, client=client, options=options) as source:
                assert [(await anext(source)).data for _ in range(3)] == ["a", "b", "a"]
            async with AsyncEventSource(other.url, client=client, options=options) as source:
                with pytest.raises(WrongContentType, match="content-encoding of 'br'"):
                    await anext(source)
    assert max(pieces) <= 65536


def test_wrong_kind_of_client() -> None:
    """A client for the other face is refused, with the name of the source that takes it."""
    with pytest.raises(TypeError, match="AsyncEventSource"):
        EventSource("http://x/", client=httpx2.AsyncClient())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="EventSource"):
        AsyncEventSource("http://x/", client=httpx2.Client())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        EventSource("http://x/", client=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PACED)
@pytest.mark.parametrize("name", ["httpx", "httpx2", "requests", "urllib3"])
def test_iter_events(name: str, kind: str) -> None:
    """`iter_events` gives the events of a response as they come: it doesn't wait for the end of the body."""
    with BadServer([PACED[kind]]) as server:
        if name == "urllib3":
            with urllib3.PoolManager() as pool:
                events = iter_events(pool.request("GET", server.url, preload_content=False, timeout=5))
                assert [next(events).data, next(events).data] == ["a", "b"]
        elif name == "requests":
            with requests.get(server.url, stream=True, timeout=5) as response:
                events = iter_events(response)
                assert [next(events).data, next(events).data] == ["a", "b"]
        else:
            library = {"httpx": httpx, "httpx2": httpx2}[name]
            with library.stream("GET", server.url) as response:
                events = iter_events(response)
                assert [next(events).data, next(events).data] == ["a", "b"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", PACED)
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_aiter_events(name: str, kind: str) -> None:
    """`aiter_events` gives the events of a response as they come."""
    with BadServer([PACED[kind]]) as server:
        async with async_client(name) as client:
            asked = client.get(server.url) if name == "aiohttp" else client.stream("GET", server.url)
            async with asked as response:
                events = aiter_events(response)
                assert [(await anext(events)).data, (await anext(events)).data] == ["a", "b"]
                await events.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_a_cancelled_wait_is_no_end(name: str) -> None:
    """Where the library closes the response, the next call says so; else it waits on."""
    with BadServer([Answer([A], chunked=True, end="hang")]) as server:
        async with async_client(name) as client:
            asked = client.get(server.url) if name == "aiohttp" else client.stream("GET", server.url)
            async with asked as response:
                events = aiter_events(response)
                assert (await anext(events)).data == "a"
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.05)
                again, words = (TimeoutError, None) if name == "aiohttp" else (RuntimeError, "AsyncEventSource")
                with pytest.raises(again, match=words):
                    await asyncio.wait_for(anext(events), 0.05)
                await events.aclose()


@pytest.mark.parametrize("name", ["httpx", "requests", "requests, read later", "urllib3"])
def test_iter_events_of_a_body_that_was_read(name: str) -> None:
    """A response that its library has read already, as without `stream=True`, gives its events."""
    with BadServer([Answer([A, B], chunked=True)]) as server:
        if name == "urllib3":
            with urllib3.PoolManager() as pool:
                response: Any = pool.request("GET", server.url)
        elif name == "httpx":
            response = httpx.get(server.url)
        else:
            response = requests.get(server.url, timeout=5, stream="later" in name)
            assert response.content == A + B
        assert [event.data for event in iter_events(response)] == ["a", "b"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "aiohttp"])
async def test_aiter_events_of_a_body_that_was_read(name: str) -> None:
    """So has one that was read in an event loop."""
    with BadServer([Answer([A, B], chunked=True)]) as server:
        async with async_client(name) as client:
            response = await client.get(server.url)
            await (response.read() if name == "aiohttp" else response.aread())
            assert [event.data async for event in aiter_events(response)] == ["a", "b"]


def test_iter_events_of_plain_bytes() -> None:
    """Any iterable of bytes is a stream: a file, a list."""
    assert [event.id for event in iter_events([A[:5], A[5:], B])] == ["ü", "2"]


@pytest.mark.parametrize("answer", [Answer(b"\x1b[2J\xc2\x9b\n x", status=404),
                                    Answer(b"", headers={"content-type": "text/\x9bx"})])  # fmt: skip
def test_an_error_steers_no_terminal(face, answer: Answer) -> None:
    """What a server says is shown in it, on one line; the attributes have it as it came."""
    with BadServer([answer]) as server:
        error = face.read(server.url).error
    assert isinstance(error, ResponseError)
    assert str(error).isprintable()
    assert "\\x9b" in str(error)
    assert error.body == answer.body


def test_error_keeps_the_start_of_its_body(face) -> None:
    """An error's body is kept with the error: what an API says is wrong is not lost."""
    body = json.dumps({"error": {"message": "bad key"}}).encode()
    with BadServer([Answer(body, 401, {"content-type": "application/json"})]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, BadStatus)
    assert json.loads(outcome.error.body)["error"]["message"] == "bad key"
    assert "bad key" in str(outcome.error)


@pytest.mark.anyio
async def test_own_event_loop_errors_are_not_hidden() -> None:
    """A hook that raises is the user's bug: it comes out of the loop, and the source still closes."""

    def bug(_: bytes) -> None:
        raise ZeroDivisionError

    with BadServer([Answer(A, end="hang")]) as server:
        tasks = asyncio.all_tasks()
        async with AsyncEventSource(server.url, options=fast(hooks=Hooks(raw=bug))) as source:
            with pytest.raises(ZeroDivisionError):
                await anext(source)
        await only(tasks)


class Raw(SocketServer):
    """It answers each request with the same bytes, piece by piece, and closes."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self._pieces = pieces

    def _serve(self, peer: socket.socket, number: int) -> None:
        request = b""
        while b"\r\n\r\n" not in request and (more := peer.recv(65536)):
            request += more
        for piece in self._pieces:
            peer.sendall(piece)


KIND = b"content-type: text/event-stream\r\n"
EVENTS = "\ufeffid: 1\r\ndata: ü\r\rdata: \ufeffb\n\n".encode()
ODD = {
    "HTTP/1.0, without a length": [b"HTTP/1.0 200 OK\r\n" + KIND + b"\r\n", EVENTS],
    "byte by byte": [b"HTTP/1.1 200 OK\r\n" + KIND + b"\r\n", *every_byte(EVENTS)],
    "line feeds alone": [b"HTTP/1.1 200 OK\ncontent-type: text/event-stream\n\n", EVENTS],
    "early hints": [b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n" + KIND + b"\r\n", EVENTS],
    "chunks with extensions": [
        b"HTTP/1.1 200 OK\r\n" + KIND + b"transfer-encoding: chunked\r\n\r\n",
        b'0009;a="b"\r\n' + EVENTS[:9] + b"\r\n",
        b"%X\r\n" % len(EVENTS[9:]) + EVENTS[9:] + b"\r\n0\r\nx-sum: 1\r\n\r\n",
    ],
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
@pytest.mark.parametrize("kind", ODD)
async def test_odd_answers_over_each_client(kind: str, name: str) -> None:
    """What HTTP allows, and some servers and proxies do."""
    options = fast(resume=Resume(reconnect=False))
    with Raw(*ODD[kind]) as server:
        url = f"http://127.0.0.1:{server.port}/"
        async with async_client(name) as client, AsyncEventSource(url, client=client, options=options) as source:
            assert [event.data async for event in source] == ["ü", "\ufeffb"]
