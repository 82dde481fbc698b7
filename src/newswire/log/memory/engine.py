"""The log in memory, for one process: bounded, and what is in it ends with the process.

For tests, for development, and for streams that need no memory beyond a reconnect. It has every power of the durable
logs but durability, and is the measure of their behaviour. `kept` holds the events; here is what a log offers,
in turns that let the event loop go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest
from typing import Final
from weakref import WeakSet

from newswire import posix
from newswire.counted import counted
from newswire.errors import EpochChanged, LogError, TokenReused, TrimmedAway
from newswire.log.channels import Channels
from newswire.log.engine import (
    PAGE_BYTES,
    TOKEN_SECONDS,
    TOKENS_KEPT,
    Batch,
    Condition,
    Copied,
    Engine,
    Entry,
    Info,
    Known,
    Losses,
    OnDone,
    OnEntries,
    Outcome,
    Page,
    Span,
    TailCursor,
)
from newswire.log.log import Log
from newswire.log.memory.blocks import Channel, offset_of
from newswire.log.memory.kept import TAKEN, Kept
from newswire.log.position import Lives, new_epoch
from newswire.log.retention import RetentionRules, Rules
from newswire.validate import check_greater_than_0

_BATCH: Final = 1000  # entries that a follower is given at once
_SCAN: Final = 4096  # entries looked at for one page of a pattern, so that a read never holds the event loop long


class MemoryLog(Log):
    """A log in memory.

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
        super().__init__(MemoryEngine(retention, max_bytes, clock))


