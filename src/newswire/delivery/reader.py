"""Any iterable as bytes: one side draws items, the other takes all that is ready in one piece.

An async iterable is drawn by a task of its own. That keeps its context whole (it is opened, drawn and closed in one
task, as cancel scopes demand), lets heartbeats pass while it thinks, and joins what a fast producer yields. A sync
iterable is drawn by a thread of its own, in one context (`newswire.delivery.threads`). Lists and tuples never block,
so the task draws them too. Each runs ahead of the client by one write budget at most.

An item that looks like the text or the fields of an event, as other libraries take them, gets a warning, once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Final, TypeAlias

from newswire.delivery.threads import THREADS
from newswire.wire.encoder import encode
from newswire.wire.event import Event
from newswire.wire.payload import to_event

logger: logging.Logger = logging.getLogger("newswire.delivery")

Item: TypeAlias = str | bytes | Event | Any

# What sse-starlette reads as the fields of an event, where it stands in a dict; and classes of other frameworks.
_FIELDS: Final = frozenset({"data", "event", "id", "retry", "comment"})
_CLASSES: Final = frozenset({"ServerSentEvent", "JSONServerSentEvent", "ServerSentEventMessage"})
_STARTS: Final = ("data:", "event:", "id:", "retry:", ":")
_warned = False

# Seconds that the end of a stream waits for a thread to close its iterable. A longer `finally` goes on by itself.
_CLOSING: Final = 1.0
_END: Final = object()
_AHEAD: Final = 64 * 2**10  # bytes that an iterable may be ahead of its client: the write budget


class IterableReader:
    """Draws from an iterable, ahead of its reader by a bounded number of bytes.

    `take` waits for items; `close` ends it at any time.

    Raises:
        Problem: a sync iterable, and there are too many threads.
    """

    def __init__(self, content: AsyncIterable[Item] | Iterable[Item]) -> None:
        self._ready: list[bytes] = []
        self._ready_bytes = 0
        self._over = False
        self._error: BaseException | None = None
        self._interrupted = False
        self._closing = False
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._given_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread: DrawingThread | None = None
        if isinstance(content, AsyncIterable) or type(content) in (list, tuple):
            self._task = asyncio.get_running_loop().create_task(self._draw(content), name="newswire stream")
        else:
            self._thread = DrawingThread(content, self._filled.set)

    # -- the drawing side

    async def _draw(self, content: AsyncIterable[Item] | Iterable[Item]) -> None:
        try:
            if isinstance(content, AsyncIterable):
                iterator = aiter(content)
                try:
                    async for item in iterator:
                        await self._put(encode_item(item))
                finally:
                    await _aclose(iterator)
            else:
                for item in content:
                    await self._put(encode_item(item))
        except asyncio.CancelledError as error:
            if self._closing:
                raise
            # Something that it waits for was cancelled. An end in order would say that this is all.
            self._error = RuntimeError("the iterable was cancelled, and not by its stream")
            self._error.__cause__ = error
        except BaseException as error:
            self._error = error
        finally:
            self._over = True
            self._filled.set()

    async def _put(self, block: bytes) -> None:
        self._ready.append(block)
        self._ready_bytes += len(block)
        self._filled.set()
        while self._ready_bytes >= _AHEAD:
            self._taken.clear()
            await self._taken.wait()

    # -- the taking side

    async def take(self, timeout: float | None) -> bytes | None:
        """All that is ready, joined; empty after `timeout` seconds or an interruption; None at the end.

        Raises:
            BaseException: what the iterable raised, after everything before it was taken.
        """
        while True:
            self._fetch()
            if self._ready:
                joined = b"".join(self._ready)
                self._ready.clear()
                self._ready_bytes = 0
                self._taken.set()
                return joined
            if self._error is not None:
                raise self._error
            if self._over:
                return None
            if self._interrupted:
                return b""
            self._filled.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._filled.wait()
            except TimeoutError:
                return b""

    def _fetch(self) -> None:
        """Take what a thread has drawn."""
        thread = self._thread
        if thread is None or self._ready:
            return
        over = thread.over  # read before what is ready, which is complete then
        taken = thread.take()
        if taken:
            self._ready.append(taken)
        if over:
            self._error = thread.error
            self._over = True

    def interrupt(self) -> None:
        """Let `take` return, now and from now on: the stream ends."""
        self._interrupted = True
        self._filled.set()

    def give_up(self) -> None:
        """Let `close` return in a second at the latest: the server stops. What the iterable still does is cancelled."""
        asyncio.get_running_loop().call_later(_CLOSING, self._given_up.set)

    async def close(self) -> None:
        """Stop drawing, and close the iterable where it was drawn. What blocks in a thread is left behind."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await self._until_over(self._task)
        elif self._thread is not None and self._thread.close():
            try:
                async with asyncio.timeout(_CLOSING):
                    while not self._thread.over:
                        self._filled.clear()
                        self._thread.take()
                        if not self._thread.over:
                            await self._filled.wait()
            except TimeoutError:
                pass

    async def _until_over(self, task: asyncio.Task[None]) -> None:
        given_up = asyncio.ensure_future(self._given_up.wait())
        try:
            await asyncio.wait([task, given_up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up.cancel()
            if not task.done():
                task.cancel()  # it is in its `finally`
                logger.warning("the end of a stream's iterable (its finally, perhaps) took too long, and was cancelled")


async def _aclose(iterator: AsyncIterator[Item]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


class DrawingThread:
    """Draws from a sync iterable in a thread, ahead of its reader by a bounded number of bytes.

    Args:
        content: the iterable.
        wake: called in the event loop when there is something to take, or the end.

    Raises:
        Problem: there are too many threads.

    Attributes:
        error: what the iterable raised; set before `over`.
        over: nothing more will come.
    """

    def __init__(self, content: Iterable[Item], wake: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self.over: bool = False
        self._content = content
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._blocks: list[bytes] = []
        self._held = 0  # bytes that the reader has not taken
        self._changed = threading.Condition()
        self._waking = False  # `wake` is on the loop's list
        self._closing = False
        self._drawing = True  # the iterable's own code runs, or is about to
        THREADS.start(self._run)

    # -- in the event loop

    def take(self) -> bytes:
        """All that is ready; may be empty."""
        with self._changed:
            self._waking = False
            taken = b"".join(self._blocks)
            self._blocks.clear()
            self._held = 0
            self._changed.notify()
        return taken

    def close(self) -> bool:
        """Draw no more. The thread closes the iterable, as soon as the item that it may be drawing is there.

        Returns:
            whether the iterable's code is at rest, so that its end is near: `wake` will be called.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
            return not self._drawing

    # -- in the thread

    def _run(self) -> None:
        try:
            self._draw()
        except BaseException as error:  # the outermost frame; the reader raises it
            self.error = error
        finally:
            THREADS.leave()
            self._content = ()
            with self._changed:
                self.over = True
                self._notify()

    def _draw(self) -> None:
        iterator: Any = self._content
        if not self._closing:
            iterator = iter(self._content)
        try:
            while not self._closing and (item := next(iterator, _END)) is not _END:
                self._give(encode_item(item))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _give(self, block: bytes) -> None:
        """Wait while the reader is behind."""
        with self._changed:
            self._drawing = False
            self._blocks.append(block)
            self._held += len(block)
            self._notify()
            while self._held >= _AHEAD and not self._closing:
                self._changed.wait()
            self._drawing = True

    def _notify(self) -> None:
        """Wake the reader, once for all that comes before it looks. The lock is held."""
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop is closed
                self._closing = True


def encode_item(item: Item) -> bytes:
    """An item of a stream as bytes; see `newswire.wire.payload.to_event`. Event types are the stream's own affair.

    Raises:
        InvalidEvent: it can't be sent.
    """
    if not _warned and _looks_foreign(item):
        _warn(item)
    return encode(to_event(item, reserved=True))


def _looks_foreign(item: Item) -> bool:
    """Whether an item is the parts, or the text, of an event as other libraries take them."""
    if isinstance(item, Event):
        return False
    if isinstance(item, dict):
        return _FIELDS.issuperset(item) and ("data" in item or len(item) > 1)
    if isinstance(item, str):
        return item.endswith(("\n\n", "\r\n\r\n")) and item.startswith(_STARTS)
    if isinstance(item, (bytes, bytearray)):
        return item.endswith((b"\n\n", b"\r\n\r\n")) and _looks_foreign(bytes(item).decode("utf-8", "replace"))
    return type(item).__name__ in _CLASSES


def _warn(item: Item) -> None:
    global _warned
    _warned = True
    what = "a dict with the fields of an event" if isinstance(item, dict) else "the text of an event"
    if type(item).__name__ in _CLASSES:
        what = f"a {type(item).__name__}"
    logger.warning(
        "A stream yielded %s. newswire sends it as data: the client gets it inside one event. To set the fields of an "
        "event, yield newswire.Event(data, event=..., id=..., retry=...). This is said once in a process.",
        what,
    )
