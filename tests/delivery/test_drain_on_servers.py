"""A stop on every server: every stream says when to come back, and the process exits."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.fixtures.asgi_servers import SERVERS, Server, running
from tests.fixtures.http2 import Http2Streams

GOODBYE = r"retry: \d+\nevent: newswire\.goodbye\n"
GRACE = 8.0  # seconds; the servers' own limits are 3 (hypercorn), 10 (granian's Docker habit), and none at all
# The options with which a server leaves a connection behind that it can't write to.
LIMITS = {"uvicorn": ["--timeout-graceful-shutdown", "2"], "granian": ["--workers-kill-timeout", "2"]}
BUSY = [*(name for name in SERVERS if "gzip" not in name), "gunicorn"]


@contextlib.contextmanager
def publishing(server: Server) -> Iterator[None]:
    """Events on the channel `news`, as fast as one publisher can, until the server is gone."""
    stop = threading.Event()

    def publish() -> None:
        with contextlib.suppress(OSError, AssertionError), server.get("/stats") as stream:
            stream.until(r"\{.*\}")
            while not stop.wait(0.002):
                stream.text = ""
                stream.send("/publish", method="POST", body=b"busy")
                stream.until(r'"id":"[^"]+"')

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("name", BUSY)
def test_100_idle_and_100_busy_streams_end_in_time(name: str) -> None:
    """SIGTERM: each client hears when to come back, with jitter, and the process exits within the grace time."""
    with running(name) as server:
        idle = [server.get("/events?channel=quiet") for _ in range(100)]
        busy = [server.get("/events") for _ in range(70)] + [server.get("/endless") for _ in range(30)]
        with publishing(server):
            for stream in idle:
                stream.until("id: ")
            for stream in busy:
                stream.until("busy|tick")
            assert server.stop() < GRACE
        waits = set()
        for stream in idle + busy:
            with stream:
                told = re.findall(rf"({GOODBYE})", stream.rest())
                assert len(told) == 1, stream.text[-300:]
                waits.add(told[0])
                if not name.startswith("daphne"):  # which has dropped what it had not written
                    assert re.search(r"\n\n\r\n0\r\n\r\n$", stream.text), "the response was not completed"
        assert len(waits) > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hypercorn", "granian"])
def test_http_2_streams_end_in_time(name: str) -> None:
    """The same on HTTP/2: every stream of every connection, 200 in all."""
    with running(name) as server, contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(Http2Streams(server.port, [path] * 50))
            for path in ("/events?channel=quiet", "/events?channel=quiet", "/events", "/endless")
        ]
        with publishing(server):
            for connection, mark in zip(connections, ("id: ", "id: ", "busy", "tick"), strict=True):
                connection.read_until(lambda of=connection, mark=mark: all(mark in text for text in of.text.values()))
                assert set(connection.status.values()) == {"200"}
            # granian asks each client whether it has heard of the end (PING), and waits for its answer.
            with ThreadPoolExecutor(len(connections)) as threads:
                read = [threads.submit(connection.read_until, lambda: False) for connection in connections]
                took = server.stop()
                for one in read:
                    one.result()
            assert took < GRACE
        for connection in connections:
            assert all(re.search(GOODBYE, text) for text in connection.text.values())


# From Python 3.12 on hypercorn waits, before its own limit counts, until the last connection has closed.
PATIENT = ["direct", "uvicorn", "uvicorn, handed", "granian", *(["hypercorn"] if sys.version_info < (3, 12) else [])]


@pytest.mark.slow
@pytest.mark.parametrize("name", PATIENT)
def test_clients_that_read_nothing_do_not_hold_it_up(name: str) -> None:
    """A stream whose client takes nothing is cut at its write time-out, though it is in the middle of a send."""
    with running(name, *LIMITS.get(name.partition(",")[0], ())) as server, contextlib.ExitStack() as stack:
        for path in ["/flood?write_timeout=1"] * 5 + ["/events?write_timeout=1"] * 5:
            stack.enter_context(server.get(path)).until("xxx|id: ")
        for _ in range(80):
            server.publish("x" * 60_000)
        assert server.stop() < GRACE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["direct", "uvicorn", "granian", "daphne"])
def test_drain_lets_finite_streams_end_by_themselves(name: str) -> None:
    """With `drain` an iterable may end within its time; what has no end says goodbye."""
    with running(name) as server:
        with server.get("/drain?grace=2", "Connection: close") as asked:
            asked.rest()
        with server.get("/finite") as finite, server.get("/endless") as endless, server.get("/events") as subscribed:
            finite.until("first")
            endless.until("tick")
            subscribed.until("id: ")
            assert server.stop() < GRACE
            if name != "daphne":  # which drops every connection by itself; the clients heard of the stop before
                assert "data: last\n\n" in finite.rest()
                assert "goodbye" not in finite.text
            assert re.search(GOODBYE, endless.rest())
            assert re.search(GOODBYE, subscribed.rest())


# What recycles a worker by itself, without a signal to the server. granian's workers get one from their supervisor.
RECYCLED = {
    "direct": ["--limit-max-requests", "8"],
    "uvicorn": ["--limit-max-requests", "8"],
    "uvicorn h11": ["--limit-max-requests", "8"],
    "gunicorn": ["--max-requests", "8", "--graceful-timeout", "60"],
    "hypercorn": ["--max-requests", "8", "--graceful-timeout", "60"],
    "granian": ["--workers-max-rss", "1", "--rss-sample-interval", "1", "--workers-kill-timeout", "60"],
    "granian, by age": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECYCLED)
def test_a_worker_that_is_recycled_says_goodbye(name: str) -> None:
    """Each stream ends in order, long before the server's own time limit; where a supervisor has the port, the next
    worker serves."""
    kind = name.partition(",")[0]
    with running(name, *RECYCLED[name]) as server, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(server.get(path)) for path in ("/events", "/endless", "/blocking")]
        for stream in streams:
            stream.until("HTTP/1.1 200")
        for _ in range(0 if kind == "granian" else 8):
            with contextlib.suppress(OSError), server.get("/stats", "Connection: close") as other:
                other.rest()
        for stream in streams:
            assert re.search(GOODBYE, stream.rest()), stream.text[-300:]
        if kind in ("gunicorn", "granian", "hypercorn"):
            with server.get("/events") as stream:
                stream.until("id: ")
        else:
            assert server.process.wait(GRACE) == 0


@pytest.mark.slow
def test_a_stream_that_is_only_opening_ends_too() -> None:
    """A signal that comes before an iterable's first item, or between two of a slow one, is heard."""
    for name in ("direct", "uvicorn"):
        with running(name) as server, server.get("/never") as never, server.get("/blocking") as blocking:
            blocking.until("one")
            assert server.stop() < GRACE
            assert re.search(GOODBYE, never.rest())
            assert re.search(GOODBYE, blocking.rest())
