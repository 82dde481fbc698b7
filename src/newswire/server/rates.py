"""How fast one publisher may publish: a token bucket for each, that may go into debt.

A batch is let in while the bucket has one event, and all of its events are taken out, so a large batch only makes the
next request wait longer. The check comes before the body is read.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Final

from newswire.delivery.problem import Problem

_KNOWN: Final = 10_000  # publishers; a bucket that is full again is as good as none
_ROUNDING: Final = 1e-6


class Rates:
    """The buckets of all publishers of a process.

    Args:
        rate: events a second; None: any number. A bucket holds those of one second.
        clock: gives seconds.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._full_at: dict[str, float] = {}  # when the bucket of each will be full

    def check(self, publisher: str) -> None:
        """Check that a publisher may publish now.

        Raises:
            Problem: it has been too fast.
        """
        if self._rate is None:
            return
        # It holds at least one event if one more would fill it within a second.
        wait = self._full_at.get(publisher, 0.0) + 1 / self._rate - self._clock() - 1.0
        if wait > _ROUNDING:
            detail = f"a publisher may send {self._rate:,} events a second here: wait, or send batches less often"
            after = math.ceil(wait) + random.randint(1, 2)
            raise Problem(429, "too_fast", detail, headers={"retry-after": str(after)}, limit=self._rate)

    def took(self, publisher: str, events: int) -> None:
        """Count events that it has published."""
        if self._rate is None:
            return
        now = self._clock()
        if len(self._full_at) >= _KNOWN and publisher not in self._full_at:
            self._full_at = {name: full for name, full in self._full_at.items() if full > now}
        self._full_at[publisher] = max(self._full_at.get(publisher, 0.0), now) + events / self._rate
