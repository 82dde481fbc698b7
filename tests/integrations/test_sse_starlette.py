"""sse-starlette's documented behaviour with only the import replaced; the package itself is the oracle of its bytes."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import threading
import unittest.mock
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import sse_starlette as oracle
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.fixtures.asgi_servers import running

from newswire import Event
from newswire.integrations.sse_starlette import (
    AppStatus,
    EventSourceResponse,
    JSONServerSentEvent,
    SendTimeoutError,
    ServerSentEvent,
    ensure_bytes,
)

pytestmark = pytest.mark.anyio
SCOPE = {"type": "http", "method": "GET", "headers": []}
PATIENCE = 10.0


@pytest.fixture(autouse=True)
def status() -> Iterator[None]:
    """Each test begins in a process that is not stopping."""
    yield
    AppStatus.should_exit = False
    AppStatus.enable_automatic_graceful_drain_mode()
    AppStatus.original_handler = None


class Connection:
    """The server's side of one request.

    Attributes:
        sent: the messages that it has taken.
    """

    def __init__(self, *, blocked: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.blocked = blocked
        self._more = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self._more.set()
        if self.blocked and message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    async def until(self, pattern: bytes) -> None:
        """Wait until the body has this."""
        async with asyncio.timeout(PATIENCE):
            while not re.search(pattern, self.body):
                self._more.clear()
                await self._more.wait()


async def stream(response: Any, connection: Connection | None = None, **scope: Any) -> Connection:
    """Let a response run to its end."""
    connection = connection or Connection()
    async with asyncio.timeout(PATIENCE):
        await response(SCOPE | scope, connection.receive, connection.send)
    return connection


# -- what is written

texts = st.text(st.sampled_from("ab\r\n \x85\u2028é:"), max_size=12)
fields = st.fixed_dictionaries(
    {},
    optional={
        "data": st.one_of(texts, st.integers(), st.none(), st.lists(st.integers(), max_size=2)),
        "event": texts,
        "id": texts,
        "retry": st.integers(0, 10**6),
        "comment": texts,
    },
)
separators = st.sampled_from(["\n", "\r", "\r\n"])


@given(fields, st.one_of(st.none(), separators))
def test_an_event_has_the_same_bytes_as_theirs(given: dict[str, Any], sep: str | None) -> None:
    """Any fields, and any line ends in them."""
    ours, theirs = ServerSentEvent(**given, sep=sep), oracle.ServerSentEvent(**given, sep=sep)
    assert ours.encode() == theirs.encode()


def test_fields_that_are_enums() -> None:
    """An Enum that is a str is its value, as there."""

    class Kind(str, Enum):  # noqa: UP042  # the older form, whose `str()` is not its value
        NEWS = "news"

    given: dict[str, Any] = {"data": "x", "event": Kind.NEWS, "id": Kind.NEWS}
    assert ServerSentEvent(**given).encode() == oracle.ServerSentEvent(**given).encode()
    assert b"event: news" in ensure_bytes(given, "\n")


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), texts), st.lists, max_leaves=4), fields)
def test_a_json_event_has_the_same_bytes_as_theirs(data: Any, given: dict[str, Any]) -> None:
    """Any JSON."""
    given = {name: value for name, value in given.items() if name != "data"}
    assert JSONServerSentEvent(data, **given).encode() == oracle.JSONServerSentEvent(data, **given).encode()


@given(st.one_of(texts, st.integers(), st.binary(max_size=8), fields, st.floats(allow_nan=False)), separators)
def test_an_item_has_the_same_bytes_as_theirs(item: Any, sep: str) -> None:
    """Whatever a generator yields, with each separator."""
    from sse_starlette.event import ensure_bytes as theirs

    assert ensure_bytes(item, sep) == theirs(item, sep)


def test_bytes_go_as_they_are() -> None:
    """Also a view of bytes."""
    assert ensure_bytes(memoryview(b": hi\n\n"), "\r\n") == b": hi\n\n"


def test_a_newswire_event_keeps_its_id() -> None:
    """So events of a hub can be sent on."""
    assert ensure_bytes(Event("x", "tick", id="e-1"), "\r\n") == b"id: e-1\nevent: tick\ndata: x\n\n"


def test_retry_is_an_int() -> None:
    """The error is theirs."""
    with pytest.raises(TypeError, match="retry argument must be int"):
        ServerSentEvent(0, retry="ten").encode()  # type: ignore[arg-type]


def test_nan_is_no_json() -> None:
    """Browsers could not parse it."""
    with pytest.raises(ValueError, match="JSON"):
        JSONServerSentEvent(float("nan"))


# -- the arguments


def test_headers() -> None:
    """Cache-Control may be changed; what keeps a stream open may not."""
    given = {"cache-control": "public", "x-accel-buffering": "yes", "connection": "close", "x-more": "1"}
    ours = dict(EventSourceResponse([], headers=given).raw_headers)
    assert ours == dict(oracle.EventSourceResponse([], headers=given).raw_headers)
    assert dict(EventSourceResponse([]).raw_headers) == dict(oracle.EventSourceResponse([]).raw_headers)
    assert dict(EventSourceResponse([], media_type="text/x").raw_headers)[b"content-type"] == b"text/x; charset=utf-8"


def test_positions() -> None:
    """The arguments come in their order."""
    order = list(inspect.signature(EventSourceResponse.__init__).parameters)
    assert order == list(inspect.signature(oracle.EventSourceResponse.__init__).parameters)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sep": "\n\n"}, r"sep must be one of"),
        ({"ping": -1}, r"ping interval must be >= 0"),
        ({"shutdown_grace_period": -1}, "shutdown_grace_period must be >= 0"),
        ({"cleanup_timeout": -1}, "cleanup_timeout must be >= 0"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], words: str) -> None:
    """Refused where the response is made."""
    with pytest.raises(ValueError, match=words):
        EventSourceResponse([], **wrong)
    with pytest.raises(ValueError, match=words):
        oracle.EventSourceResponse([], **wrong)


def test_the_ping_interval_can_be_set() -> None:
    """It is an attribute, which is checked."""
    response = EventSourceResponse([])
    assert response.ping_interval == response.DEFAULT_PING_INTERVAL == 15
    response.ping_interval = 25
    assert response.ping_interval == 25
    with pytest.raises(TypeError, match="ping interval must be int"):
        response.ping_interval = "ten"  # type: ignore[assignment]


def test_compression_is_refused() -> None:
    """As there."""
    with pytest.raises(NotImplementedError):
        EventSourceResponse([]).enable_compression()


# -- a stream


@pytest.mark.parametrize("sep", ["\n", "\r", "\r\n", None])
async def test_a_stream_has_the_same_bytes_as_theirs(sep: str | None) -> None:
    """Async and sync iterables, all kinds of items."""
    items = [1, "two\nlines", {"data": "x", "event": "e", "id": "7"}, ServerSentEvent("own", sep="\n"), b"raw\n\n"]
    theirs = [oracle.ServerSentEvent("own", sep="\n") if isinstance(each, ServerSentEvent) else each for each in items]

    async def drawn(content: list[Any]) -> AsyncIterator[Any]:
        for item in content:
            yield item

    expected = (await stream(oracle.EventSourceResponse(drawn(theirs), sep=sep))).body
    assert (await stream(EventSourceResponse(drawn(items), sep=sep))).body == expected
    assert (await stream(EventSourceResponse(iter(items), sep=sep))).body == expected


def test_in_starlette_and_fastapi() -> None:
    """A route returns it."""

    async def route(request: Request) -> Response:
        return EventSourceResponse(range(1, 4), status_code=201, headers={"x-more": "1"})

    with TestClient(Starlette(routes=[Route("/", route)])) as client:
        found = client.get("/")
        assert (found.status_code, found.headers["x-more"]) == (201, "1")
        assert found.text == "data: 1\r\n\r\ndata: 2\r\n\r\ndata: 3\r\n\r\n"
        head = client.head("/")
        assert (head.status_code, head.headers["content-type"], head.text) == (201, found.headers["content-type"], "")

    app, ended = FastAPI(), []

    def session() -> Iterator[str]:
        yield "session"
        ended.append(True)

    @app.get("/")
    async def events(found: str = Depends(session)) -> EventSourceResponse:
        return EventSourceResponse([found])

    with TestClient(app) as client:
        assert client.get("/").text == "data: session\r\n\r\n"
        assert ended


async def test_data_from_a_memory_channel() -> None:
    """What `data_sender_callable` sends arrives, and its end ends the stream."""
    sender, receiver = anyio.create_memory_object_stream[Any](10)

    async def numbers(to: Any, first: int, last: int) -> None:
        async with to:
            for number in range(first, last + 1):
                await to.send({"data": number, "event": "message"})

    sending = partial(numbers, sender, 1, 3)
    async with receiver:
        connection = await stream(EventSourceResponse(receiver, data_sender_callable=sending))
    assert connection.body.count(b"event: message\r\ndata: ") == 3


async def test_head_touches_nothing() -> None:
    """No item is drawn and no sender runs; the background task does."""
    ran: list[str] = []

    async def never() -> AsyncIterator[str]:
        ran.append("drawn")
        yield "x"

    async def sender() -> None:
        ran.append("sent")

    background = BackgroundTask(lambda: ran.append("background"))
    response = EventSourceResponse(never(), data_sender_callable=sender, background=background)
    connection = await stream(response, method="HEAD")
    assert (connection.body, ran) == (b"", ["background"])


async def test_the_background_runs_after_a_client_left() -> None:
    """And the handler of the client's leaving before it."""
    ran: list[str] = []

    async def left(message: Any) -> None:
        ran.append(message["type"])

    async def endless() -> AsyncIterator[str]:
        try:
            yield "one"
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            ran.append("cancelled")
            raise

    background = BackgroundTask(lambda: ran.append("background"))
    connection = Connection()
    response = EventSourceResponse(endless(), client_close_handler_callable=left, background=background)
    running = asyncio.create_task(stream(response, connection))
    await connection.until(b"one")
    connection.gone.set()
    await running
    assert ran == ["http.disconnect", "cancelled", "background"]
    assert not response.active


