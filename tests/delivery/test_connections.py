"""What else can stand between a stream and its client: middleware, TLS, HTTP/1.0, pipelining, a client in a hurry."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.fixtures.asgi_servers import PATIENCE, Server, Stream, running

BOTH = ["direct", "direct, asyncio", "uvicorn", "uvicorn, handed"]
END = r"\r\n0\r\n\r\n"  # of a chunked body


@pytest.fixture(scope="module", params=BOTH)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flags that make uvicorn serve HTTPS."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    _self_signed(key, certificate)
    return ["--ssl-keyfile", str(key), "--ssl-certfile", str(certificate)]


def _self_signed(key: Path, certificate: Path) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(secret, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(secret.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))


@pytest.mark.slow
def test_a_client_gone_before_the_first_item(server: Server) -> None:
    """The iterable is closed though nothing was sent; so is one that a thread is drawing from."""
    with server.get("/never"):
        pass
    server.until_closed("never")
    with server.get("/blocking") as stream:
        stream.until("one")
    server.until_closed("blocking")


@pytest.mark.slow
def test_clients_gone_right_after_their_request(server: Server) -> None:
    """Whenever the client goes, before the head, with it or after it, no slot stays taken."""
    for _ in range(100):
        server.get("/events").connection.close()
    server.until_subscribers(0)
    with server.get("/events") as stream:
        stream.until("id: ")


def test_a_client_that_resets(server: Server) -> None:
    """A reset connection frees its slot at the next heartbeat at the latest, and costs the others nothing."""
    with server.get("/events") as healthy:
        healthy.until("id: ")
        for _ in range(20):
            stream = server.get("/events?heartbeat=0.5")
            stream.until("id: ")
            never = struct.pack("ii", 1, 0)  # linger for 0 seconds: close() sends a RST
            stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, never)
            stream.connection.close()
        server.until_subscribers(1)
        server.publish("still here")
        healthy.until("still here")


def test_half_closed(server: Server) -> None:
    """A client that shuts its sending side is one that has gone, as everywhere on the web."""
    with server.get("/events") as stream:
        stream.until("id: ")
        stream.connection.shutdown(socket.SHUT_WR)
        stream.rest()
    server.until_subscribers(0)


@pytest.mark.slow
def test_keep_alive_after_a_stream_that_ended(server: Server) -> None:
    """A stream's connection is good for the next request, and for the next stream."""
    with server.get("/tokens") as stream:
        stream.until(END)
        for _ in range(3):
            stream.text = ""
            stream.send("/tokens")
            stream.until(END)
            assert stream.text.count("HTTP/1.1 200 OK") == 1
        stream.text = ""
        stream.send("/events")
        stream.until("id: ")


@pytest.mark.slow
def test_keep_alive_after_a_goodbye(server: Server) -> None:
    """A subscription that reached its maximum age gives its connection back whole."""
    with server.get("/events?max_age=0.5") as stream:
        stream.until(END)
        assert "newswire.goodbye" in stream.text
        stream.text = ""
        stream.send("/stats")
        stream.until("subscribers")


@pytest.mark.slow
def test_pipelined(server: Server) -> None:
    """A request that came during a stream is answered after it, once, and one with a body too."""
    with server.get("/events?max_age=0.5") as stream:
        stream.until("id: ")
        stream.send("/publish", method="POST", body=b"pipelined")
        stream.send("/tokens")
        stream.send("/stats", "Connection: close")
        text = stream.rest()
        assert text.count("HTTP/1.1 200 OK") == 4
        order = [text.index(mark) for mark in ("newswire.goodbye", '{"id"', "data: three", '"subscribers"')]
        assert order == sorted(order)


@pytest.mark.slow
def test_pipelined_with_the_request(server: Server) -> None:
    """Two requests in one packet: the stream, then the next request's answer."""
    with server.get("/stats") as stream:
        stream.until("subscribers")
        one, two = (f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in ("/events?max_age=0.5", "/stats"))
        stream.text = ""
        stream.connection.sendall((one + two).encode())
        text = stream.until(r'"subscribers"')
        assert text.index("newswire.goodbye") < text.index("subscribers")


