"""The adapters for httpx2 and httpx, which have one API. They use a client of our own, or the user's.

They never close the user's client. HTTP/2, proxies, unix sockets, TLS settings and auth are set on such a client. Its
timeouts are not used: their default, 5 seconds without a byte, would end every quiet stream.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from types import FrameType, ModuleType
from typing import Any, Final
from urllib.parse import unquote_plus, urlencode, urlsplit

from newswire.client.options import Opened, Timeouts
from newswire.client.request import Request
from newswire.client.transports.base import (
    connect_failed,
    connection_lost,
    inflater,
    keep_alive,
    library,
    proxy_refused,
)
from newswire.errors import ConnectionLost, InactivityTimeout, SourceError
from newswire.redact import is_credential
from newswire.wire.gzip import Inflater

# How the libraries begin the text of an error: the status that a proxy answered; a SOCKS proxy takes no such login.
_PROXY_ANSWER: Final = re.compile(r"[1-9][0-9]{2}(?= |$)")
_SOCKS_LOGIN: Final = ("Requested ", "Invalid username/password")


def _default_library() -> ModuleType:
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise ImportError("an event source needs httpx2: pip install 'newswire[client]', or give a client") from error


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once, since each context takes 20 ms and a megabyte to load the trusted certificates."""
    context: ssl.SSLContext = _default_library().create_ssl_context()
    return context


def _own_client(kind: str) -> Any:
    httpx2 = _default_library()
    limits = httpx2.Limits(max_keepalive_connections=0)  # one connection for one stream, and none stays open after it
    return getattr(httpx2, kind)(verify=_tls(), limits=limits)


def _head(response: Any) -> Opened:
    headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw)
    return Opened(url=str(response.url), status=response.status_code, headers=headers)


def _translate(httpx: ModuleType, error: Exception, url: str, seconds: float | None, client: Any = None) -> SourceError:
    """Returns our error for one of the library's `TransportError`s; `client` is the one that could not connect."""
    if isinstance(error, httpx.ProxyError):
        text = str(error)
        if answer := _PROXY_ANSWER.match(text):
            return proxy_refused(url, _proxy(httpx, client, url), int(answer[0]))
        if text.startswith(_SOCKS_LOGIN):
            return proxy_refused(url, _proxy(httpx, client, url), 407, text)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)):
        return connect_failed(url, error)
    if isinstance(error, httpx.ReadTimeout) and seconds is not None:
        return InactivityTimeout(seconds)
    return connection_lost(url, error)


def _proxy(httpx: ModuleType, client: Any, url: str) -> str:
    """The proxy by which a client reaches an address; empty if the library doesn't say."""
    try:
        place = client._transport_for_url(httpx.URL(url))._pool._proxy_url
        return f"{place.scheme.decode()}://{place.host.decode()}{f':{place.port}' if place.port else ''}"
    except (AttributeError, UnicodeError):
        return ""


def _refused(httpx: ModuleType, error: Exception) -> bool:
    """Whether the library refused the request itself, so that another attempt would fail in the same way."""
    return isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError))


def _stream_of_caller(frame: FrameType | None) -> Any:
    """Returns the network stream of the connection whose code reports an event.

    A connection that is used again reports no connecting, and the library gives out its socket only with the answer's
    head. So `abort` could not wake a thread that waits for the head. But the connection that reports is on the stack.
    """
    while frame is not None:
        stream = getattr(frame.f_locals.get("self"), "_network_stream", None)
        if stream is not None:
            return stream
        frame = frame.f_back
    return None


def _url(client: Any, request: Request) -> str:
    """The address, and what the client adds to each query; the library would put that in place of the query."""
    if request.foreign:
        return request.url  # it may be a key, and is meant for the origin that the user named
    query = urlsplit(request.url).query
    own = {unquote_plus(pair.partition("=")[0]) for pair in query.split("&")}
    added = urlencode([(name, value) for name, value in client.params.multi_items() if name not in own])
    return f"{request.url}{'&' if '?' in request.url else '?'}{added}" if added else request.url


