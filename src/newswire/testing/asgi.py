"""An HTTP client for an ASGI application in memory, for tests of streams.

The transports of the HTTP libraries collect the whole body before they return, so a stream makes them hang. Here the
response returns with its head, and the body comes piece by piece. `send` waits until the client has read a piece, and
closing the response is `http.disconnect` for the application. Nothing here opens a socket, or runs a lifespan.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class AppExchange:
    """One request to an application, and its answer.

    Attributes:
        status: the status of the answer; 0 until `started` has returned.
        headers: the headers of the answer.
    """

    def __init__(self, app: App, scope: dict[str, Any], body: bytes) -> None:
        self.status: int = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._request = body
        self._asked = False
        self._gone = asyncio.Event()
        self._head = asyncio.Event()
        # One piece, so that the application is never more than one piece ahead of its reader.
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._over = False
        self._task = asyncio.ensure_future(self._run(app, scope))

    async def _run(self, app: App, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._head.set()
            if not self._gone.is_set():
                await self._put(None)

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._request, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._head.set()
        elif message["type"] == "http.response.body":
            if message.get("body"):
                await self._put(bytes(message["body"]))
            if not message.get("more_body", False):
                await self._put(None)

    async def _put(self, piece: bytes | None) -> None:
        putting = asyncio.ensure_future(self._pieces.put(piece))
        gone = asyncio.ensure_future(self._gone.wait())
        try:  # the send() of a real server returns too when the client has left
            await asyncio.wait((putting, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            gone.cancel()

    async def started(self) -> None:
        """Wait for the head.

        Raises:
            Exception: the application raised it before the head.
        """
        try:
            await self._head.wait()
        except BaseException:
            await self.close()
            raise
        if not self.status:
            await self._task
            raise RuntimeError("the application returned without an answer")

    def pieces(self) -> AsyncIterator[bytes]:
        """Iterates over the body, as it comes. You may cancel the wait for a piece and wait again.

        Raises:
            Exception: the application raised it.
        """
        return _Pieces(self)

    async def piece(self) -> bytes | None:
        """Returns the next piece of the body; None at its end."""
        if self._over:
            return None
        piece = await self._pieces.get()
        if piece is None:
            self._over = True
            if self._task.done():
                self._task.result()
        return piece

    async def close(self) -> None:
        """Disconnects the client, and waits for the application to end. After a second it is cancelled."""
        self._gone.set()
        if not self._task.done():
            await asyncio.wait((self._task,), timeout=1)
            self._task.cancel()
            await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.exception()


class _Pieces(AsyncIterator[bytes]):
    def __init__(self, exchange: AppExchange) -> None:
        self._exchange = exchange

    async def __anext__(self) -> bytes:
        piece = await self._exchange.piece()
        if piece is None:
            raise StopAsyncIteration
        return piece


def _scope(request: Any, client: tuple[str, int]) -> dict[str, Any]:
    raw_path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": client,
        "server": (request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)),
        "extensions": {},
        "state": {},
    }


def asgi_client(app: App, *, library: str = "httpx2", base_url: str = "http://test", **arguments: Any) -> Any:
    """Returns an async client whose requests go to `app`, and whose responses stream.

    Args:
        app: an ASGI application; its lifespan is not run.
        library: `httpx2` or `httpx`, whose `AsyncClient` is returned.
        base_url: the base of relative URLs.
        arguments: more arguments for the client.

    Raises:
        ImportError: the library is not installed.
    """
    try:
        httpx = importlib.import_module(library)
    except ImportError as error:
        raise ImportError(f"asgi_client needs {library}: pip install {library}") from error

    class Body(httpx.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, exchange: AppExchange) -> None:
            self._exchange = exchange

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._exchange.pieces()

        async def aclose(self) -> None:
            await self._exchange.close()

    class Transport(httpx.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        async def handle_async_request(self, request: Any) -> Any:
            exchange = AppExchange(app, _scope(request, ("127.0.0.1", 50000)), await request.aread())
            await exchange.started()
            return httpx.Response(exchange.status, headers=exchange.headers, stream=Body(exchange), request=request)

    return httpx.AsyncClient(transport=Transport(), base_url=base_url, **arguments)
