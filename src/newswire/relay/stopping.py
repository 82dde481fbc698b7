"""Requests that wait for an upstream when the server stops: they are answered before the server cuts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from newswire.delivery.drain import drain_of
from newswire.errors import Closed

_LAST_STEPS: Final = 2.0  # seconds of the grace time: servers cut what waits up to 1.5 s before its end


@asynccontextmanager
async def until_stopped() -> AsyncIterator[None]:
    """A block that waits. When the server stops it has the grace time, but for the last steps.

    Raises:
        Closed: the time is over.
    """
    drain = drain_of(asyncio.get_running_loop())
    try:
        async with asyncio.timeout(None) as timeout:
            waiting = _Waiting(timeout)
            drain.enter(waiting)
            try:
                yield
            finally:
                waiting.over = True
                drain.leave(waiting)
    except TimeoutError:
        if timeout.expired():
            raise Closed("the relay is stopping") from None
        raise


class _Waiting:
    """A block that waits; see `Stoppable`.

    Attributes:
        over: it has ended.
    """

    finite = False
    over = False

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout

    def stop(self) -> None:
        """The server stops: wait no longer than it does."""
        if self.over:  # a drain that had begun says so a moment later
            return
        loop = asyncio.get_running_loop()
        self._timeout.reschedule(loop.time() + max(0.0, drain_of(loop).grace - _LAST_STEPS))

    def cut(self) -> None:
        """The time was over before."""
