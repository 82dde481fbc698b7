"""httpx2 and httpx, which have one API: our own client by default, or the user's, which is never closed.

HTTP/2, proxies, unix sockets, TLS settings and auth are theirs: give a client that has them. The client's own timeouts
are not used: 5 seconds without a byte, their default, would end every quiet stream.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from types import FrameType, ModuleType
from typing import Any

from newswire.client.options import Opened, Timeouts
from newswire.client.request import Request
from newswire.client.transports.base import keep_alive, library
from newswire.errors import ConnectFailed, ConnectionLost, InactivityTimeout, SourceError
from newswire.redact import is_credential
from newswire.wire.inflate import Inflater, is_readable


def _default_library() -> ModuleType:
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise ImportError("an event source needs httpx2: pip install 'newswire[client]', or give a client") from error


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: loading the trusted certificates takes 20 ms and a megabyte for each context."""
    context: ssl.SSLContext = _default_library().create_ssl_context()
    return context


def _own_client(kind: str) -> Any:
    httpx2 = _default_library()
    limits = httpx2.Limits(max_keepalive_connections=0)  # one stream, one connection, none left behind
    return getattr(httpx2, kind)(verify=_tls(), limits=limits)


def _head(response: Any) -> Opened:
    headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw)
    return Opened(url=str(response.url), status=response.status_code, headers=headers)


def _translate(httpx: ModuleType, error: Exception, url: str, seconds: float | None) -> SourceError:
    """Our error for one of the library's `TransportError`s."""
    text = f"{url}: {str(error) or type(error).__name__}"
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)):
        return ConnectFailed(text)
    if isinstance(error, httpx.ReadTimeout) and seconds is not None:
        return InactivityTimeout(seconds)
    return ConnectionLost(text)


def _refused(httpx: ModuleType, error: Exception) -> bool:
    """Whether the library found the request itself bad: trying again would loop."""
    return isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError))


def _stream_of_caller(frame: FrameType | None) -> Any:
    """The network stream of the connection whose code reports an event.

    A connection that is used again reports no connecting, and the library gives its socket out with the answer's head
    only. So whoever waits for the head could not be woken. The connection is on the stack: it is the one that reports.
    """
    while frame is not None:
        stream = getattr(frame.f_locals.get("self"), "_network_stream", None)
        if stream is not None:
            return stream
        frame = frame.f_back
    return None


def _arguments(client: Any, request: Request) -> tuple[Any, dict[str, Any]]:
    """The library's request, and how to send it."""
    built = client.build_request(request.method, request.url, headers=list(request.headers), content=request.body)
    sending: dict[str, Any] = {"stream": True, "follow_redirects": False}
    if request.foreign:
        # What the client adds to every request was meant for the origin that the user named.
        for name in [name for name in built.headers if is_credential(name)]:
            del built.headers[name]
        sending["auth"] = None
    return built, sending


def _inflater(request: Request, response: Any) -> Inflater | None:
    """What decompresses the answer in bounded pieces; None: the library reads it, as the user has asked."""
    encoding = response.headers.get("content-encoding", "")
    if not encoding:
        return None  # there is nothing to do, and the library does that as well
    if is_readable(encoding):
        return Inflater(encoding)
    return None if request.takes_compressed else Inflater()


class HttpxConnection:
    """A `Connection` over a sync response."""

    def __init__(self, transport: HttpxTransport, response: Any, timeouts: Timeouts, inflater: Inflater | None) -> None:
        self.head = _head(response)
        self._transport = transport
        self._response = response
        self._inactivity = timeouts.inactivity
        self._inflater = inflater
        self._chunks: Iterator[bytes] = response.iter_bytes() if inflater is None else response.iter_raw()
        self._pieces: Iterator[bytes] = iter(())

    def read(self) -> bytes:
        httpx = self._transport.httpx
        try:
            while not (piece := next(self._pieces, b"")):
                data = next(self._chunks, b"")
                if self._inflater is None or not data:
                    return data
                self._pieces = self._inflater.feed(data)
            return piece
        except httpx.TransportError as error:
            raise _translate(httpx, error, self.head.url, self._inactivity) from error
        except (httpx.StreamError, ValueError) as error:
            raise ConnectionLost(f"{self.head.url}: {error}") from error

    def close(self) -> None:
        try:
            self._chunks.close()  # type: ignore[attr-defined]
            self._response.close()
        except (self._transport.httpx.TransportError, RuntimeError, OSError):
            pass  # it is gone either way
        finally:
            self._transport.let_go()