def _arguments(client: Any, request: Request) -> tuple[Any, dict[str, Any]]:
    """Returns the library's request, and the arguments to send it with."""
    built = client.build_request(request.method, request.url, headers=list(request.headers), content=request.body)
    if client.params:
        built.url = type(built.url)(_url(client, request))
    sending: dict[str, Any] = {"stream": True, "follow_redirects": False}
    if request.foreign:
        # What the client adds to every request is meant for the origin that the user named.
        for name in [name for name in built.headers if is_credential(name)]:
            del built.headers[name]
        sending["auth"] = None
    return built, sending


class HttpxConnection:
    """A `Connection` over a sync response."""

    def __init__(self, transport: HttpxTransport, response: Any, timeouts: Timeouts, inflater: Inflater | None) -> None:
        self.head: Opened = _head(response)
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
            pass  # the connection is gone in any case
        finally:
            self._transport.release()


class HttpxTransport:
    """A `Transport` over `httpx2.Client` or `httpx.Client`.

    Args:
        client: the user's client. None makes one of our own.
    """

    def __init__(self, client: Any = None) -> None:
        self.httpx: ModuleType = importlib.import_module(library(client)) if client is not None else _default_library()
        self._own = client is None
        self._client: Any = client if client is not None else _own_client("Client")
        # A second handle of the connection's socket, for `abort`. The library's own can't be reached while it connects,
        # and another thread must not touch it.
        self._second_handle: socket.socket | None = None
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
        except self.httpx.HTTPStatusError as error:
            response = error.response  # a hook of the user's client raised it; the protocol decides what a status means
        except self.httpx.TransportError as error:
            self.release()
            if _refused(self.httpx, error):
                raise
            raise _translate(self.httpx, error, request.url, timeouts.response, self._client) from error
        except BaseException:
            self.release()
            raise
        stream = response.extensions.get("network_stream")
        if stream is not None:
            self._hold(stream)
        clocks["read"] = timeouts.inactivity  # the library reads it again with the body
        encoding = response.headers.get("content-encoding", "")
        return HttpxConnection(self, response, timeouts, inflater(request, encoding))

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        if name in ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete"):
            self._hold(info["return_value"])
        elif name.endswith(".send_request_headers.started") and self._second_handle is None:
            stream = _stream_of_caller(inspect.currentframe())
            if stream is not None:
                self._hold(stream)

    def _hold(self, stream: Any) -> None:
        found = stream.get_extra_info("socket")
        keep_alive(found)
        with self._lock:
            if isinstance(found, socket.socket) and self._second_handle is None and found.fileno() >= 0:
                self._second_handle = socket.socket(fileno=socket.dup(found.fileno()))
            if self._aborted:
                self._shut_down()

    def _shut_down(self) -> None:
        if self._second_handle is not None:
            try:
                # On the socket itself, below TLS: a thread that is blocked in it wakes up and reads the end.
                self._second_handle.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer has closed it already

    def release(self) -> None:
        """Close the second handle, which would keep the connection open."""
        with self._lock:
            lever, self._second_handle = self._second_handle, None
        if lever is not None:
            lever.close()

    def abort(self) -> None:
        with self._lock:
            self._aborted = True
            self._shut_down()

    def close(self) -> None:
        self.release()
        if self._own:
            self._client.close()


class AsyncHttpxConnection:
    """An `AsyncConnection` over an async response."""

    def __init__(self, httpx: ModuleType, response: Any, inflater: Inflater | None) -> None:
        self.head: Opened = _head(response)
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
            pass  # the connection is gone in any case


class AsyncHttpxTransport:
    """An `AsyncTransport` over `httpx2.AsyncClient` or `httpx.AsyncClient`.

    Args:
        client: the user's client. None makes one of our own.
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
        except self._httpx.HTTPStatusError as error:
            response = error.response  # as in the twin
        except self._httpx.TransportError as error:
            if _refused(self._httpx, error):
                raise
            raise _translate(self._httpx, error, request.url, None, self._client) from error
        stream = response.extensions.get("network_stream")
        if stream is not None:
            keep_alive(stream.get_extra_info("socket"))
        encoding = response.headers.get("content-encoding", "")
        return AsyncHttpxConnection(self._httpx, response, inflater(request, encoding))

    async def close(self) -> None:
        if self._own:
            await self._client.aclose()
