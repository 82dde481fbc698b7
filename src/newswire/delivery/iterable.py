"""The stream of an iterable: what it yields, heartbeats while it thinks, and one of four ends.

It ends with the iterable, with an error of the iterable, with a goodbye when the server stops, or in silence when the
client has left. The iterable is closed in each case, also if it was never drawn from.

The head waits for the first item, so that an error before it becomes a real status code. It waits no longer than one
heartbeat: routers in between give up on a server that sends nothing, commonly after 30 seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias

from newswire.delivery.asgi import Message, Send
from newswire.delivery.drain import Drain
from newswire.delivery.reader import Item, IterableReader
from newswire.delivery.stream import send_final
from newswire.hub.options import StreamOptions
from newswire.wire.encoder import encode, heartbeat, opening
from newswire.wire.event import Event
from newswire.wire.gzip import GzipBody
from newswire.wire.reserved import ERROR, come_back, goodbye

logger: logging.Logger = logging.getLogger("newswire.delivery")


class _Settable(Protocol):
    def set(self) -> object: ...


# How an iterable learns that the server stops: an event of asyncio's, anyio's or threading's, or any call.
OnShutdown: TypeAlias = _Settable | Callable[[], object]


class IterableStream:
    """One response's stream of an iterable.

    Args:
        content: the iterable.
        options: see `StreamOptions`.
        head: the message that begins the response.
        body: of a compressed response.
        send: the response's.
        abort: drops the connection; None where a server offers no such thing.
        on_shutdown: set, or called, when the server stops; the iterable then has the drain's time to end by itself.
        drain: of this event loop.

    Raises:
        Problem: a sync iterable, and there are too many threads.
    """

    def __init__(
        self,
        content: AsyncIterable[Item] | Iterable[Item],
        *,
        options: StreamOptions,
        head: Message,
        body: GzipBody | None,
        send: Send,
        abort: Callable[[], None] | None,
        on_shutdown: OnShutdown | None,
        drain: Drain,
    ) -> None:
        # With `on_shutdown`, the stop is reported at once, also while others drain.
        self.finite: bool = on_shutdown is None
        self._options = options
        self._head = head
        self._packed = body
        self._send = send
        self._abort = abort
        self._on_shutdown = on_shutdown
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._started = False  # the head is out
        self._stopped: bool = False  # the stream ends now
        self._gone = False  # … and no one reads its end
        self._sending_since: float | None = None
        self._cut = False
        self._timers: list[asyncio.TimerHandle] = []
        self._reader = IterableReader(content)
        if options.write_timeout is not None:
            self._timers.append(self._loop.call_later(options.write_timeout, self._look, options.write_timeout))

    # -- called from outside, in the event loop

    def stop(self) -> None:
        """The server is stopping."""
        notify, self._on_shutdown = self._on_shutdown, None
        if notify is None:
            self._finish()
            return
        self._timers.append(self._loop.call_later(self._drain.own_seconds, self._finish))
        notify.set() if hasattr(notify, "set") else notify()

    def end(self) -> None:
        """The stream's own server is stopping."""
        self._drain.end(self)

    def gone(self) -> None:
        """The client has left."""
        self._gone = True
        self._finish()

    def cut(self) -> None:
        """The time of the server's stop is over: the client takes nothing, or the iterable does not end."""
        self._reader.give_up()
        self._drop()

    def _drop(self) -> None:
        """The client takes nothing."""
        self.gone()
        if self._sending_since is not None and not self._cut and self._task is not None:
            self._cut = True
            if self._abort is not None:
                self._abort()
            self._task.cancel()  # the only way out of a send() that blocks

    def _finish(self) -> None:
        self._stopped = True
        self._reader.interrupt()

    def _is_stopped(self) -> bool:
        return self._stopped

    def _look(self, write_timeout: float) -> None:
        """See whether a send has been blocked for the write time-out."""
        waited = 0.0 if self._sending_since is None else self._loop.time() - self._sending_since
        if waited >= write_timeout:
            self._drop()
        else:
            self._timers[0] = self._loop.call_later(write_timeout - waited, self._look, write_timeout)

    # -- the response's task

    async def run(self) -> None:
        """Send until the end of the iterable, the client or the server.

        Raises:
            Exception: what the iterable raised before the head was sent.
        """
        try:
            await self._stream()
        except asyncio.CancelledError:
            if self._cut and self._task is not None:
                self._task.uncancel()  # that was `_drop`
                return
            if self._started:
                await send_final(self._send, self._final())
            raise
        finally:
            try:
                await self._reader.close()
            finally:
                for timer in self._timers:
                    timer.cancel()

    async def _stream(self) -> None:
        age, over = self._options.draw_max_age(), False
        end = None if age is None else self._loop.time() + age
        while not self._stopped:
            try:
                block = await self._reader.take(self._patience(end))
            except Exception as error:  # the iterable's own failure; the outermost frame that can send it on
                if not self._started:
                    raise
                logger.error("a stream's content raised %s", type(error).__name__, exc_info=error)
                await self._body(encode(Event(json.dumps({"error": "internal"}), ERROR)))
                over = True
                break
            if block is None:
                over = True
                break
            if not block and self._is_stopped():
                break
            if not self._started:
                await self._begin()
            await self._body(block or heartbeat(self._options.heartbeat_padding))
            if end is not None and self._loop.time() > end:
                self._finish()
        if self._gone:
            return
        if not self._started:
            await self._begin()
        if self._stopped and not over:
            await self._body(self._goodbye())
        await self._body(b"", more=False)

    def _patience(self, end: float | None) -> float | None:
        """Seconds until the next heartbeat, or the stream's end if that comes first."""
        beat = self._options.heartbeat
        patience = None if beat is None else beat * random.uniform(0.75, 1.0)
        if end is not None:
            rest = max(0.0, end - self._loop.time())
            patience = rest if patience is None else min(patience, rest)
        return patience

    async def _begin(self) -> None:
        self._started = True
        await self._send(self._head)
        if self._options.retry is not None:
            await self._body(opening(self._options.retry, None, whole=self._options.opening))

    async def _body(self, data: bytes, *, more: bool = True) -> None:
        packed = self._packed
        if packed is not None:
            data = packed.encode(data) if more else packed.end(data)
        self._sending_since = self._loop.time()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._sending_since = None

    def _final(self) -> bytes:
        """What is sent where the server has cancelled the task, perhaps in the middle of a send."""
        if self._packed is None:
            return self._goodbye()
        return b"" if self._packed.over else self._packed.encode(self._goodbye())

    def _goodbye(self) -> bytes:
        return encode(goodbye(come_back(self._options.retry)))


async def close(content: Any) -> None:
    """Close an iterable that is not drawn from."""
    closing = getattr(content, "aclose", None) or getattr(content, "close", None)
    if closing is not None:
        result = closing()
        if isinstance(result, Awaitable):
            await result
