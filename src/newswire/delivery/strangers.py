"""One budget for the memory that unfinished requests of strangers take.

Whoever can connect can send half a head, or a body without its end, and wait. Limits for each connection don't help:
1,000 connections below any useful limit are 1,000 times that limit. So all connections of a process share one budget.
When it is spent, the oldest unfinished requests are refused until a tenth of it is free again: an honest request is
whole within moments, so the oldest are those that withhold. While the budget lasts, a slow upload may be slow.
"""

from __future__ import annotations

from typing import Final, Protocol

_FREE: Final = 0.9  # what may be left of the limit after requests were refused


class Holder(Protocol):
    """An unfinished request."""

    def unfinished(self) -> int:
        """How many bytes it holds now."""
        ...

    def refuse_unfinished(self) -> None:
        """Refuse it, and hold nothing any more. Must not raise."""
        ...


class Budget:
    """Counts what unfinished requests hold. Not thread-safe: for one event loop.

    Attributes:
        limit: in bytes.
        used: how much of it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._held: dict[Holder, int] = {}  # the oldest first

    def hold(self, holder: Holder, size: int) -> None:
        """`holder` has so many bytes now. It may be refused within this call."""
        self._set(holder, size)
        if self.used > self.limit:
            self._reclaim()

    def release(self, holder: Holder) -> None:
        """`holder` is whole, or gone. Idempotent."""
        self.used -= self._held.pop(holder, 0)

    def _set(self, holder: Holder, size: int) -> None:
        self.used += size - self._held.get(holder, 0)
        self._held[holder] = size

    def _reclaim(self) -> None:
        for holder in list(self._held):
            self._set(holder, holder.unfinished())  # an application may have taken what came
        for holder in list(self._held):
            if self.used <= self.limit * _FREE:
                return
            if self._held[holder]:  # a slow upload that was taken so far costs nothing
                self.release(holder)
                holder.refuse_unfinished()


# Unfinished heads and bodies on this process's connections, and early requests behind streams. 32 MiB, because with
# Python's own costs a thousand connections then stay below 100 MB.
BUDGET: Final = Budget(32 * 2**20)
