"""The sink of a subscription that is iterated over in process: it takes events, not bytes, and never encodes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from newswire.hub.frames import Chunk, Frame

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription


class Inbox:
    """Holds at most what came in one write; asks for more when the reader has taken all of it."""

    __slots__ = ("_ended", "_frames", "_subscription", "_waiter")

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._frames: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None
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
        self._subscription.ended()
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
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()
