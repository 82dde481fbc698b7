"""An attacker's ways into a server that asks for tokens, one by one, with the exact answer to each.

Those about one part are in that part's tests: tokens, keys that rotate, tickets, pages of others (CSRF, CORS) in
`auth/`, hosts in `serving/test_hosts.py`, strangers' memory in `delivery/test_strangers.py`.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from tests.fixtures.serve import Reader, Serve
from tests.server.auth.conftest import CLIENT, SECRET, bearer, publish

ADA = bearer("ada", subscribe=["ada.*", "shared"], publish=["ada.*"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that asks for tokens, with small limits."""
    flags = ("--jwt-secret", SECRET, "--max-body", "4KiB", "--max-batch", "10", "--body-timeout", "0.5s")
    with Serve(tmp_path_factory.mktemp("guarded"), *flags) as server:
        yield server


def head(method: str, target: str, *lines: str, **headers: str) -> bytes:
    """The head of a request, to the letter."""
    named = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *named, *lines, "", ""]).encode("latin-1")


@pytest.mark.slow
def test_a_foreign_cursor_opens_nothing(guarded: Serve) -> None:
    """A cursor says where, never what: with a cursor of another user one gets one's own channels, and only those."""
    first = publish(guarded, "ada.1", "ada's first")
    secret = publish(guarded, "bob.1", "bob's secret")
    publish(guarded, "ada.1", "ada's second")
    for cursor in (first, secret, f"{secret.partition('-')[0]}-0", "zzzzzzzz-1", "' OR 1=1"):
        for where in ({"last-event-id": cursor}, {}):
            query = "" if where else f"?last_event_id={quote(cursor)}"
            with Reader(f"{guarded.url}/channels/ada.*{query}", ADA | where) as reader:
                reader.opened()
                publish(guarded, "ada.1", "end")
                data = []
                while "end" not in data:
                    [event] = reader.read(1)
                    data.append(event.data)
            assert not any("bob" in one for one in data)
    for path in ("/channels/bob.1", f"/channels/bob.1?last_event_id={secret}", f"/channels/bob.1/events?after={first}"):
        assert CLIENT.get(guarded.url + path, headers=ADA).status_code == 403


