"""A request and its response as uvicorn has them, on a connection that may be lent to the hub; see `fast.uvicorn`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http import httptools_impl

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
else:  # `missing` finds what a uvicorn lacks
    RequestResponseCycle = getattr(httptools_impl, "RequestResponseCycle", object)


class Cycle(RequestResponseCycle):
    """A request and its response, whose connection may be lent. For uvicorn the response is complete then."""

    stream_over: asyncio.Event | None = None  # set in the end, once the connection was lent

    async def receive(self) -> Any:
        message = await super().receive()
        if self.stream_over is not None:
            await self.stream_over.wait()  # the client's disconnect, or the end of the stream
        return message


class HeldHead:
    """A transport for a response's head alone: it is kept here, so that a stream sends it with its first bytes."""

    __slots__ = ("_cycle", "_real", "_head")

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._real: asyncio.Transport = cycle.transport
        self._head = b""
        cycle.transport = self

    def __getattr__(self, name: str) -> Any:  # whatever else a transport has
        return getattr(self._real, name)

    def write(self, data: bytes) -> None:
        if not self._head:
            self._head = data
        else:  # a middleware has sent more
            self.let_go()
            self._real.write(data)

    def close(self) -> None:
        self.let_go()
        self._real.close()

    def take(self) -> bytes:
        """The head, which is the caller's to write; empty if it was not sent, or written already."""
        self._cycle.transport = self._real
        head, self._head = self._head, b""
        return head

    def let_go(self) -> None:
        """Write the head, as if it had never been held. Idempotent."""
        head = self.take()
        if head:
            self._real.write(head)


class Http10Cycle(Cycle):
    """A response to an HTTP/1.0 client, which knows no chunked coding: its body ends with the connection."""

    chunked_encoding: bool | None
    expected_content_length: int

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            if b"content-length" not in names:
                self.chunked_encoding = False
                self.expected_content_length = 0
        elif self.chunked_encoding is False and not self._has_length:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)

    @property
    def _has_length(self) -> bool:
        return self.expected_content_length > 0
