"""Attempts to connect: which failures another attempt may cure, and which are raised at once."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from tests.client.conftest import Face
from tests.client.test_protocol import head, machine
from tests.client.test_transports import async_client, fast
from tests.fixtures.ports import free_port
from tests.fixtures.proxies import make_certificate

from newswire.client import AsyncEventSource, EventSource, Limits, Options, Resume, Timeouts
from newswire.client.protocol import Stop, Wait
from newswire.errors import (
    BadStatus,
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    InactivityTimeout,
    ProxyRefused,
    TooManyAttempts,
)
from newswire.testing import Answer, BadServer

ONCE = Options(resume=Resume(reconnect=False))
OF_NO_USE = {403: "403 Forbidden", 405: "405 Method Not Allowed", 407: "user and a password"}


# -- proxies


@pytest.mark.parametrize("status", OF_NO_USE)
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_proxy_that_refuses(library: Any, status: int) -> None:
    """Its answer to CONNECT is as final as a server's, and the error names it, without its password."""
    with BadServer([Answer(b"no", status)]) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        with (
            library.Client(proxy=address.replace("//", "//ann:pa55word@")) as client,
            EventSource("https://a.example/", client=client, options=fast()) as source,
            pytest.raises(ProxyRefused, match=OF_NO_USE[status]) as caught,
        ):
            next(source)
    assert (caught.value.proxy, caught.value.status) == (address, status)
    assert f"the proxy {address} refuses to connect to a.example" in str(caught.value)
    assert "pa55word" not in str(caught.value)
    assert [request.method for request in proxy.requests] == ["CONNECT"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
async def test_a_proxy_that_refuses_in_an_event_loop(name: str) -> None:
    """So it is over each client, for a POST too."""
    with BadServer([Answer(b"no", 407)]) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        async with (
            async_client(name, proxy=address.replace("//", "//ann:pa55word@")) as client,
            AsyncEventSource("https://a.example/", body="x", client=client, options=fast()) as source,
        ):
            with pytest.raises(ProxyRefused, match="user and a password") as caught:
                await anext(source)
    assert (caught.value.proxy, caught.value.status) == (address, 407)
    assert "pa55word" not in f"{caught.value}{caught.value.__cause__}"
    assert len(proxy.requests) == 1


def test_a_proxy_for_plain_http_that_refuses() -> None:
    """Here the proxy answers the request itself: 407 is no status of the server's."""
    with (
        BadServer([Answer(b"who?", 407)]) as proxy,
        httpx2.Client(proxy=proxy.url) as client,
        EventSource("http://a.example/x", client=client, options=fast()) as source,
        pytest.raises(BadStatus, match=r"a proxy before http://a\.example/x answered 407: who"),
    ):
        next(source)


@pytest.mark.parametrize(
    "text", ["Invalid username/password", "Requested NO AUTHENTICATION REQUIRED from proxy server"]
)
def test_a_socks_proxy_that_refuses(text: str) -> None:
    """It has no status; what the library says of it is shown."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ProxyError(text)

    with (
        httpx2.Client(transport=httpx2.MockTransport(refuse)) as client,
        EventSource("https://a.example/", client=client, options=fast()) as source,
        pytest.raises(ProxyRefused, match=text) as caught,
    ):
        next(source)
    assert (caught.value.proxy, caught.value.status) == ("", 407)


# -- certificates


class TlsServer(BadServer):
    """`BadServer` over TLS, with a certificate that it signed itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__([Answer(b"data: a\n\n", end="hang")])
        certificate, key = make_certificate(folder, "a.example")
        self.certificate = certificate
        self.trusted = ssl.create_default_context(cafile=str(certificate))
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self.connections = 0

    def _serve(self, peer: socket.socket, number: int) -> None:
        self.connections += 1
        with self._context.wrap_socket(peer, server_side=True) as wrapped:
            self._keep(wrapped)
            super()._serve(wrapped, number)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    with TlsServer(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
@pytest.mark.parametrize(
    ("host", "trusted", "why"),
    [("127.0.0.1", False, "self-signed certificate"), ("localhost", True, "Hostname mismatch")],
    ids=["self-signed", "of another name"],
)
@pytest.mark.anyio
async def test_a_certificate_that_is_not_accepted(
    tls: TlsServer, name: str, host: str, trusted: bool, why: str
) -> None:
    """A source that has never been open raises it at once."""
    arguments: dict[str, Any] = {}
    if trusted:
        arguments = {"verify": tls.trusted}
        if name == "aiohttp":
            import aiohttp

            arguments = {"connector": aiohttp.TCPConnector(ssl=tls.trusted)}
    before = tls.connections
    async with (
        async_client(name, **arguments) as client,
        AsyncEventSource(f"https://{host}:{tls.port}/", client=client, options=fast()) as source,
    ):
        with pytest.raises(CertificateRejected, match=why):
            await anext(source)
    assert tls.connections - before == 1


def test_a_client_of_our_own_accepts_no_such_certificate_either(tls: TlsServer, face: Face) -> None:
    """The same, without a client of the user's."""
    assert isinstance(face.read(f"https://127.0.0.1:{tls.port}/").error, CertificateRejected)


@pytest.mark.slow
def test_a_command_says_what_is_wrong_with_a_certificate(tls: TlsServer) -> None:
    """It ends at once, and does not ask whether a server runs there; `SSL_CERT_FILE` makes it good."""
    command = [sys.executable, "-m", "newswire", "tail", f"https://127.0.0.1:{tls.port}/", "-n", "1", "--raw"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "(self-signed certificate): name whom to trust in SSL_CERT_FILE" in done.stderr
    assert "newswire serve" not in done.stderr
    trusting = {**os.environ, "SSL_CERT_FILE": str(tls.certificate)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=trusting)
    assert (done.returncode, done.stdout) == (0, "a\n")


def test_a_certificate_that_is_accepted(tls: TlsServer) -> None:
    """The client's settings say whom to trust."""
    with (
        httpx2.Client(verify=tls.trusted) as client,
        EventSource(f"https://127.0.0.1:{tls.port}/", client=client) as source,
    ):
        assert next(source).data == "a"


def test_another_certificate_later_is_survived() -> None:
    """A proxy that is being restarted may show one of its own for a moment."""
    protocol = machine()
    protocol.receive_head(head(), now=0.0)
    protocol.receive_end(now=1.0, chance=0.0)
    protocol.woke()
    protocol.receive_failure(CertificateRejected("another"), now=3.0, chance=0.0)
    assert isinstance(protocol.step, Wait)
    protocol.woke()
    protocol.receive_failure(ProxyRefused("no", proxy="", status=407), now=5.0, chance=0.0)
    assert isinstance(protocol.step, Stop)  # that is an answer, as 401 is


# -- one attempt


def test_one_attempt_that_finds_nobody(face: Face) -> None:
    """With `reconnect` off, a refused connection is raised as what it is."""
    outcome = face.read(f"http://127.0.0.1:{free_port()}/", options=ONCE)
    assert isinstance(outcome.error, ConnectFailed)
    assert (outcome.waits, outcome.stats.attempts, outcome.stats.failures) == ([], 1, 1)


@pytest.mark.parametrize("body", [None, "x"], ids=["GET", "POST"])
def test_one_attempt_that_breaks(face: Face, body: str | None) -> None:
    """So is a connection that breaks before the answer, and an answer that doesn't come."""
    with BadServer([Answer(status=0, end="reset"), Answer(status=0, end="hang")]) as server:
        assert isinstance(face.read(server.url, body=body, options=ONCE).error, ConnectionLost)
        options = Options(resume=ONCE.resume, timeouts=Timeouts(connect=0.1, response=0.1))
        assert isinstance(face.read(server.url, body=body, options=options).error, InactivityTimeout)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [429, 502, 503])
def test_one_attempt_that_comes_at_a_bad_moment(face: Face, status: int) -> None:
    """So is a "not now", which says when to come again."""
    moved = Answer(status=307, headers={"location": "/there"})
    with BadServer([moved, Answer(b"busy", status, headers={"retry-after": "7"})]) as server:
        outcome = face.read(server.url, options=ONCE)
    assert isinstance(outcome.error, BadStatus)
    assert (outcome.error.status, outcome.error.header("retry-after")) == (status, "7")
    assert [request.target for request in server.requests] == ["/events", "/there"]


def test_without_it_all_of_these_are_tried_again(face: Face) -> None:
    """The default: they end only with a limit."""
    answers = [Answer(status=0, end="reset"), Answer(b"busy", 503), Answer(b"data: a\n\n"), Answer(b"busy", 502)]
    with BadServer(answers) as server:
        outcome = face.read(server.url, options=Options(limits=Limits(attempts=3)))
    assert outcome.data == ["a"]
    assert isinstance(outcome.error, TooManyAttempts)
