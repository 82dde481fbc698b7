"""Limits of time that forgive a pause of this process: an event loop that was blocked, a process that was stopped
(SIGSTOP, `docker pause`, a machine's snapshot).

An event loop looks at its timers in the same pass as at its sockets, or before. So after a pause `asyncio.timeout`
cancels a wait whose answer has come meanwhile, and is only not read yet. Waits for another machine's answer are limited
here instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

_LATE: Final = 0.1  # seconds by which a timer may be late before it counts as a pause
_GRACE: Final = 1.0  # seconds for reading what came in a pause


class Timer:
    """Calls a function after some time; a second later if this process had a pause when the time was over.

    Args:
        loop: the event loop that runs.
        seconds: the time.
        call, arguments: what is called.
    """

    __slots__ = ("_arguments", "_call", "_handle", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[..., object], *arguments: Any
    ) -> None:
        self._loop = loop
        self._call = call
        self._arguments = arguments
        due = loop.time() + seconds
        self._handle: asyncio.TimerHandle = loop.call_at(due, self._ring, due)

    def cancel(self) -> None:
        """Call no more."""
        self._handle.cancel()

    def _ring(self, due: float) -> None:
        if self._loop.time() - due > _LATE:  # only once: an event loop may be late all the time
            self._handle = self._loop.call_later(_GRACE, self._call, *self._arguments)
        else:
            self._call(*self._arguments)


class Deadline:
    """As `asyncio.timeout`, with a `Timer`.

    Args:
        seconds: None means no limit.

    Raises:
        TimeoutError: the time is over.
    """

    __slots__ = ("_limit", "_seconds", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._timer: Timer | None = None

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        if self._seconds is not None:
            loop = asyncio.get_running_loop()
            self._timer = Timer(loop, self._seconds, self._end, loop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # else each would wait for the garbage collector
        await self._limit.__aexit__(kind, error, traceback)

    def expired(self) -> bool:
        """Whether the time is over."""
        return self._limit.expired()

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._limit.reschedule(loop.time())
