"""Where the memory log keeps entries: the ring of everything, and channels with more than one event.

The ring has the entries in log order, in blocks of a bounded size. Entries come at the end, and go anywhere: the oldest
mostly, but others too. What goes moves the rest of one block, so nothing here takes longer because there is more of it.
Blocks hold entries only, and the garbage collector need not look at them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from newswire.log.engine import Entry
from newswire.log.gc import untrack
from newswire.log.retention import Retention

_SIZE: Final = 1024  # entries that a block is begun with at most
_FEW: Final = 128  # entries that a block has at least, or the one before it has many
offset_of: itemgetter[int] = itemgetter(0)


def weight(data: str) -> int:
    """The size that `Retention.max_bytes` counts: UTF-8 bytes of data."""
    return len(data) if data.isascii() else len(data.encode())


class Blocks:
    """Entries in log order."""

    __slots__ = ("_blocks", "_firsts")

    def __init__(self) -> None:
        self._blocks: list[list[Entry]] = []
        self._firsts: list[int] = []  # for each block: an offset after all of the block before, up to its first

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def extend(self, entries: Sequence[Entry]) -> None:
        """Append entries, which come after all that are here."""
        blocks = self._blocks
        if blocks and len(last := blocks[-1]) + len(entries) <= _SIZE:
            last += entries
            return
        for begin in range(0, len(entries), _SIZE):
            block = list(entries[begin : begin + _SIZE])
            untrack(block)
            blocks.append(block)
            self._firsts.append(block[0].offset)

    def find(self, offset: int) -> Entry | None:
        """The entry of this offset."""
        number = bisect_right(self._firsts, offset) - 1
        if number < 0:
            return None
        block = self._blocks[number]
        index = bisect_left(block, offset, key=offset_of)
        return block[index] if index < len(block) and block[index].offset == offset else None

    def after(self, offset: int, limit: int) -> list[Entry]:
        """The first entries after an offset."""
        number = max(bisect_right(self._firsts, offset) - 1, 0)
        found: list[Entry] = []
        blocks = self._blocks
        while number < len(blocks) and len(found) < limit:
            block = blocks[number]
            index = 0 if found else bisect_right(block, offset, key=offset_of)
            found += block[index : index + limit - len(found)]
            number += 1
        return found

    def take_first(self, most: int) -> list[Entry]:
        """Remove and return the first entries: up to `most`, at least one if there is one."""
        if not self._blocks:
            return []
        block = self._blocks[0]
        taken = block[:most]
        if len(taken) == len(block):
            del self._blocks[0], self._firsts[0]
        else:
            del block[:most]
        return taken

    def remove(self, offset: int) -> bool:
        """Remove the entry of this offset. Returns whether it was here."""
        number = bisect_right(self._firsts, offset) - 1
        if number < 0:
            return False
        block = self._blocks[number]
        index = bisect_left(block, offset, key=offset_of)
        if index == len(block) or block[index].offset != offset:
            return False
        del block[index]
        if len(block) < _FEW:
            self._shrink(number)
        return True

    def _shrink(self, number: int) -> None:
        """A block has few entries: the one before it takes them, if it has room."""
        block = self._blocks[number]
        if block and (number == 0 or len(self._blocks[number - 1]) > _SIZE - _FEW):
            return
        if block:
            self._blocks[number - 1] += block
        del self._blocks[number], self._firsts[number]


_GONE: Final = Entry(0, "", "", "", 0.0)


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
        self.start: int = 0
        self.rule: Retention = rule
        self.bytes: int = 0
        self.born: int = born
        self.newest: float = -math.inf
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
        return bisect_right(self.entries, offset, self.start, key=offset_of)

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
        entry = self.entries[self.start]
        if entry.offset == offset:
            size = weight(entry.data)
            self.drop_first(size)
        else:
            self._holes = True
            entry = self.entries.pop(self.after(offset - 1))
            size = weight(entry.data)
            self.bytes -= size
        return entry, size

    def drop_first(self, size: int) -> bool:
        """Remove the first entry, whose data has this size. Returns whether there are others."""
        entries, start = self.entries, self.start
        entries[start] = _GONE  # freed now, cut off below
        self.start = start = start + 1
        self.bytes -= size
        left = len(entries) - start
        if start > 64 and start > left:  # moving half at a time keeps this O(1)
            del entries[:start]
            self.start = 0
        return left > 0
