"""uvicorn's HTTP/1.1 protocol, with a short way for small requests that come whole.

A POST whose end came with its head is offered to an application that is an `AnswersWhole`: it returns a coroutine that
answers, or None, and then the request goes uvicorn's way as if nothing had been. So it may leave to the ordinary way
what is rare. `newswire serve` takes publishing so.

Saves: a fifth of what Python does for a publish over HTTP (110 µs before, 90 after, on a busy machine). uvicorn makes
an object for the request and one for its events, and the application asks for a body that is there already; here the
answer is one write.
Relies on: attributes of uvicorn's protocol that are not public (`uvicorn_names`).
Without them: requests go uvicorn's way; see `newswire.delivery.fast.uvicorn`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from newswire.delivery.asgi import Answer, AnswersWhole

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
            path, _, query = self.url.partition(b"?")
            scope["method"], scope["raw_path"], scope["query_string"] = "POST", path, query
            scope["path"] = path.decode("ascii", "replace")
            answer = None if b"%" in path else self.app.whole(scope, body)
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
