"""Iterables: their threads and contexts, the bytes before the first item, and what they hear of a stop."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.asgi_request import Client
from tests.fixtures.in_thread import uvicorn_in_thread

from newswire import Event, EventSourceResponse, Hub, StreamOptions
from newswire.delivery import reader
from newswire.delivery.drain import drain_of
from newswire.delivery.threads import THREADS, in_thread
from newswire.wire import Decoder

pytestmark = pytest.mark.anyio
SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "http_version": "1.1", "headers": [], "path": "/"}
name: ContextVar[str] = ContextVar("name", default="nothing")


async def respond(content: Any, client: Client, **more: Any) -> None:
    await EventSourceResponse(content, **more)(SCOPE, client.receive, client.send)


async def told(content: Any, **more: Any) -> list[Event]:
    """The events of a stream from its begin to its end."""
    client = Client()
    async with asyncio.timeout(10):
        await respond(content, client, **more)
    return Decoder().feed(client.text.encode())


# -- threads


async def test_one_thread_and_one_context() -> None:
    """A context variable that an iterable sets is there at its next item and at its end; so is its thread."""
    seen: list[tuple[str, int]] = []
    over = threading.Event()

    def content() -> Iterator[str]:
        try:
            for number in range(5):
                seen.append((name.get(), threading.get_ident()))
                name.set(f"set at {number}")
                yield name.get()
        finally:
            seen.append((name.get(), threading.get_ident()))
            over.set()

    name.set("the request's")
    await told(content())
    assert over.wait(10)
    assert [found for found, _ in seen] == ["the request's", *(f"set at {number}" for number in range(5))]
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1] != threading.get_ident()
    assert name.get() == "the request's"


async def test_blocked_iterables_starve_nothing() -> None:
    """While many iterables block, whose clients have left too, the default executor is free for the application."""
    release, before = threading.Event(), THREADS.count

    def content() -> Iterator[str]:
        yield "one"
        release.wait(60)

    clients = [Client() for _ in range(60)]
    tasks = [asyncio.create_task(respond(content(), client)) for client in clients]
    for client in clients:
        await client.until(lambda client=client: "one" in client.text)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 10) == "free"
    for client in clients:
        client.left.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)  # though each iterable still blocks
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 10) == "free"
    assert THREADS.count >= before + 60
    release.set()
    async with asyncio.timeout(10):
        while THREADS.count > before:
            await asyncio.sleep(0.001)


async def test_too_many_threads_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the answer is a problem with a time to come back, and the iterable is closed."""
    monkeypatch.setattr(THREADS, "limit", THREADS.count)
    closed = []

    class Content:
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("no item may be drawn")

        def close(self) -> None:
            closed.append(True)

    client = Client()
    await respond(Content(), client)
    assert json.loads(client.text)["code"] == "too_many_threads"
    assert int(client.headers[b"retry-after"]) > 0
    assert closed == [True]
    assert [event.data for event in await told(["a list needs no thread"])] == ["a list needs no thread"]


async def test_a_client_that_leaves_ends_the_thread() -> None:
    """The iterable is closed in its own thread, whether it waits for its reader or is never drawn from again."""
    closed = threading.Event()

    def content() -> Iterator[str]:
        try:
            while True:
                yield "x" * 30_000
        finally:
            closed.set()

    client = Client()
    task = asyncio.create_task(respond(content(), client))
    await client.until(lambda: "xxx" in client.text)
    client.open.clear()
    client.left.set()
    client.open.set()
    async with asyncio.timeout(10):
        await task
    assert closed.wait(10)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40_000), max_size=12), st.booleans())
async def test_every_item_once_and_in_order(texts: list[str], fails: bool) -> None:
    """From a thread, a task or a list, the client gets the same: each item, in order, then the end or the error."""

    def from_thread() -> Iterator[str]:
        yield from texts
        if fails:
            raise ValueError("secret")

    async def from_task() -> AsyncIterator[str]:
        for text in texts:
            yield text
        if fails:
            raise ValueError("secret")

    expected = [(text.replace("\r\n", "\n").replace("\r", "\n"), "message") for text in texts]
    if fails:
        expected.append(('{"error": "internal"}', "newswire.error"))
    for make in (from_thread, from_task):
        if fails and not texts:
            with pytest.raises(ValueError, match="secret"):
                await told(make())
        else:
            assert [(event.data, event.event) for event in await told(make())] == expected


# -- before the first item


