"""A response of newswire's for frameworks that don't speak ASGI: its head and its chunks are drawn.

`EventSourceResponse` pushes into `send`. Here it runs in a task, and hands over one chunk at a time to whoever draws.
So all that a stream does on an ASGI server it does here too: replay, heartbeats, goodbyes, an error before the head as
a status code. A reader that draws slowly holds one chunk, and its cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Self

from newswire.delivery.asgi import Message
from newswire.delivery.response import EventSourceResponse
from newswire.delivery.server_stop import SERVER
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.wsgi_stop import WsgiServer


class Exchange:
    """One request and its answer, in one event loop.

    Args:
        content: a subscription, or an iterable of events; see `EventSourceResponse`.
        method: of the request. `HEAD` gets no chunks.
        options: see `StreamOptions`.
        status: of the response.
        headers: more headers of the response.
        accept_encoding: what the request's `Accept-Encoding` says.
        server: ends the stream when it stops; None: it is found, or signals say so.

    Attributes:
        status: of the answer; once `start` has returned.
        headers: of the answer, names in lower case.
    """

    def __init__(
        self,
        content: Subscription | Any,
        *,
        method: str = "GET",
        options: StreamOptions | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        accept_encoding: str | None = None,
        server: WsgiServer | None = None,
    ) -> None:
        self.status: int = status
        self.headers: list[tuple[str, str]] = []
        self._app = EventSourceResponse(content, status_code=status, headers=headers, options=options)
        accepts = (
            [] if accept_encoding is None else [(b"accept-encoding", accept_encoding.encode("latin-1", "replace"))]
        )
        self._scope: dict[str, Any] = {"type": "http", "method": method, "headers": accepts, "http_version": "1.1"}
        if server is not None:
            self._scope["extensions"] = {SERVER: server}
        self._left = asyncio.Event()  # the client
        self._head: asyncio.Future[Message] | None = None
        self._chunk: bytes | None = None
        self._given = asyncio.Event()  # there is a chunk, or no other will come
        self._taken = asyncio.Event()
        self._complete = False  # no other chunk will come, though the content may still be closing
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def begin(
        cls,
        request: Any,
        content: Subscription | Any,
        *,
        options: StreamOptions | None,
        status: int,
        headers: Mapping[str, str] | None,
    ) -> Self:
        """Make one for a framework's request, which has a `method` and `headers`, and start it."""
        exchange = cls(
            content,
            method=str(request.method),
            options=options,
            status=status,
            headers=headers,
            accept_encoding=request.headers.get("Accept-Encoding"),
        )
        await exchange.start()
        return exchange

    @property
    def head(self) -> dict[str, str]:
        """The headers of the answer, with their names as people write them."""
        return dict(pairs(self.headers))

    @property
    def reason(self) -> str:
        """The status with its words, as WSGI wants it."""
        with suppress(ValueError):
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        return f"{self.status} Unknown"

    async def start(self) -> None:
        """Begin, and wait for the head.

        Raises:
            Exception: what the content raised before the head.
        """
        self._head = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name="newswire exchange")
        try:
            message = await asyncio.shield(self._head)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        self.status = message["status"]
        self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]

    async def _run(self) -> None:
        assert self._head is not None
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception as error:  # the outermost frame of the task
            if self._head.done():
                raise
            self._head.set_exception(error)
        finally:
            self._head.cancel()  # if there was none: the client has left before it
            self._given.set()

    async def _receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert self._head is not None
            self._head.set_result(message)
            return
        if message.get("body"):
            self._taken.clear()
            self._chunk = message["body"]
            self._given.set()
            await self._taken.wait()
        if not message.get("more_body"):
            self._complete = True
            self._given.set()

    async def next(self) -> bytes | None:
        """The next chunk; None: the stream has ended."""
        assert self._task is not None
        while self._chunk is None:
            if self._task.done():
                self._task.result()
                return None
            if self._complete:
                return None
            self._given.clear()
            if not self._task.done():
                await self._given.wait()
        chunk, self._chunk = self._chunk, None
        self._taken.set()
        return chunk

    async def chunks(self) -> AsyncIterator[bytes]:
        """All chunks, for a framework that closes the iterator when the client has left."""
        try:
            async for chunk in self:
                yield chunk
        finally:
            await self.aclose()

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """The client has left, or has everything. Idempotent; returns when the stream holds nothing any more."""
        self._left.set()
        self._chunk = None
        self._taken.set()
        if self._task is not None and self._task is not asyncio.current_task():
            while not self._task.done():
                self._chunk = None
                self._taken.set()
                await asyncio.wait([self._task], timeout=0.05)
            with suppress(Exception):  # it was raised where chunks were drawn, or no one draws
                self._task.result()


def pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers with their names as people write them."""
    return [(name.title(), value) for name, value in headers]
