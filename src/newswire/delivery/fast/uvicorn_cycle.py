"""A request and its response as uvicorn has them, on a connection that may be lent to the hub; see `fast.uvicorn`.

`missing` finds the names that newswire's protocol relies on, that are not public, and that this uvicorn lacks. It is
called when the protocol is imported. A version that has renamed one of them then costs the direct path, with a warning,
and no request.
"""

from __future__ import annotations

import asyncio
import dis
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http import httptools_impl

_METHODS: Final = """
    _unset_keepalive_if_required connection_lost connection_made data_received on_body on_headers_complete
    on_message_begin on_message_complete on_response_complete pause_writing resume_writing send_400_response shutdown
    timeout_keep_alive_handler
"""
_ATTRIBUTES: Final = """
    access_log app cycle expect_100_continue flow headers limit_concurrency loop parser pipeline scope server
    server_state tasks timeout_keep_alive timeout_keep_alive_task transport
"""
_OF_A_CYCLE: Final = """
    access_log body chunked_encoding default_headers disconnected expected_content_length keep_alive message_event
    more_body on_response response_complete response_started scope transport
    waiting_for_100_continue
"""


def missing(module: Any) -> list[str]:
    """What of it uvicorn does not have.

    Args:
        module: `uvicorn.protocols.http.httptools_impl`.
    """
    names = ("HttpToolsProtocol", "RequestResponseCycle", "FlowControl", "ServerState")
    protocol, cycle, flow, state = (getattr(module, name, object) for name in names)
    return [
        *_without(protocol, _METHODS),
        *_without(cycle, "send receive"),
        *_without(flow, "pause_reading resume_reading resume_writing"),
        *_not_set_by(protocol, "__init__", _ATTRIBUTES),
        *_not_set_by(protocol, "on_message_begin", "expect_100_continue headers scope url"),
        *_not_set_by(cycle, "__init__", _OF_A_CYCLE),
        *_not_set_by(flow, "__init__", "write_paused"),
        *_not_set_by(state, "__init__", "total_requests"),
    ]


def _without(kind: type, names: str) -> list[str]:
    """The methods that a class does not have."""
    return [name for name in names.split() if not callable(getattr(kind, name, None))]


def _not_set_by(kind: type, method: str, names: str) -> list[str]:
    """The attributes that a method does not set."""
    function = getattr(kind, method, None)
    steps = dis.get_instructions(function) if isinstance(function, FunctionType) else ()
    found = {step.argval for step in steps if step.opname == "STORE_ATTR"}
    return [name for name in names.split() if name not in found]


if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
else:  # `missing` finds what a uvicorn lacks
    RequestResponseCycle = getattr(httptools_impl, "RequestResponseCycle", object)


class Cycle(RequestResponseCycle):
    """A request and its response, whose connection may be lent. For uvicorn the response is complete then."""

    lent: bool = False  # its connection serves a stream now
    stream_over: asyncio.Event | None = None  # set in the end, if somebody waits for that

    async def receive(self) -> Any:
        message = await super().receive()
        if self.lent:
            if self.stream_over is None:
                self.stream_over = asyncio.Event()
            await self.stream_over.wait()  # the client's disconnect, or the end of the stream
        return message

    def end_stream(self) -> None:
        """The stream has ended: whoever waits for that in `receive` gets `http.disconnect`."""
        self.lent = False
        if self.stream_over is not None:
            self.stream_over.set()
        self.message_event.set()


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
