"""What frameworks without ASGI draw: the head first, then chunks, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from flask import Flask

from newswire import Hub, StreamOptions
from newswire.delivery.drain import drain_of
from newswire.errors import LogUnavailable
from newswire.integrations.exchange import Exchange
from newswire.integrations.flask import stream as flask_stream
from newswire.integrations.wsgi import WsgiStream, warn_of_one_thread

pytestmark = pytest.mark.anyio


async def test_a_subscription() -> None:
    """The head is known before the first chunk; a slow drawer gets all that came since in one."""
    async with Hub("memory://") as hub:
        exchange = Exchange(hub.subscribe("news"), status=201, headers={"X-More": "1"})
        await exchange.start()
        assert (exchange.status, exchange.reason) == (201, "201 Created")
        assert ("x-more", "1") in exchange.headers
        assert (await anext(exchange)).startswith(b"retry: ")
        for number in range(3):
            await hub.publish("news", f"event {number}")
        text = b""
        while b"event 2" not in text:
            text += await anext(exchange)
        await exchange.aclose()
        assert hub.subscribers("news") == 0


async def test_an_error_before_the_head_is_raised() -> None:
    """So the framework answers as for any other."""

    async def broken() -> AsyncIterator[str]:
        raise KeyError("boom")
        yield ""

    with pytest.raises(KeyError, match="boom"):
        await Exchange(broken()).start()


async def test_a_log_that_is_away_is_a_status() -> None:
    """503, and a problem in the body."""
    hub = Hub("sqlite:////nowhere/at/all.db")
    exchange = Exchange(hub.subscribe("news"))
    await exchange.start()
    assert exchange.status == 503
    assert b"nowhere" in b"".join([chunk async for chunk in exchange])
    with pytest.raises(LogUnavailable):
        await hub.publish("news", "x")
    await hub.close()


async def test_an_iterable_ends() -> None:
    """And is closed, also when its reader leaves in the middle."""
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
        finally:
            closed.append("closed")

    exchange = Exchange(numbers())
    await exchange.start()
    assert b"".join([chunk async for chunk in exchange]).count(b"data: ") == 3
    exchange = Exchange(numbers())
    await exchange.start()
    await anext(exchange)
    await exchange.aclose()
    await exchange.aclose()
    assert closed == ["closed"] * 2


async def test_the_chunks_end_before_the_iterable_is_closed() -> None:
    """A framework completes the response then, however long the `finally` takes."""
    closing, closed = asyncio.Event(), asyncio.Event()

    async def content() -> AsyncIterator[str]:
        try:
            yield "one"
            await asyncio.sleep(600)
        finally:
            await closing.wait()
            closed.set()

    exchange = Exchange(content())
    await exchange.start()
    text = await anext(exchange)
    drain_of(asyncio.get_running_loop()).stop()
    async with asyncio.timeout(10):
        text += b"".join([chunk async for chunk in exchange])
    assert b"event: newswire.goodbye" in text
    assert not closed.is_set()
    closing.set()
    await exchange.aclose()
    assert closed.is_set()


async def test_head() -> None:
    """No chunks."""
    async with Hub("memory://") as hub:
        exchange = Exchange(hub.subscribe("news"), method="HEAD")
        await exchange.start()
        assert [chunk async for chunk in exchange] == []
        await exchange.aclose()


async def test_cancelled_before_the_head() -> None:
    """Nothing goes on."""
    forever = asyncio.Event()

    async def silent() -> AsyncIterator[str]:
        await forever.wait()
        yield "never"

    exchange = Exchange(silent(), options=StreamOptions(heartbeat=None))
    starting = asyncio.create_task(exchange.start())
    await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert [task for task in asyncio.all_tasks() if task.get_name() == "newswire exchange"] == []


def test_wsgi() -> None:
    """A server that calls it in a thread gets the head, and one chunk at a time."""
    hub = Hub("memory://")
    heads: list[object] = []
    body = WsgiStream(hub, hub.subscribe("news"))({"REQUEST_METHOD": "GET"}, lambda *head: heads.append(head))
    chunks = iter(body)
    assert next(chunks).startswith(b"retry: ")
    hub.sync.publish("news", "hello")
    text = b""
    while b"data: hello" not in text:
        text += next(chunks)
    [(status, headers)] = heads  # type: ignore[misc]
    assert status == "200 OK"
    assert ("Content-Type", "text/event-stream; charset=utf-8") in headers
    body.close()  # type: ignore[attr-defined]
    hub.sync.close()


@pytest.mark.parametrize(
    ("environ", "warnings"),
    [
        ({"SERVER_SOFTWARE": "gunicorn/27.0.1", "wsgi.multithread": False}, 1),
        ({"SERVER_SOFTWARE": "gunicorn/27.0.1", "wsgi.multithread": True}, 0),
        ({"SERVER_SOFTWARE": "gevent/26.9 Python/3.11", "wsgi.multithread": False}, 0),
        ({"wsgi.multithread": False}, 0),  # a framework's test client
        ({}, 0),
    ],
)
def test_wsgi_with_one_thread(
    environ: dict[str, object], warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning, once, where an open stream keeps the next request waiting."""
    monkeypatch.setattr("newswire.integrations.wsgi._warned", False)
    for _ in range(2):
        warn_of_one_thread(environ)
    assert caplog.text.count("one thread") == warnings


def test_wsgi_when_the_hub_closes() -> None:
    """As at the stop of a server: the stream is over, and nothing is raised into the server."""
    hub = Hub("memory://")
    body: Any = WsgiStream(hub, hub.subscribe("news"))({"REQUEST_METHOD": "GET"}, lambda *head: None)
    assert next(body).startswith(b"retry: ")
    hub.sync.call(lambda: hub.shutdown(0.0, "cut"))  # else closing waits for whoever draws
    hub.sync.close()
    assert list(body) == []
    body.close()


async def test_compressed() -> None:
    """If the options say so and the request takes it, the head and every chunk is."""
    options = StreamOptions(compress=True)
    async with Hub("memory://") as hub:
        for accepts, encoding in (("gzip", "gzip"), ("br", None), (None, None)):
            exchange = Exchange(hub.subscribe("news"), options=options, accept_encoding=accepts)
            await exchange.start()
            assert dict(exchange.headers).get("content-encoding") == encoding
            assert ("vary", "accept-encoding") in exchange.headers
            chunk = await anext(exchange)
            assert (zlib.decompressobj(31).decompress(chunk) if encoding else chunk).startswith(b"retry: ")
            await exchange.aclose()


def test_compressed_by_wsgi() -> None:
    """An iterable's end is the body's, in Flask too."""
    hub = Hub("memory://")
    content = ["x" * 1000, "y" * 1000]

    def answer() -> Any:
        return flask_stream(hub, content, options=StreamOptions(compress=True, retry=None))  # type: ignore[arg-type]

    app = Flask(__name__)
    app.add_url_rule("/", view_func=answer)
    answered = app.test_client().get("/", headers={"Accept-Encoding": "deflate, gzip;q=0.9"})
    assert answered.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answered.data) == b"".join(f"data: {text}\n\n".encode() for text in content)
    assert len(answered.data) < 200
    hub.sync.close()
