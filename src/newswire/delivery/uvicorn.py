"""uvicorn's HTTP/1.1 protocol, able to lend a connection to the hub.

`uvicorn --http newswire.delivery.uvicorn:DirectHttpProtocol module:app`, or `newswire run module:app`. Each request's
scope offers the extension `newswire.direct`. `EventSourceResponse` accepts it after it has sent the head, and
only gets the connection if uvicorn itself has written that head: where a middleware holds messages back, the response
goes the ASGI way. All else is uvicorn's own doing.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from newswire.delivery.direct import DirectSink

EXTENSION: Final = "newswire.direct"
# A client has nothing to say during a stream but its next request. More than this is read when the stream has ended.
_MAX_EARLY: Final = 64 * 2**10
# A request's head: a Last-Event-ID of 1 MB is still answered, but nobody fills the memory or holds a connection with
# a head that never ends.
_MAX_HEAD: Final = 2 * 2**20
_HEAD_SECONDS: Final = 30.0
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Http10Cycle(RequestResponseCycle):
    """A response to an HTTP/1.0 client, which knows no chunked coding: its body ends with the connection."""

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


class DirectHttpProtocol(HttpToolsProtocol):
    """Give this class to uvicorn as `http`."""

    # Slots, because uvicorn's own attributes fill what CPython shares between instances: past 30 of them each instance
    # has a dictionary of its own, of 1.5 KB.
    __slots__ = ("_early", "_head_bytes", "_head_until", "_keep_alive", "_sink", "_stopping")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink: DirectSink | None = None
        self._keep_alive = True
        self._early: bytearray | None = None
        self._stopping = False
        self._head_bytes: int | None = None  # of the head that is coming; None while none is
        self._head_until = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(_HEAD_SECONDS, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._head_until = self.loop.time() + _HEAD_SECONDS
        scope: Any = self.scope
        scope["extensions"] = {EXTENSION: _Offer(self, scope)}

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before and self.scope["http_version"] == "1.0":
            self.cycle.__class__ = _Http10Cycle

    def lend(self, scope: Any, write_timeout: float | None) -> DirectSink | None:
        """Hand the connection over, if the response's head is out and nothing else is going on."""
        cycle: RequestResponseCycle | None = self.cycle
        if (
            cycle is None
            or cycle.scope is not scope
            or not cycle.response_started
            or cycle.response_complete
            or cycle.disconnected
            or cycle.more_body  # the rest of the request is uvicorn's to read
            or self.pipeline
            or self.transport.is_closing()
            or scope["method"] == "HEAD"
            or cycle.expected_content_length
        ):
            return None
        self._sink = DirectSink(
            self.transport,
            chunked=bool(cycle.chunked_encoding),
            finished=self._finished,
            write_timeout=write_timeout,
        )
        self._keep_alive = cycle.keep_alive
        # For uvicorn this request is over: its task may end, and nothing of it is kept.
        cycle.response_complete = True
        self.flow.resume_reading()
        self.cycle = None  # type: ignore[assignment]
        self.scope = None  # type: ignore[assignment]
        self.headers = []
        self.url = b""
        if self._stopping:
            self.loop.call_soon(self.shutdown)  # once the stream is attached
        return self._sink

    def drop(self, scope: Any) -> None:
        """Drop the connection, if this request is what it is about still."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is scope and not cycle.response_complete:
            self.transport.abort()

    def _finished(self) -> None:
        """A lent connection comes back at the end of its stream."""
        self._sink = None
        if not self._keep_alive:
            self.transport.close()
            return
        self.transport.set_write_buffer_limits()
        self.flow.resume_writing()  # it may have heard of a full buffer before the connection was lent
        self.on_response_complete()
        early, self._early = self._early, None
        if early and not self.transport.is_closing():
            self.data_received(bytes(early))

    # -- what differs while the connection is lent

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            super().data_received(data)
            if self._head_bytes is not None:
                self._bound_head(len(data))
            return
        if self._early is None:
            self._early = bytearray()
        self._early += data
        if len(self._early) > _MAX_EARLY:
            self.flow.pause_reading()

    def _bound_head(self, more: int) -> None:
        """A part of a head has come, and not its end."""
        assert self._head_bytes is not None
        self._head_bytes += more
        before: RequestResponseCycle | None = self.cycle
        if self.transport.is_closing():
            return
        if self._head_bytes > _MAX_HEAD:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif before is None or before.response_complete:
            self._unset_keepalive_if_required()
            rest = max(0.0, self._head_until - self.loop.time())
            self.timeout_keep_alive_task = self.loop.call_later(rest, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        if self._sink is None:
            super().pause_writing()
        else:
            self._sink.pause()

    def resume_writing(self) -> None:
        if self._sink is None:
            super().resume_writing()
        else:
            self._sink.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.lost()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._stopping = True
        if self._sink is None:
            super().shutdown()
        else:
            self._keep_alive = False
            if self._sink.subscription is not None:
                self._sink.subscription.goodbye()


class _Offer:
    """The extension as the application sees it."""

    __slots__ = ("_accepted", "_protocol", "_scope")

    def __init__(self, protocol: DirectHttpProtocol, scope: Any) -> None:
        self._protocol = protocol
        self._scope = scope
        self._accepted = False

    def accept(self, write_timeout: float | None) -> DirectSink | None:
        """Take the connection; None where that can't be. Only the first call can succeed."""
        if self._accepted:
            return None
        self._accepted = True
        return self._protocol.lend(self._scope, write_timeout)

    def abort(self) -> None:
        """Drop the connection of a response that goes the ASGI way, whatever its client has not taken."""
        self._protocol.drop(self._scope)