TRICKS = [
    # a name, and the status: nothing of bob's is ever among it
    ("bob.1", 403), ("*", 403), (">", 403), ("*.1", 403), ("*.>", 403), ("ada.>", 403), ("ada", 403), ("ada.1.x", 403),
    ("Ada.1", 403), ("ADA.1", 403), ("ada%2e1", 200), ("ada.*", 200), ("%61da.1", 200), ("shared.x", 403),
    ("shared*", 400),
    ("ada..1", 400), (".ada.1", 400), ("ada.1.", 400), ("ada.1%00", 400), ("ada.1%0a", 400), ("ada.1%0d%0abob.1", 400),
    ("ada.1%20", 400), ("ada.1%09", 400), ("ada.1%e2%80%a8", 400), ("ada.%c2%85", 400), ("ada.%ff", 400),
    ("ada.%c0%ae", 400),
    ("ada.1%2f..%2fbob.1", 400), ("$auth.secret", 400), ("$auth.revoked", 400), ("%24auth.secret", 400),
    ("$runs.>", 400),
    ("ada.%ef%bc%8a", 200), ("\u0430da.1", 403), ("ada.1%252e2", 200), ("ada.~2a", 200), ("ada.1;bob.1", 403),
    ("ada.1,bob.1", 403), ("ada." + "x" * 251, 200), ("ada." + "x" * 252, 400), ("ada.%F0%9F%98%80", 200),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status"), TRICKS)
def test_tricks_in_names_and_patterns(guarded: Serve, name: str, status: int) -> None:
    """In the path, in the query of a stream, in the history and in publishing: one rule."""
    encoded = quote(name, safe="%*>;,$~.")
    url = guarded.url
    for answer in (
        CLIENT.head(f"{url}/channels/{encoded}", headers=ADA),
        CLIENT.head(f"{url}/stream?channel={encoded}", headers=ADA),
        CLIENT.head(f"{url}/stream?channel=ada.1&channel={encoded}", headers=ADA),
        CLIENT.get(f"{url}/channels/{encoded}/events", headers=ADA),
    ):
        assert answer.status_code == status, answer.request.url
    posted = CLIENT.post(f"{url}/channels/{encoded}", content="x", headers=ADA).status_code
    assert posted == (400 if set(name) & {"*", ">"} else status)
    events = CLIENT.get(f"{url}/channels/>/events?limit=1000", headers=bearer("root", subscribe=[">"])).json()["events"]
    assert all(event["channel"].startswith(("ada.", "bob.", "shared")) for event in events)
    assert [event["channel"] for event in events if event["channel"].startswith("bob.") and event["data"] == "x"] == []


@pytest.mark.slow
def test_a_grant_of_internal_channels_opens_none(guarded: Serve) -> None:
    """Whatever a token says: what the server keeps for itself is no client's."""
    everything = bearer("root", subscribe=["$auth.>", "$runs.>", ">"], publish=["$auth.>", ">"], admin=True)
    for name in ("$auth.secret", "$auth.revoked", "$auth.>", "$runs.>"):
        for answer in (
            CLIENT.head(f"{guarded.url}/channels/{name}", headers=everything),
            CLIENT.get(f"{guarded.url}/channels/{name}/events", headers=everything),
            CLIENT.get(f"{guarded.url}/console/tail?channel={name}", headers=everything),
            CLIENT.post(f"{guarded.url}/channels/{name}", content="x", headers=everything),
        ):
            assert answer.status_code == 400
    with Reader(f"{guarded.url}/channels/>?from=earliest", everything) as reader:
        reader.opened()
        assert CLIENT.post(f"{guarded.url}/revoke", json={"subject": "nobody"}, headers=everything).status_code == 200
        publish(guarded, "shared", "end")
        while (event := reader.read(1)[0]).data != "end":
            assert not (event.channel or "").startswith("$")


INJECTIONS = ["x\r\nset-cookie: a=b", "x\nevent: evil", "x\r\n\r\n<script>", "x\x00y", "é\r\nx: 1"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_header_and_event_injection(guarded: Serve, text: str) -> None:
    """What comes in a name, a type, a cursor, a ticket or a token goes out in no header and no field."""
    encoded = quote(text)
    for path in (f"/channels/{encoded}", f"/channels/ada.1?event={encoded}", f"/channels/ada.1?ticket={encoded}",
                 f"/channels/ada.1?{encoded}=1"):  # fmt: skip
        answer = CLIENT.post(guarded.url + path, content="data", headers=ADA)
        assert answer.status_code in (400, 401)
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.headers) <= {"date", "content-type", "cache-control", "content-length", "www-authenticate"}
        json.loads(answer.text)
    line = json.dumps({"data": "x", "event": text})
    kind = {"content-type": "application/x-ndjson"}
    answer = CLIENT.post(f"{guarded.url}/channels/ada.1", content=line, headers=ADA | kind)
    assert (answer.status_code, answer.json()["field"]) == (400, "event")
    with Reader(f"{guarded.url}/channels/ada.1?last_event_id={encoded}", ADA) as reader:
        assert "set-cookie" not in reader.answer.headers
        [gap] = reader.read(1)
        assert gap.event == "newswire.gap"


def test_raw_heads(guarded: Serve) -> None:
    """Control characters in a header, two lengths, a smuggled request: refused, and the connection is gone."""
    token = ADA["authorization"]
    for line in (
        "X: a\x00b",
        "X: a\rb",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked, chunked",
        "Content-Length: -1",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
    ):
        answer = guarded.talk(
            head("POST", "/channels/ada.smuggled", line, Authorization=token), b"GET / HTTP/1.1\r\n\r\n"
        )
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408")), line
    events = CLIENT.get(f"{guarded.url}/channels/ada.smuggled/events", headers=ADA).json()["events"]
    assert events == []


def test_oversize_everything(guarded: Serve) -> None:
    """Each has its limit, and the answer says which."""
    url = f"{guarded.url}/channels/ada.1"
    kind = {"content-type": "application/x-ndjson"}
    batch = b'{"data": "x"}\n' * 11
    answers: list[tuple[httpx2.Response, int, str]] = [
        (CLIENT.post(url, content=b"x" * 4097, headers=ADA), 413, "too_large"),
        (CLIENT.post(url, content=iter([b"x" * 4000, b"x" * 4000]), headers=ADA), 413, "too_large"),
        (CLIENT.post(url, content=batch, headers=ADA | kind), 413, "too_large"),
        (CLIENT.get(f"{url}/events?limit=100000", headers=ADA), 400, "invalid_query"),
        (CLIENT.get(f"{guarded.url}/stream?" + "channel=ada.1&" * 101, headers=ADA), 400, "too_many_channels"),
        (CLIENT.get(f"{guarded.url}/stream?" + "a=b&" * 400, headers=ADA), 400, "invalid_query"),
        (CLIENT.post(f"{guarded.url}/channels/{'x' * 256}", content="x", headers=ADA), 400, "invalid_channel"),
        (CLIENT.post(url, content="x", headers=ADA | {"idempotency-key": "x" * 256}), 400, "invalid_idempotency_key"),
        (CLIENT.post(url, content="x", headers={"authorization": "Bearer " + "x" * 20_000}), 401, "unauthenticated"),
        (CLIENT.post(f"{guarded.url}/tickets", content=b"[" * 3000, headers=ADA), 400, "invalid_ticket"),
        (CLIENT.post(f"{guarded.url}/revoke", content=b"x" * 5000, headers=ADA), 413, "too_large"),
    ]
    for answer, status, code in answers:
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.request.url
    target = guarded.talk(head("GET", "/channels/ada.1?" + "x" * 66_000, Authorization=ADA["authorization"]))
    assert target[:12] in (b"HTTP/1.1 414", b"HTTP/1.1 431", b"")
    assert guarded.talk(head("GET", "/channels/ada.1", X="x" * 70_000))[:12] in (b"HTTP/1.1 431", b"")
    many = [f"X-{number}: 1" for number in range(300)]
    assert guarded.talk(head("GET", "/channels/ada.1", *many))[:12] in (b"HTTP/1.1 431", b"")


def test_slowloris_on_publishing(guarded: Serve) -> None:
    """A body that never ends is a 408 after `--body-timeout`, however it drips; the connection is gone."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", guarded.port), 30) as connection:
        connection.sendall(head("POST", "/channels/ada.1", "Content-Length: 1000", Authorization=ADA["authorization"]))
        connection.setblocking(False)
        answer = b""
        while time.monotonic() - began < 20:
            try:
                connection.send(b"x")
            except OSError:
                break
            try:
                data = connection.recv(65536)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            answer += data
            if not data:
                break
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code": "body_timeout"' in answer
    assert CLIENT.post(f"{guarded.url}/channels/ada.1", content="x", headers=ADA).status_code == 200


@pytest.mark.slow
def test_slowloris_on_subscribing(tmp_path: Path) -> None:
    """Readers that take nothing are cut after `--write-timeout`; the others get every event meanwhile."""
    flags = ("--jwt-secret", SECRET, "--write-timeout", "1s")
    with Serve(tmp_path, *flags) as server:
        stalled = []
        for _ in range(20):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head("GET", "/channels/ada.1", Authorization=ADA["authorization"]))
            stalled.append(connection)
        with Reader(f"{server.url}/channels/ada.1", ADA) as reader:
            reader.opened()
            large = "x" * 500_000
            for _ in range(20):
                publish(server, "ada.1", large)
                assert reader.read(1)[0].data == large
            deadline = time.monotonic() + 30
            while True:
                metrics = CLIENT.get(f"{server.url}/metrics", headers=bearer("root", admin=True)).text
                if "newswire_subscribers 1.0" in metrics:
                    break
                assert time.monotonic() < deadline, metrics
                time.sleep(0.1)
        for connection in stalled:
            connection.close()


@pytest.mark.parametrize("path", ["/", "/channels/ada.1", "/stream?channel=ada.1", "/tickets", "/revoke", "/metrics"])
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0", "[::2]"])
def test_rebinding(guarded: Serve, path: str, host: str) -> None:
    """A page whose own name leads here is refused before its cookie is looked at: 421 for every path."""
    cookie = {"cookie": "__Host-newswire=" + ADA["authorization"].removeprefix("Bearer ")}
    page = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for method in ("GET", "POST"):
        answer = CLIENT.request(method, guarded.url + path, headers=page | cookie)
        assert (answer.status_code, answer.json()["code"]) == (421, "misdirected")


@pytest.mark.slow
def test_forwarded_headers_of_strangers_count_for_nothing(tmp_path: Path) -> None:
    """A client can't take another address by saying so; a trusted proxy can."""
    flags = ("--max-streams-per-address", "1")

    def statuses(server: Serve) -> list[int]:
        url = f"{server.url}/channels/a"
        with Reader(url, {"x-forwarded-for": "192.0.2.1"}) as first:
            second = httpx2.Client().stream("GET", url, headers={"x-forwarded-for": "192.0.2.2"})
            with second as answer:
                return [first.answer.status_code, answer.status_code]

    for name, more, expected in (("a", (), [200, 429]), ("b", ("--trusted-proxy", "127.0.0.1"), [200, 200]),
                                 ("c", ("--trusted-proxy", "10.0.0.0/8"), [200, 429])):  # fmt: skip
        (tmp_path / name).mkdir()
        with Serve(tmp_path / name, *flags, *more) as server:
            assert statuses(server) == expected


def test_the_page_of_the_console_shows_a_stranger_nothing(guarded: Serve) -> None:
    """Its files are the same for everyone; its numbers and its tail need a credential."""
    assert CLIENT.get(guarded.url).status_code == 200
    answers: dict[str, Any] = {path: CLIENT.get(guarded.url + path) for path in ("/console/stats", "/console/tail")}
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/console/stats": 401,
        "/console/tail": 401,
    }
    assert CLIENT.get(f"{guarded.url}/console/stats", headers=ADA).status_code == 403
    assert CLIENT.get(f"{guarded.url}/console/stats", headers=bearer("root", admin=True)).status_code == 200
