"""Tails: `Follower` is one call of `Engine.tail`, `Followers` are all that one connection to a server serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from newswire.log.engine import Entry, OnEntries


class Follower:
    """One call of `Engine.tail`: where it is, and whether it waits.

    Attributes:
        at: the offset up to which it has been given everything.
    """

    __slots__ = ("_loop", "_on_entries", "_waiting", "_wake", "at")

    def __init__(self, at: int, on_entries: OnEntries) -> None:
        self.at = at
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


class Followers:
    """All who follow one log in this process, and how far it is known.

    Attributes:
        at: the offset up to which all is known to be there.
    """

    def __init__(self) -> None:
        self.at = 0
        self._followers: set[Follower] = set()

    def __bool__(self) -> bool:
        """Whether anyone follows."""
        return bool(self._followers)

    def add(self, follower: Follower) -> None:
        """Someone follows."""
        self._followers.add(follower)

    def discard(self, follower: Follower) -> None:
        """Someone follows no more."""
        self._followers.discard(follower)

    def reached(self, offset: int) -> None:
        """The log goes up to here."""
        if offset > self.at:
            self.at = offset
            self.wake()

    def restart(self, offset: int) -> None:
        """The log has another epoch, and goes up to here."""
        self.at = offset
        self.wake()

    def wake(self) -> None:
        """Let all look."""
        for follower in self._followers:
            follower.wake()

    def give(self, entries: Sequence[Entry]) -> None:
        """These are the next entries after `at`, unless retention left holes in them."""
        before, self.at = self.at, max(self.at, entries[-1].offset)
        whole = entries[0].offset == before + 1 and entries[-1].offset - before == len(entries)
        for follower in list(self._followers):
            if not whole or not follower.offer(entries):
                follower.wake()

    def stored(self, before: int, make: Callable[[], list[Entry]], latest: int) -> None:
        """This process has stored something after the offset `before`."""
        if not self._followers:
            self.at = max(self.at, latest)
        elif before == self.at:
            self.give(make())
        else:
            self.reached(latest)
