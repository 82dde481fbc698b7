"""Sync iterables: each has a thread of its own, and one context, for as long as its stream lasts.

The naive way draws every item on the event loop's default executor. A handful of iterables that block starve it for
the whole application, also after their clients have left; and each item runs in another copy of the context, so a
context variable that the iterable sets is gone at the next item. Here an iterable has one thread from its first item
to its end. Their number is bounded: a stream beyond the bound is refused with a 503, and other work never waits.

The threads are daemons: an iterable that never returns can't hold the process when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, Final, TypeVar

from newswire.delivery.items import Item, encode_item
from newswire.delivery.problem import unavailable

_END: Final = object()
AHEAD: Final = 64 * 2**10  # bytes that an iterable may be ahead of its client: the write budget


class Threads:
    """Counts the threads of sync iterables in this process.

    Attributes:
        limit: how many there may be at a time; set it before streams begin. Each open stream of a sync iterable has
            one, and so has each iterable that still blocks after its client has left. 256 idle threads take some
            10 MB; an application that needs more streams is better off with async iterables.
        count: how many there are.
    """

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self.count = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Take one.

        Raises:
            Problem: there are too many, a 503.
        """
        with self._lock:
            if self.count >= self.limit:
                raise unavailable(
                    f"this server draws from {self.limit:,} blocking iterables already: try again later",
                    "too_many_threads",
                )
            self.count += 1

    def leave(self) -> None:
        """Give it back."""
        with self._lock:
            self.count -= 1


THREADS: Final = Threads()


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
        self.over = False
        self._content = content
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._blocks: list[bytes] = []
        self._held = 0  # bytes that the reader has not taken
        self._changed = threading.Condition()
        self._waking = False  # `wake` is on the loop's list
        self._closing = False
        self._drawing = True  # the iterable's own code runs, or is about to
        THREADS.enter()
        context = copy_context()
        thread = threading.Thread(target=context.run, args=(self._run,), name="newswire iterable", daemon=True)
        try:
            thread.start()
        except BaseException:
            THREADS.leave()
            raise

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
                self._hand_over(encode_item(item))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _hand_over(self, block: bytes) -> None:
        """Wait while the reader is behind."""
        with self._changed:
            self._drawing = False
            self._blocks.append(block)
            self._held += len(block)
            self._notify()
            while self._held >= AHEAD and not self._closing:
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


_Result = TypeVar("_Result")


async def in_thread(call: Callable[[], _Result]) -> _Result:
    """Call something that may block for a moment, in a thread of its own: the default executor is the application's.

    A caller that is cancelled leaves it behind.

    Raises:
        BaseException: what `call` raises.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            set_outcome(value)

    def run() -> None:
        try:
            done: tuple[Callable[[Any], None], Any] = (outcome.set_result, call())
        except BaseException as error:  # the outermost frame of the thread; the caller raises it
            done = (outcome.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, *done)

    threading.Thread(target=run, name="newswire call", daemon=True).start()
    return await outcome
