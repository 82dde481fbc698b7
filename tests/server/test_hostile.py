"""The server as an attacker sees it, and a user who makes mistakes: each gets a clear answer, the others theirs."""

from __future__ import annotations

import json
import socket
import threading
import time

import httpx2
import pytest
import uvicorn
from tests.fixtures.serve import Reader, Serve

import newswire.delivery.fast.uvicorn as direct
from newswire.delivery.fast import limits
from newswire.server.app import create_app
from newswire.server.settings import Settings

LINES = b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/channels/a", "/stream?channel=a", "/channels/a/events", "/", "/metrics"])
def test_methods_that_mean_nothing(server: Serve, method: str, path: str) -> None:
    """A 405 that says which do, as a problem."""
    answer = httpx2.request(method, server.url + path)
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/channels/", "/console/../app.py", "/console/%2e%2e%2fapp.py", "/console/app.py",
     "//evil.example/", "/healthz", "/stream/x", "/console/static/console.html"],
)  # fmt: skip
def test_paths_that_lead_nowhere(server: Serve, path: str) -> None:
    """No file but the console's own, no redirect, a problem that says where streams are."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    answer = server.talk(request)
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/octet-stream", "text/html", "", "nonsense", "application/x-www-form-urlencoded"],
)
def test_any_other_type_is_data_as_it_is(server: Serve, content_type: str) -> None:
    """What curl or a form sends by default is one event, to the letter."""
    body = b'{"data": "not a batch"}\n{"a":1}&x=%20'
    channel = f"type.{abs(hash(content_type))}"
    answer = httpx2.post(f"{server.url}/channels/{channel}", headers={"content-type": content_type}, content=body)
    assert answer.status_code == 200
    assert server.stored(channel) == [body.decode()]


@pytest.mark.parametrize("data", [b"x\n\nevent: evil\ndata: gotcha\nid: 9\n\n", b"x\r\rid: 9\r\r", b"\r\n\r\n"])
def test_data_can_not_leave_its_event(server: Serve, data: bytes) -> None:
    """On every form of stream it stays data of the one event."""
    id = server.publish("inject", data)
    after = f"{id.partition('-')[0]}-{int(id.partition('-')[2]) - 1}"
    text = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    for path in ("/channels/inject?", "/stream?channel=inject&channel=x&", "/stream?channel=inject&envelope=json&"):
        with Reader(f"{server.url}{path}last_event_id={after}") as reader:
            [event] = reader.read(1)
            assert (event.event, event.id) == ("message", id)
            got = json.loads(event.data)["data"] if "envelope" in path else event.data
            assert got.replace("\r\n", "\n").replace("\r", "\n") == text


def test_answers_repeat_input_only_as_json(server: Serve) -> None:
    """Nothing that was sent comes back as markup or as a header."""
    path = "/channels/%3Cscript%3Ealert(1)%3C%2Fscript%3E%0D%0Ax-evil:%201"
    answer = httpx2.get(server.url + path)
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x-evil" not in answer.headers


def test_a_head_without_end_is_refused(server: Serve) -> None:
    """In size: past 64 KiB it is a 431, however it is cut into fields, and the connection is gone."""
    part = b"a" * 60_000
    for parts in ([b"X: ", *[part] * 80], [b"X: " + part + b"\r\n"] * 80):
        answer = server.talk(LINES, *parts)
        # The answer is lost where the kernel resets the connection, because we were still talking.
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    assert server.talk(b"GET /", *[part] * 80)[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 400")
    assert server.publish("a", "the server goes on")


@pytest.mark.slow
def test_a_head_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """In time: a client that says nothing, or a byte now and then, is let go; one that streams is not."""
    monkeypatch.setattr(limits, "_HEAD_SECONDS", 0.6)
    config = uvicorn.Config(create_app(Settings(log="memory://")), http=direct.DirectHttpProtocol, log_level="critical")
    running = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            streaming = socket.create_connection(address, 30)
            streaming.sendall(LINES + b"\r\n")
            silent = socket.create_connection(address, 30)
            dripping = socket.create_connection(address, 30)
            assert silent.recv(1) == b""
            began = time.monotonic()
            with pytest.raises(ConnectionError):
                for number in range(600):  # a byte each 50 ms would last half a minute
                    dripping.sendall(b"GET / HTTP/1.1\r\nX: "[number : number + 1] or b"x")
                    threading.Event().wait(0.05)
            assert time.monotonic() - began < 20
            text = streaming.recv(65536)
            while b"\nid: " not in text:
                text += streaming.recv(65536)
            for connection in (streaming, silent, dripping):
                connection.close()
        finally:
            running.should_exit = True
            thread.join()


@pytest.mark.slow
def test_many_bad_requests_leave_the_server_whole(server: Serve) -> None:
    """Garbage, half requests and sudden ends, and then an event comes through as if nothing had been."""
    with Reader(f"{server.url}/channels/whole") as reader:
        reader.opened()
        for garbage in (
            b"\x00" * 100,
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
        ):
            server.talk(garbage)
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
                connection.sendall(LINES[: len(LINES) // 2])
        server.publish("whole", "here")
        assert reader.read(1)[0].data == "here"
