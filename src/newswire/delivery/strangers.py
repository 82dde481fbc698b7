"""One budget for the memory that unfinished requests of strangers take.

Whoever can connect can send half a head, or a body without its end, and wait. Limits for each connection don't help:
1,000 connections below any useful limit are 1,000 times that limit. So all connections of a process share one budget.
When it is spent, the oldest unfinished requests are refused until a tenth of it is free again: an honest request is
whole within moments, so the oldest are those that withhold. While the budget lasts, a slow upload may be slow.
"""

from __future__ import annotations

import threading
from typing import Final, Protocol

_FREE: Final = 0.9  # what may be left of the limit after requests were refused
_BESIDE: Final = 4 * 2**20  # for small requests beside the largest


class Holder(Protocol):
    """An unfinished request."""

    def unfinished(self) -> int:
        """How many bytes it holds now. Must be quick: called for all holders when the budget is spent."""
        ...

    def refuse_unfinished(self) -> None:
        """Refuse it, and hold nothing any more. Must not raise. Another event loop's thread may be the caller."""
        ...


class Budget:
    """Counts what unfinished requests hold. Thread-safe: several event loops share it.

    Attributes:
        limit: in bytes.
        used: how much of it.
    """

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.used: int = 0
        self._held: dict[Holder, int] = {}  # the oldest first
        self._lock = threading.Lock()

    def allow(self, size: int) -> None:
        """From now on, one request of `size` bytes has room on a server that is quiet otherwise."""
        self.limit = max(self.limit, size + _BESIDE)

    def hold(self, holder: Holder, size: int) -> None:
        """`holder` has so many bytes now. It may be refused within this call."""
        refused: list[Holder] = []
        with self._lock:
            self._set(holder, size)
            if self.used > self.limit:
                refused = self._reclaim()
        for one in refused:
            one.refuse_unfinished()

    def release(self, holder: Holder) -> None:
        """`holder` is whole, or gone. Idempotent."""
        with self._lock:
            self.used -= self._held.pop(holder, 0)

    def _set(self, holder: Holder, size: int) -> None:
        self.used += size - self._held.get(holder, 0)
        self._held[holder] = size

    def _reclaim(self) -> list[Holder]:
        """Those that have to go."""
        for holder in self._held:
            self._set(holder, holder.unfinished())  # an application may have taken what came
        refused = []
        for holder, size in list(self._held.items()):
            if self.used <= self.limit * _FREE:
                break
            if size:  # a slow upload that was taken so far costs nothing
                self.used -= self._held.pop(holder)
                refused.append(holder)
        return refused


# Unfinished heads and bodies on this process's connections, and early requests behind streams. 32 MiB, because with
# Python's own costs a thousand connections then stay below 100 MB.
BUDGET: Final = Budget(32 * 2**20)
