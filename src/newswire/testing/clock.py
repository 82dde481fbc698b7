"""Time for tests: a clock and an event loop that jump instead of waiting.

`FakeClock` goes into `Options(clock=...)` of an event source, and records its waits. `virtual_loop` makes event loops
in which every timer is due as soon as nothing else is left to do. So heartbeats, timeouts and back-off of in-memory
streams take no time. Neither works with real sockets, whose answers take real time.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
from collections.abc import Mapping
from typing import Any


class FakeClock:
    """A `Clock` for event sources: each wait ends at once.

    Args:
        start: the first time that `now` returns, in seconds.
        seed: the seed of the random jitter.

    Attributes:
        waits: the seconds of each wait so far.
    """

    def __init__(self, start: float = 0.0, *, seed: int = 0) -> None:
        self.waits: list[float] = []
        self._now = start
        self._random = random.Random(seed)

    def now(self) -> float:
        return self._now

    def chance(self) -> float:
        return self._random.random()

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self._now += seconds

    def wait(self, seconds: float, stop: threading.Event) -> None:
        self.waits.append(seconds)
        self.advance(seconds)

    async def sleep(self, seconds: float) -> None:
        self.wait(seconds, threading.Event())
        await asyncio.sleep(0)


class _JumpingSelector(selectors.BaseSelector):
    """A selector that counts the time that it should wait, and does not wait."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Without a timeout no timer is planned. Then only another thread can wake the loop, so this really waits.
        ready = self._real.select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self.elapsed += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.elapsed


def virtual_loop() -> asyncio.AbstractEventLoop:
    """Returns a new event loop whose `loop.time()` is virtual and starts at 0.

    It is for `asyncio.Runner(loop_factory=virtual_loop)`, with in-memory streams only.
    """
    return _VirtualLoop()
