"""The log in memory, for one process: bounded, and what is in it ends with the process.

For tests, for development, and for streams that need no memory beyond a reconnect. It has every power of the durable
logs but durability, and is the measure of their behaviour. `kept` holds the events; here is what a log offers,
in turns that let the event loop go on.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from heapq import nsmallest
from typing import Final
from weakref import WeakSet

from newswire.errors import Closed, TrimmedAway
from newswire.log.base import PAGE_BYTES, Entry, Page, RetentionRules, Span
from newswire.log.batch import weigh_batch
from newswire.log.channels import Channels
from newswire.log.immediate import Follower, Settle, Take
from newswire.log.ledger import Guarded, Outcome
from newswire.log.memory.blocks import offset_of
from newswire.log.memory.kept import TAKEN, Kept
from newswire.log.position import Position, new_epoch, positions
from newswire.log.retention import Rules
from newswire.wire.event import Event

_BATCH: Final = 1000  # entries that a follower is given at once
_SCAN: Final = 4096  # entries looked at for one page of a pattern, so that a read never holds the event loop long


class MemoryLog:
    """A `Log` and `Ledger` in memory, and `Immediate`.

    Args:
        retention: what to keep of each channel.
        max_bytes: how much memory all events and channels may take together; then the oldest events go, whatever
            `retention` says. Counted are the data and what CPython needs besides, by estimate: 240 bytes an event,
            80 for a channel of one event, 480 for another. Up to an eighth more is what retention took and followers
            still get; the names of 10,000 channels without events come on top. The newest event is always kept.
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
        self._kept = Kept(Rules(retention), max_bytes)
        self._clock = clock
        self._earliest = 0  # no event up to here is kept
        self._followers: set[Follower] = set()
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the log is closed")

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[Position]:
        """See `Log.append`."""
        self._check_open()
        kept = self._kept
        added = kept.append(events, weigh_batch(events, kept.channels), self._clock())
        self._tell(added, whole=False)
        return positions(self._epoch, kept.latest - len(added) + 1, len(added))

    async def append_guarded(self, batches: Sequence[Guarded]) -> list[Outcome]:
        """See `Ledger.append_guarded`."""
        return self._append_guarded(batches, whole=False)

    def submit(self, batches: Sequence[Guarded], settle: Settle) -> None:
        """See `Immediate.submit`."""
        settle(self._append_guarded(batches, whole=True))

    def _append_guarded(self, batches: Sequence[Guarded], *, whole: bool) -> list[Outcome]:
        self._check_open()
        kept = self._kept
        weighed = [(batch, weigh_batch(batch.events, kept.channels)) for batch in batches]
        added: list[Entry] = []
        outcomes: list[Outcome] = []
        for batch, weights in weighed:
            if kept.newest_ever(batch.channel) == batch.newest:
                outcomes.append(kept.latest + 1)
                added += kept.append(batch.events, weights, self._clock())
            else:
                outcomes.append(None)
        self._tell(added, whole=whole)
        return outcomes

    def _tell(self, added: Sequence[Entry], *, whole: bool) -> None:
        """Let the followers know of what is new; see `Take`."""
        if not self._followers or not added:
            return
        there = added[0].offset > self._kept.buried  # else room was made of some of it already
        for follower in list(self._followers):
            if not there or not follower.tell(added, whole):
                follower.wake()

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Ledger.drop`."""
        self._check_open()
        removed = 0
        for name, through in cuts.items():
            while True:
                count = self._kept.cut(name, through)
                removed += count
                self._kept.bury_old()
                if count != TAKEN:
                    break
                await asyncio.sleep(0)
        return removed

    # -- read

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        self._check_open()
        kept = self._kept
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
            lost = max(lost, kept.losses.of(name))
            doubt = max(doubt, kept.losses.doubt(name, kept.born(name)))
            found += kept.after(name, after, limit)
            if len(found) > 8 * limit:
                found = nsmallest(limit, found, key=offset_of)
        found.sort(key=offset_of)
        return _cut(found, limit, max(self._kept.latest, after), lost, doubt)

    async def _expire_all_late(self, now: float) -> int:
        total = 0
        while removed := self._kept.expire_late(now):
            total += removed
            self._kept.bury_old()
            await asyncio.sleep(0)
        return total

    async def _trim_all(self, name: str, now: float) -> int:
        """Remove all that a channel's rule does not keep."""
        total = 0
        while removed := self._kept.trim(name, now):
            total += removed
            self._kept.bury_old()
            if removed < TAKEN:
                break
            await asyncio.sleep(0)
        return total

    async def _scan(self, channels: Channels, after: int, limit: int) -> Page:
        if self._kept.limited:
            for name in self._scanned(channels, after)[0]:
                await self._trim_all(name, self._clock())
        lost, doubt = await self._kept.losses.of_patterns(channels)
        _, found, through = self._scanned(channels, after)
        return _cut([entry for entry in found if self._kept.has(entry)], limit, through, lost, doubt)

    def _scanned(self, channels: Channels, after: int) -> tuple[set[str], list[Entry], int]:
        """The entries of some channels in the next part of the log, and how far that goes."""
        part = self._kept.all.after(after, _SCAN)
        wanted = {name for name in {entry.channel for entry in part} if name in channels}
        found = [entry for entry in part if entry.channel in wanted]
        return wanted, found, max(self._kept.latest, after) if len(part) < _SCAN else part[-1].offset

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Ledger.newest`."""
        self._check_open()
        return [self._kept.newest(name) for name in channels]

    # -- follow

    def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """See `Log.follow`."""
        return self._follow(after, None)

    def follow_at_once(self, after: int | None, take: Take) -> AsyncIterator[Sequence[Entry]]:
        """See `Immediate.follow_at_once`."""
        return self._follow(after, take)

    async def _follow(self, after: int | None, take: Take | None) -> AsyncIterator[Sequence[Entry]]:
        self._check_open()
        kept = self._kept
        follower = Follower(kept.latest if after is None else max(after, 0), take)
        self._followers.add(follower)
        try:
            while not self._closed:
                if follower.at < kept.buried:
                    raise TrimmedAway(kept.buried)
                if follower.at < kept.latest:
                    batch = kept.all.after(follower.at, _BATCH)
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
        kept = self._kept
        while part := kept.all.after(self._earliest, _SCAN):
            first = next((entry.offset for entry in part if kept.has(entry)), None)
            self._earliest = part[-1].offset if first is None else first - 1
            if first is not None:
                return Span(self._epoch, self._earliest, kept.latest)
            await asyncio.sleep(0)
        return Span(self._epoch, kept.latest, kept.latest)

    async def trim(self) -> int:
        """See `Log.trim`."""
        self._check_open()
        now = self._clock()
        removed = await self._expire_all_late(now)
        for number, name in enumerate(self._kept.names() if self._kept.limited else ()):
            removed += await self._trim_all(name, now)
            if number % TAKEN == 0:
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
