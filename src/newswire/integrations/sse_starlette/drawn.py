"""A sync iterable as an async one: each has a thread of its own, which draws an item when one is wanted.

Starlette's way is a pool of forty threads for the whole application. Iterables that block hold all of them, and every
route that is no coroutine waits; and a stream whose iterable blocks can't end when its client leaves or the server
stops. Here what blocks is left behind, in a thread that holds no process, and `newswire.delivery.threads` bounds how
many there are. An iterable has one context for all its items, and is closed where it was drawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from newswire.delivery.threads import THREADS

_END: Final = object()
_Wanted: TypeAlias = "SimpleQueue[asyncio.Future[Any] | None]"


class DrawnItems(AsyncIterator[Any]):
    """The items of a sync iterable, for one reader.

    Args:
        content: the iterable.
    """

    def __init__(self, content: Iterable[Any]) -> None:
        self._content: Iterable[Any] | None = content  # until it is the thread's
        self._wanted: _Wanted = SimpleQueue()  # futures to settle; None: the end
        self._over = False

    def begin(self) -> None:
        """Start the thread, if it was not started.

        Raises:
            Problem: there are too many threads, a 503.
        """
        content = self._content
        if content is None:
            return
        THREADS.start(_draw, content, self._wanted)
        self._content = None

    async def __anext__(self) -> Any:
        """The next item.

        Raises:
            StopAsyncIteration: there is none, or it was closed.
            Exception: what the iterable raised.
            Problem: see `begin`.
        """
        if self._over:
            raise StopAsyncIteration
        self.begin()
        item: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._wanted.put(item)
        try:
            found = await item
        except Exception:
            self._over = True
            raise
        if found is _END:
            self._over = True
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """Draw no more. The thread closes the iterable, as soon as the item that it may be drawing is there."""
        self._over = True
        self._wanted.put(None)

    def __del__(self) -> None:
        self._wanted.put(None)


def _draw(content: Iterable[Any], wanted: _Wanted) -> None:
    """Run in the thread. It knows nothing of the reader, whose end ends it."""
    iterator: Any = None
    try:
        while (item := wanted.get()) is not None:
            try:
                iterator = iter(content) if iterator is None else iterator
                found = next(iterator, _END)
            except BaseException as error:  # the outermost frame of the thread; the reader raises it
                _settle(item, None, error)
                return
            _settle(item, found, None)
            if found is _END:
                return
    finally:
        THREADS.leave()
        close = getattr(content if iterator is None else iterator, "close", None)
        if close is not None:
            close()


def _settle(item: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
    def settle() -> None:
        if item.done():  # its reader was cancelled
            return
        if error is None:
            item.set_result(found)
        else:
            # A future takes no StopIteration, which would end the reader's own loop in silence.
            item.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    with suppress(RuntimeError):  # the event loop is closed
        item.get_loop().call_soon_threadsafe(settle)
