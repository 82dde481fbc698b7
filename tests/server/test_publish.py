"""POST /channels/{channel}: what is stored, and what is refused with nothing stored."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import Serve

NDJSON = {"content-type": "application/x-ndjson"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "code", "says"),
    [
        ("h?event=error", {}, b"x", 400, "invalid_event", "reserved"),
        ("h?event=open", {}, b"x", 400, "invalid_event", "reserved"),
        ("h?event=newswire.gap", {}, b"x", 400, "invalid_event", "reserved"),
        ("h?event=", {}, b"x", 400, "invalid_event", "empty"),
        ("h?event=a%0Aid:%201", {}, b"x", 400, "invalid_event", "line feed"),
        ("h?event=a%0D", {}, b"x", 400, "invalid_event", "carriage return"),
        ("h?event=a%00", {}, b"x", 400, "invalid_event", "NUL"),
        ("h?event=%ff", {}, b"x", 400, "not_utf8", "UTF-8"),
        ("h?event=a&event=b", {}, b"x", 400, "invalid_query", "2 times"),
        ("h?evt=a", {}, b"x", 400, "invalid_query", "evt"),
        ("h", {}, b"\xff\xfe", 400, "invalid_event", "UTF-8"),
        ("h", {"content-type": "text/plain; charset=latin-1"}, b"x", 415, "unsupported_charset", "UTF-8"),
        ("h", {"content-encoding": "gzip"}, b"x", 415, "unsupported_encoding", "gzip"),
        ("h", {"content-type": "multipart/form-data; boundary=x"}, b"x", 415, "unsupported_type", "multipart"),
        ("h", {}, b"x" * (2**20 + 1), 413, "too_large", "1,048,576"),
        ("h..a", {}, b"x", 400, "invalid_channel", "empty token"),
        ("h.*", {}, b"x", 400, "invalid_channel", "wildcards"),
        ("h%20x", {}, b"x", 400, "invalid_channel", "forbidden"),
        ("h%ff", {}, b"x", 400, "not_utf8", "UTF-8"),
        ("h%2Fx", {}, b"x", 400, "invalid_channel", "slash"),
        ("h" * 256, {}, b"x", 400, "invalid_channel", "255"),
        ("h", NDJSON, b"", 400, "invalid_batch", "empty"),
        ("h", NDJSON, b'{"data":"ok"}\n[1]', 400, "invalid_batch", "line 2"),
        ("h", NDJSON, b'{"data":"ok"}\n\n{"data":1', 400, "invalid_batch", "line 3"),
        ("h", NDJSON, b'{"data":"ok"}\n{"dta":1}', 400, "invalid_batch", "'dta'"),
        ("h", NDJSON, b'{"data":"ok"}\n{"data":1,"event":"open"}', 400, "invalid_batch", "reserved"),
        ("h", NDJSON, b'{"data":"ok"}\n{"data":1,"event":7}', 400, "invalid_batch", "line 2"),
        ("h", NDJSON, b'{"data":"ok"}\n{"data":"\\ud800"}', 400, "invalid_batch", "surrogate"),
        ("h", NDJSON, b'{"data":"ok"}\n{"data":NaN}', 400, "invalid_batch", "NaN"),
        ("h", NDJSON, b'{"data":"ok"}\n{"data":"\xff"}', 400, "invalid_batch", "UTF-8"),
        ("h", NDJSON, b'{"data":"ok"}\n{"data":' + b"[" * 100_000, 400, "invalid_batch", "nested"),
        ("h", NDJSON, b'{"data":"ok"}\n{"data":' + b"1" * 5_000 + b"}", 400, "invalid_batch", "line 2"),
    ],
)
def test_hostile_input_is_refused_whole(
    server: Serve, path: str, headers: dict[str, str], body: bytes, status: int, code: str, says: str
) -> None:
    """A problem+json that says what to do, and not a single event stored."""
    answer = httpx2.post(f"{server.url}/channels/{path}", headers=headers, content=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert says in problem["detail"]
    assert server.stored("h") == []


@pytest.mark.parametrize("data", ["", "ü → 😀", "a\nb\r\nc", "data: x\n\nid: 7\n", "\u2028\x85\x00"])
def test_any_text_is_data(server: Serve, data: str) -> None:
    """What would end a line or a block is data like any other."""
    id = server.publish("text", data.encode())
    kept = httpx2.get(f"{server.url}/channels/text/events?limit=1000").json()["events"]
    assert {event["id"]: event["data"] for event in kept}[id] == data


def test_a_batch_is_stored_in_order_with_nothing_between(server: Serve) -> None:
    """Its ids follow each other; a type in the query is for lines that name none."""
    body = b'{"data":"one"}\r\n{"data":{"n":2},"event":"own"}\n\n{"data":null}\n'
    answer = httpx2.post(f"{server.url}/channels/batch?event=given", headers=NDJSON, content=body).json()
    first = int(answer["ids"][0].rpartition("-")[2])
    assert [int(id.rpartition("-")[2]) for id in answer["ids"]] == [first, first + 1, first + 2]
    assert answer["id"] == answer["ids"][-1]
    events = httpx2.get(f"{server.url}/channels/batch/events").json()["events"]
    assert [(event["event"], event["data"]) for event in events] == [
        ("given", "one"), ("own", '{"n":2}'), ("given", "null"),
    ]  # fmt: skip


def test_a_body_that_grows_too_large_is_refused_while_it_comes(server: Serve) -> None:
    """Without a length announced, the answer comes before the body has ended."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        connection.sendall(b"POST /channels/grows HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    assert server.stored("grows") == []


