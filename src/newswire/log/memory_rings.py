"""The rings of the memory log: entries in log order, that come at one end and go at the other."""

from __future__ import annotations

import math
from bisect import bisect_right
from operator import itemgetter
from typing import Final

from newswire.log.base import Entry, Retention

_GONE: Final = Entry(0, "", "", "", 0.0)
offset_of = itemgetter(0)


class Ring:
    """Entries in log order; cheap to append to, to drop from the front and to search."""

    __slots__ = ("entries", "start")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.start = 0

    def __len__(self) -> int:
        return len(self.entries) - self.start

    def after(self, offset: int) -> int:
        """The index of the first entry after `offset`."""
        return bisect_right(self.entries, offset, self.start, key=offset_of)

    def drop_first(self) -> Entry:
        return self.drop(1)[0]

    def drop(self, count: int) -> list[Entry]:
        """Remove and return the first entries."""
        begin, self.start = self.start, self.start + count
        entries = self.entries[begin : self.start]
        self.entries[begin : self.start] = [_GONE] * count  # freed now, cut off below
        if self.start > 64 and self.start * 2 > len(self.entries):  # moving half at a time keeps this O(1)
            del self.entries[: self.start]
            self.start = 0
        return entries


class Channel(Ring):
    """A channel's kept entries.

    Attributes:
        rule: what retention keeps of it.
        bytes: the size of its entries' data.
        born: the newest offset when it was made; 0 if no channel had been forgotten then.
        newest: the latest time of an entry that it had.
    """

    __slots__ = ("_holes", "born", "bytes", "newest", "rule")

    def __init__(self, rule: Retention, born: int) -> None:
        self.entries = []
        self.start = 0
        self.rule = rule
        self.bytes = 0
        self.born = born
        self.newest = -math.inf
        self._holes = False  # whether an entry that was not the first has been taken out

    def has(self, offset: int) -> bool:
        """Whether an entry that the channel had is still kept."""
        if not len(self) or offset < self.entries[self.start].offset:
            return False
        if not self._holes:
            return True
        index = self.after(offset - 1)
        return index < len(self.entries) and self.entries[index].offset == offset

    def take_out(self, offset: int) -> Entry:
        """Remove an entry that is kept."""
        if self.entries[self.start].offset == offset:
            return self.drop_first()
        self._holes = True
        return self.entries.pop(self.after(offset - 1))
