"""`EventSourceResponse`: an event stream as the answer to a request, in any ASGI framework.

It is an ASGI application itself, so `return EventSourceResponse(...)` works wherever a response may be one: Starlette,
FastAPI, Litestar, or bare ASGI. It decides the way the bytes go (direct, ASGI, or drawn from an iterable); the
modules beside this one explain each way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Final

from newswire.delivery.asgi import Message, Receive, Scope, Send, raw_headers, running_loop
from newswire.delivery.drain import Drain, drain_of
from newswire.delivery.fast.eager_send import new_sink
from newswire.delivery.fast.unwrap import unwrap
from newswire.delivery.fast.watch_uvicorn import watch
from newswire.delivery.framework import StarletteCompatible, as_http, release, warn_of_held
from newswire.delivery.iterable import IterableStream, OnShutdown, close
from newswire.delivery.middleware import StreamOffer
from newswire.delivery.problem import Problem, problem_of
from newswire.delivery.reader import Item
from newswire.delivery.server_stop import DIRECT, STREAM, on_server_stop
from newswire.delivery.stream import GZIP, VARY, CompressedSink, PlainSink, body_for
from newswire.errors import Closed, LogUnavailable, RunNotFound
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.validate import check_kind, shown
from newswire.wire.gzip import GzipBody
from newswire.wire.headers import STREAM_HEADERS

logger: logging.Logger = logging.getLogger("newswire.delivery")

# On HTTP/2 some servers' send() never blocks: they keep what a client does not take, of each stream. A stream that
# works reconnects after so many bytes, and goes on with its cursor.
_HTTP2_MAX_BYTES: Final = 4 * 2**20
_UNTRACED: Final = nullcontext()
_ITERABLE: Final = ("__aiter__", "__iter__", "__getitem__")
_MANY: Final = 500  # streams, which then cost 3 MB more than they need to
_waiting = 0  # streams that a framework waits for, without the middleware
_warned = False


class EventSourceResponse(StarletteCompatible):
    """Stream events to a client.

    Args:
        content: a subscription (`hub.subscribe(...)`), or any async or sync iterable of str, bytes, `Event`, or other
            values, which are sent as JSON. A sync iterable runs in a thread of its own, with a copy of the context
            (`contextvars`); when there are too many threads (`newswire.delivery.threads.THREADS.limit`), the answer
            is a 503.
        status_code: the status of the response.
        headers: more headers; they can't replace those that a stream needs.
        options: see `StreamOptions`. An iterable without options sends no `retry:`.
        background: awaited after the stream has ended, however it ended.
        on_shutdown: for iterables that end by themselves when the server stops: an event (asyncio's, anyio's or
            threading's) that is set then, or a function that is called in the event loop. The iterable then has four
            fifths of `newswire.delivery.drain.Drain.grace` to yield its own last events and to return; newswire adds
            no `newswire.goodbye` event.

    An error before the head (status and headers) is sent becomes a real status code. If the log of a subscription can't
    be read, or its hub is closed, the answer is a 503; what an iterable raises before its first item is raised here,
    and the framework answers. The head waits for the first item of an iterable, but not longer than a heartbeat
    interval; then heartbeats follow it. With `StreamOptions(heartbeat=None)` it waits for as long as it takes.
    An error after the head ends the stream with an event of type `newswire.error` (not `error`: browsers deliver that
    to the connection's own handlers); its message stays in the server's log. A client that leaves ends the stream; an
    iterable is closed then, also if it was never drawn from.

    FastAPI's dependencies with `yield` end before a subscription's stream begins, unless there is a `background`. With
    an iterable they end after the stream, since the iterable may use them.

    Raises:
        TypeError: `content` is none of these: a single str, bytes or dict goes into a list. Or `on_shutdown` is given
            with a subscription, or another argument is of another kind.
        ValueError: HTTP can't carry the status or a header.
        RuntimeError: called in a scope that has no HTTP response. A WebSocket's handshake gets one where the server
            has the extension `websocket.http.response`.
    """

    media_type = "text/event-stream"  # for OpenAPI documents, which read it from a route's `response_class`

    def __init__(
        self,
        content: Subscription[Any] | AsyncIterable[Item] | Iterable[Item],
        *,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        options: StreamOptions | None = None,
        background: Callable[[], Awaitable[Any]] | None = None,
        on_shutdown: OnShutdown | None = None,
    ) -> None:
        if isinstance(content, Subscription):
            if on_shutdown is not None:
                raise TypeError("on_shutdown is for iterables: a subscription's stream ends with a goodbye by itself")
        elif isinstance(content, (str, bytes, dict)):
            raise TypeError(f"content is an iterable of events, not one {type(content).__name__}: wrap it in a list")
        elif not any(hasattr(content, name) for name in _ITERABLE):
            kind = type(content).__name__
            raise TypeError(f"content is hub.subscribe(...), or an iterable of events, and a {kind} is none of these")
        if on_shutdown is not None and not (callable(on_shutdown) or hasattr(on_shutdown, "set")):
            raise TypeError(f"on_shutdown is an event that can be set, or a function, not {shown(on_shutdown)}")
        if options is not None:
            check_kind("options", options, StreamOptions)
        if background is not None and not callable(background):
            raise TypeError(f"background is a function to await, not {shown(background)}")
        super().__init__(status_code)
        self.content = content
        self.background = background
        self._options = options
        self._on_shutdown = on_shutdown
        self.raw_headers: list[tuple[bytes, bytes]] = list(STREAM_HEADERS)
        if headers is not None:
            own = {name for name, _ in STREAM_HEADERS}
            self.raw_headers += [pair for pair in raw_headers(headers) if pair[0] not in own]
        if options is not None and options.compress:
            self.raw_headers.append(VARY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope, receive, send = as_http(scope, receive, send)
        try:
            if scope["method"] == "HEAD":
                await send(self._head(body_for(scope, self._options, self.raw_headers)))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                await close(self.content)
            elif isinstance(self.content, Subscription):
                sink = await self._begin(self.content, scope, receive, send)
                if sink is not None and not self._hand_over(sink, self.content, scope, receive, send):
                    waits = "app" in scope and self.background is None and _extension(scope, STREAM) is None
                    _count_waiting(+waits)
                    try:
                        await sink.stream(self.content, unwrap(receive))  # a frame more a stream would be felt
                    finally:
                        _count_waiting(-waits)
            else:
                await self._iterable(self.content, scope, receive, send)
        finally:
            if self.background is not None:
                await self.background()

    def _head(self, body: GzipBody | None) -> Message:
        headers = self.raw_headers if body is None else [*self.raw_headers, GZIP]
        return {"type": "http.response.start", "status": self.status_code, "headers": headers}

    # -- a subscription

    async def _begin(self, subscription: Subscription, scope: Scope, receive: Receive, send: Send) -> PlainSink | None:
        """Find the place to start, send the head, and attach the sink.

        Returns:
            the sink, if there is something left to do for this task: not on the direct path.
        """
        drain = drain_of(running_loop())
        stop = _Stop(subscription, drain)
        hook = on_server_stop(scope, receive, send, stop)
        drain.enter(stop)  # until its hub is entered below
        sink = None
        try:
            await subscription.open()
            if self.background is None:
                await release(scope)
                _check_open(subscription)
            warn_of_held(scope, dependencies=self.background is not None)
            with _traced(subscription, scope):
                sink = await self._attach(subscription, scope, send, drain)
            stop.attached = True
            if stop.stopped:
                subscription.goodbye()
        except (LogUnavailable, Closed, RunNotFound) as error:
            await problem_of(error)(scope, receive, send)
        except BaseException:
            subscription.ended()
            raise
        finally:
            drain.leave(stop)
            if sink is None:
                hook.undo()
        if sink is not None:
            sink.hook = hook
        return sink

    async def _attach(self, subscription: Subscription, scope: Scope, send: Send, drain: Drain) -> PlainSink | None:
        options = subscription.options_for(self._options or StreamOptions())
        offer = _extension(scope, DIRECT)
        body = body_for(scope, self._options, self.raw_headers)
        counts = subscription.runtime.counts
        direct = sink = None
        if offer is None or self.background is not None:
            await send(self._head(body))
        else:
            offer.hold_head()
            try:
                await send(self._head(body))
                direct = offer.accept(options, unwrap(send))
            finally:
                offer.let_head_go()
        if direct is not None:
            direct.start(subscription, options, None if body is None else CompressedSink(direct, body, counts))
        else:
            if options.max_bytes is None and scope.get("http_version") == "2":
                options = replace(options, max_bytes=_HTTP2_MAX_BYTES)
            sink = new_sink(unwrap(send), options.max_bytes, None if offer is None else offer.abort)
            sink.body = body
            subscription.attach(sink if body is None else CompressedSink(sink, body, counts), options)
        drain.watch(subscription.runtime)  # not before: it ends with the last stream that is attached
        return sink

    def _hand_over(
        self, sink: PlainSink, subscription: Subscription, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Whether a `StreamMiddleware` goes on with it, so that the framework need not wait."""
        offer: StreamOffer | None = _extension(scope, STREAM)
        return offer is not None and self.background is None and offer.accept(sink, subscription, receive, send)

    # -- an iterable

    async def _iterable(
        self, content: AsyncIterable[Item] | Iterable[Item], scope: Scope, receive: Receive, send: Send
    ) -> None:
        warn_of_held(scope, content)
        offer = _extension(scope, DIRECT)
        body = body_for(scope, self._options, self.raw_headers)
        drain = drain_of(running_loop())
        try:
            stream = IterableStream(
                content,
                options=self._options or StreamOptions(retry=None),
                head=self._head(body),
                body=body,
                send=send,
                abort=None if offer is None else offer.abort,
                on_shutdown=self._on_shutdown,
                drain=drain,
            )
        except Problem as problem:
            await close(content)
            await problem(scope, receive, send)
            return
        hook = on_server_stop(scope, receive, send, stream)
        drain.enter(stream)
        unwatch = watch(receive, stream.gone)
        try:
            await stream.run()
        finally:
            unwatch()
            drain.leave(stream)
            hook.undo()


def _count_waiting(change: int) -> None:
    """Count the streams that keep a framework waiting. Log a line, once in a process, when there are many."""
    global _waiting, _warned
    _waiting += change
    if _waiting > _MANY and not _warned:
        _warned = True
        logger.warning(
            "More than %d streams are open, and the framework keeps its frames for each, some 5 KB. To free them, wrap "
            "the application: app = newswire.delivery.middleware.StreamMiddleware(app). `newswire run` and "
            "newswire's protocol for uvicorn save more.",
            _MANY,
        )


def _traced(subscription: Subscription[Any], scope: Scope) -> AbstractContextManager[object]:
    """The request's trace, where the hub has a tracer: the stream's span is a part of it."""
    return _UNTRACED if subscription.tracer is None else subscription.tracer.request(scope)


def _extension(scope: Scope, name: str) -> Any:
    """What newswire's own protocol or middleware offers; None on other servers."""
    return (scope.get("extensions") or {}).get(name)


def _check_open(subscription: Subscription) -> None:
    """Raise if one of the request's dependencies has closed the subscription at its end."""
    if subscription.closed:
        raise RuntimeError(
            "a dependency with yield has closed this subscription at its end, which comes before the stream begins: "
            "call hub.subscribe() in the route, or leave the subscription open; it ends with its stream"
        )


class _Stop:
    """What the drain stops for one subscription's stream: also while it is only opening."""

    __slots__ = ("_drain", "_subscription", "attached", "stopped")

    finite = False

    def __init__(self, subscription: Subscription, drain: Drain) -> None:
        self._subscription = subscription
        self._drain = drain
        self.attached = False
        self.stopped = False

    def end(self) -> None:
        """The stream's own server stops."""
        self.stop()
        asyncio.get_running_loop().call_later(self._drain.grace, self.cut)

    def stop(self) -> None:
        """Say goodbye; as soon as there is a stream."""
        self.stopped = True
        if self.attached:
            self._subscription.goodbye()

    def cut(self) -> None:
        """Drop the connection."""
        if self.attached:
            self._subscription.cut()
