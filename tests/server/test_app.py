"""GET /channels/{channel} and /stream: where a stream starts, what it says, and that a cursor never refuses one."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import quote_from_bytes

import httpx2
import pytest
from tests.fixtures.serve import Reader, Serve

GARBAGE = {
    "a foreign epoch": b"zzzzzzzz-1",
    "the future": b"%EPOCH%-999999999",
    "words": b"hello world",
    "negative": b"%EPOCH%--5",
    "leading zeros": b"%EPOCH%-007",
    "past 64 bits": b"%EPOCH%-99999999999999999999",
    "emoji": "😀".encode(),
    "bytes that are not UTF-8": b"\xff\xfe\xc3",
    "an injection": b"x: y, event: evil",
    "60 KB": b"x" * 60_000,
}


def _of(server: Serve, cursor: bytes) -> bytes:
    epoch = server.publish("epoch", "x").partition("-")[0]
    return cursor.replace(b"%EPOCH%", epoch.encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "kind"),
    # our client library sends no URL of 60 KB
    [("header", kind) for kind in GARBAGE] + [("query", kind) for kind in GARBAGE if not kind.endswith("B")],
)
def test_any_cursor_gives_a_stream_and_a_gap(server: Serve, kind: str, where: str) -> None:
    """Whatever the bytes: 200, then a gap, then what is kept; and what is published goes on coming."""
    channel = f"cursor.{where}.{kind.replace(' ', '-')}"
    server.publish(channel, "kept")
    cursor = _of(server, GARBAGE[kind])
    url = f"{server.url}/channels/{channel}"
    if where == "query":
        reader = Reader(f"{url}?last_event_id={quote_from_bytes(cursor)}")
    else:
        reader = Reader(url, {"last-event-id": cursor})
    with reader:
        assert reader.answer.status_code == 200
        gap, kept = reader.read(2)
        assert (gap.event, kept.data) == ("newswire.gap", "kept")
        assert gap.json()["reason"] in ("invalid", "epoch", "future")
        server.publish(channel, "live")
        assert reader.read(1)[0].data == "live"


def test_a_nul_in_the_query_is_a_cursor_like_any_other(server: Serve) -> None:
    """Where HTTP can carry a NUL, it gives a gap."""
    server.publish("nul", "kept")
    with Reader(f"{server.url}/channels/nul?last_event_id=a%00b") as reader:
        assert [event.event for event in reader.read(2)] == ["newswire.gap", "message"]


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x7f"])
def test_a_control_character_in_a_header_is_no_http(server: Serve, byte: bytes) -> None:
    """The parser refuses the request (RFC 9110, 5.5): no client that speaks HTTP can send it; the server goes on."""
    request = b"GET /channels/raw HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: a" + byte + b"b\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        connection.sendall(request)
        status = connection.recv(4096).split(b"\r\n")[0]
    assert status.startswith(b"HTTP/1.1 400")
    assert server.publish("raw", "x")


def test_the_header_beats_the_query_and_that_the_start(server: Serve) -> None:
    """Last-Event-ID, else last_event_id, else from; an empty cursor is none."""
    first, second, _ = (server.publish("start", data) for data in "abc")
    url = f"{server.url}/channels/start"
    with Reader(f"{url}?last_event_id={first}&from=earliest", {"last-event-id": second}) as reader:
        assert reader.read(1)[0].data == "c"
    with Reader(f"{url}?last_event_id={first}&from=earliest") as reader:
        assert reader.read(1)[0].data == "b"
    with Reader(f"{url}?from=earliest", {"last-event-id": ""}) as reader:
        assert reader.read(1)[0].data == "a"
    with Reader(url) as reader:
        reader.opened()
        server.publish("start", "d")
        assert reader.read(1)[0].data == "d"


def test_a_stream_of_one_pattern_names_its_channels(server: Serve) -> None:
    """/channels/ takes a pattern too."""
    server.publish("shop.eu", "1")
    server.publish("shop.us", "2")
    with Reader(f"{server.url}/channels/shop.*?from=earliest") as reader:
        assert [(event.channel, event.data) for event in reader.read(2)] == [("shop.eu", "1"), ("shop.us", "2")]


def test_the_envelope_carries_channel_type_data_and_time(server: Serve) -> None:
    """For a bare EventSource on many channels: every event is a `message`, gaps too."""
    server.publish("env.a", "x", event="note")
    with Reader(f"{server.url}/stream?channel=env.*&channel=other&envelope=json&last_event_id=junk") as reader:
        gap, event = reader.read(2)
    assert {gap.event, event.event} == {"message"}
    assert gap.json()["event"] == "newswire.gap"
    [kept] = httpx2.get(f"{server.url}/channels/env.a/events").json()["events"]
    told = json.loads(event.data)
    assert told.pop("time") == pytest.approx(kept["time"], abs=0.001)
    assert told == {"channel": "env.a", "event": "note", "data": "x"}
    assert gap.json()["time"] is None


def test_head_gives_the_headers_and_leaves_the_connection_whole(server: Serve) -> None:
    """Two HEADs and a GET on one connection."""
    with httpx2.Client() as client:
        for path in ("/channels/head", "/stream?channel=head"):
            answer = client.head(server.url + path)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert client.get(f"{server.url}/health/live").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/stream", "invalid_query"),
        ("/stream?channel=a..b", "invalid_channel"),
        ("/stream?channel=a.>.b", "invalid_channel"),
        ("/stream?channel=%ff", "not_utf8"),
        ("/stream?channel=", "invalid_channel"),
        ("/stream?" + "&".join(f"channel=c{n}" for n in range(101)), "too_many_channels"),
        ("/stream?" + "a&" * 25_000, "invalid_query"),
        ("/channels/a?from=now", "invalid_query"),
        ("/channels/a?envelope=xml", "invalid_query"),
        ("/channels/a%20b", "invalid_channel"),
        ("/channels/a%0Ab", "invalid_channel"),
        ("/channels/a/b", "invalid_channel"),
    ],
)
def test_what_can_not_be_a_stream_is_refused_before_its_head(server: Serve, path: str, code: str) -> None:
    """Everything but a cursor: 400, with the field."""
    answer = httpx2.get(server.url + path)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"]


@pytest.mark.slow
def test_a_ticket_where_nobody_needs_one(server: Serve) -> None:
    """It is refused, and the answer says what the server lacks."""
    for path in ("/channels/a?ticket=x", "/stream?channel=a&ticket=x"):
        answer = httpx2.get(server.url + path).json()
        assert (answer["code"], answer["field"]) == ("invalid_query", "ticket")
        assert "--jwt-secret" in answer["detail"]


@pytest.mark.slow
def test_full_is_said_with_a_time_to_come_back(tmp_path: Path) -> None:
    """Streams above the limit get a 503; one that ends makes room."""
    with Serve(tmp_path, "--max-streams", "2") as server:
        first, second = Reader(f"{server.url}/channels/a"), Reader(f"{server.url}/channels/b")
        with first:
            with second:
                first.opened()
                second.opened()
                answer = httpx2.get(f"{server.url}/channels/c")
                assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")
                assert 5 <= int(answer.headers["retry-after"]) <= 20
                assert httpx2.head(f"{server.url}/channels/c").status_code == 200
            while httpx2.get(f"{server.url}/console/stats").json()["subscribers"] > 1:
                pass
            with Reader(f"{server.url}/channels/c") as third:
                assert third.answer.status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/channels/$runs.x", "/stream?channel=$runs.>", "/channels/$runs.x/events"])
def test_internal_channels_are_not_for_clients(server: Serve, path: str) -> None:
    """What is built upon the hub keeps its books in channels that no client reads."""
    response = httpx2.get(server.url + path)
    assert response.status_code == 400
    assert "begins with '$'" in response.json()["detail"]
