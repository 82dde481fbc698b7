"""sse-starlette's names and meanings, on newswire's delivery. Moving over is one import:

    from newswire.integrations.sse_starlette import EventSourceResponse, ServerSentEvent

What an application says and gets is what sse-starlette documents: the arguments and their positions, the items that a
generator may yield, separators, pings, time-outs, callbacks. Better than there:

* A server's stop ends the streams on uvicorn, granian and hypercorn alike, by signal or by flag, without a patched
  server and without polling; see `newswire.delivery.stopping`.
* The default ping is a comment without a blank line after it. With one, readers of several AI SDKs fail as soon as
  events have ids. What a `ping_message_factory` returns is sent as it is.
* Pings and events never call `send` at the same time.
* An iterator whose stream broke is closed, also if it was never drawn from.

Libraries that import `sse_starlette` themselves (mcp, a2a-sdk, langgraph-api) get these classes by `replace()`.
`newswire.EventSourceResponse` is another class, and the one for new code: it resumes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import types
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeAlias
from weakref import WeakSet

try:
    import anyio
    from starlette.concurrency import iterate_in_threadpool
    from starlette.datastructures import MutableHeaders
    from starlette.responses import Response
except ImportError as error:
    raise ImportError("newswire.integrations.sse_starlette needs Starlette: pip install starlette") from error

from newswire.delivery.asgi import Message, Receive, Scope, Send
from newswire.delivery.drain import drain_of
from newswire.delivery.held import warn_of_held
from newswire.delivery.stopping import on_server_stop
from newswire.wire.encoder import encode
from newswire.wire.event import Event

__all__ = ["AppStatus", "EventSourceResponse", "JSONServerSentEvent", "SendTimeoutError", "ServerSentEvent", "replace"]

logger = logging.getLogger("newswire.integrations.sse_starlette")

Content: TypeAlias = "str | bytes | memoryview | dict[str, Any] | ServerSentEvent | Event | Any"

_LINE_ENDS: Final = re.compile("\r\n|\r|\n")  # and no other: `str.splitlines` cuts at more
_SEPARATORS: Final = ("\r\n", "\r", "\n")


class ServerSentEvent:
    """One block of a stream.

    Args:
        data: its data, as `str` makes it; one `data:` line for each of its lines. None: no `data:` line.
        event: its type. Line ends in it are left out.
        id: its id. Line ends in it are left out.
        retry: milliseconds after which a client reconnects.
        comment: written before the fields; clients ignore it.
        sep: what ends a line: CRLF (default), CR or LF.
    """

    DEFAULT_SEPARATOR = "\r\n"

    def __init__(
        self,
        data: Any = None,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
        sep: str | None = None,
    ) -> None:
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry
        self.comment = comment
        self._sep = self.DEFAULT_SEPARATOR if sep is None else sep

    def encode(self) -> bytes:
        """The block as it is sent.

        Raises:
            TypeError: `retry` is not an int.
        """
        return self._sep.join([*self._lines(), "", ""]).encode()

    def _lines(self) -> Iterator[str]:
        if self.comment is not None:
            yield from (f": {line}" for line in _LINE_ENDS.split(str(self.comment)))
        if self.id is not None:
            yield "id: " + _LINE_ENDS.sub("", str(self.id))
        if self.event is not None:
            yield "event: " + _LINE_ENDS.sub("", str(self.event))
        if self.data is not None:
            yield from (f"data: {line}" for line in _LINE_ENDS.split(str(self.data)))
        if self.retry is not None:
            if not isinstance(self.retry, int):
                raise TypeError("retry argument must be int")
            yield f"retry: {self.retry}"


class JSONServerSentEvent(ServerSentEvent):
    """A block whose data is JSON: compact, not ASCII only, and without NaN. The arguments are `ServerSentEvent`'s."""

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        if data is not None:
            data = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        super().__init__(data, *args, **kwargs)


def ensure_bytes(data: Content, sep: str) -> bytes:
    """What an item of a stream is on the wire.

    Args:
        data: bytes go as they are. A dict has `ServerSentEvent`'s arguments. A newswire `Event` keeps its id. Of
            everything else, `str` makes the data.
        sep: what ends the lines of a dict or of a text.
    """
    if isinstance(data, (bytes, memoryview)):
        return bytes(data)
    if isinstance(data, ServerSentEvent):
        return data.encode()
    if isinstance(data, Event):
        return encode(data)
    if isinstance(data, dict):
        return ServerSentEvent(**{**data, "sep": sep}).encode()
    return ServerSentEvent(str(data), sep=sep).encode()


class SendTimeoutError(TimeoutError):
    """The server has not taken a block within `send_timeout`: the client reads too slowly, or not at all."""


class _Stopping:
    """The stop of one stream's server, which ends the stream. A stream of the drain; see `newswire.delivery.drain`."""

    finite = False  # its iterator is stopped at once; `shutdown_grace_period` is its own time

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def stop(self) -> None:
        """A signal has come."""
        AppStatus.handle_exit()

    def end(self) -> None:
        """The stream's own server is stopping, and others in this process go on."""
        if AppStatus.enable_automatic_graceful_drain:
            self._event.set()

    def cut(self) -> None:
        """The drain's time is over; a stream of this kind has its own."""

    def exit(self) -> None:
        """`AppStatus.should_exit` was set, in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Wait for one of these."""
        await self._event.wait()

    @classmethod
    @contextmanager
    def of(cls, scope: Scope, receive: Receive, send: Send) -> Iterator[_Stopping]:
        """The stop of the server that a request came from, while the block lasts."""
        stopping = cls()
        drain = drain_of(stopping._loop)
        hook = on_server_stop(scope, receive, send, stopping)
        drain.enter(stopping)
        _waiting.add(stopping)
        if AppStatus.should_exit:
            stopping._event.set()
        try:
            yield stopping
        finally:
            _waiting.discard(stopping)
            drain.leave(stopping)
            hook.undo()