def test_a_body_that_is_too_large_by_its_length_is_not_asked_for(server: Serve) -> None:
    """A client that asks first (Expect: 100-continue) never sends it."""
    head = b"POST /channels/ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_client_that_leaves_in_the_middle_stores_nothing(server: Serve) -> None:
    """Half a body is no event."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /channels/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
    server.publish("other", "x")
    assert server.stored("half") == []


@pytest.mark.slow
def test_limits_are_settings(tmp_path: Path) -> None:
    """Body, batch, name and the time for a body."""
    flags = ("--max-body", "100", "--max-batch", "2", "--max-channel-bytes", "5", "--body-timeout", "0.3")
    with Serve(tmp_path, *flags) as small:
        assert httpx2.post(f"{small.url}/channels/a", content=b"x" * 101).status_code == 413
        answer = httpx2.post(f"{small.url}/channels/a", headers=NDJSON, content=b'{"data":1}\n' * 3)
        assert (answer.status_code, answer.json()["limit"]) == (413, 2)
        assert httpx2.post(f"{small.url}/channels/abcdef", content=b"x").json()["limit"] == 5
        with socket.create_connection(("127.0.0.1", small.port)) as connection:
            connection.settimeout(30)
            connection.sendall(b"POST /channels/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert small.stored("a") == small.stored("slow") == []


@pytest.mark.slow
def test_an_answer_is_the_same_whichever_way_it_is_written(server: Serve) -> None:
    """At once on a connection that goes on, in parts on one that closes or speaks HTTP/1.0; pipelined ones in order."""
    head = b"POST /channels/written HTTP/%s\r\nHost: localhost\r\nContent-Length: 1\r\n%s\r\nx"
    found = []
    for requests in (
        [head % (b"1.1", b"")],
        [head % (b"1.1", b""), head % (b"1.1", b"")],
        [head % (b"1.1", b"Origin: http://localhost\r\n")],
        [head % (b"1.0", b"Connection: close\r\n")],
        [],
    ):
        last = head % (b"1.1", b"Connection: close\r\n")
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            connection.sendall(b"".join([*requests, last]))
            text = b""
            while data := connection.recv(65536):
                text += data
        answers = text.split(b"HTTP/1.1 200 OK\r\n")[1:]
        assert len(answers) == (1 if requests and b"/1.0" in requests[0] else len(requests) + 1)
        for answer in answers:
            lines, body = answer.split(b"\r\n\r\n")
            fields = dict(line.split(b": ") for line in lines.split(b"\r\n"))
            assert int(fields[b"content-length"]) == len(body)
            assert body.startswith(b'{"id":"')
            assert body.endswith(b'"}\n')
            found.append({name for name in fields if name != b"connection"})
    assert all(names == {b"date", b"content-length", b"content-type", b"cache-control"} for names in found)
    assert len(server.stored("written")) == len(found)


def test_a_request_with_a_key_is_stored_once(server: Serve) -> None:
    """Sent again it gets the first answer, an event and a batch alike, also from a server that was started again."""
    url = f"{server.url}/channels/keys"
    one = httpx2.post(url, headers={"idempotency-key": "one"}, content=b"1")
    batch = httpx2.post(url, headers=NDJSON | {"idempotency-key": "two"}, content=b'{"data":"2"}\n{"data":"3"}')
    server.stop()
    server.start()
    assert httpx2.post(url, headers={"idempotency-key": "one"}, content=b"1").json() == one.json()
    again = httpx2.post(url, headers=NDJSON | {"idempotency-key": "two"}, content=b'{"data":"2"}\n{"data":"3"}')
    assert again.json() == batch.json()
    assert server.stored("keys") == ["1", "2", "3"]
    assert "newswire_published_total 0" in httpx2.get(f"{server.url}/metrics").text  # of this process
    answer = httpx2.post(url, headers=NDJSON | {"idempotency-key": "two"}, content=b'{"data":"2"}')
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert server.stored("keys") == ["1", "2", "3"]


def test_a_key_belongs_to_its_channel(server: Serve) -> None:
    """The same key on another channel is another publish."""
    for channel in ("keys.a", "keys.b"):
        answer = httpx2.post(f"{server.url}/channels/{channel}", headers={"idempotency-key": "same"}, content=b"x")
        assert answer.status_code == 200
        assert server.stored(channel) == ["x"]


@pytest.mark.parametrize("keys", [[""], ["x" * 256], ["a", "b"]])
def test_a_bad_key_is_refused(server: Serve, keys: list[str]) -> None:
    """One header of 1 to 255 characters, or nothing is stored."""
    headers = [("idempotency-key", key) for key in keys]
    answer = httpx2.post(f"{server.url}/channels/bad-keys", headers=headers, content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")
    assert server.stored("bad-keys") == []
