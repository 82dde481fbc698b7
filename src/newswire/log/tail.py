"""One call of `Engine.tail`, as every engine has it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from newswire.log.engine import Entry, OnEntries


class Follower:
    """One call of `Engine.tail`: where it is, and whether it waits.

    Attributes:
        at: the offset up to which it has been given everything.
    """

    __slots__ = ("_loop", "_on_entries", "_waiting", "_wake", "at")

    def __init__(self, at: int, on_entries: OnEntries) -> None:
        self.at: int = at
        self._on_entries = on_entries
        self._waiting = False  # it has caught up
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()

    def give(self, entries: Sequence[Entry], last: bool) -> None:
        """Give it the next entries; see `OnEntries`."""
        self.at = entries[-1].offset  # first: what it calls may store more
        self._on_entries(entries, last)

    def offer(self, entries: Sequence[Entry]) -> bool:
        """Give it new entries, if it waits for just these. Returns whether it did; else `wake` it."""
        if not self._waiting or self.at != entries[0].offset - 1:
            return False
        self.give(entries, True)
        return True

    def wake(self) -> None:
        """Let it look."""
        if not self._loop.is_closed():
            self._wake.set()

    async def wait(self) -> None:
        """Wait to be woken."""
        self._wake.clear()
        self._waiting = True
        try:
            await self._wake.wait()
        finally:
            self._waiting = False
