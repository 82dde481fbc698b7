"""How late the event loop is: it has to call back four times a second, and what counts is how late it does.

A loop that is late holds up every stream of its process: something computes in it, or waits in it without `await`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from newswire.log.histogram import Histogram

_BETWEEN: Final = 0.25
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """Measures from `start` to `stop`.

    Attributes:
        seconds: how late each call was.
        sustained: seconds by which both of the last two calls were late: one pause is no pressure.
    """

    def __init__(self) -> None:
        self.seconds: Histogram = Histogram(BOUNDS)
        self.sustained: float = 0.0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure the running event loop. Idempotent."""
        self.stop()
        self._ask(asyncio.get_running_loop())

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_at(due := loop.time() + _BETWEEN, self._called, loop, due)

    def _called(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        late = max(0.0, loop.time() - due)
        self.seconds.observe(late)
        self.sustained, self._last = min(late, self._last), late
        self._ask(loop)
