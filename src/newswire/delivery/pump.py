"""Any iterable as an event stream: one task draws items, another sends all that is ready in one write.

Drawing in a task of its own keeps the iterable's context whole (it is opened, drawn and closed in one task, as
cancel scopes demand), lets heartbeats pass while it thinks, and joins what a fast producer yields. It runs ahead of
the client by one write budget at most.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Final, TypeAlias

from newswire.wire.encoder import encode
from newswire.wire.event import Event
from newswire.wire.payload import to_event

Item: TypeAlias = str | bytes | Event | Any
_AHEAD: Final = 64 * 2**10  # bytes: the write budget
_END: Final = object()


def encode_item(item: Item) -> bytes:
    """An item of a stream as bytes; see `to_event`. Types that nobody may publish are the application's own here.

    Raises:
        InvalidEvent: it can't be sent.
    """
    return encode(to_event(item, reserved=True))


class Pump:
    """Draws from an iterable, ahead of its reader by a bounded number of bytes.

    `first` waits for the first item; `take` for more; `close` ends it at any time.
    """

    def __init__(self, content: AsyncIterable[Item] | Iterable[Item]) -> None:
        self._content = content
        self._ready: list[bytes] = []
        self._ready_bytes = 0
        self._over = False
        self._error: BaseException | None = None
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._draw(), name="newswire stream")

    async def _draw(self) -> None:
        try:
            if isinstance(self._content, AsyncIterable):
                iterator = aiter(self._content)
                try:
                    async for item in iterator:
                        await self._put(encode_item(item))
                finally:
                    await _aclose(iterator)
            else:
                await self._draw_from_thread(iter(self._content))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = error
        finally:
            self._over = True
            self._filled.set()

    async def _draw_from_thread(self, iterator: Iterator[Item]) -> None:
        # A sync iterable may block, so each item is drawn in a worker thread.
        items = _Items(iterator)
        try:
            while (item := await asyncio.to_thread(items.draw)) is not _END:
                await self._put(encode_item(item))
        finally:
            if not items.close_when_drawn():
                await asyncio.to_thread(items.close)

    async def _put(self, block: bytes) -> None:
        self._ready.append(block)
        self._ready_bytes += len(block)
        self._filled.set()
        while self._ready_bytes >= _AHEAD:
            self._taken.clear()
            await self._taken.wait()

    async def first(self) -> None:
        """Wait until there is something to send, or the end.

        Raises:
            BaseException: what the iterable raised before its first item.
        """
        await self._filled.wait()
        if self._error is not None and not self._ready:
            raise self._error

    async def take(self, timeout: float | None) -> bytes | None:
        """All that is ready, joined; empty after `timeout` seconds without anything; None at the end.

        Raises:
            BaseException: what the iterable raised, after everything before it was taken.
        """
        if not self._ready and not self._over:
            self._filled.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._filled.wait()
            except TimeoutError:
                return b""
        if self._ready:
            joined = b"".join(self._ready)
            self._ready.clear()
            self._ready_bytes = 0
            self._taken.set()
            return joined
        if self._error is not None:
            raise self._error
        return None

    async def close(self) -> None:
        """Stop drawing; the iterable is closed, in the task that drew from it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class _Items:
    """A sync iterator that may have to be closed while a thread draws from it, which can take long."""

    def __init__(self, iterator: Iterator[Item]) -> None:
        self._iterator = iterator
        self._drawing = threading.Lock()
        self._closing = False

    def draw(self) -> Item:
        """The next item; `_END` if there is none."""
        with self._drawing:
            item = _END if self._closing else next(self._iterator, _END)
        if self._closing:
            self.close()
        return item

    def close_when_drawn(self) -> bool:
        """Draw no more. Returns whether an item is being drawn: then its thread closes the iterator after it."""
        self._closing = True
        return self._drawing.locked()

    def close(self) -> None:
        """Close the iterator; nobody draws from it."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


async def _aclose(iterator: AsyncIterator[Item]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