class HttpxTransport:
    """A `Transport` over `httpx2.Client` or `httpx.Client`.

    Args:
        client: the user's; None: one of our own.
    """

    def __init__(self, client: Any = None) -> None:
        self.httpx: ModuleType = importlib.import_module(library(client)) if client is not None else _default_library()
        self._own = client is None
        self._client: Any = client if client is not None else _own_client("Client")
        # A second handle of the connection's socket, for `abort`: the library's own is out of reach while it connects,
        # and not to be touched by another thread.
        self._lever: socket.socket | None = None
        self._lock = threading.Lock()
        self._aborted = False

    def open(self, request: Request, timeouts: Timeouts) -> HttpxConnection:
        built, sending = _arguments(self._client, request)
        connect = timeouts.response if timeouts.connect is None else timeouts.connect
        clocks = {
            "connect": connect,
            "pool": connect,
            "write": timeouts.response,
            "read": timeouts.response,
        }
        built.extensions = {**built.extensions, "timeout": clocks, "trace": self._trace}
        try:
            response = self._client.send(built, **sending)
        except self.httpx.TransportError as error:
            self.let_go()
            if _refused(self.httpx, error):
                raise
            raise _translate(self.httpx, error, request.url, timeouts.response) from error
        except BaseException:
            self.let_go()
            raise
        stream = response.extensions.get("network_stream")
        if stream is not None:
            self._hold(stream)
        clocks["read"] = timeouts.inactivity  # read anew when the body is
        return HttpxConnection(self, response, timeouts, _inflater(request, response))

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        if name in ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete"):
            self._hold(info["return_value"])
        elif name.endswith(".send_request_headers.started") and self._lever is None:
            stream = _stream_of_caller(inspect.currentframe())
            if stream is not None:
                self._hold(stream)

    def _hold(self, stream: Any) -> None:
        found = stream.get_extra_info("socket")
        keep_alive(found)
        with self._lock:
            if isinstance(found, socket.socket) and self._lever is None and found.fileno() >= 0:
                self._lever = socket.socket(fileno=socket.dup(found.fileno()))
            if self._aborted:
                self._pull()

    def _pull(self) -> None:
        if self._lever is not None:
            try:
                # On the socket itself, past TLS: a thread that is blocked in it wakes up, and reads the end.
                self._lever.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was faster

    def let_go(self) -> None:
        """Drop the second handle: until then the connection would stay open."""
        with self._lock:
            lever, self._lever = self._lever, None
        if lever is not None:
            lever.close()

    def abort(self) -> None:
        with self._lock:
            self._aborted = True
            self._pull()

    def close(self) -> None:
        self.let_go()
        if self._own:
            self._client.close()


class AsyncHttpxConnection:
    """An `AsyncConnection` over an async response."""

    def __init__(self, httpx: ModuleType, response: Any, inflater: Inflater | None) -> None:
        self.head = _head(response)
        self._httpx = httpx
        self._response = response
        self._inflater = inflater
        self._chunks: AsyncIterator[bytes] = response.aiter_bytes() if inflater is None else response.aiter_raw()
        self._pieces: Iterator[bytes] = iter(())

    async def read(self) -> bytes:
        try:
            while not (piece := next(self._pieces, b"")):
                data = await anext(self._chunks, b"")
                if self._inflater is None or not data:
                    return data
                self._pieces = self._inflater.feed(data)
            return piece
        except self._httpx.TransportError as error:
            raise _translate(self._httpx, error, self.head.url, None) from error
        except (self._httpx.StreamError, ValueError) as error:
            raise ConnectionLost(f"{self.head.url}: {error}") from error

    async def close(self) -> None:
        try:
            await self._chunks.aclose()  # type: ignore[attr-defined]
            await self._response.aclose()
        except (self._httpx.TransportError, RuntimeError, OSError):
            pass  # it is gone either way


class AsyncHttpxTransport:
    """An `AsyncTransport` over `httpx2.AsyncClient` or `httpx.AsyncClient`.

    Args:
        client: the user's; None: one of our own.
    """

    def __init__(self, client: Any = None) -> None:
        self._httpx: ModuleType = importlib.import_module(library(client)) if client is not None else _default_library()
        self._own = client is None
        self._client: Any = client if client is not None else _own_client("AsyncClient")

    async def open(self, request: Request, timeouts: Timeouts) -> AsyncHttpxConnection:
        built, sending = _arguments(self._client, request)
        clocks = {"connect": timeouts.connect, "pool": timeouts.connect, "write": None, "read": None}
        built.extensions = {**built.extensions, "timeout": clocks}
        try:
            response = await self._client.send(built, **sending)
        except self._httpx.TransportError as error:
            if _refused(self._httpx, error):
                raise
            raise _translate(self._httpx, error, request.url, None) from error
        stream = response.extensions.get("network_stream")
        if stream is not None:
            keep_alive(stream.get_extra_info("socket"))
        return AsyncHttpxConnection(self._httpx, response, _inflater(request, response))

    async def close(self) -> None:
        if self._own:
            await self._client.aclose()
