"""What a source needs of an HTTP library: send one request, read the answer's body piece by piece, let go.

Two protocols of two classes each. An adapter follows no redirects, tries nothing twice, adds no credentials to a
`foreign` request, asks for no compression, and turns its library's errors into ours. `pick` in the package
finds the adapter for what a user gave as `client`.
"""

from __future__ import annotations

import socket
from typing import Any, Final, Protocol

from newswire.client.options import Opened, Timeouts
from newswire.client.request import Request

# The kernel asks an idle peer for a sign of life after a minute, and gives up after another: a machine that lost its
# power or its network is noticed, also where a server sends no heartbeats.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def keep_alive(connection: Any) -> None:
    """Have the kernel watch a TCP connection. `connection` is its socket, or what a library has in its place."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not on every platform
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except (AttributeError, OSError):
        pass  # a unix socket, a pipe, something in memory


class Connection(Protocol):
    """An answer whose body is being read."""

    head: Opened

    def read(self) -> bytes:
        """Some bytes, as soon as there are any; empty at the end. Waits up to the inactivity timeout.

        Raises:
            ConnectionLost: the body broke off.
            InactivityTimeout: nothing came.
        """
        ...

    def close(self) -> None:
        """Let go of the connection, wherever its body is. Idempotent; never raises."""
        ...


class Transport(Protocol):
    """Sends the requests of a sync source."""

    def open(self, request: Request, timeouts: Timeouts) -> Connection:
        """Send a request and wait for the answer's head.

        Raises:
            ConnectFailed: the request was not sent.
            ConnectionLost: it was, and no answer came.
            InactivityTimeout: no answer came in time.
        """
        ...

    def abort(self) -> None:
        """Make a blocked `open` or `read` fail at once, now and from now on. Called from any thread. Idempotent."""
        ...

    def close(self) -> None:
        """Let go of everything that is not the user's."""
        ...


class AsyncConnection(Protocol):
    """`Connection`, for the event loop. Cancelling `read` ends the connection."""

    head: Opened

    async def read(self) -> bytes:
        """As `Connection.read`, but the source watches the time."""
        ...

    async def close(self) -> None:
        """As `Connection.close`."""
        ...


class AsyncTransport(Protocol):
    """`Transport`, for the event loop. There is no `abort`: the source cancels."""

    async def open(self, request: Request, timeouts: Timeouts) -> AsyncConnection:
        """As `Transport.open`, but the source watches `timeouts.response`."""
        ...

    async def close(self) -> None:
        """As `Transport.close`."""
        ...


def library(client: object) -> str:
    """Which library a client comes from: `httpx2`, `httpx`, `aiohttp`, or `` for one of our own protocols."""
    for cls in type(client).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in ("httpx2", "httpx", "aiohttp"):
            return root
    return ""
