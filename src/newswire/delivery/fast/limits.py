"""uvicorn's HTTP/1.1 protocol, with a short way for small requests and limits on what strangers can make it hold.

A head has at most 64 KB, 256 fields and 30 seconds. So has what a chunked body has beside its data: extensions of
chunks, and fields behind the last one, which are dropped. All unfinished requests of a process share one budget of
memory (`newswire.delivery.strangers`); when that is spent, the oldest get a 503.

A POST whose end came with its head is offered to an application that is an `AnswersWhole`: it returns a coroutine that
answers, or None, and then the request goes uvicorn's way as if nothing had been. So it may leave to the ordinary way
what is rare. `newswire serve` takes publishing so.

Saves: a fifth of what Python does for a publish over HTTP (110 µs before, 90 after, on a busy machine). uvicorn makes
an object for the request and one for its events, and the application asks for a body that is there already; here the
answer is one write. And 3 µs a request, since one timer lasts as long as its connection; uvicorn makes and cancels one
a request.
Relies on: attributes of uvicorn's protocol and cycle that are not public (`uvicorn_cycle`).
Without them: streams and requests work, with uvicorn's own limits; see `newswire.delivery.fast.uvicorn`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from newswire.delivery.asgi import Answer, AnswersWhole
from newswire.delivery.problem import Problem, unavailable
from newswire.delivery.strangers import BUDGET

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class _Parsed:
    """Stands in for the parser of a request that has been parsed."""

    get_http_version = staticmethod(lambda: "1.1")
    get_method = staticmethod(lambda: b"POST")
    should_keep_alive = staticmethod(lambda: True)
    should_upgrade = staticmethod(lambda: False)


_PARSED: Final[Any] = _Parsed()


class WholeHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol; `LimitedHttpProtocol` adds limits."""

    __slots__ = ("_body", "_whole", "answering")
    # uvicorn's, which has other things in them for a while
    app: Any
    parser: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._body: bytes | None = None  # of a request that may go the short way
        self._whole = False  # its end is there
        self.answering: bool = False  # a request is on the short way; what comes meanwhile waits

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._body is not None:
            self._begin()  # the next request came with it: uvicorn keeps them in turn
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._may_be_whole():
            self._body = b""
        else:
            super().on_headers_complete()

    def _may_be_whole(self) -> bool:
        parser = self.parser
        cycle: RequestResponseCycle | None = self.cycle
        return (
            isinstance(self.app, AnswersWhole)
            and parser is not _PARSED
            and parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and not self.access_log
            and not self.expect_100_continue
            and self.limit_concurrency is None
            and not self.flow.write_paused
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._body is None:
            super().on_message_complete()
        else:
            self._whole = True

    # -- what was read

    def data_received(self, data: bytes) -> None:
        if self.answering:
            self.hold_early(data)
            return
        super().data_received(data)
        if self._body is not None and not self.transport.is_closing():
            self._offer()

    def _offer(self) -> None:
        """Offer the request to the application, if all of it is there."""
        body = self._body
        if self._whole and body is not None:
            scope: Any = self.scope
            url = self.url
            path, _, query = url.partition(b"?")
            scope["method"], scope["raw_path"], scope["query_string"] = "POST", path, query
            scope["path"] = path.decode("ascii", "replace")
            answer = None if b"%" in path or b"#" in url else self.app.whole(scope, body)
            if answer is not None:
                self._body, self._whole = None, False
                self.answering = True
                task = self.loop.create_task(self._answer(answer))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                return
        self._begin()

    def _begin(self) -> None:
        """Go uvicorn's way with what has come of the request."""
        body, whole = self._body, self._whole
        self._body, self._whole = None, False
        parser, self.parser = self.parser, _PARSED
        try:
            self.on_headers_complete()
            if body:
                self.on_body(body)
            if whole:
                self.on_message_complete()
        finally:
            self.parser = parser

    # -- the answer

    async def _answer(self, answer: Coroutine[Any, Any, Answer]) -> None:
        try:
            rest = await answer
        except BaseException:
            self.transport.abort()  # cancelled: what came of the request is not known
            raise
        finally:
            self.answering = False
        if self.transport.is_closing():
            return
        if isinstance(rest, bytes):
            self.scope.pop("extensions")  # see `on_response_complete`
            self.write_whole(rest)
        else:
            self._body, self._whole = b"", True
            app, self.app = self.app, rest
            try:
                self._begin()
            finally:
                self.app = app
        self.take_early()

    # -- of the protocol that keeps what comes early

    def hold_early(self, data: bytes) -> None:
        """Keep what came before its turn."""
        raise NotImplementedError

    def write_whole(self, rest: bytes) -> None:
        """Write a response of 200; the connection is idle then."""
        raise NotImplementedError

    def take_early(self) -> None:
        """Go on with what came before its turn."""
        raise NotImplementedError


# A request's head. Browsers and proxies stop at 8 to 32 KB; a cursor has some 20 bytes.
MAX_HEAD: Final = 64 * 2**10
MAX_HEADERS: Final = 256
_HEADER: Final = 150  # bytes that a header takes beside its text
_HEAD_SECONDS: Final = 30.0
_TICK: Final = 0.001  # what an event loop's clock may be early by

IDLE, _HEAD, _BODY = range(3)  # where the parser is


class _Refused(Exception):
    """Raised in the parser's callbacks; the answer is in the protocol's `_refusal`."""


class LimitedHttpProtocol(WholeHttpProtocol):
    """uvicorn's protocol; `DirectHttpProtocol` adds the direct path."""

    # Slots, because uvicorn's own attributes fill what CPython shares between instances: past 30 of them each instance
    # has a dictionary of its own, of 1.5 KB.
    __slots__ = (
        "_bare",
        "_deaf",
        "_head_bytes",
        "_head_until",
        "_holds",
        "_mixed",
        "_reading",
        "_refusal",
        "_silent_until",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._silent_until = math.inf
        self._reading = IDLE
        self._head_bytes = 0  # of the head that is coming, or of what has come since the last of the body's data
        self._bare = False  # the bytes that were read last have none of a body's data
        self._head_until = 0.0
        self._mixed = False  # the bytes that were read last hold the end of a request, too
        self._holds = False  # the budget counts something for this connection
        self._deaf = False  # whatever comes is dropped: the connection closes after its response
        self._refusal: Problem | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._close_at(self.loop.time() + _HEAD_SECONDS)

    # -- the time until which a client may be silent. uvicorn has a timer for each request, made and cancelled, which
    # takes 3 µs; here one timer lasts, and looks at the time when it is due.

    def _close_at(self, when: float) -> None:
        self._silent_until = when
        timer = self.timeout_keep_alive_task
        if timer is not None and timer.when() > when:
            timer.cancel()
            timer = None
        if timer is None:
            self.timeout_keep_alive_task = self.loop.call_at(when, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self._silent_until = math.inf

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection whose client has been silent for too long."""
        self.timeout_keep_alive_task = None
        if self._silent_until <= self.loop.time() + _TICK:
            super().timeout_keep_alive_handler()
        elif self._silent_until < math.inf:
            self._close_at(self._silent_until)

    def _stop_timer(self) -> None:
        super()._unset_keepalive_if_required()

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading = _HEAD
        self._head_bytes = 0
        self._head_until = self.loop.time() + _HEAD_SECONDS

    def on_headers_complete(self) -> None:
        self._reading = _BODY
        self._head_bytes = 0
        if len(self.headers) > MAX_HEADERS:
            self._refusal = _too_large()
            self.headers.clear()
            raise _Refused
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # else uvicorn still looks for the name of the protocol
            # The scope has the head's. RFC 9110, section 6.5.1: "a recipient MUST NOT merge a trailer field into the
            # header section" unless it knows that this is meant. A proxy that checks heads does not see trailers.
            self.headers: list[tuple[bytes, bytes]] = []

    def on_body(self, body: bytes) -> None:
        self._bare = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading = IDLE
        self._head_bytes = 0
        self._mixed = True

    # -- what strangers send

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        while True:
            piece = data
            if self._reading != _BODY and self._head_bytes + len(data) > MAX_HEAD:
                piece = data[: MAX_HEAD - self._head_bytes]  # a head is cut before it is parsed
            self._mixed = False
            self._bare = self._reading == _BODY
            super().data_received(piece)
            if self._reading != IDLE:
                self._unfinished(len(piece), len(piece) < len(data))
            elif self._holds and not self.answering:
                self._release()
            if len(piece) == len(data) or self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            data = data[len(piece) :]

    def _unfinished(self, more: int, follows: bool) -> None:
        """A part of a request has come, and not its end."""
        if self.transport.is_closing():
            return
        if self._reading == _HEAD:
            # Where the end of another request came with it, what was parsed of the head is all that is known.
            self._head_bytes += self._parsed() if self._mixed else more
            if self._head_bytes + follows > MAX_HEAD or len(self.headers) > MAX_HEADERS:
                self._refuse(_too_large())
                return
            before: RequestResponseCycle | None = self.cycle
            if before is None or before.response_complete:
                self._close_at(self._head_until)
        else:
            self._head_bytes = self._head_bytes + more if self._bare else 0
            if self._head_bytes > MAX_HEAD:
                self._refuse(_too_much_beside())
                return
        self._hold()

    def _parsed(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def unfinished(self) -> int:
        """See `Holder.unfinished`."""
        if self._reading == _HEAD:
            return self._head_bytes + _HEADER * len(self.headers)
        cycle: RequestResponseCycle | None = self.cycle
        return 0 if cycle is None or self._reading == IDLE else len(cycle.body) + self._head_bytes

    def refuse_unfinished(self) -> None:
        """See `Holder.refuse_unfinished`."""
        if asyncio._get_running_loop() is not self.loop:  # another server's, in a thread of its own
            self.loop.call_soon_threadsafe(self.refuse_unfinished)
            return
        self._holds = False
        self._refuse(
            unavailable(
                "too many unfinished requests are open, and this is one of the oldest: send it again", "unfinished"
            )
        )

    def _hold(self) -> None:
        size = self.unfinished()
        if size or self._holds:
            self._holds = True
            BUDGET.hold(self, size)

    def _release(self) -> None:
        self._head_bytes = 0
        if self._holds:
            self._holds = False
            BUDGET.release(self)

    def _refuse(self, problem: Problem) -> None:
        """Answer with an error and close; behind a response that has begun, only close when that is over."""
        self._release()
        self._forget()
        cycle: RequestResponseCycle | None = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if cycle is not None and answering and self._reading == _HEAD:
            self._deaf = True
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if cycle is None or (not cycle.response_started if answering else self._reading != _BODY):
            self.transport.write(problem.head() + problem.body())
        if cycle is not None and answering:
            cycle.disconnected = True  # whatever the application sends now goes nowhere
            cycle.message_event.set()
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        refusal, self._refusal = self._refusal, None
        self._refuse(refusal or Problem(400, "invalid_request", msg))

    def _forget(self) -> None:
        """Free what came of an unfinished request now: the objects may stay until the next garbage collection."""
        cycle: RequestResponseCycle | None = self.cycle
        if self._reading == _HEAD:
            self.headers.clear()
            self.url = b""
        elif self._reading == _BODY and cycle is not None:
            cycle.body.clear()


def _too_much_beside() -> Problem:
    detail = f"a chunked body has at most {MAX_HEAD:,} bytes beside its data here, and fields behind it are not read"
    return Problem(431, "head_too_large", detail, limit=MAX_HEAD)


def _too_large() -> Problem:
    detail = f"the head of a request has at most {MAX_HEAD:,} bytes and {MAX_HEADERS} fields here"
    return Problem(431, "head_too_large", detail, limit=MAX_HEAD)
