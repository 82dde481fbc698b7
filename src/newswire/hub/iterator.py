"""Iterating over a subscription in process: a sink that takes events, not bytes, and the iterator over it.

The iterator is an object and not an async generator: whatever cancels one waiting of a generator ends it for good, in
silence. This one may be waited for again after `asyncio.wait_for` or `asyncio.timeout`, and has lost nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from newswire.hub.frames import Chunk, Frame
from newswire.hub.options import IN_PROCESS, StreamOptions
from newswire.hub.sink import Sink
from newswire.log.position import Position

if TYPE_CHECKING:
    from newswire.hub.contracts import Contracts

E = TypeVar("E", covariant=True)


class StreamSource(Protocol):
    """A subscription, as its iterator sees it."""

    async def open(self) -> Position: ...

    def attach(self, sink: Sink, options: StreamOptions) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...

    def ended(self) -> None: ...


class IteratorSink:
    """Holds at most what came in one write; takes more when the reader has taken all of it.

    Attributes:
        loop: the event loop that it belongs to.
    """

    __slots__ = ("_ended", "_frames", "_stream", "_waiter", "loop")

    wire = False

    def __init__(self, stream: StreamSource) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._stream = stream
        self._frames: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None  # there while the reader waits
        self._ended = False

    def write(self, chunk: Chunk) -> bool:
        if not chunk.frames:
            return True
        self._frames.extend(chunk.frames)
        self._wake()
        return False

    def end(self, last: Chunk | None) -> None:
        if last is not None:
            self._frames.extend(last.frames)
        self._ended = True
        self._stream.ended()
        self._wake()

    def cut(self) -> None:
        self._ended = True
        self._frames.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Frame | None:
        """The next event; None at the end. Cancelling loses nothing."""
        while not self._frames:
            if self._ended:
                return None
            self._stream.resume()  # may write at once
            if self._frames or self._ended:
                continue
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()


class EventIterator(AsyncIterator[E], Generic[E]):
    """The events of a subscription, one after the other; see `Subscription.__aiter__`. For one reader at a time.

    It holds the subscription, and nothing holds it: leaving an `async for` frees the subscription.
    """

    __slots__ = ("_contracts", "_over", "_sink", "_stream", "_waited_for")

    def __init__(self, stream: StreamSource, contracts: Contracts[Any] | None = None) -> None:
        self._stream = stream
        self._contracts = contracts
        self._sink: IteratorSink | None = None  # from the first call for an event on
        self._waited_for = False
        self._over = False

    def __aiter__(self) -> EventIterator[E]:
        return self

    async def __anext__(self) -> E:
        """The next event. Cancelling loses nothing: call it again.

        Raises:
            StopAsyncIteration: the subscription or the hub was closed.
            LogUnavailable: at the first event: the log can't be read now. Calling again tries again.
            RuntimeError: another task waits for this iterator's next event.
            BadPayload: the event doesn't fit its contract; call again for the next one.
        """
        contracts = self._contracts
        try:
            while True:
                frame = await self._next()
                event: Any = frame.decoded()
                if contracts is not None:
                    event = contracts.read(event)
                if event is not None:
                    return event  # type: ignore[no-any-return]
        except BaseException:
            del self  # see `_next`
            raise

    async def _next(self) -> Frame:
        if self._over:
            raise StopAsyncIteration
        if self._waited_for:
            raise RuntimeError("another task waits for the next event already: subscribe for each reader")
        self._waited_for = True
        try:
            if self._sink is None:
                await self._stream.open()
                sink = IteratorSink(self._stream)
                self._stream.attach(sink, IN_PROCESS)
                self._sink = sink
            frame = await self._sink.next()
        except BaseException:
            self._waited_for = False
            del self  # the traceback keeps this frame, and a cancelled task would keep the subscription for as long
            raise
        self._waited_for = False
        if frame is None:
            self._over = True
            raise StopAsyncIteration
        return frame

    async def aclose(self) -> None:
        """Free the subscription. Idempotent."""
        self._over = True
        if self._sink is not None:
            _free(self._stream)

    def __del__(self) -> None:
        sink = getattr(self, "_sink", None)
        if sink is not None and not self._over:
            # Not here: whatever freed this object may be in the midst of anything, or in another thread.
            with suppress(RuntimeError):  # the event loop is closed
                sink.loop.call_soon_threadsafe(_free, self._stream)


def _free(stream: StreamSource) -> None:
    stream.close()
    stream.ended()
