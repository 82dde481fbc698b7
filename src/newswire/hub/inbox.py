"""Iterating over a subscription in process: the sink that takes events, not bytes, and the iterator over it.

The iterator is an object and not an async generator: whatever cancels one waiting of a generator ends it for good, in
silence. This one may be waited for again after `asyncio.wait_for` or `asyncio.timeout`, and has lost nothing. A goodbye
asks a client to come back: here the iterator does that, and opens its subscription again after its last event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from newswire.errors import Closed, LogUnavailable
from newswire.hub.frames import Chunk, Frame
from newswire.hub.options import StreamOptions
from newswire.log.position import Position
from newswire.log.retry import Retry
from newswire.wire.event import Event

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

_IN_PROCESS: Final = StreamOptions(heartbeat=None, retry=None, write_timeout=None)


class Inbox:
    """Holds at most what came in one write; asks for more when the reader has taken all of it.

    Args:
        subscription: whose events come here.
        position: the position that it was opened at.

    Attributes:
        loop: the event loop that it belongs to.
        comes_back: it has ended, and its subscription is ready to be opened again.
    """

    __slots__ = ("_ended", "_frames", "_last", "_position", "_subscription", "_waiter", "comes_back", "loop")

    def __init__(self, subscription: Subscription, position: Position) -> None:
        self.loop = asyncio.get_running_loop()
        self.comes_back = False
        self._subscription = subscription
        self._position = position
        self._last: Frame | None = None  # the newest event that came here
        self._frames: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def write(self, chunk: Chunk) -> bool:
        if not chunk.frames:
            return True
        self._frames.extend(chunk.frames)
        self._last = chunk.frames[-1]
        self._wake()
        return False

    def end(self, last: Chunk | None) -> None:
        if last is not None:
            self._frames.extend(last.frames)
        self._ended = True
        self._subscription.ended()
        if last is not None and not last.frames and not self._subscription.live.draining:
            # A goodbye, though the hub stays: the log is another one now.
            self._subscription.renew(self._position if self._last is None else self._last.id)
            self.comes_back = True
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
            self._subscription.resume()  # may write at once
            if self._frames or self._ended:
                continue
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()


class EventIterator(AsyncIterator[Event]):
    """The events of a subscription, one after the other; see `Subscription.__aiter__`. For one reader at a time.

    It holds the subscription, and nothing holds it: who lets go of it (leaves an `async for`) frees the subscription.
    """

    __slots__ = ("_inbox", "_over", "_subscription", "_waited_for")

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._inbox: Inbox | None = None
        self._waited_for = False
        self._over = False

    def __aiter__(self) -> EventIterator:
        return self

    async def __anext__(self) -> Event:
        """The next event. Cancelling loses nothing: call it again.

        Raises:
            StopAsyncIteration: the subscription or the hub was closed.
            LogUnavailable: at the first event: the log can't be read now. Calling again tries again.
            RuntimeError: somebody else waits for this iterator's next event.
        """
        if self._over:
            raise StopAsyncIteration
        if self._waited_for:
            raise RuntimeError("somebody waits for the next event already: subscribe for each reader")
        self._waited_for = True
        try:
            if self._inbox is None:
                self._inbox = await self._open()
            frame = await self._inbox.next()
            while frame is None and self._inbox.comes_back:
                inbox = await self._open_again()
                if inbox is None:
                    break
                self._inbox = inbox
                frame = await inbox.next()
        except BaseException:
            self._waited_for = False
            del self  # the traceback keeps this frame: who is cancelled would keep the subscription for as long
            raise
        self._waited_for = False
        if frame is None:
            self._over = True
            raise StopAsyncIteration
        return frame.decoded()

    async def _open(self) -> Inbox:
        subscription = self._subscription
        inbox = Inbox(subscription, await subscription.open())
        subscription.attach(inbox, _IN_PROCESS)
        return inbox

    async def _open_again(self) -> Inbox | None:
        retry = Retry()
        while True:
            try:
                return await self._open()
            except Closed:
                return None  # the subscription or the hub was closed meanwhile
            except LogUnavailable:
                await asyncio.sleep(retry.next())

    async def aclose(self) -> None:
        """Free the subscription. Idempotent."""
        self._over = True
        if self._inbox is not None:
            _free(self._subscription)

    def __del__(self) -> None:
        inbox = getattr(self, "_inbox", None)
        if inbox is not None and not self._over:
            # Not here: whatever freed this object may be in the midst of anything, or in another thread.
            with suppress(RuntimeError):  # the event loop is closed
                inbox.loop.call_soon_threadsafe(_free, self._subscription)


def _free(subscription: Subscription) -> None:
    subscription.close()
    subscription.ended()
