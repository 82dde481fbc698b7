"""uvicorn's HTTP/1.1 protocol, able to lend a connection to the hub.

`uvicorn --http newswire.delivery.uvicorn:DirectHttpProtocol module:app`, or `newswire run module:app`. Each request's
scope offers the extension `newswire.direct`. `EventSourceResponse` accepts it after it has sent the head, and only gets
the connection if its `send` is uvicorn's own. A middleware in between may change the body, so its responses go the ASGI
way.

Saves: half the CPU of a delivery (1.08 times the floor instead of 2.12 in Starlette, at 1,000 subscribers), and the
request: an idle stream takes 2.7 KB instead of 17.
Relies on: attributes of uvicorn's protocol, cycle and flow control that are not public (`uvicorn_cycle`).
Without them: they are checked at import. If one is missing, `DirectHttpProtocol` is uvicorn's own protocol, with a
warning; streams go the ASGI way, and the limits on strangers (`newswire.delivery.fast.limits`) are uvicorn's.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http import httptools_impl

from newswire.delivery.fast import ENABLED
from newswire.delivery.fast.limits import IDLE, LimitedHttpProtocol
from newswire.delivery.fast.socket_sink import DirectSink, direct_sink
from newswire.delivery.fast.uvicorn_cycle import Cycle, HeldHead, Http10Cycle, missing
from newswire.delivery.problem import Problem
from newswire.delivery.server_stop import DIRECT, Ending, Hook
from newswire.hub.options import StreamOptions

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
else:  # `missing`, below, finds what a uvicorn lacks
    FlowControl = getattr(httptools_impl, "FlowControl", object)

logger: logging.Logger = logging.getLogger("newswire.delivery")

# A client has nothing to say during a stream but its next request. More than this is read when the stream has ended.
_MAX_EARLY: Final = 64 * 2**10
# How long a request may still take to come when the server stops. Its client has sent it to a server that was there.
_LAST_REQUEST: Final = 0.5
_CLOSE: Final = b"connection: close\r\n"
_NONE: Final[Any] = ()  # pipelined requests of a connection that is lent
_addresses: dict[Any, Any] = {}  # a server has few addresses: its connections share one tuple for each


class DirectHttpProtocol(LimitedHttpProtocol):
    """Give this class to uvicorn as `http`."""

    __slots__ = ("_early", "_ending", "_keep_alive", "_lent", "_sink", "_stopping")
    # uvicorn's, which knows no None here: a lent connection drops them.
    cycle: Any
    flow: Any
    headers: Any
    parser: Any
    pipeline: Any
    scope: Any
    server: tuple[str, int | None] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink: DirectSink | None = None
        self._lent: weakref.ref[Any] | None = None  # the request whose stream `_sink` is
        self._keep_alive = True
        self._early: bytearray | None = None
        self._stopping = False
        self._ending: Ending | None = None  # the stream of the request, where that is not lent

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(_addresses) < 100:
            self.server = _addresses.setdefault(self.server, self.server)

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {DIRECT: _Offer(self, scope)}

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.__class__ = Http10Cycle if self.scope["http_version"] == "1.0" else Cycle
            if self._stopping or self._deaf:
                self.cycle.keep_alive = False
                self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]

    def on_response_complete(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_complete:
            # Its offer refers to the scope that it is in. Left so, each request would wait for the garbage collector,
            # which takes a twentieth of the time of small requests, and pauses of 10 ms.
            cycle.scope["extensions"] = {}
            cycle.body.clear()  # no one reads it any more
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._close_at(self.loop.time() + self.timeout_keep_alive)

    # -- detaching

    def hold_head(self, scope: Any) -> HeldHead | None:
        """Keep back the head of the response, which is about to be sent; None where that can't be."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.scope is not scope or cycle.response_started:
            return None
        return HeldHead(cycle)

    def _cycle_of(self, scope: Any, send: Any) -> RequestResponseCycle | None:
        """The present request, if it is the one of `scope`, and `send` is uvicorn's own for it."""
        cycle: RequestResponseCycle | None = self.cycle
        theirs: Any = getattr(send, "__self__", None)
        return cycle if cycle is not None and cycle is theirs and cycle.scope is scope else None

    def detach(self, scope: Any, options: StreamOptions, send: Any, held: HeldHead | None) -> DirectSink | None:
        """Hand the connection over, if the response's head was sent and nothing else is going on.

        Args:
            scope: the request's.
            options: the stream's.
            send: what the response's bytes would go to; only uvicorn's own will do.
            held: has the head, if it is not out yet.
        """
        cycle = self._cycle_of(scope, send)
        if (
            cycle is None
            or not cycle.response_started
            or cycle.response_complete
            or cycle.disconnected
            or cycle.more_body  # the rest of the request is uvicorn's to read
            or self.pipeline  # a request behind this one needs what `_shed` drops; hardly any client sends one
            or self._reading != IDLE  # a part of the next request is in the parser
            or self.transport.is_closing()
            or scope["method"] == "HEAD"
            or cycle.expected_content_length
        ):
            return None
        head = b"" if held is None else held.take()
        chunked = bool(cycle.chunked_encoding)
        self._sink = direct_sink(self.transport, options, head=head, chunked=chunked, finished=self._finished)
        self._keep_alive = cycle.keep_alive
        # For uvicorn this request is over: its task may end, and nothing of it is kept. But what waits for the client's
        # disconnect beside the stream, or begins to, waits on.
        cycle.response_complete = True
        cycle.lent = True  # type: ignore[attr-defined]
        self._lent = weakref.ref(cycle)
        self._stop_timer()
        self._shed()
        if self._stopping:
            self.loop.call_soon(self.shutdown)  # once the stream is attached
        return self._sink

    def _shed(self) -> None:
        """Drop what only a request needs, of uvicorn's 3 KB a connection: `_regain` makes it again."""
        self.flow.resume_reading()
        self.flow.resume_writing()  # the sink hears of a full buffer from here on
        self.flow = self.parser = self.cycle = self.scope = None
        self.pipeline = self.headers = _NONE
        self.url = b""

    def _regain(self) -> None:
        """Make what the next request needs."""
        self.flow = FlowControl(self.transport)
        if self._early is not None and len(self._early) > _MAX_EARLY:
            self.flow.pause_reading()  # as the transport is already
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # httptools before 0.6.3
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.pipeline = deque()

    def drop(self, scope: Any) -> None:
        """Drop the connection, if this request is what it is about still."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is scope and not cycle.response_complete:
            self.transport.abort()

    def _finished(self) -> None:
        """A lent connection comes back at the end of its stream."""
        self._sink = None
        self._over()
        self._regain()
        if not self._keep_alive or self._deaf:
            self.transport.close()
            return
        self.transport.set_write_buffer_limits()
        self.on_response_complete()
        self.take_early()

    def take_early(self) -> None:
        early, self._early = self._early, None
        if early is None:
            return
        self._release()
        if not self.transport.is_closing():
            if len(early) > _MAX_EARLY:
                self.transport.resume_reading()
            self.data_received(bytes(early))

    def write_whole(self, rest: bytes) -> None:
        close = self._stopping or self._deaf
        self.transport.write(_status_line(self.server_state.default_headers) + (_CLOSE + rest if close else rest))
        if close:
            self.transport.close()
        self.on_response_complete()

    def _over(self) -> None:
        """The stream has ended; see `Cycle.end_stream`."""
        cycle = None if self._lent is None else self._lent()
        self._lent = None
        if cycle is not None:
            cycle.end_stream()

    # -- what a client sends during its stream

    def data_received(self, data: bytes) -> None:
        if self._sink is None or self._deaf:
            super().data_received(data)
        else:
            self.hold_early(data)

    def hold_early(self, data: bytes) -> None:
        if self._early is None:
            self._early = bytearray()
        self._early += data
        if len(self._early) > _MAX_EARLY:
            self.transport.pause_reading()
        self._hold()

    def unfinished(self) -> int:
        """See `Holder.unfinished`."""
        return super().unfinished() if self._early is None else len(self._early)

    def _refuse(self, problem: Problem) -> None:
        if self._sink is None and not self.answering:
            super()._refuse(problem)
            return
        self._release()
        self._deaf = True
        self._early = None
        self.transport.pause_reading()

    # -- what differs while the connection is lent

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
        self._release()
        self._forget()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.lost()
        self._over()
        self._stop_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._stopping = True
        cycle: RequestResponseCycle | None = self.cycle
        if self._sink is not None:
            self._keep_alive = False
            if self._sink.subscription is not None:
                self._sink.subscription.goodbye()
        elif self.answering:
            return
        elif cycle is None or cycle.response_complete:  # the next request may be on its way
            self._close_at(min(self._silent_until, self.loop.time() + _LAST_REQUEST))
        else:
            super().shutdown()
            if self._ending is not None:
                self._ending.end()

    def on_stop(self, stream: Ending) -> Hook:
        """End `stream` when the server stops; see `newswire.delivery.server_stop`."""
        self._ending = stream
        if self._stopping:
            self.loop.call_soon(stream.end)
        return self

    def undo(self) -> None:
        """See `Hook.undo`."""
        self._ending = None


class _Offer:
    """The extension as the application sees it."""

    __slots__ = ("_accepted", "_held", "_protocol", "_scope")

    def __init__(self, protocol: DirectHttpProtocol, scope: Any) -> None:
        self._protocol = protocol
        self._scope = scope
        self._accepted = False
        self._held: HeldHead | None = None

    def hold_head(self) -> None:
        """Keep back the head that is sent next, until `accept`, or else `let_head_go`, which must follow."""
        self._held = self._protocol.hold_head(self._scope)

    def let_head_go(self) -> None:
        """Send the head, if it is still kept back."""
        held, self._held = self._held, None
        if held is not None:
            held.let_go()

    def accept(self, options: StreamOptions, send: Any) -> DirectSink | None:
        """Take the connection; None where that can't be. Only the first call can succeed."""
        if self._accepted:
            return None
        self._accepted = True
        sink = self._protocol.detach(self._scope, options, send, self._held)
        if sink is not None:
            self._scope = None  # else scope and offer would wait for the garbage collector
        return sink

    def abort(self) -> None:
        """Drop the connection of a response that goes the ASGI way, whatever its client has not taken."""
        self._protocol.drop(self._scope)

    def on_stop(self, stream: Ending) -> Hook:
        """End `stream` when the server stops."""
        return self._protocol.on_stop(stream)


_line: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"HTTP/1.1 200 OK\r\n")


def _status_line(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The beginning of a response of 200. uvicorn has a new list each second, for the date; its text is made once."""
    global _line
    made, text = _line
    if made is not headers:
        text = b"HTTP/1.1 200 OK\r\n" + b"".join([b"%s: %s\r\n" % header for header in headers])
        _line = headers, text
    return text


if _gone := missing(httptools_impl):
    logger.warning(
        "This uvicorn has no %s, which the direct path needs: streams go the ASGI way. Use a version of uvicorn that "
        "newswire knows, or a newer newswire.",
        ", ".join(_gone),
    )
if _gone or not ENABLED:
    DirectHttpProtocol = httptools_impl.HttpToolsProtocol  # type: ignore[assignment, misc]
