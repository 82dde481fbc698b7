"""What a source needs from an HTTP library: send one request, read the body piece by piece, close the connection.

Sources call these protocols; an adapter for each library implements them. An adapter never follows a redirect, never
sends a request twice, adds no credentials to a `foreign` request and asks for no compression. It turns its library's
errors into ours.
"""

from __future__ import annotations

import socket
import ssl
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from newswire.client.options import Opened, Timeouts
from newswire.client.request import Request
from newswire.errors import CertificateRejected, ConnectFailed, ConnectionLost, ProxyRefused
from newswire.reason import reason
from newswire.redact import printable, without_userinfo
from newswire.wire.gzip import Inflater, is_readable

# After a minute of silence the kernel probes the peer, and gives up after another minute. So a machine that lost its
# power or its network is noticed even if the server sends no heartbeats.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def keep_alive(connection: Any) -> None:
    """Makes the kernel watch a TCP connection. `connection` is its socket, or a library's substitute for it."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not on every platform
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except (AttributeError, OSError):
        pass  # a unix socket, a pipe, or a connection in memory


def inflater(request: Request, encoding: str) -> Inflater | None:
    """Returns what decompresses an answer in bounded pieces. None means that the library reads it as it is.

    Args:
        request: the one that was sent.
        encoding: the answer's `content-encoding`, empty if it has none.
    """
    if not encoding:
        return None  # the body is not compressed
    if is_readable(encoding):
        return Inflater(encoding)
    return None if request.takes_compressed else Inflater()


def connect_failed(url: str, error: BaseException) -> ConnectFailed:
    """Our error for a connection that could not be made; `error` is the library's, with its causes."""
    found: BaseException | None = error
    for _ in range(10):
        if isinstance(found, ssl.SSLCertVerificationError) and (why := getattr(found, "verify_message", "")):
            why = why.rstrip(".")
            return CertificateRejected(
                f"{url}: its certificate is not accepted ({why}): name whom to trust in SSL_CERT_FILE, or give a "
                "client of your own that trusts it"
            )
        found = found and (found.__cause__ or found.__context__)
    return ConnectFailed(_described(url, error))


def connection_lost(url: str, error: BaseException) -> ConnectionLost:
    """Our error for a connection that broke."""
    return ConnectionLost(_described(url, error))


def _described(url: str, error: BaseException) -> str:
    return f"{url}: {printable(without_userinfo(str(error) or reason(error)), lines=False)}"


def proxy_refused(url: str, proxy: str, status: int, words: str = "") -> ProxyRefused:
    """Our error for a proxy that does not connect to a server.

    Args:
        url: of the request.
        proxy: the proxy's address; empty if it is not known.
        status: what it answered.
        words: its own, if the status is not its answer.
    """
    proxy = without_userinfo(proxy)
    if not words:
        try:
            words = f"{status} {HTTPStatus(status).phrase}"
        except ValueError:
            words = str(status)
    hint = ": give it a user and a password, in its own URL" if status == 407 else ""
    name = f"the proxy {proxy}" if proxy else "the proxy"
    message = printable(f"{name} refuses to connect to {urlsplit(url).netloc} ({words}){hint}", lines=False)
    return ProxyRefused(message, proxy=proxy, status=status)


class Connection(Protocol):
    """An answer, and the connection that its body comes from."""

    head: Opened

    def read(self) -> bytes:
        """Returns bytes as soon as some have come; none at the end. Waits up to the inactivity timeout.

        Raises:
            ConnectionLost: the body broke off.
            InactivityTimeout: no bytes came in time.
        """
        ...

    def close(self) -> None:
        """Close the connection, even in the middle of the body. Idempotent; never raises."""
        ...


class Transport(Protocol):
    """Sends the requests of a sync source."""

    def open(self, request: Request, timeouts: Timeouts) -> Connection:
        """Send a request and wait for the answer's head.

        Raises:
            ConnectFailed: the request was not sent. `CertificateRejected` and `ProxyRefused` say that another attempt
                may be of no use.
            ConnectionLost: the request was sent, and the connection broke before the answer.
            InactivityTimeout: no answer came in time.
        """
        ...

    def abort(self) -> None:
        """Make a blocked `open` or `read` fail at once, now and from now on. Called from any thread. Idempotent."""
        ...

    def close(self) -> None:
        """Close everything but the user's own client."""
        ...


class AsyncConnection(Protocol):
    """`Connection`, for the event loop. Cancelling `read` ends the connection."""

    head: Opened

    async def read(self) -> bytes:
        """As `Connection.read`, but the source itself limits the time."""
        ...

    async def close(self) -> None:
        """As `Connection.close`."""
        ...


class AsyncTransport(Protocol):
    """`Transport`, for the event loop. It has no `abort`: the source cancels the task."""

    async def open(self, request: Request, timeouts: Timeouts) -> AsyncConnection:
        """As `Transport.open`, but the source itself limits the time."""
        ...

    async def close(self) -> None:
        """As `Transport.close`."""
        ...


def library(client: object) -> str:
    """The library that a client comes from: `httpx2`, `httpx` or `aiohttp`; empty if it is none of these."""
    for cls in type(client).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in ("httpx2", "httpx", "aiohttp"):
            return root
    return ""
