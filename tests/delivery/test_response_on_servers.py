"""`EventSourceResponse` on real servers, by the direct path and by ASGI: one behaviour."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from tests.fixtures.asgi_servers import SERVERS, Server, running
from tests.fixtures.http2 import Http2Streams

ON_UVICORN = [name for name in SERVERS if name.startswith(("direct", "uvicorn")) and "gzip" not in name]


@pytest.fixture(scope="module", params=ON_UVICORN)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param) as server:
        yield server


@pytest.mark.slow
def test_a_stream_from_its_head_to_a_live_event(server: Server) -> None:
    """The head, at once a retry and an id, then what is published."""
    with server.get("/events") as stream:
        head = stream.until(r"retry: 3000\nid: \w+-\d+\n\n").lower()
        assert "200 ok" in head
        assert "content-type: text/event-stream; charset=utf-8" in head
        assert "cache-control: no-cache, no-transform" in head
        assert "x-accel-buffering: no" in head
        assert "incremental: ?1" in head
        id = server.publish("hello\nworld")
        stream.until(f"id: {id}\ndata: hello\ndata: world\n\n")


@pytest.mark.slow
def test_resume(server: Server) -> None:
    """`Last-Event-ID`, or its query parameter, gives everything after it, once."""
    ids = [server.publish(f"event {i}") for i in range(3)]
    for stream in (
        server.get("/events", f"Last-Event-ID: {ids[0]}"),
        server.get(f"/events?last_event_id={ids[0]}"),
    ):
        with stream:
            text = stream.until("event 2")
            assert text.count("event 1") == 1
            assert "event 0" not in text


def test_hostile_cursors(server: Server) -> None:
    """Whatever the bytes of a cursor, the answer is 200 and a gap."""
    for header in ("garbage", "\u00ff\u00fe", "a" * 8000, "-1", "0"):
        with server.get("/events", f"Last-Event-ID: {header}") as stream:
            assert "newswire.gap" in stream.until("newswire.gap")
    with server.get("/events?last_event_id=%00%F0%9F%92%A5") as stream:
        stream.until("newswire.gap")


def test_head_has_no_body_and_the_connection_lives(server: Server) -> None:
    """HEAD gets headers only."""
    with server.get("/events", method="HEAD") as stream:
        stream.until("\r\n\r\n")
        stream.connection.sendall(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert "subscribers" in stream.rest()


def test_http_1_0(server: Server) -> None:
    """A client of HTTP/1.0 is served too."""
    with server.get("/events", version="1.0") as stream:
        stream.until("retry: 3000")
        server.publish("for 1.0")
        stream.until("data: for 1.0\n\n")


def test_disconnect_frees_the_slot(server: Server) -> None:
    """A client that leaves is noticed, though nothing is sent."""
    streams = [server.get("/events") for _ in range(20)]
    for stream in streams:
        stream.until("id: ")
    assert int(str(server.stats()["subscribers"])) >= 20
    for stream in streams:
        stream.connection.close()
    deadline = time.monotonic() + 5
    while int(str(server.stats()["subscribers"])) > 0:
        assert time.monotonic() < deadline


@pytest.mark.slow
def test_heartbeats_are_comments_without_a_blank_line(server: Server) -> None:
    """A silent stream gets `:` and one LF."""
    with server.get("/events?heartbeat=0.2") as stream:
        text = stream.until(r":\n\r?\n?[^\n]*[\r\n]*:\n")
        assert ":\n\n" not in text.replace("\r\n", "")


@pytest.mark.slow
def test_a_reader_that_stalls_is_cut(server: Server) -> None:
    """Who takes nothing for the write time-out, though there is something, is cut; others get everything."""
    with server.get("/events?write_timeout=1") as stuck, server.get("/events") as healthy:
        stuck.until("id: ")
        healthy.until("id: ")
        for i in range(60):
            server.publish("x" * 100_000 + f" {i}.")
            healthy.text = ""
            healthy.until(f" {i}\\.")
        deadline = time.monotonic() + 10
        while int(str(server.stats()["subscribers"])) > 1:
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_iterables(server: Server) -> None:
    """str, bytes and JSON items; the iterable is closed at its end."""
    with server.get("/tokens") as stream:
        stream.until(r"data: three\n\n")
        assert "data: one\n\n" in stream.text
        assert 'data: {"n":2}\n\n' in stream.text


def test_an_endless_iterable_is_closed_when_the_client_leaves(server: Server) -> None:
    """Its `finally` runs."""
    with server.get("/endless") as stream:
        stream.until("tick")
    deadline = time.monotonic() + 5
    while "endless" not in server.stats()["closed"]:  # type: ignore[operator]
        assert time.monotonic() < deadline


@pytest.mark.slow
def test_errors_before_and_after_the_head(server: Server) -> None:
    """Before the first item an error is a 500; after it, an event that tells no secrets."""
    with server.get("/broken", "Connection: close") as stream:
        assert "500 Internal Server Error" in stream.rest()
    with server.get("/broken?after=1", "Connection: close") as stream:
        text = stream.rest()
        assert "200 OK" in text
        assert "event: newswire.error" in text
        assert "secret" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hypercorn", "granian"])
def test_stalled_http2_readers_cost_bounded_memory(name: str, record_property: Callable[[str, object], None]) -> None:
    """Four streams that take nothing, of 25 MB each: the server keeps a bounded part. A goodbye follows that part."""
    with running(name) as server, Http2Streams(server.port, ["/events"] * 4, stalled=True) as client:
        client.read_until(lambda: all("id: " in text for text in client.text.values()))
        before = server.stats("/memory")["resident"]
        for _ in range(420):
            server.publish("x" * 60_000)
        grown = (int(str(server.stats("/memory")["resident"])) - int(str(before))) / 1024
        record_property("shown", f"{grown:.0f} MB")
        # Unbounded, it is 100 MB more than that. The log and the hub's window, both in memory, keep 25 and 16 MB.
        assert grown < 100
        if name == "hypercorn":  # its send() never blocks, so each stream has reached its budget
            client.open_windows()
            client.read_until(lambda: len(client.ended) == 4)
            for text in client.text.values():
                assert "event: newswire.goodbye" in text
                assert len(text) < 5 * 2**20
