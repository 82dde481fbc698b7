"""A channel of the memory log that has, or had, more than one event."""

from __future__ import annotations

import math
from bisect import bisect_right
from operator import itemgetter
from typing import Final

from newswire.log.engine import Entry
from newswire.log.gc import untrack
from newswire.log.memory.blocks import weight
from newswire.log.retention import Retention

_GONE: Final = Entry(0, "", "", "", 0.0)
_offset = itemgetter(0)


class Channel:
    """A channel's kept entries, in log order; cheap to append to, to drop from the front and to search.

    Attributes:
        entries: the kept ones, from index `start` on.
        rule: what retention keeps of it.
        bytes: the size of its entries' data.
        born: the offset just before its first event.
        newest: the latest time of an entry that it had.
    """

    __slots__ = ("_holes", "born", "bytes", "entries", "newest", "rule", "start")

    def __init__(self, rule: Retention, born: int) -> None:
        self.entries: list[Entry] = []
        self.start = 0
        self.rule = rule
        self.bytes = 0
        self.born = born
        self.newest = -math.inf
        self._holes = False  # whether an entry that was not the first has been taken out
        untrack(self.entries)
        untrack(self)

    def __len__(self) -> int:
        return len(self.entries) - self.start

    @property
    def first(self) -> Entry:
        """The oldest kept entry."""
        return self.entries[self.start]

    def after(self, offset: int) -> int:
        """The index of the first entry after `offset`."""
        return bisect_right(self.entries, offset, self.start, key=_offset)

    def has(self, offset: int) -> bool:
        """Whether an entry that the channel had is still kept."""
        if not len(self) or offset < self.entries[self.start].offset:
            return False
        if not self._holes:
            return True
        index = self.after(offset - 1)
        return index < len(self.entries) and self.entries[index].offset == offset

    def take_out(self, offset: int) -> tuple[Entry, int]:
        """Remove an entry that is kept. Returns it, and the size of its data."""
        entries, start = self.entries, self.start
        entry = entries[start]
        if entry.offset == offset:
            entries[start] = _GONE  # freed now, cut off below
            self.start = start = start + 1
            if start > 64 and start * 2 > len(entries):  # moving half at a time keeps this O(1)
                del entries[:start]
                self.start = 0
        else:
            self._holes = True
            entry = entries.pop(self.after(offset - 1))
        size = weight(entry.data)
        self.bytes -= size
        return entry, size
