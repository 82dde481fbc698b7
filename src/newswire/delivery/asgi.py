"""The ASGI path: a subscription through `await send()`, on any server.

One task a stream, woken when there is something, and a watcher on `receive()`, which alone tells of a disconnect on
every server: `send()` never raises, and on some servers never blocks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from newswire.hub.frames import Chunk
from newswire.hub.options import StreamOptions

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

logger = logging.getLogger("newswire.delivery")

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class TaskSink:
    """A sink whose task sends one chunk at a time."""

    __slots__ = ("_chunk", "_cut", "_last", "_loop", "_over", "_sending", "_task", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._waiter: asyncio.Future[None] | None = None
        self._chunk: Chunk | None = None
        self._last: Chunk | None = None
        self._over = False
        self._sending = False
        self._cut = False

    # -- called by the hub

    def write(self, chunk: Chunk) -> bool:
        self._chunk = chunk
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        return False

    def end(self, last: Chunk | None) -> None:
        self._last = last
        self._over = True
        self._wake()

    def cut(self) -> None:
        self._chunk = self._last = None
        self._over = self._cut = True
        if self._sending and self._task is not None:
            self._task.cancel()  # the only way out of a send() that blocks; `stream` keeps it to itself
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- the task

    async def stream(self, subscription: Subscription, send: Send, options: StreamOptions) -> bool:
        """Send until the stream ends.

        Returns:
            whether it ended in order, so that the response should be completed.
        """
        allowance = options.max_bytes
        try:
            while True:
                chunk = self._chunk
                if chunk is not None:
                    self._chunk = None
                    self._sending = True
                    await send({"type": "http.response.body", "body": chunk.raw, "more_body": True})
                    self._sending = False
                    if allowance is not None:
                        allowance -= len(chunk.raw)
                        if allowance <= 0:
                            allowance = None
                            subscription.goodbye()
                            continue
                    subscription.resume()
                elif self._over:
                    if self._last is not None:
                        self._sending = True
                        await send({"type": "http.response.body", "body": self._last.raw, "more_body": True})
                    return not self._cut
                else:
                    self._waiter = self._loop.create_future()
                    await self._waiter
        except asyncio.CancelledError:
            if not (self._cut and self._sending):
                await last_words(send, subscription.goodbye_bytes())
                raise
            if self._task is not None:
                self._task.uncancel()
            return False  # the peer takes nothing
        finally:
            subscription.ended()


async def last_words(send: Send, data: bytes) -> None:
    """Say goodbye from a task that its server has cancelled: some tell of their shutdown in no other way."""
    try:
        async with asyncio.timeout(0.5):
            await send({"type": "http.response.body", "body": data, "more_body": False})
    except Exception as error:  # whatever the server raises now, the cancellation goes on
        logger.debug("no goodbye could be sent: %r", error)


async def watch(receive: Receive, gone: Callable[[], None]) -> None:
    """Wait for the client to leave, then call `gone`."""
    while (await receive())["type"] != "http.disconnect":
        pass  # the rest of the request's body
    gone()
