"""The log in memory: a bounded ring, for one process. What is in it ends with the process.

For tests, for development, and for streams that need no memory beyond a reconnect. It has every power of the durable
logs but durability, and is the measure of their behaviour.

There is one ring of everything, for followers and for patterns, and a ring for each channel, for readers of a few
channels; both hold the same entries. Retention and the bound over all take the oldest first, from both. What retention
takes stays with the followers a little longer, so that a channel that keeps one event does not lose them the rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from newswire.errors import Closed, TrimmedAway
from newswire.log.base import PAGE_BYTES, Entry, Page, RetentionRules, Span
from newswire.log.batch import weigh_batch, weight
from newswire.log.channels import Channels
from newswire.log.immediate import Follower, Settle, Take
from newswire.log.ledger import Guarded, Outcome
from newswire.log.memory_rings import Channel, Ring, offset_of
from newswire.log.position import Position, new_epoch, positions
from newswire.log.retention import KEEP_ALL, Rules
from newswire.log.untracked import untrack
from newswire.wire.event import Event

_ENTRY_OVERHEAD: Final = 300  # a tuple, two strings' headers, an int, a float and the places in the rings
_FOLLOWED_SHARE: Final = 8  # of max_bytes, one part in so many may hold what retention took, for followers to see
_BATCH: Final = 1000  # entries that a follower is given at once
_SCAN: Final = 4096  # entries looked at for one page of a pattern, so that a read never holds the event loop long
_FEW: Final = 64  # names that are looked up one by one; more are found by the scan
# Channels without events that are remembered for what they lost; beyond, all forgotten ones share one `lost`, which
# may tell a reader of a gap that is not in its channels, but never hides one.
_EMPTY_KEPT: Final = 10_000
_MATCHES_KEPT: Final = 32  # channel sets with patterns whose matches are remembered
_SWEPT: Final = 2  # channels that each append looks at for expired events


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
        self._names: list[str] = []  # of `_channels`, in the order in which they came
        self._matches: dict[Channels, tuple[int, set[str]]] = {}  # how many of `_names` were looked at, which match
        self._empty: dict[str, None] = {}
        self._forgotten = 0
        self._sweep: Iterator[Channel] = iter(())
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
        return 0 if channel is None else channel.entries[-1].offset if len(channel) else channel.lost

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
            self._bytes += size
            keep(entry)
        self._events += offset - self._latest
        self._latest = offset
        if self._limited:
            for name in {name for name, _ in events}:
                self._trim_channel(channels[name], now)
            self._expire(now)
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
        channel = self._channels[name] = Channel(self._rules.of(name), self._forgotten, self._latest)
        self._names.append(name)
        return channel

    # -- what is kept

    def _expire(self, now: float) -> None:
        swept = list(islice(self._sweep, _SWEPT))
        for channel in swept:
            self._trim_channel(channel, now)
        if len(swept) < _SWEPT:
            self._sweep = iter([channel for channel in self._channels.values() if channel.rule.max_age is not None])

    def _trim_channel(self, channel: Channel, now: float) -> int:
        rule = channel.rule
        if rule is KEEP_ALL:
            return 0
        removed = 0
        while len(channel):
            first = channel.entries[channel.start]
            if not (
                (rule.max_events is not None and len(channel) > rule.max_events)
                or (rule.max_bytes is not None and channel.bytes > rule.max_bytes)
                or (rule.max_age is not None and first.time < now - rule.max_age)
            ):
                break
            self._entomb(channel)
            removed += 1
        self._bury_old()
        return removed

    def _entomb(self, channel: Channel) -> None:
        """Take a channel's first entry from its readers; followers still get it for a while."""
        self._graves.append(channel.entries[channel.start])
        self._graves_bytes += self._drop_first(channel) + _ENTRY_OVERHEAD

    def _bury_old(self) -> None:
        while self._graves_bytes > self._max_bytes // _FOLLOWED_SHARE:
            self._bury(self._graves.popleft())

    def _drop_first(self, channel: Channel) -> int:
        entry = channel.drop_first()
        size = weight(entry.data)
        channel.lost = entry.offset
        channel.bytes -= size
        self._bytes -= size
        self._events -= 1
        if not len(channel):
            self._empty.pop(entry.channel, None)
            self._empty[entry.channel] = None
            if len(self._empty) > _EMPTY_KEPT:
                self._forget(next(iter(self._empty)))
        return size

    def _forget(self, name: str) -> None:
        del self._empty[name]
        channel = self._channels[name]
        if not len(channel):
            self._forgotten = max(self._forgotten, channel.lost)
            del self._channels[name]
            self._names = list(self._channels)
            self._matches.clear()

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
        while self._bytes + _ENTRY_OVERHEAD * self._events > self._max_bytes and self._events > 1:
            entry = self._all.drop_first()
            if not entry.channel:
                self._tombs -= 1
                continue
            self._buried = max(self._buried, entry.offset)
            if self._kept(entry):
                self._drop_first(self._channels[entry.channel])

    def _kept(self, entry: Entry) -> bool:
        """Whether an entry of `_all` is there for readers too. A channel loses its oldest first, so `lost` tells."""
        channel = self._channels.get(entry.channel)
        return channel is not None and entry.offset > max(channel.lost, channel.born)

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Ledger.drop`."""
        self._check_open()
        removed = 0
        for name, through in cuts.items():
            channel = self._channels.get(name)
            if channel is None:
                continue
            while len(channel) and channel.entries[channel.start].offset <= through:
                self._entomb(channel)
                removed += 1
            if not len(channel):
                self._empty.pop(name, None)
                del self._channels[name]
        self._names = list(self._channels)
        self._matches.clear()
        self._bury_old()
        return removed

    # -- read

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        self._check_open()
        limit = max(limit, 1)
        if channels.patterns or len(channels.names) > _FEW:
            return self._scan(channels, after, limit)
        now = self._clock()
        lost = 0
        found: list[Entry] = []
        for name in channels.names:
            channel = self._channels.get(name)
            if channel is None:
                lost = max(lost, self._forgotten)
                continue
            self._trim_channel(channel, now)
            lost = max(lost, channel.lost)
            index = channel.after(after)
            found += channel.entries[index : index + limit]
        found.sort(key=offset_of)
        return _cut(found, limit, max(self._latest, after), lost)

    def _scan(self, channels: Channels, after: int, limit: int) -> Page:
        wanted = self._match(channels)
        entries = self._all.entries
        index = self._all.after(after)
        stop = index + _SCAN
        found = [entry for entry in entries[index:stop] if entry.channel in wanted]
        through = max(self._latest, after) if stop >= len(entries) else entries[stop - 1].offset
        now = self._clock()
        for name in {entry.channel for entry in found}:
            self._trim_channel(self._channels[name], now)
        lost = max((self._channels[name].lost for name in wanted if name in self._channels), default=0)
        return _cut(list(filter(self._kept, found)), limit, through, max(lost, self._forgotten))

    def _match(self, channels: Channels) -> set[str]:
        seen, wanted = self._matches.pop(channels, (0, set()))
        if seen < len(self._names):
            wanted |= {name for name in islice(self._names, seen, None) if name in channels}
        self._matches[channels] = len(self._names), wanted
        if len(self._matches) > _MATCHES_KEPT:
            del self._matches[next(iter(self._matches))]
        return wanted

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Ledger.newest`."""
        self._check_open()
        return [ring.entries[-1] if (ring := self._channels.get(name)) and len(ring) else None for name in channels]

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
        return sum(self._trim_channel(channel, now) for channel in list(self._channels.values()))

    async def close(self) -> None:
        """See `Log.close`."""
        self._closed = True
        for follower in self._followers:
            follower.wake()
        self._channels.clear()
        self._all = Ring()
        self._graves.clear()


def _cut(found: list[Entry], limit: int, through: int, lost: int) -> Page:
    """A page of the first `limit` of what was found, or fewer if they are large; at least one."""
    size = 0
    for index, entry in enumerate(found):
        size += len(entry.data)
        if index == limit or (size > PAGE_BYTES and index):
            return Page(found[:index], found[index - 1].offset, lost)
    if len(found) == limit:
        through = found[-1].offset
    return Page(found, through, lost)
