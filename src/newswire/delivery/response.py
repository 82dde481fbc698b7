"""`EventSourceResponse`: an event stream as the answer to a request, in any ASGI framework.

It is an ASGI application itself, so `return EventSourceResponse(...)` works wherever a response may be one: Starlette,
FastAPI, Litestar, Quart, or bare ASGI. It decides the way the bytes go (direct, ASGI, or drawn from an iterable); how
each goes is told in the modules beside this one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from newswire.delivery.asgi import Scope, Send, TaskSink, last_words
from newswire.delivery.beneath import beneath
from newswire.delivery.drain import Drain, drain_of
from newswire.delivery.framework import FrameworkResponse
from newswire.delivery.middleware import EXTENSION as STREAM
from newswire.delivery.middleware import StreamOffer
from newswire.delivery.problem import problem_of
from newswire.delivery.pump import Item, Pump
from newswire.delivery.watch import Receive, watch
from newswire.errors import Closed, LogUnavailable
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.wire.encoder import HEARTBEAT, encode, opening
from newswire.wire.event import Event
from newswire.wire.goodbye import come_back, goodbye
from newswire.wire.headers import STREAM_HEADERS
from newswire.wire.reserved import ERROR

logger = logging.getLogger("newswire.delivery")

DIRECT: Final = "newswire.direct"  # the ASGI extension of newswire.delivery.uvicorn
_HTTP2_MAX_BYTES: Final = 16 * 2**20  # on HTTP/2 some servers' send() never blocks


class EventSourceResponse(FrameworkResponse):
    """Stream events to a client.

    Args:
        content: a subscription (`hub.subscribe(...)`), or any async or sync iterable of str, bytes, `Event`, or of
            what JSON can say.
        status_code: the status of the response.
        headers: more headers; they can't replace those that a stream needs.
        options: see `StreamOptions`. For iterables `retry` is sent only if it is given here.
        background: awaited after the stream has ended, however it ended.

    What fails before the first item (or before a subscription has its place in the log) is raised, so that it becomes
    a real status code: an unreachable log is a 503. What fails afterwards ends the stream with an event of type
    `newswire.error` (not `error`: browsers deliver that to the connection's own handlers); its message stays in the
    server's log. A client that leaves ends the stream; an iterable is closed then, also if it was never drawn from.
    """

    def __init__(
        self,
        content: Subscription | AsyncIterable[Item] | Iterable[Item],
        *,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        options: StreamOptions | None = None,
        background: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        if isinstance(content, (str, bytes, dict)):
            raise TypeError(f"content is an iterable of events, not one {type(content).__name__}: wrap it in a list")
        super().__init__(status_code)
        self.content = content
        self.background = background
        self._options = options
        self.raw_headers = list(STREAM_HEADERS)
        if headers is not None:
            own = {name for name, _ in STREAM_HEADERS}
            extra = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
            self.raw_headers += [pair for pair in extra if pair[0] not in own]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            if scope["method"] == "HEAD":
                await self._send_head(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                await self._discard()
            elif isinstance(self.content, Subscription):
                sink = await self._begin(self.content, scope, receive, send)
                if sink is not None and not self._handed_over(sink, self.content, scope, receive, send):
                    # From here: a frame more for each stream would be felt.
                    await sink.stream(self.content, beneath(receive))
            else:
                await self._iterable(self.content, scope, receive, send)
        finally:
            if self.background is not None:
                await self.background()

    async def _send_head(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _discard(self) -> None:
        close = getattr(self.content, "aclose", None) or getattr(self.content, "close", None)
        if close is not None:
            result = close()
            if isinstance(result, Awaitable):
                await result

    # -- a subscription

    async def _begin(self, subscription: Subscription, scope: Scope, receive: Receive, send: Send) -> TaskSink | None:
        """Find the place to start, send the head, and attach the sink.

        Returns:
            the sink, if there is something left to do for this task: not on the direct path.
        """
        drain = drain_of(asyncio.get_running_loop())
        opening = _Opening()
        drain.enter(opening)
        try:
            await subscription.open()
        except (LogUnavailable, Closed) as error:
            await problem_of(error)(scope, receive, send)
            return None
        else:
            return await self._attach(subscription, scope, send, drain)
        finally:
            drain.leave(opening)

    async def _attach(self, subscription: Subscription, scope: Scope, send: Send, drain: Drain) -> TaskSink | None:
        options = self._options or StreamOptions()
        offer = _offer_of(scope)
        sink: TaskSink | None = None
        try:
            await self._send_head(send)
            direct = offer.accept(options.write_timeout) if offer is not None and self.background is None else None
            if direct is not None:
                direct.start(subscription, options)
            else:
                if options.max_bytes is None and scope.get("http_version") == "2":
                    options = replace(options, max_bytes=_HTTP2_MAX_BYTES)
                sink = TaskSink(beneath(send), options.max_bytes, None if offer is None else offer.abort)
                subscription.attach(sink, options)
            drain.watch(subscription.live)  # not before: it ends with the last stream that is attached
        except BaseException:
            subscription.ended()
            raise
        return sink

    def _handed_over(
        self, sink: TaskSink, subscription: Subscription, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Whether a `StreamMiddleware` goes on with it, so that the framework need not wait."""
        offer: StreamOffer | None = (scope.get("extensions") or {}).get(STREAM)
        return offer is not None and self.background is None and offer.accept(sink, subscription, receive, send)

    # -- an iterable

    async def _iterable(
        self, content: AsyncIterable[Item] | Iterable[Item], scope: Scope, receive: Receive, send: Send
    ) -> None:
        offer = _offer_of(scope)
        abort = None if offer is None else offer.abort
        stream = _PumpedStream(content, self._options or StreamOptions(retry=None), send, abort)
        drain = drain_of(asyncio.get_running_loop())
        drain.enter(stream)
        unwatch = watch(receive, stream.gone)
        started = False
        try:
            if await stream.first():
                await self._send_head(send)
                started = True
                await stream.send_all()
        except asyncio.CancelledError:
            if stream.was_cut():
                return
            if started:
                await last_words(send, encode(goodbye(come_back(stream.retry))))
            raise
        finally:
            drain.leave(stream)
            unwatch()
            await stream.close()


def _offer_of(scope: Scope) -> Any:
    """What `newswire.delivery.uvicorn` offers; None on other servers."""
    return (scope.get("extensions") or {}).get(DIRECT)


class _Opening:
    """A stream that is on its way, so that a signal finds somebody who listens: it ends once its hub is told."""

    finite = False

    def stop(self) -> None:
        """Nothing is there yet."""

    def cut(self) -> None:
        """Nothing is there yet."""


class _PumpedStream:
    """The sending side of an iterable's stream."""

    finite = True

    def __init__(
        self,
        content: AsyncIterable[Item] | Iterable[Item],
        options: StreamOptions,
        send: Send,
        abort: Callable[[], None] | None,
    ) -> None:
        self.retry = options.retry
        self._pump = Pump(content)
        self._options = options
        self._send = send
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._stop: asyncio.Future[str] = self._loop.create_future()
        self._sending_since: float | None = None
        self._cut = False
        self._timer: asyncio.TimerHandle | None = None
        if options.write_timeout is not None:
            self._timer = self._loop.call_later(options.write_timeout, self._look, options.write_timeout)

    def stop(self) -> None:
        """The server is stopping."""
        if not self._stop.done():
            self._stop.set_result("goodbye")

    def gone(self) -> None:
        """The client has left."""
        if not self._stop.done():
            self._stop.set_result("gone")

    def cut(self) -> None:
        """The client takes nothing."""
        self.gone()
        if self._sending_since is not None and not self._cut and self._task is not None:
            self._cut = True
            if self._abort is not None:
                self._abort()
            self._task.cancel()  # the only way out of a send() that blocks

    def was_cut(self) -> bool:
        """Whether the cancellation that has just come is from `cut`; then it is over."""
        if self._cut and self._task is not None:
            self._task.uncancel()
        return self._cut

    def _look(self, write_timeout: float) -> None:
        """See whether a send has been blocked for the write time-out."""
        waited = 0.0 if self._sending_since is None else self._loop.time() - self._sending_since
        if waited >= write_timeout:
            self.cut()
        else:
            self._timer = self._loop.call_later(write_timeout - waited, self._look, write_timeout)

    async def _body(self, data: bytes, *, more: bool = True) -> None:
        self._sending_since = self._loop.time()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._sending_since = None

    async def first(self) -> bool:
        """Wait for the first item. Returns whether anybody is still there to get it."""
        waiting = asyncio.ensure_future(self._pump.first())
        await asyncio.wait(_either(waiting, self._stop), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
            return True
        waiting.cancel()
        return self._stop.result() != "gone"

    async def send_all(self) -> None:
        """Send until the end of the iterable, the client or the server."""
        options = self._options
        beat = None if options.heartbeat is None else options.heartbeat
        end = None if options.max_age is None else self._loop.time() + options.max_age * random.uniform(0.9, 1.1)
        if options.retry is not None:
            await self._body(opening(options.retry, None))
        while not self._stop.done():
            timeout = None if beat is None else beat * random.uniform(0.75, 1.0)
            taking = asyncio.ensure_future(self._pump.take(timeout))
            await asyncio.wait(_either(taking, self._stop), return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                taking.cancel()
                break
            try:
                block = taking.result()
            except Exception as error:  # the iterable's own failure; the outermost frame that can tell the client
                logger.error("a stream's content raised %s", type(error).__name__, exc_info=error)
                await self._body(encode(Event(json.dumps({"error": "internal"}), ERROR)))
                break
            if block is None:
                break
            await self._body(block or HEARTBEAT)
            if end is not None and self._loop.time() > end:
                self.stop()
        if self._stop.done():
            if self._stop.result() == "gone":
                return
            await self._body(encode(goodbye(come_back(options.retry))))
        await self._body(b"", more=False)

    async def close(self) -> None:
        """Close the iterable."""
        if self._timer is not None:
            self._timer.cancel()
        await self._pump.close()


def _either(*futures: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return set(futures)
