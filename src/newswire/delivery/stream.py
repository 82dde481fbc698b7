"""A subscription's stream through `await send()`: right on every server; compressed, if its client asked for that.

The hub writes into the sink, which holds one chunk at a time; the response's task sends it, and asks for more. So a
slow client costs one chunk, and a `send()` that waits for its client holds up no other stream. The client's disconnect
comes by `receive()`: `send()` never raises, and on some servers never blocks.

The hub gives all readers of a group the same chunk. A `CompressedSink` hands on that chunk's blocks, which were
compressed when its first reader came to it. So a thousand readers cost one compression, and a reader who takes no gzip
costs nothing. What the sink beneath counts, holds and cuts is compressed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from newswire.delivery.asgi import Receive, Scope, Send, watch
from newswire.delivery.server_stop import Hook
from newswire.hub.frames import Chunk
from newswire.hub.options import StreamOptions
from newswire.hub.sink import Sink
from newswire.hub.stats import Counts
from newswire.wire.gzip import GzipBody
from newswire.wire.headers import takes_gzip

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

logger: logging.Logger = logging.getLogger("newswire.delivery")

_FINAL_SECONDS: Final = 0.5


class PlainSink:
    """A sink that sends one chunk at a time.

    Args:
        send: the server's, or what a middleware makes of it; the response's head was sent.
        max_bytes: say goodbye after so many.
        abort: drops the connection; None where a server offers no such thing.

    Attributes:
        hook: undone when `stream` is over.
        body: of a compressed response, whose chunks come from a `CompressedSink`.
    """

    __slots__ = ("_abort", "_chunk", "_cut", "_done", "_last", "_over", "_room", "_send", "_sending", "_task",
                 "_waiter", "body", "hook")  # fmt: skip

    def __init__(self, send: Send, max_bytes: int | None, abort: Callable[[], None] | None = None) -> None:
        self._send = send
        self._abort = abort
        self.hook: Hook | None = None
        self.body: GzipBody | None = None
        self._task: asyncio.Task[Any] | None = None  # from `stream` on
        self._room = max_bytes
        self._waiter: asyncio.Future[None] | None = None  # there only while the task has nothing to do
        self._chunk: Chunk | None = None  # to be sent
        self._last: Chunk | None = None  # the one that ends the stream
        self._over = False  # no chunk follows but `_last`
        self._sending = False  # a send was begun that waits for something
        self._cut = False  # the client takes nothing
        self._done = False  # the response is complete

    # -- called by the hub

    def write(self, chunk: Chunk) -> bool:
        self._chunk = chunk
        self._wake()
        return False

    def end(self, last: Chunk | None) -> None:
        self._last = last
        self._over = True
        self._wake()

    def cut(self) -> None:
        self._chunk = self._last = None
        self._over = self._cut = True
        if self._abort is not None:
            self._abort()
        if self._sending and self._task is not None:
            self._task.cancel()  # the only way out of a send() that blocks; `stream` keeps it to itself
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- the task

    async def stream(self, subscription: Subscription, receive: Receive) -> None:
        """Send until the stream ends, then complete the response if it ended in order. Attach before."""
        self._task = asyncio.current_task()
        unwatch = self._watch(receive, subscription.client_left)
        try:
            while not self._done:
                work = self._work(subscription)
                if work is not None:
                    await work
                    continue
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                except asyncio.CancelledError as error:
                    self._waiter = None
                    await self._cancelled(error, subscription)
        except asyncio.CancelledError:
            if not (self._cut and self._sending):
                await send_final(self._send, self._final(subscription.goodbye_bytes()))
                raise
            if self._task is not None:
                self._task.uncancel()  # the peer takes nothing: that was `cut`
        finally:
            subscription.ended()
            unwatch()
            if self.hook is not None:
                self.hook.undo()

    def _watch(self, receive: Receive, gone: Callable[[], object]) -> Callable[[], object]:
        return watch(receive, gone)

    def _work(self, subscription: Subscription) -> Awaitable[None] | None:
        """What the task has to do now; None: it waits."""
        chunk, self._chunk = self._chunk, None
        if chunk is not None:
            return self._forward(chunk, subscription)
        if self._room is not None and self._room <= 0:
            self._room = None
            subscription.goodbye()
            return self._work(subscription)
        return self._finish() if self._over else None

    async def _cancelled(self, error: asyncio.CancelledError, subscription: Subscription) -> None:
        """The task was cancelled while it waited."""
        raise error

    def _final(self, goodbye: bytes) -> bytes:
        """What a task sends that its server has cancelled."""
        body = self.body
        if body is None:
            return goodbye
        # A trailer counts what went out. Where that isn't known, the body ends like that of a cut connection.
        known = self._chunk is None and not self._sending
        if body.over:
            return self._last.raw if known and self._last is not None else b""
        return body.end(goodbye) if known else body.encode(goodbye)

    async def _forward(self, chunk: Chunk, subscription: Subscription) -> None:
        await self._deliver(chunk.raw)
        subscription.resume()

    async def _finish(self) -> None:
        if self._last is not None:
            await self._deliver(self._last.raw)
        if not self._cut:
            await self._deliver(b"", more=False)
        self._done = True

    async def _deliver(self, data: bytes, *, more: bool = True) -> None:
        if self._room is not None:
            self._room -= len(data)
        self._sending = True
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._sending = False


async def send_final(send: Send, data: bytes) -> None:
    """Say goodbye from a task that its server has cancelled: some tell of their shutdown in no other way."""
    try:
        async with asyncio.timeout(_FINAL_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": False})
    except Exception as error:  # whatever the server raises now, the cancellation goes on
        logger.debug("no goodbye could be sent: %r", error)


VARY = (b"vary", b"accept-encoding")
GZIP = (b"content-encoding", b"gzip")


def body_for(scope: Scope, options: StreamOptions | None, headers: list[tuple[bytes, bytes]]) -> GzipBody | None:
    """The body of a compressed answer to this request; None: it goes out as it is.

    Args:
        scope: the request's.
        options: the stream's.
        headers: the response's. One that says how the content is encoded already stays as it is.
    """
    if options is None or not options.compress or any(name == GZIP[0] for name, _ in headers):
        return None
    values = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"accept-encoding"]
    return GzipBody() if takes_gzip(",".join(values)) else None


class CompressedSink:
    """A sink that compresses for the one beneath it.

    Args:
        sink: the connection's.
        body: the response's.
        counts: the hub's.
    """

    __slots__ = ("_body", "_counts", "_sink")

    def __init__(self, sink: Sink, body: GzipBody, counts: Counts) -> None:
        self._sink = sink
        self._body = body
        self._counts = counts

    def write(self, chunk: Chunk) -> bool:
        packed = chunk.packed or chunk.compressed  # a property costs a call
        body = self._body
        body.count(chunk.raw)
        if not body.begun:
            packed = Chunk(raw=body.begin(packed.raw))
        counts = self._counts
        counts.compressed_from += len(chunk.raw)
        counts.compressed_to += len(packed.raw)
        return self._sink.write(packed)

    def end(self, last: Chunk | None) -> None:
        raw = b"" if last is None else last.raw
        packed = self._body.end(raw)
        self._counts.compressed_from += len(raw)
        self._counts.compressed_to += len(packed)
        self._sink.end(Chunk(raw=packed))

    def cut(self) -> None:
        self._sink.cut()
