"""`Last-Event-ID` over real HTTP, where it meets other headers, retention and another log."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.fixtures.serve import Reader, Serve


def raw(server: Serve, *headers: bytes) -> bytes:
    """A stream asked for in bytes that no client library would send; what comes first."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        lines = [b"GET /channels/raw?from=earliest HTTP/1.1", b"Host: localhost", *headers, b"", b""]
        connection.sendall(b"\r\n".join(lines))
        text = b""
        while b"\ndata: " not in text:
            data = connection.recv(65536)
            assert data, text
            text += data
        return text


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_headers(server: Serve, order: tuple[int, int]) -> None:
    """Two cursors, which no browser sends, are no reason to refuse a stream; the first counts."""
    ids = [server.publish("raw", data).encode() for data in ("1", "2", "3")]
    first, second = (ids[index] for index in order)
    text = raw(server, b"Last-Event-ID: " + first, b"Last-Event-ID: " + second)
    assert text.startswith(b"HTTP/1.1 200 ")
    assert b"data: %d\n" % (order[0] + 2) in text


@pytest.mark.parametrize(
    "value", [b"", b" ", b"\t", b"\xff" * 100, b"1" * 5000, b"%EPOCH%-" + b"9" * 5000, b"\xf0\x9f", b"id: 1"]
)
def test_odd_bytes(server: Serve, value: bytes) -> None:
    """Nothing in a cursor is refused: an empty one is none, any other gets a gap and what is kept."""
    epoch = server.publish("raw", "kept").partition("-")[0].encode()
    text = raw(server, b"Last-Event-ID: " + value.replace(b"%EPOCH%", epoch))
    assert text.startswith(b"HTTP/1.1 200 ")
    assert (b"event: newswire.gap" in text) == bool(value.strip())


@pytest.mark.slow
def test_trimmed(tmp_path: Path) -> None:
    """A cursor behind what retention keeps: 200, a gap that says what is missing, then the earliest kept event."""
    with Serve(tmp_path, "--retention", ">:max_events=3") as server:
        ids = [server.publish("a", f"{number}") for number in range(20)]
        while len(server.stored("a")) > 3:
            pass  # retention runs once a second
        server.stop()
        server.start()  # so that the window is empty, and the log has to be read
        with Reader(f"{server.url}/channels/a", {"last-event-id": ids[4]}) as reader:
            gap, *kept = reader.read(4)
            assert gap.event == "newswire.gap"
            assert gap.json() == {"reason": "trimmed", "after": ids[4], "through": ids[16]}
            assert gap.id == ids[4]
            assert [(event.id, event.data) for event in kept] == [(ids[n], f"{n}") for n in (17, 18, 19)]
        with Reader(f"{server.url}/channels/a", {"last-event-id": ids[16]}) as reader:
            assert reader.read(1)[0].data == "17"  # nothing is missing: no gap


@pytest.mark.slow
def test_a_log_that_was_wiped(tmp_path: Path) -> None:
    """A cursor of the log before: 200, a gap, then all of the new log, though the numbers would fit."""
    with Serve(tmp_path) as server:
        old = server.publish("a", "old")
        server.stop()
        for file in tmp_path.glob("newswire.db*"):
            file.unlink()
        server.start()
        new = [server.publish("a", data) for data in ("1", "2")]
        with Reader(f"{server.url}/channels/a", {"last-event-id": old}) as reader:
            gap, first, second = reader.read(3)
            assert gap.json()["reason"] == "epoch"
            assert [first.id, second.id] == new
