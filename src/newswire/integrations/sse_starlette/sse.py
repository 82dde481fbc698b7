"""sse-starlette's response: streams what an iterable yields, with pings, time-outs and callbacks."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import anyio
from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from newswire.delivery.asgi import Message, Receive, Scope, Send
from newswire.delivery.framework import warn_of_held
from newswire.delivery.problem import Problem
from newswire.integrations.sse_starlette.appstatus import AppStatus, Stopping, until_stop
from newswire.integrations.sse_starlette.drawn import DrawnItems
from newswire.integrations.sse_starlette.event import Content, JSONServerSentEvent, ServerSentEvent, ensure_bytes

__all__ = [
    "AppStatus",
    "Content",
    "EventSourceResponse",
    "JSONServerSentEvent",
    "SendTimeoutError",
    "ServerSentEvent",
    "ensure_bytes",
]

# Its name is sse-starlette's: applications set the level of that, and filter what it says.
logger: logging.Logger = logging.getLogger("sse_starlette.sse")

_SEPARATORS: Final = ("\r\n", "\r", "\n")


class SendTimeoutError(TimeoutError):
    """The server has not taken a block within `send_timeout`: the client reads too slowly, or not at all."""


class EventSourceResponse(Response):
    """Stream what an iterable yields.

    Args:
        content: an async or sync iterable; see `ensure_bytes` for what it may yield. A sync one has a thread of its
            own.
        status_code: the status of the response.
        headers: more headers. `Cache-Control` is `no-store` unless it is among them; `Connection` and
            `X-Accel-Buffering` can't be changed.
        media_type: `text/event-stream` by default.
        background: awaited in the end.
        ping: seconds between pings, 15 by default; 0: none.
        sep: what ends lines: CRLF (default), CR or LF.
        ping_message_factory: returns what is sent as a ping.
        data_sender_callable: runs beside the stream, and fills what `content` reads from, say.
        send_timeout: seconds that one block may take to be sent; then `SendTimeoutError` is raised.
        client_close_handler_callable: awaited with the ASGI message when the client has left.
        shutdown_event: set when the server stops; the iterable may then yield its last items and end.
        shutdown_grace_period: seconds that it has for that before it is cancelled.
        cleanup_timeout: seconds that the iterable's `aclose` may take after its stream broke. None: any time.

    Raises:
        ValueError: `sep`, `ping`, `shutdown_grace_period` or `cleanup_timeout` can't be that.
    """

    DEFAULT_PING_INTERVAL = 15
    DEFAULT_SEPARATOR = "\r\n"
    DEFAULT_CLEANUP_TIMEOUT = 30.0

    def __init__(
        self,
        content: AsyncIterable[Content] | Iterable[Content],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "text/event-stream",
        background: Any = None,
        ping: int | float | None = None,
        sep: str | None = None,
        ping_message_factory: Callable[[], Content] | None = None,
        data_sender_callable: Callable[[], Coroutine[None, None, None]] | None = None,
        send_timeout: float | None = None,
        client_close_handler_callable: Callable[[Message], Awaitable[None]] | None = None,
        shutdown_event: Any = None,
        shutdown_grace_period: float = 0,
        cleanup_timeout: float | None = DEFAULT_CLEANUP_TIMEOUT,
    ) -> None:
        if sep not in (None, *_SEPARATORS):
            raise ValueError(f"sep must be one of: \\r\\n, \\r, \\n, got: {sep}")
        if shutdown_grace_period < 0:
            raise ValueError("shutdown_grace_period must be >= 0")
        if cleanup_timeout is not None and cleanup_timeout < 0:
            raise ValueError("cleanup_timeout must be >= 0")
        self.sep = sep or self.DEFAULT_SEPARATOR
        self.body_iterator: AsyncIterable[Content] = (
            content if isinstance(content, AsyncIterable) else DrawnItems(content)
        )
        self.status_code = status_code
        self.media_type: str | None = media_type or self.media_type
        self.background = background
        self.data_sender_callable = data_sender_callable
        self.send_timeout = send_timeout
        self.ping_interval = self.DEFAULT_PING_INTERVAL if ping is None else ping
        self.ping_message_factory = ping_message_factory
        self.client_close_handler_callable = client_close_handler_callable
        self.active: bool = True
        self._shutdown_event = shutdown_event
        self._shutdown_grace_period = shutdown_grace_period
        self._cleanup_timeout = cleanup_timeout
        self._send_lock = anyio.Lock()
        own = MutableHeaders(headers)
        own.setdefault("Cache-Control", "no-store")
        own["Connection"] = "keep-alive"
        own["X-Accel-Buffering"] = "no"
        self.init_headers(own)

    @property
    def ping_interval(self) -> int | float:
        """Seconds between pings; 0: there are none."""
        return self._ping_interval

    @ping_interval.setter
    def ping_interval(self, value: int | float) -> None:
        if not isinstance(value, (int, float)):
            raise TypeError("ping interval must be int or float")
        if not value >= 0:
            raise ValueError("ping interval must be >= 0 (0 disables ping)")
        self._ping_interval = value

    def enable_compression(self, force: bool = False) -> None:
        """Not possible for a stream.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("Compression is not supported for SSE streams.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            SendTimeoutError: see `send_timeout`.
            Exception: what the iterable or a callback raised, as it is.
        """
        if scope.get("type") == "websocket":  # an answer to its handshake that is no WebSocket
            send = _for_websocket(send)
        if str(scope.get("method")).upper() == "HEAD":
            await self._send_with_timeout(send, self._head())
            await self._send_with_timeout(send, {"type": "http.response.body", "body": b"", "more_body": False})
        else:
            if isinstance(self.body_iterator, DrawnItems):
                try:
                    self.body_iterator.begin()  # what fails here is still a status code
                except Problem as problem:
                    await problem(scope, receive, send)
                    return
            warn_of_held(scope, self.body_iterator)
            with _bare(), Stopping.of(scope, receive, send):
                await self._run(receive, send)
        if self.background is not None:
            await self.background()

    async def _run(self, receive: Receive, send: Send) -> None:
        """Stream until one of the parts that can end the stream has come to its end."""
        async with anyio.create_task_group() as group:

            async def until_end(part: Callable[..., Awaitable[None]], *arguments: object) -> None:
                await part(*arguments)
                group.cancel_scope.cancel()

            group.start_soon(until_end, self._stream_response, send)
            if self._ping_interval > 0:
                group.start_soon(until_end, self._ping, send)
            group.start_soon(until_end, self._listen_for_exit_signal_with_grace)
            group.start_soon(until_end, self._listen_for_disconnect, receive)
            if self.data_sender_callable is not None:
                group.start_soon(self.data_sender_callable)

    def _head(self) -> Message:
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        with anyio.move_on_after(self.send_timeout) as limit:
            await send(message)
        if limit.cancelled_caught:
            raise SendTimeoutError(f"the client has not taken what was sent within {self.send_timeout:g} s")

    async def _body(self, send: Send, data: bytes) -> None:
        logger.debug("chunk: %s", data)
        async with self._send_lock:
            if self.active:
                await self._send_with_timeout(send, {"type": "http.response.body", "body": data, "more_body": True})

    async def _stream_response(self, send: Send) -> None:
        try:
            async with self._send_lock:  # no ping comes before the head
                await send(self._head())
            async for item in self.body_iterator:
                await self._body(send, ensure_bytes(item, self.sep))
        except BaseException:
            await self._close_iterator()
            raise
        async with self._send_lock:
            self.active = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _close_iterator(self) -> None:
        """Close the iterator of a stream that broke."""
        aclose = getattr(self.body_iterator, "aclose", None)
        if aclose is None:
            return
        with anyio.move_on_after(self._cleanup_timeout, shield=True) as limit:
            try:
                await aclose()
            except Exception:  # the stream's own error is the one to raise
                logger.exception("the cleanup of a stream's iterator failed")
        if limit.cancel_called:
            logger.warning("the cleanup of a stream's iterator took more than %s s: cancelled", self._cleanup_timeout)

    async def _ping(self, send: Send) -> None:
        while self.active:
            await anyio.sleep(self._ping_interval)
            await self._body(send, self._ping_bytes())

    def _ping_bytes(self) -> bytes:
        if self.ping_message_factory is not None:
            return ensure_bytes(self.ping_message_factory(), self.sep)
        return f": ping - {datetime.now(UTC)}{self.sep}".encode()

    async def _listen_for_disconnect(self, receive: Receive) -> None:
        while self.active:
            message = await receive()
            if message["type"] in ("http.disconnect", "websocket.disconnect"):
                self.active = False
                if self.client_close_handler_callable is not None:
                    await self.client_close_handler_callable(message)

    @staticmethod
    async def _listen_for_exit_signal() -> None:
        await until_stop()

    async def _listen_for_exit_signal_with_grace(self) -> None:
        """Wait for the server's stop, and for the iterable's own end."""
        await self._listen_for_exit_signal()
        if self._shutdown_event is not None:
            self._shutdown_event.set()
        with anyio.move_on_after(self._shutdown_grace_period):
            await anyio.sleep_forever()  # the stream's end cancels this


def _for_websocket(send: Send) -> Send:
    async def denied(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return denied


@contextmanager
def _bare() -> Iterator[None]:
    """Raise what one part of a task group raised as it is: middleware looks for it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from (None if error.__suppress_context__ else error.__cause__)