@pytest.mark.parametrize("in_thread", [False, True])
async def test_heartbeats_before_the_first_item(in_thread: bool) -> None:
    """An iterable that thinks longer than a heartbeat gets its head, and heartbeats go on; then comes the item."""
    go = threading.Event()

    async def slow() -> AsyncIterator[str]:
        while not go.is_set():
            await asyncio.sleep(0.001)
        yield "at last"

    def slow_in_thread() -> Iterator[str]:
        go.wait(10)
        yield "at last"

    client = Client()
    content = slow_in_thread() if in_thread else slow()
    task = asyncio.create_task(respond(content, client, options=StreamOptions(heartbeat=0.02, retry=500)))
    await client.until(lambda: client.text.count(":\n") >= 3)
    assert client.headers[b"content-type"].startswith(b"text/event-stream")
    assert client.text.startswith("retry: 500\n\n:\n")
    go.set()
    await client.until(lambda: "data: at last" in client.text)
    await task


async def test_heartbeats_may_be_padded() -> None:
    """For proxies that hold back what is small."""
    client = Client()
    over = asyncio.Event()

    async def quiet() -> AsyncIterator[str]:
        await over.wait()
        yield "at last"

    options = StreamOptions(heartbeat=0.02, heartbeat_padding=100)
    task = asyncio.create_task(respond(quiet(), client, options=options))
    await client.until(lambda: "\n:" + " " * 100 + "\n" in client.text)
    over.set()
    await task


async def test_what_fails_within_a_heartbeat_has_a_status() -> None:
    """Without any silence, an error is raised before the head; after a silence it is an event."""

    async def fails_at_once() -> AsyncIterator[str]:
        raise ValueError("early")
        yield ""

    client = Client()
    with pytest.raises(ValueError, match="early"):
        await respond(fails_at_once(), client, options=StreamOptions(heartbeat=5))
    assert client.headers == {}

    async def fails_later() -> AsyncIterator[str]:
        await client.until(lambda: ":\n" in client.text)
        raise ValueError("late")
        yield ""

    await respond(fails_later(), client, options=StreamOptions(heartbeat=0.02))
    assert "newswire.error" in client.text
    assert "late" not in client.text


async def test_an_iterable_that_is_cancelled_from_within() -> None:
    """Something that it waits for was cancelled: an error as any other, and no end in order."""

    async def content(*before: str) -> AsyncIterator[str]:
        for item in before:
            yield item
        other = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(other.cancel)
        await other

    assert [event.event for event in await told(content("one"))] == ["message", "newswire.error"]
    with pytest.raises(RuntimeError, match="cancelled"):
        await respond(content(), Client())


async def test_without_heartbeats_the_head_waits() -> None:
    """With heartbeat=None nothing is sent before the first item."""
    go = asyncio.Event()

    async def content() -> AsyncIterator[str]:
        await go.wait()
        yield "one"

    client = Client()
    task = asyncio.create_task(respond(content(), client, options=StreamOptions(heartbeat=None)))
    for _ in range(50):
        await asyncio.sleep(0)
    assert client.headers == {}
    go.set()
    await task
    assert "data: one" in client.text


# -- the opening


async def test_no_opening_for_an_iterable() -> None:
    """With opening=False the time to reconnect stands inside the first event."""
    client = Client()
    await respond(["one", "two"], client, options=StreamOptions(opening=False, retry=700))
    assert client.text == "retry: 700\ndata: one\n\ndata: two\n\n"


@pytest.mark.slow
async def test_no_opening_for_a_subscription() -> None:
    """With opening=False no block of the stream is without data, and the first event has the reconnection time."""
    async with Hub() as hub:
        client = Client()
        options = StreamOptions(opening=False, retry=700, heartbeat=0.02)
        task = asyncio.create_task(respond(hub.subscribe("news"), client, options=options))
        await client.until(lambda: ":\n" in client.text)  # a heartbeat within the first block
        position = await hub.publish("news", "one")
        await client.until(lambda: "data: one" in client.text)
        client.left.set()
        await task
        decoder = Decoder()
        assert [(event.data, event.id) for event in decoder.feed(client.text.encode())] == [("one", str(position))]
        assert decoder.retry == 700
        assert all("data:" in block for block in client.text.split("\n\n") if block.strip(":\n"))


# -- items of others


FOREIGN = [
    {"event": "tick", "id": "1", "data": "x"},
    {"data": "x"},
    {"event": "tick", "retry": 5},
    b"data: x\n\n",
    "event: tick\r\ndata: x\r\n\r\n",
    ": ping\n\n",
]
OWN = ["data", "data: x", {"data": 1, "more": 2}, {"event": "login"}, {}, Event("data: x\n\n"), [1], 7, None, b"x\n\n"]