_waiting: WeakSet[_Stopping] = WeakSet()


class _StatusType(type):
    """Has `should_exit`, which ends the streams as soon as it is set."""

    _should_exit = False

    @property
    def should_exit(cls) -> bool:
        return cls._should_exit

    @should_exit.setter
    def should_exit(cls, value: bool) -> None:
        cls._should_exit = bool(value)
        if value:
            for stopping in list(_waiting):
                stopping.exit()

    @should_exit.deleter
    def should_exit(cls) -> None:
        cls._should_exit = False


class AppStatus(metaclass=_StatusType):
    """Whether this process is stopping.

    Attributes:
        should_exit: set by a signal; setting it ends all streams of this module in the process. It stays set.
        enable_automatic_graceful_drain: whether a signal, or the stop of a stream's server, ends streams. Without it
            the application has to set `should_exit`, or the server waits for its streams.
        original_handler: called by `handle_exit`, with its arguments; None: nothing is.
    """

    enable_automatic_graceful_drain: ClassVar[bool] = True
    original_handler: ClassVar[Callable[..., Any] | None] = None

    @staticmethod
    def disable_automatic_graceful_drain() -> None:
        """Let streams go on when the server stops, until `should_exit` is set."""
        AppStatus.enable_automatic_graceful_drain = False

    @staticmethod
    def enable_automatic_graceful_drain_mode() -> None:
        """End streams when the server stops: the default."""
        AppStatus.enable_automatic_graceful_drain = True

    @staticmethod
    def handle_exit(*args: Any, **kwargs: Any) -> None:
        """A signal has come."""
        if AppStatus.enable_automatic_graceful_drain:
            AppStatus.should_exit = True
        if AppStatus.original_handler is not None:
            AppStatus.original_handler(*args, **kwargs)


class EventSourceResponse(Response):
    """Stream what an iterable yields.

    Args:
        content: an async or sync iterable; see `ensure_bytes` for what it may yield. A sync one runs in a thread.
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
            content if isinstance(content, AsyncIterable) else iterate_in_threadpool(content)
        )
        self.status_code = status_code
        self.media_type = media_type or self.media_type
        self.background = background
        self.data_sender_callable = data_sender_callable
        self.send_timeout = send_timeout
        self.ping_interval = self.DEFAULT_PING_INTERVAL if ping is None else ping
        self.ping_message_factory = ping_message_factory
        self.client_close_handler_callable = client_close_handler_callable
        self.active = True
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
            await self._send(send, self._head())
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        else:
            warn_of_held(scope, self.body_iterator)
            with _bare(), _Stopping.of(scope, receive, send) as stopping:
                await self._run(receive, send, stopping)
        if self.background is not None:
            await self.background()

    async def _run(self, receive: Receive, send: Send, stopping: _Stopping) -> None:
        """Stream until one of the parts that can end the stream has come to its end."""
        async with anyio.create_task_group() as group:

            async def until_end(part: Callable[[Any], Awaitable[None]], argument: object) -> None:
                await part(argument)
                group.cancel_scope.cancel()

            group.start_soon(until_end, self._stream_response, send)
            if self._ping_interval > 0:
                group.start_soon(until_end, self._ping, send)
            group.start_soon(until_end, self._end_with, stopping)
            group.start_soon(until_end, self._listen_for_disconnect, receive)
            if self.data_sender_callable is not None:
                group.start_soon(self.data_sender_callable)

    def _head(self) -> Message:
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}

    async def _send(self, send: Send, message: Message) -> None:
        with anyio.move_on_after(self.send_timeout) as limit:
            await send(message)
        if limit.cancelled_caught:
            raise SendTimeoutError(f"the client has not taken what was sent within {self.send_timeout:g} s")

    async def _body(self, send: Send, data: bytes) -> None:
        logger.debug("chunk: %s", data)
        async with self._send_lock:
            if self.active:
                await self._send(send, {"type": "http.response.body", "body": data, "more_body": True})

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
                logger.exception("closing the iterator of a stream that broke failed")
        if limit.cancel_called:
            logger.warning("closing the iterator of a stream took more than %s s: cancelled", self._cleanup_timeout)

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

    async def _end_with(self, stopping: _Stopping) -> None:
        """Wait for the server's stop, and for the iterable's own end."""
        await stopping.wait()
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


def replace() -> None:
    """Put this module in the place of `sse_starlette`, for libraries that import that themselves.

    Call it before they are imported. sse-starlette need not be installed.

    Raises:
        RuntimeError: the real `sse_starlette` is imported already, and so may be in use.
    """
    present = sys.modules.get("sse_starlette")
    if present is not None and not getattr(present, "__newswire__", False):
        raise RuntimeError("sse_starlette is imported already: call replace() before what imports it")
    own = sys.modules[__name__]
    package = types.ModuleType("sse_starlette", __doc__)
    package.__path__ = []
    modules = {"sse_starlette": package}
    for name in ("sse", "event"):
        modules[f"sse_starlette.{name}"] = types.ModuleType(f"sse_starlette.{name}", __doc__)
        setattr(package, name, modules[f"sse_starlette.{name}"])
    for module in modules.values():
        vars(module).update({name: value for name, value in vars(own).items() if not name.startswith("_")})
        vars(module)["__newswire__"] = True
    sys.modules.update(modules)
