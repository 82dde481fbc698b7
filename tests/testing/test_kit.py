"""The test kit: streams in memory, waiting with a limit, time that jumps, a server and a proxy that misbehave."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import httpx
import httpx2
import pytest

from newswire import EventSourceResponse, Hub
from newswire.client import AsyncEventSource, EventSource, Options
from newswire.hub.options import StreamOptions
from newswire.testing import (
    Answer,
    BadServer,
    ChaosProxy,
    FakeClock,
    asgi_client,
    every_byte,
    next_event,
    until,
    virtual_loop,
)

URL = "http://test/"


def application(hub: Hub, options: StreamOptions | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(hub.subscribe("news", start="earliest"), options=options)(scope, receive, send)

    return app


@pytest.mark.anyio
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_endless_stream_in_memory(library: str) -> None:
    """An endless stream can be read in memory as it comes, and ends for the application when the client leaves."""
    async with Hub("memory://") as hub, asgi_client(application(hub), library=library) as client:
        async with AsyncEventSource(URL, client=client) as source:
            for number in range(3):
                await hub.publish("news", {"n": number})
                assert (await next_event(source)).json() == {"n": number}
            assert hub.subscribers("news") == 1
        assert hub.subscribers("news") == 0


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"^asgi_client needs httpx2: pip install httpx2$"):
        asgi_client(application(Hub("memory://")))


@pytest.mark.anyio
async def test_application_that_raises() -> None:
    """What an application raises before its head is raised to the one who asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    async with asgi_client(app) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/")


@pytest.mark.anyio
async def test_request_reaches_the_application() -> None:
    """Method, path, query, headers and body arrive as over HTTP."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"done"})

    async with asgi_client(app) as client:
        answer = await client.post("/a%20b?c=d", content=b"body", headers={"X-Mine": "1"})
    assert (answer.status_code, answer.content, answer.headers["x"]) == (201, b"done", "y")
    assert (seen["method"], seen["path"], seen["query_string"], seen["body"]) == ("POST", "/a b", b"c=d", b"body")
    assert (b"x-mine", b"1") in seen["headers"]


@pytest.mark.anyio
async def test_next_event_and_until_have_a_limit() -> None:
    """A stream that stays silent fails a test, with what did come in the message."""
    async with Hub("memory://") as hub:
        events = aiter(hub.subscribe("news", start="earliest"))
        with pytest.raises(AssertionError, match="no event within"):
            await next_event(events, timeout=0.01)
        events = aiter(hub.subscribe("news", start="earliest"))
        await hub.publish("news", "a")
        await hub.publish("news", "b", event="done")
        assert [event.data for event in await until(events, "done")] == ["a", "b"]
        await hub.publish("news", "c")
        with pytest.raises(AssertionError, match="data='c'"):
            await until(events, lambda event: event.data == "never", timeout=0.05)


def test_virtual_time() -> None:
    """In a virtual loop an hour of timers takes no time."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return loop.time()

    begin = time.monotonic()
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        assert runner.run(main()) >= 3600
    assert time.monotonic() - begin < 60  # an hour did not pass


def test_heartbeats_in_virtual_time() -> None:
    """A minute of silence in a virtual loop shows the heartbeats of a stream, and takes no time."""

    async def quiet() -> Any:
        yield "first"  # the head of the response waits for it
        await asyncio.sleep(60)
        yield "done"

    async def main() -> bytes:
        app = EventSourceResponse(quiet(), options=StreamOptions(retry=None, heartbeat=15))
        async with asgi_client(app) as client:
            return bytes((await client.get("/")).content)

    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        body = runner.run(main())
    assert body.endswith(b"data: done\n\n")
    assert body.count(b":\n") >= 3


def test_fake_clock() -> None:
    """A fake clock tells the waits of a back-off, the same for the same seed."""
    waits = []
    for _ in range(2):
        clock = FakeClock(seed=3)
        with (
            BadServer([Answer(status=503), Answer(status=503), Answer(status=204)]) as server,
            EventSource(server.url, options=Options(clock=clock)) as source,
        ):
            assert list(source) == []
        waits.append(clock.waits)
    assert waits[0] == waits[1]
    assert len(waits[0]) == 2


def test_bad_server_writes_byte_by_byte() -> None:
    """The bad server cuts where a test says, also inside of characters."""
    body = "data: 𝄞\r\n\r\n".encode()
    assert b"".join(every_byte(body)) == body
    with BadServer([Answer(every_byte(body), pace=0.001)]) as server:
        answer = httpx2.get(server.url)
    assert answer.content == body
    assert server.requests[0].target == "/events"


def test_bad_server_resets() -> None:
    """A reset is an error for the client, not an end."""
    broken = (httpx.ReadError, httpx.RemoteProtocolError)
    with BadServer([Answer(b"x", end="reset", chunked=True)]) as server, pytest.raises(broken):
        httpx.get(server.url)


@pytest.mark.slow
def test_chaos_is_the_same_for_the_same_seed() -> None:
    """The n-th connection suffers the same fault in each run; afterwards the proxy only forwards."""
    suffered = []
    for _ in range(2):
        with BadServer([Answer(b"data: a\n\n")]) as server:
            kinds = ("refuse", "deny", "head")
            with ChaosProxy("127.0.0.1", server.port, faults=9, seed=1, kinds=kinds) as proxy:
                for _ in range(9):
                    try:
                        answer = httpx2.get(f"{proxy.url}/events")
                        assert answer.status_code in (429, 502, 503)
                    except httpx2.TransportError:
                        pass
                assert httpx2.get(f"{proxy.url}/events").content == b"data: a\n\n"
        suffered.append(proxy.suffered)
    assert suffered[0] == suffered[1]
    assert sum(suffered[0].values()) == 9
