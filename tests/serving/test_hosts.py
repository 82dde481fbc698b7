"""Which names a server answers to: a page whose own name leads here (DNS rebinding) gets nothing, not even a GET."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.serve import Serve

from newswire.serving.hosts import Hosts

EVIL = (
    "evil.example", "evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example:{port}", "evil",
    "localhost@evil.example", "127.0.0.1:{port}@evil.example", "192.0.2.1", "[::2]", "0.0.0.0:{port}", "",
)  # fmt: skip
OWN = ("localhost", "LOCALHOST:{port}", "localhost.:{port}", "127.0.0.1:{port}", "[::1]:{port}", "127.0.0.1")


@pytest.fixture(scope="module", params=["serve", "relay"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The standalone server, and the relay."""
    folder = tmp_path_factory.mktemp("hosts")
    if request.param == "serve":
        with Serve(folder) as server:
            yield server
    else:
        with Serve(folder, "--upstream", "http://127.0.0.1:9", command="relay") as server:
            yield server


@pytest.mark.slow
@pytest.mark.parametrize("host", EVIL)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/metrics"), ("GET", "/health/live"), ("GET", "/channels/a/events"), ("GET", "/channels/a"),
     ("POST", "/channels/a"), ("OPTIONS", "/channels/a"), ("GET", "/runs/x"), ("POST", "/v1/chat/completions")],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_refused(either: Serve, host: str, method: str, path: str) -> None:
    """421 for every method and path, though the page's origin is the name that it says, and nothing is stored."""
    name = host.replace("{port}", str(either.port))
    headers = {"host": name, "origin": f"http://{name}", "sec-fetch-site": "same-origin"}
    answer = httpx2.request(method, either.url + path, headers=headers, content=b"x" if method == "POST" else None)
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "misdirected"
    assert "--allowed-host" in answer.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("host", OWN)
def test_our_own_names_are_answered(either: Serve, host: str) -> None:
    """Those of the loopback, with any port: tunnels and containers change it."""
    answer = httpx2.get(f"{either.url}/health/live", headers={"host": host.replace("{port}", str(either.port))})
    assert answer.status_code == 200


def test_two_hosts_are_both_looked_at(either: Serve) -> None:
    """A second one is not a way in; a request of HTTP/1.0 without any is no browser's."""
    for lines, status in (
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b" 421 "),
        (b"GET /health/live HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\nConnection: close\r\n\r\n", b" 421 "),
        (b"GET /health/live HTTP/1.0\r\n\r\n", b" 200 "),
    ):
        with socket.create_connection(("127.0.0.1", either.port), 30) as connection:
            connection.sendall(lines)
            assert status in connection.recv(4096)[:20]


@pytest.mark.slow
def test_names_can_be_allowed(tmp_path: Path) -> None:
    """One by one, all below a name, from the environment or a file; with a proxy's name the console works too."""
    (tmp_path / "newswire.toml").write_text('allowed-hosts = ["news.example.org", "*.internal.example"]\n')
    with Serve(tmp_path, "--insecure") as server:
        for host, status in (
            ("news.example.org", 200), ("NEWS.example.org:8443", 200), ("a.internal.example", 200),
            ("a.b.internal.example", 200), ("internal.example", 421), ("eviltest.internal.example.evil", 421),
            ("xinternal.example", 421), ("other.example.org", 421), ("localhost", 200),
        ):  # fmt: skip
            answer = httpx2.get(f"{server.url}/", headers={"host": host})
            assert answer.status_code == status, host
        own = {"host": "news.example.org", "origin": "https://news.example.org"}
        assert httpx2.post(f"{server.url}/channels/a", headers=own, content="x").status_code == 200
    with Serve(tmp_path, "--allowed-host", "*") as server:
        assert httpx2.get(f"{server.url}/", headers={"host": "anything.example"}).status_code == 200


@pytest.mark.slow
def test_a_server_on_every_address_answers_to_addresses(tmp_path: Path) -> None:
    """It can't know all that lead to it; no page has an address for a name. Names stay closed."""
    with Serve(tmp_path, "--host", "0.0.0.0", "--insecure") as server:
        for host, status in (("192.0.2.1:8000", 200), ("[2001:db8::1]", 200), ("evil.example", 421), ("box", 421)):
            assert httpx2.get(f"{server.url}/", headers={"host": host}).status_code == status, host


def _status(app: Any, host: bytes, server: tuple[str, int | None] | None) -> int:
    found: list[int] = []

    async def send(message: Any) -> None:
        found.append(message.get("status", 0))

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host)], "server": server}
    asyncio.run(app(scope, None, send))
    return found[0]


async def _fine(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})


@given(st.binary(max_size=40))
def test_no_bytes_are_a_way_in(host: bytes) -> None:
    """Whatever a `Host` holds: it is one of the names, or a 421."""
    app = Hosts(_fine, ["news.example.org"], "127.0.0.1", "X")
    ours = host.lower().partition(b":")[0].rstrip(b".") in (b"localhost", b"127.0.0.1", b"news.example.org")
    status = _status(app, host, None)
    assert status in (200, 421)
    if status == 200:
        assert ours or host.startswith(b"[")


@pytest.mark.slow
def test_the_address_that_a_connection_came_to_is_one_of_ours() -> None:
    """So that a server behind a socket that somebody else opened answers too, and an application in a test."""
    app = Hosts(_fine, [], "127.0.0.1", "X")
    assert _status(app, b"10.1.2.3:80", ("10.1.2.3", 80)) == 200
    assert _status(app, b"10.1.2.4:80", ("10.1.2.3", 80)) == 421
    assert _status(app, b"testserver", ("testserver", None)) == 200
    assert _status(app, b"x", ("/run/newswire.sock", None)) == 421