@pytest.mark.parametrize("item", FOREIGN)
async def test_foreign_items_are_data_and_warn_once(
    item: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What another library would read as an event is sent as data, and one warning says what to yield instead."""
    monkeypatch.setattr(reader, "_warned", False)
    with caplog.at_level(logging.WARNING, "newswire"):
        events = await told([item, item])
    assert len(events) == 2
    assert events[0].event == "message"
    assert [record.getMessage() for record in caplog.records] != []
    assert len(caplog.records) == 1
    assert "Event(" in caplog.records[0].getMessage()


async def test_items_of_ours_warn_nobody(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Ordinary values that share a word with the wire format give no warning."""
    monkeypatch.setattr(reader, "_warned", False)
    with caplog.at_level(logging.WARNING, "newswire"):
        assert len(await told(OWN)) == len(OWN) - 0
    assert caplog.records == []


@pytest.mark.parametrize("item", [float("nan"), {"a": float("inf")}, object(), b"\xff"])
async def test_an_item_that_can_not_be_sent(item: Any) -> None:
    """It ends the stream with an error; what came before was sent."""
    events = await told(["one", item, "never"])
    assert [(event.data, event.event) for event in events] == [
        ("one", "message"),
        ('{"error": "internal"}', "newswire.error"),
    ]


# -- hearing of the stop


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["asyncio", "threading", "call"])
def test_an_iterable_says_its_own_goodbye(kind: str) -> None:
    """An event or a call reaches it when the server stops; what it yields then is the end of the stream."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        event: Any = threading.Event() if kind == "threading" else asyncio.Event()

        async def content() -> AsyncIterator[Event]:
            yield Event("one")
            await event.wait()
            yield Event("that was all", "bye")

        def in_thread() -> Iterator[Event]:
            yield Event("one")
            event.wait(60)
            yield Event("that was all", "bye")

        response = EventSourceResponse(
            in_thread() if kind == "threading" else content(), on_shutdown=event.set if kind == "call" else event
        )
        await response(scope, receive, send)

    with uvicorn_in_thread(app, lifespan="off") as server, server.get() as stream:
        stream.until("one")
        server.stop()
        assert re.search(r"event: bye\ndata: that was all\n\n\r\n0\r\n\r\n$", stream.rest())
        assert "newswire.goodbye" not in stream.text
        assert server.has_stopped()


@pytest.mark.slow
def test_an_iterable_that_hears_and_goes_on() -> None:
    """When its time is over, it gets the goodbye of all streams."""

    async def content(event: asyncio.Event) -> AsyncIterator[str]:
        yield "one"
        await event.wait()
        while True:
            yield "more"
            await asyncio.sleep(0.01)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        drain_of(asyncio.get_running_loop()).grace = 0.5
        event = asyncio.Event()
        await EventSourceResponse(content(event), on_shutdown=event)(scope, receive, send)

    with uvicorn_in_thread(app, lifespan="off") as server, server.get() as stream:
        stream.until("one")
        server.stop()
        assert "more" in stream.rest()
        assert "newswire.goodbye" in stream.text
        assert server.has_stopped()


async def test_an_end_that_takes_too_long_is_cancelled_when_the_server_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A `finally` of minutes does not hold the server; one that ends in time runs whole."""
    monkeypatch.setattr(reader, "_CLOSING", 0.05)
    drain = drain_of(asyncio.get_running_loop())
    drain.grace = 0.05
    ended: list[str] = []

    async def content(seconds: float) -> AsyncIterator[str]:
        try:
            yield "one"
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(seconds)
            ended.append(f"after {seconds}")

    clients = [Client(), Client()]
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for client, seconds in zip(clients, (600, 0), strict=True):
            group.create_task(respond(content(seconds), client))
        while not all("data: one" in client.text for client in clients):
            await asyncio.sleep(0)
        drain.stop()
    assert ended == ["after 0"]
    assert all("newswire.goodbye" in client.text for client in clients)
    assert [record.message for record in caplog.records if "took too long" in record.message]


async def test_subscriptions_have_no_on_shutdown() -> None:
    """They say goodbye by themselves, so the parameter is refused."""
    with pytest.raises(TypeError, match="on_shutdown"):
        EventSourceResponse(Hub().subscribe("news"), on_shutdown=asyncio.Event())


async def test_a_call_in_a_thread_of_its_own() -> None:
    """Its result and its error come back; a caller that is cancelled does not wait for it."""
    assert await in_thread(threading.get_ident) != threading.get_ident()

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await in_thread(fail)
    release, begun = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        release.wait(60)

    task = asyncio.create_task(in_thread(block))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