async def test_an_error_of_the_iterable_is_raised_as_it_is() -> None:
    """No group of exceptions around it, which middleware would not know."""

    async def broken() -> AsyncIterator[str]:
        yield "one"
        raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        await stream(EventSourceResponse(broken()))


async def test_a_websocket_is_answered_as_one() -> None:
    """The messages are those of a refused handshake."""
    connection = await stream(EventSourceResponse([b"denied"]), type="websocket")
    assert {message["type"] for message in connection.sent} == {
        "websocket.http.response.start",
        "websocket.http.response.body",
    }


# -- time-outs and pings


async def test_a_send_timeout_is_raised_and_the_iterable_closed() -> None:
    """The client takes nothing."""
    closed: list[bool] = []

    async def content() -> AsyncIterator[str]:
        try:
            yield "one"
        finally:
            closed.append(True)

    with pytest.raises(SendTimeoutError):
        await stream(EventSourceResponse(content(), send_timeout=0.05), Connection(blocked=True))
    assert closed


async def test_a_ping_has_the_send_timeout_too() -> None:
    """A stream that says nothing finds a stuck client by its pings."""

    async def silent() -> AsyncIterator[str]:
        await anyio.sleep_forever()
        yield "never"

    with pytest.raises(SendTimeoutError):
        await stream(EventSourceResponse(silent(), ping=0.01, send_timeout=0.05), Connection(blocked=True))