class MemoryEngine(Engine):
    """The engine of a `MemoryLog`, which has the same arguments."""

    immediate = True
    shared = False
    answers_get_lost = False
    tail_early = True

    def __init__(self, retention: RetentionRules, max_bytes: int, clock: Callable[[], float]) -> None:
        self._epoch = new_epoch()
        self._lives: Lives | None = None  # of a log that this one is a copy of
        _engines.add(self)
        check_greater_than_0("max_bytes", max_bytes, whole=True)
        rules = Rules(retention)
        self._rules = rules
        self._kept = Kept(rules, max_bytes)
        self.known: dict[str, Channel] = self._kept.channels
        self._clock = clock
        self._earliest = 0  # no event up to here is kept
        self._followers: set[TailCursor] = set()
        self._tokens: dict[str, tuple[int, int, float]] = {}  # first offset, number of events, and when; oldest first

    def __repr__(self) -> str:
        return "in memory"

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        kept = self._kept
        batch = batches[0]
        if len(batches) == 1 and batch.token is None:  # a third cheaper this way
            if batch.condition is not None and not self._holds(batch.condition):
                on_done([None], self._epoch)
                return
            first = kept.latest + 1
            added = kept.append(batch.events, batch.sizes, self._clock())
            if self._followers:
                self._notify(added)
            on_done([first], self._epoch)
            return
        added = []
        outcomes: list[Outcome] = []
        for batch in batches:
            if batch.token is not None and batch.token in self._tokens:
                first, count, _ = self._tokens[batch.token]
                outcomes.append(Known(first) if count == len(batch.events) else TokenReused())
                continue
            if batch.condition is not None and not self._holds(batch.condition):
                outcomes.append(None)
                continue
            first, now = kept.latest + 1, self._clock()
            outcomes.append(first)
            stored = kept.append(batch.events, batch.sizes, now)
            if added:
                added += stored
            else:
                added = stored
            if batch.token is not None:
                self._remember(batch.token, (first, len(batch.events), now))
        if added and self._followers:
            self._notify(added)
        on_done(outcomes, self._epoch)

    def _holds(self, condition: Condition) -> bool:
        if condition.epoch not in ("", self._epoch) and condition.is_lost(self._lives or Lives.single(self._epoch)):
            return False
        return self._kept.newest_ever(condition.channel) == condition.newest

    def _remember(self, token: str, place: tuple[int, int, float]) -> None:
        tokens = self._tokens
        tokens[token] = place
        while len(tokens) > TOKENS_KEPT or next(iter(tokens.values()))[2] < place[2] - TOKEN_SECONDS:
            del tokens[next(iter(tokens))]

    def _notify(self, added: Sequence[Entry]) -> None:
        """Give the followers what is new."""
        there = added[0].offset > self._kept.evicted_through  # else room was made of some of it already
        for follower in list(self._followers):
            if not there or not follower.offer(added):
                follower.wake()

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Engine.drop`."""
        removed = 0
        for name, through in cuts.items():
            while True:
                count = self._kept.cut(name, through)
                removed += count
                self._kept.forget_evicted()
                if count != TAKEN:
                    break
                await asyncio.sleep(0)
        return removed

    # -- read

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Engine.read`."""
        kept = self._kept
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
        return self._cut(found, limit, max(self._kept.latest, after), lost, doubt)

    async def _expire_all_late(self, now: float) -> int:
        total = 0
        while removed := self._kept.expire_late(now):
            total += removed
            self._kept.forget_evicted()
            await asyncio.sleep(0)
        return total

    async def _trim_all(self, name: str, now: float) -> int:
        """Remove all that a channel's rule does not keep."""
        total = 0
        while removed := self._kept.trim(name, now):
            total += removed
            self._kept.forget_evicted()
            if removed < TAKEN:
                break
            await asyncio.sleep(0)
        return total

    async def _scan(self, channels: Channels, after: int, limit: int) -> Page:
        if self._kept.limited:
            trimmed: set[str] = set()
            while names := self._scanned(channels, after, limit)[0] - trimmed:
                removed = [await self._trim_all(name, self._clock()) for name in names]
                if not any(removed):
                    break  # what comes next is what came here
                trimmed |= names
        lost, doubt = await self._kept.losses.of_patterns(channels)
        _, found, through = self._scanned(channels, after, limit)
        return self._cut(found, limit, through, lost, doubt)

    def _scanned(self, channels: Channels, after: int, limit: int) -> tuple[set[str], list[Entry], int]:
        """The next entries of some channels, and how far the part of the log goes that was looked at.

        Returns:
            The channels met, the entries, which are enough for a page or all of that part, and its last offset.
        """
        kept = self._kept
        met: set[str] = set()
        wanted: set[str] = set()
        found: list[Entry] = []
        at, left, size = after, _SCAN, min(max(limit, 8), _SCAN)
        while left > 0 and len(found) < limit:
            piece = kept.all.after(at, size)
            names = {entry.channel for entry in piece} - met
            met |= names
            wanted.update(name for name in names if name in channels)
            found += [entry for entry in piece if entry.channel in wanted and kept.has(entry)]
            if len(piece) < size:
                return wanted, found, max(kept.latest, after)
            at = piece[-1].offset
            left -= size
            size = min(size * 2, left)
        return wanted, found, at

    def _cut(self, found: list[Entry], limit: int, through: int, lost: int, doubt: int) -> Page:
        """A page of the first `limit` of what was found, or fewer if they are large; at least one."""
        size = 0
        for index, entry in enumerate(found):
            size += len(entry.data)
            if index == limit or (size > PAGE_BYTES and index):
                return Page(found[:index], found[index - 1].offset, lost, doubt, epoch=self._epoch)
        if len(found) == limit:
            through = found[-1].offset
        return Page(found, through, lost, doubt, epoch=self._epoch)

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Engine.newest`."""
        return [self._kept.newest(name) for name in channels]

    # -- tail

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        """See `Engine.tail`."""
        kept = self._kept
        if epoch != self._epoch:
            raise EpochChanged(self._epoch)
        follower = TailCursor(max(after, 0), on_entries)
        self._followers.add(follower)
        try:
            while True:
                if follower.at < kept.evicted_through:
                    raise TrimmedAway(kept.evicted_through)
                if follower.at < kept.latest:
                    entries = kept.all.after(follower.at, _BATCH)
                    if entries:
                        follower.give(entries, False)
                    else:
                        follower.at = kept.latest  # a copy of a log whose newest events were gone
                    await asyncio.sleep(0)
                else:
                    await follower.wait()
        finally:
            self._followers.discard(follower)

    # -- the rest

    async def span(self) -> Span:
        """See `Engine.span`."""
        kept = self._kept
        while part := kept.all.after(self._earliest, _SCAN):
            first = next((entry.offset for entry in part if kept.has(entry)), None)
            self._earliest = part[-1].offset if first is None else first - 1
            if first is not None:
                return Span(self._epoch, self._earliest, kept.latest, self._lives)
            await asyncio.sleep(0)
        return Span(self._epoch, kept.latest, kept.latest, self._lives)

    async def trim(self) -> int:
        """See `Engine.trim`."""
        now = self._clock()
        removed = await self._expire_all_late(now)
        for number, name in enumerate(self._kept.names() if self._kept.limited else ()):
            removed += await self._trim_all(name, now)
            if number % TAKEN == 0:
                await asyncio.sleep(0)
        return removed

    async def close(self) -> None:
        """See `Engine.close`. The events stay with the object."""

    # -- for operators

    async def info(self) -> Info:
        """See `Engine.info`."""
        kept = self._kept
        return Info(
            storage="this process's memory",
            settings={"max_bytes": f"{kept.max_bytes:,}"},
            risks=["every event is gone when this process ends: take sqlite:///events.db to keep them"],
            retention=f"{self._rules}, and the newest {counted(kept.max_bytes, 'byte')}",
            events=kept.events,
            size=kept.size,
        )

    async def init(self) -> str:
        """See `Engine.init`."""
        return "a log in memory needs nothing"

    async def scan(self, after: int, limit: int) -> Page:
        """See `Engine.scan`."""
        kept = self._kept
        part = kept.all.after(after, min(limit, _SCAN))
        through = max(kept.latest, after) if len(part) < min(limit, _SCAN) else part[-1].offset
        return self._cut([entry for entry in part if kept.has(entry)], len(part) + 1, through, 0, 0)

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        losses = self._kept.losses
        return Losses({**losses.lost, **losses.empty}, dict(losses.forgotten.shapes))

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        kept = self._kept
        if self._epoch != copied.lives.epoch and self._lives is None and kept.latest:
            raise LogError("the log in memory has events of its own: copy into an empty one")
        copied.check_end("the log in memory", kept.latest)
        self._epoch, self._lives = copied.lives.epoch, copied.lives
        added = kept.restore(copied)
        if self._followers and added:
            self._notify(added)

    def _forked(self) -> None:
        self._epoch = new_epoch()
        self._lives = None


_engines: WeakSet[MemoryEngine] = WeakSet()


def _after_in_child() -> None:
    """A copy goes on as a log of its own: its positions must not look like the parent's, or like other children's."""
    for engine in _engines:
        engine._forked()


posix.at_fork(after_in_child=_after_in_child)
