"""The newest end of the SQLite log, as the followers of one process see it. Lives in the event loop.

Knows the newest offset that is committed, by whomever, and keeps the entries that this process stored last, so that
its own followers need not read them back. All else they read from the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from newswire.errors import LogError
from newswire.log.engine import Entry, TailCursor

# Own entries kept for followers; they are taken within a pass or two of the event loop.
_KEPT_ENTRIES: Final = 8192
_KEPT_BYTES: Final = 8 * 2**20
BATCH: Final = 1000  # entries that a follower is given at once


class SqliteTail:
    """What followers wait for.

    Attributes:
        newest: the newest offset known to be committed.
        broken: why nothing can be followed; None while it can.
        followers: who is to be woken.
    """

    def __init__(self) -> None:
        self.newest: int = 0
        self.broken: LogError | None = None
        self.followers: set[TailCursor] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entries: list[Entry] = []  # an unbroken run of offsets
        self._bytes = 0

    def committed(self, first: int, last: int, entries: Callable[[], Sequence[Entry]]) -> None:
        """This process has stored the offsets from `first` to `last`."""
        if self.followers:
            stored = entries()
            self.newest = max(self.newest, last)
            # Those that are further behind look for themselves: here first.
            waking = [follower for follower in self.followers if not follower.offer(stored)]
            if waking:
                self._keep(stored)
                for follower in waking:
                    follower.wake()
        else:
            self.noticed(last)

    def _keep(self, stored: Sequence[Entry]) -> None:
        if self._entries and (self._entries[-1].offset + 1 != stored[0].offset or len(self._entries) > _KEPT_ENTRIES):
            self._clear()
        self._entries += stored
        self._bytes += sum(len(entry.data) for entry in stored)
        if self._bytes > _KEPT_BYTES:
            self._clear()

    def heard(self, news: int | LogError) -> None:
        """As `noticed`, from another thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed before the log: no one follows any more
                self._loop.call_soon_threadsafe(self.noticed, news)

    def readable(self, newest: int) -> None:
        """The file was just read, and has this offset: what was broken is not so any more."""
        self.broken = None
        self.noticed(newest)

    def noticed(self, news: int | LogError) -> None:
        """The file has this offset now, or it can't be followed."""
        if isinstance(news, LogError):
            self.broken = news
            self.wake()
        elif news > self.newest:
            self.newest = news
            self.wake()

    def at_hand(self, at: int) -> Sequence[Entry]:
        """The entries right after offset `at`, if they are here; else none."""
        entries = self._entries
        if not entries or not entries[0].offset <= at + 1 <= entries[-1].offset:
            return ()
        start = at + 1 - entries[0].offset
        return entries[start : start + BATCH]

    def enter(self, follower: TailCursor) -> None:
        """A follower has come, in the event loop that is running."""
        self._loop = asyncio.get_running_loop()
        self.followers.add(follower)

    def leave(self, follower: TailCursor) -> bool:
        """A follower has gone; True if it was the last."""
        self.followers.discard(follower)
        if not self.followers:
            self._clear()
        return not self.followers

    def wake(self) -> None:
        """Let every follower look."""
        for follower in self.followers:
            follower.wake()

    def _clear(self) -> None:
        self._entries = []
        self._bytes = 0
