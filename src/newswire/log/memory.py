"""The log in memory: a bounded ring, for one process. What is in it ends with the process.

For tests, for development, and for streams that need no memory beyond a reconnect. It has every power of the durable
logs but durability, and is the measure of their behaviour.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Final

from newswire.errors import Closed, InvalidEvent, TrimmedAway
from newswire.log.base import Entry, Page, RetentionRules, Span
from newswire.log.channels import Channels, check_channel
from newswire.log.position import Position, new_epoch
from newswire.log.retention import Rules, weight
from newswire.wire.event import Event

# A page ends early past so many bytes of data, so that large events can't make a page of gigabytes.
PAGE_BYTES: Final = 4 * 2**20
_ENTRY_OVERHEAD: Final = 300  # a tuple, two strings' headers, an int, a float and the places in the rings
_BATCH: Final = 1000  # entries that a follower is given at once
_offset = itemgetter(0)


class _Channel:
    """A channel's own ring: its entries, and what was lost of it."""

    __slots__ = ("bytes", "entries", "lost", "offsets", "start")

    def __init__(self) -> None:
        self.entries: list[Entry | None] = []
        self.offsets: list[int] = []
        self.start = 0
        self.bytes = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self.entries) - self.start

    def drop_first(self) -> Entry:
        entry = self.entries[self.start]
        assert entry is not None
        self.entries[self.start] = None
        self.start += 1
        self.lost = entry.offset
        if self.start > 64 and self.start * 2 > len(self.entries):
            del self.entries[: self.start]
            del self.offsets[: self.start]
            self.start = 0
        return entry


def check_batch(events: Sequence[tuple[str, Event]]) -> None:
    """Refuse a batch that no log may store; see `Log.append`."""
    for channel, event in events:
        check_channel(channel)
        if event.id is not None:
            raise InvalidEvent("id", "the log gives events their ids: publish without one")
        if event.retry is not None:
            raise InvalidEvent("retry", "retry is a setting of a stream and is not stored: publish without it")


class MemoryLog:
    """A `Log` in memory.

    Args:
        retention: what to keep of each channel.
        max_bytes: what to keep of all, in bytes of memory, roughly; the oldest events make room.
        clock: seconds since the epoch, for `Entry.time` and `max_age`.
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
        self._channels: dict[str, _Channel] = {}
        self._recent: deque[Entry] = deque()  # every event, oldest first: for followers, and for the bound over all
        self._latest = 0
        self._bytes = 0
        self._followers: set[asyncio.Event] = set()
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the log is closed")

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[Position]:
        """See `Log.append`."""
        self._check_open()
        check_batch(events)
        now = self._clock()
        epoch = self._epoch
        positions = []
        for name, event in events:
            self._latest = offset = self._latest + 1
            entry = Entry(offset, name, event.event, event.data, now)
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel()
            channel.entries.append(entry)
            channel.offsets.append(offset)
            channel.bytes += weight(event)
            self._bytes += weight(event)
            self._recent.append(entry)
            positions.append(Position(epoch, offset))
        if self._limited:
            for name in {name for name, _ in events}:
                self._trim_channel(name, now)
        self._make_room()
        for follower in self._followers:
            follower.set()
        return positions

    def _make_room(self) -> None:
        recent = self._recent
        while recent and self._bytes + _ENTRY_OVERHEAD * len(recent) > self._max_bytes and len(recent) > 1:
            entry = recent[0]
            channel = self._channels[entry.channel]
            if len(channel) and channel.offsets[channel.start] == entry.offset:
                self._drop(channel)
            recent.popleft()  # trimmed by its channel's retention before

    def _drop(self, channel: _Channel) -> None:
        entry = channel.drop_first()
        size = weight(Event(entry.data, entry.event))
        channel.bytes -= size
        self._bytes -= size

    def _trim_channel(self, name: str, now: float) -> int:
        rule = self._rules.of(name)
        channel = self._channels[name]
        removed = 0
        while len(channel):
            first = channel.entries[channel.start]
            assert first is not None
            if not (
                (rule.max_events is not None and len(channel) > rule.max_events)
                or (rule.max_bytes is not None and channel.bytes > rule.max_bytes)
                or (rule.max_age is not None and first.time < now - rule.max_age)
            ):
                break
            self._drop(channel)
            removed += 1
        return removed

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        self._check_open()
        lost = 0
        found = []
        names = [name for name in self._channels if name in channels] if channels.patterns else channels.names
        for name in names:
            channel = self._channels.get(name)
            if channel is not None:
                lost = max(lost, channel.lost)
                index = bisect_right(channel.offsets, after, channel.start)
                if index < len(channel.entries):
                    found.append(islice(channel.entries, index, index + max(limit, 1)))
        entries: list[Entry] = []
        size = 0
        for entry in found[0] if len(found) == 1 else merge(*found, key=_offset):  # type: ignore[arg-type]
            assert entry is not None
            if entries and (len(entries) >= limit or size + len(entry.data) > PAGE_BYTES):
                return Page(entries, entries[-1].offset, lost)
            entries.append(entry)
            size += len(entry.data)
        complete = len(entries) < limit or not entries
        return Page(entries, max(self._latest, after) if complete else entries[-1].offset, lost)

    async def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """See `Log.follow`."""
        self._check_open()
        wake = asyncio.Event()
        self._followers.add(wake)
        at = self._latest if after is None else after
        try:
            while not self._closed:
                wake.clear()
                recent = self._recent
                if at < self._latest:
                    oldest = recent[0].offset if recent else self._latest + 1
                    if at + 1 < oldest and oldest > 1:
                        raise TrimmedAway(oldest - 1)
                    batch = list(islice(recent, at + 1 - oldest, at + 1 - oldest + _BATCH))
                    at = batch[-1].offset
                    yield batch
                else:
                    await wake.wait()
        finally:
            self._followers.discard(wake)

    async def span(self) -> Span:
        """See `Log.span`."""
        self._check_open()
        heads = [channel.offsets[channel.start] for channel in self._channels.values() if len(channel)]
        earliest = min(heads, default=self._latest + 1) - 1
        return Span(self._epoch, earliest, self._latest)

    async def trim(self) -> int:
        """See `Log.trim`."""
        self._check_open()
        now = self._clock()
        return sum(self._trim_channel(name, now) for name in self._channels)

    async def close(self) -> None:
        """See `Log.close`."""
        self._closed = True
        for follower in self._followers:
            follower.set()
        self._channels.clear()
        self._recent.clear()
