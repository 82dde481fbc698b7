"""Threads for what blocks: each sync iterable has one of its own for as long as its stream lasts.

The naive way draws every item on the event loop's default executor. A handful of iterables that block starve it for
the whole application, also after their clients have left; and each item runs in another copy of the context, so a
context variable that the iterable sets is gone at the next item. Here an iterable has one thread from its first item
to its end. Their number is bounded: a stream beyond the bound is refused with a 503, and other work never waits.

The threads are daemons: an iterable that never returns can't hold the process when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from newswire.counted import counted
from newswire.delivery.problem import unavailable


class Threads:
    """Counts the threads of sync iterables in this process.

    Attributes:
        limit: how many there may be at a time; set it before streams begin. Each open stream of a sync iterable has
            one, and so has each iterable that still blocks after its client has left. 256 idle threads take some
            10 MB; an application that needs more streams is better off with async iterables.
        count: how many there are.
    """

    def __init__(self) -> None:
        self.limit: int = 256
        self.count: int = 0
        self._lock = threading.Lock()

    def start(self, run: Callable[..., None], *arguments: Any) -> None:
        """Call `run(*arguments)` in one, with the context variables of the caller. It calls `leave` when it is done.

        Raises:
            Problem: there are too many, a 503.
        """
        self._enter()
        target = contextvars.copy_context().run
        try:
            threading.Thread(target=target, args=(run, *arguments), name="newswire iterable", daemon=True).start()
        except BaseException:
            self.leave()
            raise

    def _enter(self) -> None:
        with self._lock:
            if self.count >= self.limit:
                raise unavailable(
                    f"this server draws from {counted(self.limit, 'blocking iterable')} already: try again later",
                    "too_many_threads",
                )
            self.count += 1

    def leave(self) -> None:
        """Give it back."""
        with self._lock:
            self.count -= 1


THREADS: Final = Threads()


_Result = TypeVar("_Result")


async def in_thread(call: Callable[[], _Result], *, what: str = "a call in a thread") -> _Result:
    """Call something that may block, in a thread of its own: the default executor is the application's.

    It has the context variables of the caller. A caller that is cancelled leaves it behind, and it does not keep the
    process alive.

    Args:
        call: what is called.
        what: names it, for errors.

    Raises:
        BaseException: what `call` raises. A task would take StopIteration, GeneratorExit and KeyboardInterrupt for
            something else, its own end or that of the process: they are a RuntimeError.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()
    context = contextvars.copy_context()

    def settle(set_outcome: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            set_outcome(value)

    def run() -> None:
        try:
            done: tuple[Callable[[Any], None], Any] = (outcome.set_result, context.run(call))
        except (StopIteration, GeneratorExit, KeyboardInterrupt) as error:
            done = (outcome.set_exception, RuntimeError(f"{what} raised {type(error).__name__}"))
        except BaseException as error:  # the outermost frame of the thread; the caller raises it
            done = (outcome.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: no one waits any more
            loop.call_soon_threadsafe(settle, *done)

    threading.Thread(target=run, name="newswire call", daemon=True).start()
    return await outcome