async def test_a_cleanup_that_hangs_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """After `cleanup_timeout`, with a warning; the stream's own error is raised."""

    async def stuck() -> AsyncIterator[str]:
        try:
            yield "one"
        finally:
            await anyio.sleep_forever()

    response = EventSourceResponse(stuck(), send_timeout=0.02, cleanup_timeout=0.02)
    with pytest.raises(SendTimeoutError):
        await stream(response, Connection(blocked=True))
    (warning,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert (warning.name, "cancelled" in warning.getMessage()) == ("sse_starlette.sse", True)  # its logger, too


async def test_pings() -> None:
    """One an interval: a comment that no blank line follows, so that no reader takes it for an event."""

    async def silent() -> AsyncIterator[str]:
        yield "one"
        await anyio.sleep_forever()

    connection = Connection()
    running = asyncio.create_task(stream(EventSourceResponse(silent(), ping=0.01), connection))
    await connection.until(rb"\A: ping|data: one\r\n\r\n(: ping - \d{4}-\d\d-\d\d [^\r\n]+\r\n){2}")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_own_pings_and_none() -> None:
    """What the factory returns is sent as it is; an interval of 0 means none."""

    async def silent() -> AsyncIterator[str]:
        await anyio.sleep(0.1)
        yield "end"

    factory = lambda: ServerSentEvent(event="ping", data="still here")  # noqa: E731
    response = EventSourceResponse(silent(), ping=0.03, ping_message_factory=factory, sep="\n")
    assert (await stream(response)).body.startswith(b"event: ping\r\ndata: still here\r\n\r\n")
    assert (await stream(EventSourceResponse(silent(), ping=0))).body == b"data: end\r\n\r\n"


async def test_send_is_never_called_twice_at_once() -> None:
    """Pings wait for events, and events for pings."""
    lock = anyio.Lock()

    class Exclusive(Connection):
        async def send(self, message: Any) -> None:
            lock.acquire_nowait()
            await anyio.sleep(0.02)
            lock.release()
            await super().send(message)

    async def content() -> AsyncIterator[int]:
        for number in range(10):
            await anyio.sleep(0.005)
            yield number

    connection = await stream(EventSourceResponse(content(), ping=0.005), Exclusive())
    assert b"data: 9" in connection.body
    assert b": ping" in connection.body


# -- the stop


async def endless(seen: list[str], stop: anyio.Event | None = None) -> AsyncIterator[dict[str, str]]:
    """Ticks until it is cancelled, or until `stop`."""
    try:
        while stop is None or not stop.is_set():
            yield {"data": "tick"}
            with anyio.move_on_after(0.01):
                await (anyio.sleep_forever() if stop is None else stop.wait())
        yield {"event": "shutdown", "data": "bye"}
        seen.append("farewell")
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


@pytest.mark.parametrize("grace", [0, 0.05])
async def test_should_exit_ends_all_streams(grace: float) -> None:
    """An iterable that does not look at the stop is cancelled after its grace time."""
    seen: list[str] = []
    stopped = anyio.Event()
    connection = Connection()
    response = EventSourceResponse(endless(seen), shutdown_event=stopped, shutdown_grace_period=grace)
    running = asyncio.create_task(stream(response, connection))
    await connection.until(b"tick")
    AppStatus.should_exit = True
    await running
    assert seen == ["cancelled"]
    assert stopped.is_set()


async def test_an_iterable_says_farewell_in_its_grace_time() -> None:
    """It is not cancelled, and its last event arrives."""
    seen: list[str] = []
    stopped = anyio.Event()
    connection = Connection()
    response = EventSourceResponse(endless(seen, stopped), shutdown_event=stopped, shutdown_grace_period=5)
    running = asyncio.create_task(stream(response, connection))
    await connection.until(b"tick")
    AppStatus.handle_exit()
    await running
    assert seen == ["farewell"]
    assert b"event: shutdown\r\ndata: bye\r\n\r\n" in connection.body


async def test_without_the_automatic_drain_only_should_exit_counts() -> None:
    """`handle_exit` still calls the handler that was there before."""
    called: list[int] = []
    AppStatus.disable_automatic_graceful_drain()
    AppStatus.original_handler = lambda number, frame: called.append(number)
    connection = Connection()
    seen: list[str] = []
    running = asyncio.create_task(stream(EventSourceResponse(endless(seen)), connection))
    await connection.until(b"tick")
    AppStatus.handle_exit(15, None)
    connection.sent.clear()
    await connection.until(b"tick")
    assert called == [15]
    assert not running.done()
    AppStatus.should_exit = True
    await running
    assert seen == ["cancelled"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvicorn", "uvicorn h11", "direct", "hypercorn", "granian"])
def test_a_signal_ends_the_streams_of_every_server(name: str) -> None:
    """Each says its farewell, and the process exits in time."""
    with running(name) as server:
        streams = [server.get("/sse-starlette") for _ in range(5)]
        for each in streams:
            each.until("data: 1")
        assert server.stop() < 6
        for each in streams:
            with each:
                assert "event: farewell" in each.rest()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvicorn", "granian"])
def test_a_client_that_leaves_frees_its_iterable(name: str) -> None:
    """At once, though it never reads."""
    with running(name) as server:
        with server.get("/sse-starlette") as each:
            each.until("data: 1")
        server.until_closed("sse-starlette")


# -- as its documentation shows it


def test_the_modules_of_the_package() -> None:
    """`sse_starlette.sse` and `sse_starlette.event` have the same names here."""
    from newswire.integrations.sse_starlette import event, sse

    assert sse.EventSourceResponse is EventSourceResponse
    assert sse.AppStatus is AppStatus
    assert sse.SendTimeoutError is SendTimeoutError
    assert event.ServerSentEvent is sse.ServerSentEvent is ServerSentEvent
    assert event.JSONServerSentEvent is JSONServerSentEvent
    assert event.ensure_bytes is sse.ensure_bytes is ensure_bytes


def test_each_thread_has_an_event_loop() -> None:
    """A response is made and streamed in any of them, and `should_exit` ends the streams of all."""
    started, bodies = threading.Barrier(4, timeout=PATIENCE), []

    async def content() -> AsyncIterator[dict[str, str]]:
        yield {"data": "begin"}
        started.wait()
        await anyio.sleep_forever()

    def run() -> None:
        response = EventSourceResponse(content())  # before there is an event loop
        bodies.append(asyncio.run(stream(response)).body)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    AppStatus.should_exit = True
    for thread in threads:
        thread.join(PATIENCE)
    assert [body.count(b"data: begin\r\n\r\n") for body in bodies] == [1, 1, 1]


async def test_a_generator_that_asks_for_the_client() -> None:
    """`request.is_disconnected()` inside a generator, as its examples do."""
    connection = Connection()

    async def content(request: Request) -> AsyncIterator[dict[str, str]]:
        while not await request.is_disconnected():
            yield {"data": "tick", "id": "1", "event": "update"}
            await anyio.sleep(0.01)

    request = Request({**SCOPE, "path": "/"}, connection.receive)
    running = asyncio.create_task(stream(EventSourceResponse(content(request)), connection))
    await connection.until(b"id: 1\r\nevent: update\r\ndata: tick\r\n\r\n")
    connection.gone.set()
    await running


async def test_wait_for_the_process_outside_a_stream() -> None:
    """What waits for the stop beside streams hears of it too."""
    waiting = asyncio.create_task(EventSourceResponse._listen_for_exit_signal())
    await asyncio.sleep(0)
    assert not waiting.done()
    AppStatus.should_exit = True
    async with asyncio.timeout(PATIENCE):
        await waiting


class OwnParts(EventSourceResponse):
    """A subclass that runs the response's parts in a task group of its own, as langgraph-api's does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:

            async def until_end(part: Any) -> None:
                await part()
                group.cancel_scope.cancel()

            group.start_soon(until_end, partial(self.own_stream, send))
            group.start_soon(until_end, self._listen_for_exit_signal)
            await until_end(partial(self._listen_for_disconnect, receive))

    async def own_stream(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for item in self.body_iterator:
            await send({"type": "http.response.body", "body": ensure_bytes(item, self.sep), "more_body": True})
        async with self._send_lock:
            self.active = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("end", ["content", "client", "process"])
async def test_a_subclass_that_runs_the_parts_itself(end: str) -> None:
    """It ends with its content, its client and the process."""
    seen: list[str] = []
    connection = Connection()
    stop = anyio.Event() if end == "content" else None
    running = asyncio.create_task(stream(OwnParts(endless(seen, stop)), connection))
    await connection.until(b"tick")
    if stop is not None:
        stop.set()
    elif end == "client":
        connection.gone.set()
    else:
        AppStatus.should_exit = True
    await running
    assert seen == ["farewell" if end == "content" else "cancelled"]


@pytest.mark.parametrize("value", [0, 0.5, 7])
def test_an_interval_of_pings_may_be_a_float(value: float) -> None:
    """And 0 switches them off."""
    assert EventSourceResponse([], ping=value).ping_interval == value


def test_the_flag_can_be_patched_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As test suites do, by either library."""
    with monkeypatch.context() as patch:
        patch.setattr(AppStatus, "should_exit", True)
        assert AppStatus.should_exit
    assert not AppStatus.should_exit
    with unittest.mock.patch.object(AppStatus, "should_exit", True):
        assert AppStatus.should_exit
    assert not AppStatus.should_exit


async def test_a_view_of_bytes_goes_as_it_is() -> None:
    """`memoryview` items too."""
    assert (await stream(EventSourceResponse([memoryview(b"data: x\n\n")]))).body == b"data: x\n\n"


def test_the_defaults_of_a_class_can_be_changed() -> None:
    """`DEFAULT_PING_INTERVAL` and `DEFAULT_SEPARATOR`, in a subclass."""

    class Own(EventSourceResponse):
        DEFAULT_PING_INTERVAL = 3
        DEFAULT_SEPARATOR = "\n"

    assert (Own([]).ping_interval, Own([]).sep) == (3, "\n")


# -- in place of the package

REPLACED = """
import sys
from newswire.integrations import sse_starlette
sse_starlette.replace()
import {module}
from sse_starlette.sse import EventSourceResponse, AppStatus
from sse_starlette.event import ServerSentEvent
import sse_starlette as package
assert EventSourceResponse is package.EventSourceResponse is sse_starlette.EventSourceResponse
assert {module}.__name__
sse_starlette.replace()
print("ours")
"""


def test_replace_takes_the_packages_place() -> None:
    """For libraries that import it themselves; twice is as good as once."""
    done = subprocess.run([sys.executable, "-c", REPLACED.format(module="json")], capture_output=True, text=True)
    assert done.stdout == "ours\n", done.stderr


def test_replace_comes_too_late() -> None:
    """Where the real one is imported already, and perhaps in use."""
    code = "import sse_starlette\nfrom newswire.integrations.sse_starlette import replace\nreplace()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "call replace() before what imports it" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "seen"),
    [
        ("mcp", "[0.0, 1.0, 2.0, 'done']"),
        ("a2a", "['task', 'status_update', '0', '1', '2', 'status_update']"),
    ],
)
def test_libraries_stream_on_it(library: str, seen: str) -> None:
    """Their own servers and official clients."""
    command = [sys.executable, str(Path(__file__).parent / "users_of_sse_starlette.py"), library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.replace("'newswire.integrations.sse_starlette.sse', ", "") == f"{seen}\n", done.stderr
    assert "newswire.integrations" in done.stdout
