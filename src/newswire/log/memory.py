"""The log in memory: a bounded ring, for one process. What is in it ends with the process.

For tests, for development, and for streams that need no memory beyond a reconnect. It has every power of the durable
logs but durability, and is the measure of their behaviour.

There is one ring of everything, for followers and for patterns, and a ring for each channel that has events, for
readers of a few channels; both hold the same entries. Retention and the bound over all take the oldest first, from
both. What retention takes stays with the followers a little longer, so that a channel that keeps one event does not
lose them the rest. Nothing that a publisher waits for grows with the number of channels or events.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush, nsmallest
from itertools import islice
from typing import Final
from weakref import WeakSet

from newswire.errors import Closed, TrimmedAway
from newswire.log.base import PAGE_BYTES, Entry, Page, RetentionRules, Span
from newswire.log.batch import weigh_batch, weight
from newswire.log.channels import Channels
from newswire.log.immediate import Follower, Settle, Take
from newswire.log.ledger import Guarded, Outcome
from newswire.log.memory_losses import Losses
from newswire.log.memory_rings import Channel, Ring, offset_of
from newswire.log.position import Position, new_epoch, positions
from newswire.log.retention import KEEP_ALL, Rules
from newswire.log.untracked import untrack
from newswire.wire.event import Event

_ENTRY_OVERHEAD: Final = 300  # a tuple, two strings' headers, an int, a float and the places in the rings
_FOLLOWED_SHARE: Final = 8  # of max_bytes, one part in so many may hold what retention took, for followers to see
_BATCH: Final = 1000  # entries that a follower is given at once
_SCAN: Final = 4096  # entries looked at for one page of a pattern, so that a read never holds the event loop long
_ROOM: Final = 64  # entries that go at once to make room
_SWEPT: Final = 2  # channels that each append looks at for expired events, and as many single events
_TAKEN: Final = 1000  # events that are removed, or channels that are looked at, before the event loop goes on


class MemoryLog:
    """A `Log` and `Ledger` in memory, and `Immediate`.

    Args:
        retention: what to keep of each channel.
        max_bytes: roughly how much memory all channels may take together; then the oldest events go, whatever
            `retention` says. The newest event is always kept.
        clock: what time it is, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        retention: RetentionRules = None,
        max_bytes: int = 64 * 2**20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._epoch = new_epoch()
        _logs.add(self)
        self._rules = Rules(retention)
        self._limited = bool(self._rules)
        self._max_bytes = max_bytes
        self._clock = clock
        self._all = Ring()  # kept entries, those that only followers still get, and tombs of others in between
        self._channels: dict[str, Channel] = {}
        self._latest = 0
        self._events = 0
        self._bytes = 0
        self._graves: deque[Entry] = deque()  # taken by retention, still in `_all` for followers
        self._graves_bytes = 0
        self._tombs = 0
        self._buried = 0  # the offset of the newest entry that left `_all`
        self._compacted = 0  # what `_buried` was when `_all` lost its tombs
        self._losses = Losses()
        self._aging: OrderedDict[str, None] = (
            OrderedDict()
        )  # channels with a max_age, in the order in which they are looked at
        self._late: list[tuple[float, int, str]] = []  # a heap: when an event expires that is older than one before it
        self._followers: set[Follower] = set()
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the log is closed")

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[Position]:
        """See `Log.append`."""
        self._check_open()
        latest = self._latest
        first = self._append(events, weigh_batch(events, self._channels))
        self._tell(latest, whole=False)
        return positions(self._epoch, first, len(events))

    async def append_guarded(self, batches: Sequence[Guarded]) -> list[Outcome]:
        """See `Ledger.append_guarded`."""
        return self._append_guarded(batches, whole=False)

    def submit(self, batches: Sequence[Guarded], settle: Settle) -> None:
        """See `Immediate.submit`."""
        settle(self._append_guarded(batches, whole=True))

    def _append_guarded(self, batches: Sequence[Guarded], *, whole: bool) -> list[Outcome]:
        self._check_open()
        weighed = [(batch, weigh_batch(batch.events, self._channels)) for batch in batches]
        latest = self._latest
        outcomes: list[Outcome] = [
            self._append(batch.events, sizes) if self._newest_ever(batch.channel) == batch.newest else None
            for batch, sizes in weighed
        ]
        self._tell(latest, whole=whole)
        return outcomes

    def _newest_ever(self, name: str) -> int:
        channel = self._channels.get(name)
        if channel is None:
            return self._losses.of(name)
        newest, lost = channel.entries[-1].offset, self._losses.lost.get(name, 0)
        return max(newest, lost)

    def _append(self, events: Sequence[tuple[str, Event]], weights: Sequence[int]) -> int:
        """Store a checked batch. Returns the first offset."""
        channels = self._channels
        now = self._clock()
        offset = first = self._latest
        keep = self._all.entries.append
        new = tuple.__new__  # half the price of a named tuple's own constructor
        for (name, event), size in zip(events, weights, strict=True):
            offset += 1
            entry = new(Entry, (offset, name, event[1], event[0], now))
            untrack(entry)
            channel = channels.get(name)
            if channel is None:
                channel = self._new_channel(name)
            channel.entries.append(entry)
            channel.bytes += size
            if now < channel.newest:
                self._note_late(channel, entry)
            else:
                channel.newest = now
            self._bytes += size
            keep(entry)
        self._events += offset - self._latest
        self._latest = offset
        if self._limited:
            for name in {name for name, _ in events}:
                if name in channels:
                    self._trim_channel(channels[name], now)
            self._expire(now, _SWEPT * len(events))
        if self._bytes + _ENTRY_OVERHEAD * self._events > self._max_bytes:
            self._make_room()
        return first + 1

    def _tell(self, after: int, *, whole: bool) -> None:
        """Let the followers know of what is new; see `Take`."""
        if not self._followers or after == self._latest:
            return
        # What room was made of already is no more to be had.
        entries = self._all.entries[after - self._latest :] if after >= self._buried else []
        for follower in list(self._followers):
            if not entries or not follower.tell(entries, whole):
                follower.wake()

    def _new_channel(self, name: str) -> Channel:
        losses = self._losses
        rule = self._rules.of(name) if self._limited else KEEP_ALL
        channel = self._channels[name] = Channel(rule, self._latest if losses.forgetful else 0)
        if name in losses.empty:
            losses.filled(name)
        untrack(channel.entries)
        untrack(channel)
        if rule.max_age is not None:
            self._aging[name] = None
        return channel

    def _note_late(self, channel: Channel, entry: Entry) -> None:
        """The clock was set back: the entry may expire before one that the channel had before."""
        age = channel.rule.max_age
        if age is None:
            return
        heappush(self._late, (entry.time + age, entry.offset, entry.channel))
        if len(self._late) > 2 * self._events + _TAKEN:  # most of it was removed in other ways
            self._late = [each for each in self._late if self._has(each[2], each[1])]
            heapify(self._late)

    # -- what is kept

    def _expire(self, now: float, swept: int) -> None:
        """Remove some events that are too old: single ones, and the first of some channels."""
        self._expire_late(now, swept)
        for name in list(islice(self._aging, swept)):
            self._aging.move_to_end(name)
            self._trim_channel(self._channels[name], now)

    def _expire_late(self, now: float, most: int) -> int:
        """Remove single events that are too old, whatever comes before them."""
        late = self._late
        removed = 0
        while late and late[0][0] < now and removed < most:
            _, offset, name = heappop(late)
            if self._has(name, offset):
                self._entomb(self._channels[name], offset)
                removed += 1
        return removed

    def _has(self, name: str, offset: int) -> bool:
        channel = self._channels.get(name)
        return channel is not None and channel.has(offset)

    def _trim_channel(self, channel: Channel, now: float) -> int:
        """Remove events that the channel's rule does not keep, the oldest first, up to `_TAKEN` of them."""
        rule = channel.rule
        if rule is KEEP_ALL:
            return 0
        removed = 0
        while len(channel) and removed < _TAKEN:
            first = channel.entries[channel.start]
            if not (
                (rule.max_events is not None and len(channel) > rule.max_events)
                or (rule.max_bytes is not None and channel.bytes > rule.max_bytes)
                or (rule.max_age is not None and first.time + rule.max_age < now)
            ):
                break
            self._entomb(channel, first.offset)
            removed += 1
        self._bury_old()
        return removed

    def _entomb(self, channel: Channel, offset: int) -> None:
        """Take an entry from a channel's readers; followers still get it for a while."""
        entry = self._take_out(channel, offset)
        self._graves.append(entry)
        self._graves_bytes += weight(entry.data) + _ENTRY_OVERHEAD

    def _bury_old(self) -> None:
        for _ in range(_TAKEN):
            if self._graves_bytes <= self._max_bytes // _FOLLOWED_SHARE:
                break
            self._bury(self._graves.popleft())

    def _take_out(self, channel: Channel, offset: int) -> Entry:
        entry = channel.take_out(offset)
        size = weight(entry.data)
        channel.bytes -= size
        self._bytes -= size
        self._events -= 1
        name = entry.channel
        if len(channel):
            self._losses.add(name, offset)
        else:
            del self._channels[name]
            self._aging.pop(name, None)
            self._losses.add_last([(name, offset)])
        return entry

    def _bury(self, entry: Entry) -> None:
        self._graves_bytes -= weight(entry.data) + _ENTRY_OVERHEAD
        ring = self._all
        index = len(ring.entries) - 1 - (self._latest - entry.offset)  # no offset is left out, but by compaction
        if entry.offset <= self._compacted:
            index = ring.after(entry.offset - 1)
        if not ring.start <= index < len(ring.entries) or ring.entries[index].offset != entry.offset:
            return  # it went with the oldest, to make room
        ring.entries[index] = Entry(entry.offset, "", "", "", 0.0)
        self._buried = max(self._buried, entry.offset)
        self._tombs += 1
        if self._tombs > 1024 and self._tombs * 2 > len(ring):
            ring.entries = [kept for kept in ring.entries[ring.start :] if kept.channel]
            ring.start = self._tombs = 0
            self._compacted = self._buried

    def _make_room(self) -> None:
        """Let the oldest go, some at once: one by one costs twice as much."""
        ring, channels, aging = self._all, self._channels, self._aging
        while self._bytes + _ENTRY_OVERHEAD * self._events > self._max_bytes and self._events > 1:
            gone: list[tuple[str, int]] = []
            size = 0
            for entry in ring.drop(min(_ROOM, 1 + len(ring) // 1000)):
                name = entry[1]
                channel = channels.get(name)
                if channel is None or channel.entries[channel.start] is not entry:
                    self._tombs -= not name  # else only followers still had it
                elif len(channel.entries) - channel.start > 1:
                    self._take_out(channel, entry[0])
                else:
                    del channels[name]
                    if aging:
                        aging.pop(name, None)
                    size += channel.bytes
                    gone.append((name, entry[0]))
            self._buried = max(self._buried, entry[0])
            self._bytes -= size
            self._events -= len(gone)
            self._losses.add_last(gone)

    def _kept(self, entry: Entry) -> bool:
        """Whether an entry of `_all` is there for readers too."""
        return self._has(entry.channel, entry.offset)

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Ledger.drop`."""
        self._check_open()
        removed = 0
        for name, through in cuts.items():
            channel = self._channels.get(name)
            if channel is not None and channel.entries[-1].offset > through:
                while channel.entries[channel.start].offset <= through:
                    self._entomb(channel, channel.entries[channel.start].offset)
                    removed += 1
                continue
            if channel is not None:
                del self._channels[name]
                self._aging.pop(name, None)
                self._graves.extend(islice(channel.entries, channel.start, None))
                self._graves_bytes += channel.bytes + _ENTRY_OVERHEAD * len(channel)
                self._bytes -= channel.bytes
                self._events -= len(channel)
                removed += len(channel)
            self._losses.drop(name)
        self._bury_old()
        return removed

    # -- read

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        self._check_open()
        limit = max(limit, 1)
        now = self._clock()
        await self._expire_all_late(now)
        if channels.patterns:
            return await self._scan(channels, after, limit)
        for name in channels.names:
            await self._trim_all(name, now)
        found: list[Entry] = []
        lost = doubt = 0
        for name in channels.names:
            lost = max(lost, self._losses.of(name))
            channel = self._channels.get(name)
            if channel is None:
                doubt = max(doubt, self._losses.doubt(name, None))
                continue
            doubt = max(doubt, self._losses.doubt(name, channel.born))
            index = channel.after(after)
            found += channel.entries[index : index + limit]
            if len(found) > 8 * limit:
                found = nsmallest(limit, found, key=offset_of)
        found.sort(key=offset_of)
        return _cut(found, limit, max(self._latest, after), lost, doubt)

    async def _expire_all_late(self, now: float) -> int:
        total = 0
        while removed := self._expire_late(now, _TAKEN):
            total += removed
            await asyncio.sleep(0)
        return total

    async def _trim_all(self, name: str, now: float) -> int:
        """Remove all that a channel's rule does not keep."""
        total = 0
        while (channel := self._channels.get(name)) is not None and (removed := self._trim_channel(channel, now)):
            total += removed
            if removed < _TAKEN:
                break
            await asyncio.sleep(0)
        return total

    async def _scan(self, channels: Channels, after: int, limit: int) -> Page:
        if self._limited:
            for name in self._scanned(channels, after)[0]:
                await self._trim_all(name, self._clock())
        lost, doubt = await self._losses.of_patterns(channels)
        _, found, through = self._scanned(channels, after)
        return _cut([entry for entry in found if self._kept(entry)], limit, through, lost, doubt)

    def _scanned(self, channels: Channels, after: int) -> tuple[set[str], list[Entry], int]:
        """The entries of some channels in the next part of the ring, and how far that goes."""
        entries = self._all.entries
        index = self._all.after(after)
        stop = index + _SCAN
        part = entries[index:stop]
        wanted = {name for name in {entry.channel for entry in part} if name and name in channels}
        found = [entry for entry in part if entry.channel in wanted]
        return wanted, found, max(self._latest, after) if stop >= len(entries) else part[-1].offset

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Ledger.newest`."""
        self._check_open()
        return [None if (ring := self._channels.get(name)) is None else ring.entries[-1] for name in channels]

    # -- follow

    def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """See `Log.follow`."""
        return self._follow(after, None)

    def follow_at_once(self, after: int | None, take: Take) -> AsyncIterator[Sequence[Entry]]:
        """See `Immediate.follow_at_once`."""
        return self._follow(after, take)

    async def _follow(self, after: int | None, take: Take | None) -> AsyncIterator[Sequence[Entry]]:
        self._check_open()
        follower = Follower(self._latest if after is None else max(after, 0), take)
        self._followers.add(follower)
        try:
            while not self._closed:
                if follower.at < self._buried:
                    raise TrimmedAway(self._buried)
                entries = self._all.entries
                behind = self._latest - follower.at
                if behind > 0:
                    start = len(entries) - behind  # nothing after `_buried` is missing
                    batch = entries[start : start + _BATCH]
                    follower.at = batch[-1].offset
                    yield batch
                else:
                    await follower.wait()
        finally:
            self._followers.discard(follower)

    # -- the rest

    async def span(self) -> Span:
        """See `Log.span`."""
        self._check_open()
        kept = (entry.offset for entry in islice(self._all.entries, self._all.start, None) if self._kept(entry))
        return Span(self._epoch, next(kept, self._latest + 1) - 1, self._latest)

    async def trim(self) -> int:
        """See `Log.trim`."""
        self._check_open()
        now = self._clock()
        removed = await self._expire_all_late(now)
        for number, name in enumerate(list(self._channels) if self._limited else ()):
            removed += await self._trim_all(name, now)
            if number % _TAKEN == 0:
                await asyncio.sleep(0)
        return removed

    async def close(self) -> None:
        """See `Log.close`. The events stay with the object, for `reopen`."""
        self._closed = True
        for follower in self._followers:
            follower.wake()

    def reopen(self) -> None:
        """See `Reopenable`."""
        self._closed = False

    def _forked(self) -> None:
        self._epoch = new_epoch()


_logs: WeakSet[MemoryLog] = WeakSet()


def _after_in_child() -> None:
    """A copy goes on as a log of its own: its positions must not look like the parent's, or like other children's."""
    for log in _logs:
        log._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)


def _cut(found: list[Entry], limit: int, through: int, lost: int, doubt: int) -> Page:
    """A page of the first `limit` of what was found, or fewer if they are large; at least one."""
    size = 0
    for index, entry in enumerate(found):
        size += len(entry.data)
        if index == limit or (size > PAGE_BYTES and index):
            return Page(found[:index], found[index - 1].offset, lost, doubt)
    if len(found) == limit:
        through = found[-1].offset
    return Page(found, through, lost, doubt)
