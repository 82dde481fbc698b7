"""The rings of the memory log: entries in log order, that come at one end and go at the other."""

from __future__ import annotations

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
        entry = self.entries[self.start]
        self.entries[self.start] = _GONE  # freed now, cut off below
        self.start += 1
        if self.start > 64 and self.start * 2 > len(self.entries):  # moving half at a time keeps this O(1)
            del self.entries[: self.start]
            self.start = 0
        return entry


class Channel(Ring):
    """A channel's kept entries; `lost` is the offset of the newest one it no longer has, `born` of the newest one when
    it was made (a channel that was dropped may have had the same name)."""

    __slots__ = ("born", "bytes", "lost", "rule")

    def __init__(self, rule: Retention, lost: int, born: int) -> None:
        super().__init__()
        self.rule = rule
        self.bytes = 0
        self.lost = lost
        self.born = born