@pytest.mark.slow
def test_much_that_comes_during_a_stream_waits_in_the_kernel(server: Server) -> None:
    """A client that asks without end during its stream is not read, and the stream goes on."""
    with server.get("/events?heartbeat=0.5") as stream:
        stream.until("id: ")
        stream.connection.setblocking(False)
        requests = b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 * 2**20:
                sent += stream.connection.send(requests[sent % len(requests) :])
        assert sent < 64 * 2**20
        stream.connection.settimeout(PATIENCE)
        server.publish("goes on")
        stream.until("goes on")
    server.until_subscribers(0)


@pytest.mark.slow
def test_a_body_that_is_late(server: Server) -> None:
    """A POST whose body comes during its stream is no second request."""
    with Stream(server.connect()) as stream:
        stream.connection.sendall(b"POST /tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n0123456789")
        stream.until("data: one")
        stream.connection.sendall(b"0123456789")
        stream.until(END)
        stream.send("/stats", "Connection: close")
        assert "subscribers" in stream.rest()
    with Stream(server.connect()) as stream:
        head = "POST /events?max_age=0.5 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n0123456789"
        stream.connection.sendall(head.encode())
        stream.until("id: ")
        stream.connection.sendall(b"0123456789")
        stream.until(END)
        stream.send("/stats", "Connection: close")
        assert "subscribers" in stream.rest()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/tokens", "/events?max_age=0.5"])
@pytest.mark.parametrize("server", ["direct", "direct, asyncio"], indirect=True)  # uvicorn's own sends chunks
def test_http_1_0_ends_with_the_connection(server: Server, path: str) -> None:
    """There are no chunks, not even for a client that would like to keep the connection."""
    with server.get(path, "Connection: keep-alive", version="1.0") as stream:
        text = stream.rest()
        assert "transfer-encoding" not in text.lower()
        assert re.search(r"data: three\n\n$|newswire\.goodbye\ndata: [^\n]*\n\n$", text)
        assert not re.search(r"\r\n[0-9a-f]+\r\n", text.partition("\r\n\r\n")[2])


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/tokens", "/never", "/blocking", "/events"])
def test_head_opens_nothing(server: Server, path: str) -> None:
    """HEAD of any stream: headers at once, no body, the connection usable, nothing left open."""
    with server.get(path, method="HEAD") as stream:
        head = stream.until("\r\n\r\n")
        assert "text/event-stream" in head
        stream.text = ""
        stream.send("/tokens")
        assert stream.until(END).startswith("HTTP/1.1 200 OK")
    server.until_subscribers(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["direct, wrapped", "direct, gzip"])
def test_middleware(name: str) -> None:
    """BaseHTTPMiddleware and GZip let events through at once and readable; a client that leaves is noticed."""
    with running(name) as server:
        with server.get("/events", "Accept-Encoding: gzip") as stream, server.get("/never"):
            head = stream.until("id: ")
            assert "content-encoding" not in head.lower()
            server.publish("through")
            stream.until("data: through\n\n")
        server.until_subscribers(0)
        server.until_closed("never")


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH)
def test_tls(name: str, certificate: list[str]) -> None:
    """Encrypted: streams, large events, the connection after a stream, a client that reads nothing, and SIGTERM."""
    with running(name, *certificate, "--timeout-graceful-shutdown", "3") as server:
        with server.get("/events?max_age=0.5") as stream:
            stream.until(END)
            stream.text = ""
            stream.send("/stats")
            stream.until("subscribers")
        server.until_subscribers(0)
        with server.get("/events?write_timeout=1") as stuck, server.get("/events") as healthy:
            stuck.until("id: ")
            healthy.until("id: ")
            for number in range(40):
                server.publish("x" * 200_000 + f" {number}.")
                healthy.text = ""
                healthy.until(f" {number}\\.\n\n")
            server.until_subscribers(1)
            server.process.send_signal(signal.SIGTERM)
            assert "newswire.goodbye" in healthy.rest()  # read at once: TLS ends with an answer from the client
        assert server.stop() < 8
