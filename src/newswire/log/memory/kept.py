"""What the memory log keeps: the entries in log order, the same entries by channel, and what removes them.

A channel that was seen once is one number in a dict, since there may be a million of them; one that comes again, or
that retention limits, has a `Channel`. Retention and the bound over all take the oldest first. What retention takes
stays in log order a little longer, so that a channel that keeps one event does not lose the followers the rest.

Nothing is done here that grows with the number of channels or events: each call removes a bounded number, and says how
many.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from newswire.log.engine import Copied, Entry
from newswire.log.gc import untrack
from newswire.log.memory.blocks import Blocks, Channel, weight
from newswire.log.memory.losses import LostChannels
from newswire.log.retention import KEEP_ALL, Rules
from newswire.wire.event import Event

# What things take on CPython 3.11 besides the data, in bytes.
_ENTRY: Final = 240  # a tuple, the headers of two texts, a name, an int, a float, and places in lists
_ONCE: Final = 80  # a channel of one event: a place in a dict, which may be a third full
_CHANNEL: Final = 480  # another: that, its object, its list, and what it lost
_FOLLOWED_SHARE: Final = 8  # of max_bytes, one part in so many may hold what retention took, for followers to see
# Entries that go at once to make room: more would be a long wait for one publish in a hundred. For a batch as many go
# as have come, up to the second number.
_ROOM: Final = 2
_MOST_ROOM: Final = 64
_SWEPT: Final = 2  # channels that each append looks at for expired events, and as many single events
_new: Final = tuple.__new__  # half the price of a named tuple's own constructor
TAKEN: Final = 500  # events that one call removes at most: about a millisecond


class Kept:
    """The entries of a memory log.

    Attributes:
        all: kept entries, and those that only followers still get, in log order.
        losses: what channels lost.
        latest: the offset of the newest event that ever was.
        evicted_through: the offset of the newest entry that left `all`.
        limited: whether any channel has a retention.
        max_bytes: see `MemoryLog`.
        events: how many are kept.
    """

    def __init__(self, rules: Rules, max_bytes: int) -> None:
        self.all: Blocks = Blocks()
        self.losses: LostChannels = LostChannels()
        self.latest: int = 0
        self.evicted_through: int = 0
        self.limited: bool = bool(rules)
        self._rules = rules
        self.max_bytes = max_bytes
        self._once: dict[str, int] = {}  # channels of one event, which have no limits: its offset
        self.channels: dict[str, Channel] = {}  # the others
        self.events: int = 0
        self._bytes = 0
        self._evicted: deque[Entry] = deque()  # taken by retention, still in `all`
        self._evicted_bytes = 0
        # Channels with a max_age, in the order in which they are looked at.
        self._aging: OrderedDict[str, None] = OrderedDict()
        self._late: list[tuple[float, int, str]] = []  # a heap: when an event expires that is older than one before it

    # -- what is here

    def newest(self, name: str) -> Entry | None:
        """A channel's newest kept entry."""
        channel = self.channels.get(name)
        if channel is not None:
            return channel.entries[-1]
        offset = self._once.get(name)
        return None if offset is None else self.all.find(offset)

    def newest_ever(self, name: str) -> int:
        """The offset of a channel's newest event, kept or lost; 0 if none."""
        channel = self.channels.get(name)
        if channel is None:
            return self._once.get(name) or self.losses.of(name)  # no older one is later
        newest, lost = channel.entries[-1].offset, self.losses.lost.get(name, 0)
        return max(newest, lost)

    def after(self, name: str, offset: int, limit: int) -> list[Entry]:
        """A channel's first kept entries after an offset."""
        channel = self.channels.get(name)
        if channel is not None:
            index = channel.after(offset)
            return channel.entries[index : index + limit]
        entry = self.newest(name)
        return [entry] if entry is not None and entry.offset > offset else []

    def born(self, name: str) -> int | None:
        """The offset just before the first event of a channel; None if it has no events."""
        channel = self.channels.get(name)
        if channel is not None:
            return channel.born
        offset = self._once.get(name)
        return None if offset is None else offset - 1

    def has(self, entry: Entry) -> bool:
        """Whether an entry of `all` is there for readers too."""
        channel = self.channels.get(entry.channel)
        return self._once.get(entry.channel) == entry.offset if channel is None else channel.has(entry.offset)

    def names(self) -> list[str]:
        """The channels that a rule may limit."""
        return list(self.channels)

    # -- append

    def append(self, events: Sequence[tuple[str, Event]], weights: Sequence[int], now: float) -> list[Entry]:
        """Store a checked batch; make room for it."""
        channels, once = self.channels, self._once
        offset = self.latest
        added: list[Entry] = []
        total = 0
        for (name, event), size in zip(events, weights):  # noqa: B905  as many; `strict` costs 0.2 µs
            offset += 1
            entry = _new(Entry, (offset, name, event[1], event[0], now))
            untrack(entry)
            added.append(entry)
            total += size
            channel = channels.get(name)
            if channel is None:
                if name not in once and (not self.limited or self._rules.of(name) is KEEP_ALL):
                    once[name] = offset
                    if name in self.losses.empty:
                        self.losses.filled(name)
                    continue
                channel = self._new_channel(name, offset, added)
            channel.entries.append(entry)
            channel.bytes += size
            if now < channel.newest:
                self._note_late(channel, entry)
            else:
                channel.newest = now
        self.all.extend(added)
        self.events += offset - self.latest
        self.latest = offset
        self._bytes += total
        if self.limited:
            for name in {name for name, _ in events}:
                self.trim(name, now)
            self._expire(now, _SWEPT * len(events))
        if self._evicted:
            self.forget_evicted()
        if self._bytes + _ENTRY * self.events + _ONCE * len(once) + _CHANNEL * len(channels) > self.max_bytes:
            self._make_room(min(max(_ROOM, len(added)), _MOST_ROOM))
        return added

    def restore(self, copied: Copied) -> list[Entry]:
        """Store entries of another log at their offsets, those that are not here yet; see `Engine.restore`."""
        added: list[Entry] = []
        for entry in copied.entries:
            if entry.offset > self.latest:
                self.latest = entry.offset - 1
                added += self.append(
                    [(entry.channel, Event(entry.data, entry.event))], [weight(entry.data)], entry.time
                )
        self.latest = max(self.latest, copied.through)
        if copied.losses is not None:
            for name, offset in copied.losses.channels.items():
                if self.newest(name) is not None:
                    self.losses.add(name, offset)
                else:
                    self.losses.add_last([(name, offset)], self.latest)
            self.losses.restore(copied.losses.shapes)
        return added

    @property
    def size(self) -> int:
        """Bytes that everything takes, by estimate; see `MemoryLog`."""
        return self._bytes + _ENTRY * self.events + _ONCE * len(self._once) + _CHANNEL * len(self.channels)

    def _new_channel(self, name: str, offset: int, added: Sequence[Entry]) -> Channel:
        """Make a channel, with the one event that it may have: stored, or of the batch that is being stored."""
        rule = self._rules.of(name) if self.limited else KEEP_ALL
        first = self._once.pop(name, None)
        channel = self.channels[name] = Channel(rule, (first or offset) - 1)
        if first is not None:
            entry = self.all.find(first) or next(entry for entry in added if entry.offset == first)
            channel.entries.append(entry)
            channel.bytes = weight(entry.data)
            channel.newest = entry.time
        elif name in self.losses.empty:
            self.losses.filled(name)
        if rule.max_age is not None:
            self._aging[name] = None
        return channel

    def _note_late(self, channel: Channel, entry: Entry) -> None:
        """The clock was set back: the entry may expire before one that the channel had before."""
        age = channel.rule.max_age
        if age is None:
            return
        heappush(self._late, (entry.time + age, entry.offset, entry.channel))
        if len(self._late) > 2 * self.events + TAKEN:  # most of it was removed in other ways
            self._late = [each for each in self._late if self._has(each[2], each[1])]
            heapify(self._late)

    def _has(self, name: str, offset: int) -> bool:
        channel = self.channels.get(name)
        return channel is not None and channel.has(offset)

    # -- remove

    def _expire(self, now: float, swept: int) -> None:
        """Remove some events that are too old: single ones, and the first of some channels."""
        self.expire_late(now, swept)
        for name in list(islice(self._aging, swept)):
            self._aging.move_to_end(name)
            self.trim(name, now)

    def expire_late(self, now: float, most: int = TAKEN) -> int:
        """Remove single events that are too old, whatever comes before them."""
        late = self._late
        removed = 0
        while late and late[0][0] < now and removed < most:
            _, offset, name = heappop(late)
            if self._has(name, offset):
                self._evict(self.channels[name], offset)
                removed += 1
        return removed

    def trim(self, name: str, now: float) -> int:
        """Remove events that a channel's rule does not keep, the oldest first, up to `TAKEN` of them."""
        channel = self.channels.get(name)
        if channel is None or channel.rule is KEEP_ALL:
            return 0
        rule = channel.rule
        removed = 0
        while len(channel) and removed < TAKEN:
            first = channel.entries[channel.start]
            if not (
                (rule.max_events is not None and len(channel) > rule.max_events)
                or (rule.max_bytes is not None and channel.bytes > rule.max_bytes)
                or (rule.max_age is not None and first.time + rule.max_age < now)
            ):
                break
            self._evict(channel, first.offset)
            removed += 1
        return removed

    def cut(self, name: str, through: int) -> int:
        """Remove a channel's events up to an offset, up to `TAKEN` of them. If there are no others, all go at once, and
        no loss of it is known any more."""
        newest = self.newest(name)
        if newest is None or newest.offset <= through:
            removed = self._drop(name)
        else:
            channel = self.channels.get(name)
            removed = 0
            while channel is not None and channel.first.offset <= through and removed < TAKEN:
                self._evict(channel, channel.first.offset)
                removed += 1
        return removed

    def _drop(self, name: str) -> int:
        channel = self.channels.pop(name, None)
        if channel is not None:
            self._aging.pop(name, None)
            entries: Iterable[Entry] = islice(channel.entries, channel.start, None)
            removed, size = len(channel), channel.bytes
        else:
            entry = self.newest(name)
            self._once.pop(name, None)
            entries = () if entry is None else (entry,)
            removed, size = (0, 0) if entry is None else (1, weight(entry.data))
        self._evicted.extend(entries)
        self._evicted_bytes += size + _ENTRY * removed
        self._bytes -= size
        self.events -= removed
        self.losses.drop(name)
        return removed

    def _evict(self, channel: Channel, offset: int) -> None:
        """Take an entry from a channel's readers; followers still get it for a while."""
        entry, size = self._take_out(channel, offset)
        self._evicted.append(entry)
        self._evicted_bytes += size + _ENTRY

    def _take_out(self, channel: Channel, offset: int) -> tuple[Entry, int]:
        entry, size = channel.take_out(offset)
        self._bytes -= size
        self.events -= 1
        name = entry.channel
        if len(channel):
            self.losses.add(name, offset)
        else:
            self._remove_channel(name)
            self.losses.add_last([(name, offset)], self.latest)
        return entry, size

    def _remove_channel(self, name: str) -> None:
        del self.channels[name]
        self._aging.pop(name, None)

    def forget_evicted(self) -> None:
        """Followers had their time: some of what they alone still get goes."""
        most = self.max_bytes // _FOLLOWED_SHARE
        for _ in range(TAKEN):
            if self._evicted_bytes <= most:
                break
            entry = self._evicted.popleft()
            self._evicted_bytes -= weight(entry.data) + _ENTRY
            if self.all.remove(entry.offset):  # else it went with the oldest, to make room
                self.evicted_through = max(self.evicted_through, entry.offset)

    def _make_room(self, most: int) -> None:
        """Let the oldest go, up to `most` at once: one by one costs twice as much."""
        once, channels, losses = self._once, self.channels, self.losses
        while self.events > 1:
            gone: list[tuple[str, int]] = []
            size = removed = 0
            for entry in self.all.take_first(min(most, 1 + self.events // 1000)):
                offset, name, _, data, _ = entry
                weighs = len(data) if data.isascii() else len(data.encode())
                channel = channels.get(name)
                if channel is None:
                    if once.get(name) != offset:
                        continue  # only followers still had it
                    del once[name]
                    gone.append((name, offset))
                elif channel.entries[channel.start] is not entry:
                    continue
                elif channel.drop_first(weighs):
                    losses.add(name, offset)
                else:
                    self._remove_channel(name)
                    gone.append((name, offset))
                size += weighs
                removed += 1
            self.evicted_through = max(self.evicted_through, offset)
            self._bytes -= size
            self.events -= removed
            if gone:
                losses.add_last(gone, self.latest)
            if self.size <= self.max_bytes:
                return
