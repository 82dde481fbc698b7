"""Time and chance, as a source sees them.

The protocol gets both as arguments; the two faces take them from a `Clock`, so that a test can hand them another one
(`newswire.testing.FakeClock`).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What a source asks of time."""

    def now(self) -> float:
        """Seconds, growing, from anywhere."""
        ...

    def chance(self) -> float:
        """A random number, at least 0 and less than 1."""
        ...

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Block the thread for so long, or until `stop` is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so long in the event loop."""
        ...


class SystemClock:
    """The real one."""

    def now(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return random.random()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        stop.wait(seconds)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
