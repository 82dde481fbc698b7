"""A log engine on a file of JSON lines, which gets into trouble on command: what an engine needs, and no more.

Each line is one change: a batch, a removal, or a life that begins. All engines of this process on one file share a
`Store`, so that several hubs can be tried on one log; the last one that closes it lets go of it, and the next reads it
again from the file.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from newswire.errors import EpochChanged, LogUnavailable, LogUncertain, TokenReused, TrimmedAway
from newswire.log.channels import Channels
from newswire.log.engine import (
    PAGE_BYTES,
    TOKEN_SECONDS,
    Batch,
    Engine,
    EngineLimits,
    Entry,
    Known,
    OnDone,
    OnEntries,
    Outcome,
    Page,
    Span,
)
from newswire.log.position import Life, Lives, new_epoch
from newswire.log.retention import RetentionRules, Rules

_stores: dict[Path, Store] = {}


class Store:
    """What is in the file.

    Attributes:
        lives: the log's lives.
        entries: the kept ones.
        latest: the newest offset that was used in this life.
        lost: by channel, the newest offset that was removed.
        removed: the newest offset of any that was removed.
        tokens: by token, the offset that it was given, when, and how many events it has.
        changed: set, and made again, whenever something changes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users: set[int] = set()
        self.lives: list[Life] = []
        self.entries: list[Entry] = []
        self.latest = 0
        self.lost: dict[str, int] = {}
        self.removed = 0
        self.tokens: dict[str, tuple[int, float, int]] = {}
        self.changed = asyncio.Event()
        if path.exists():
            for line in path.read_text().splitlines():
                self._apply(json.loads(line))
        else:
            self.write({"life": [new_epoch(), 0], "common": 0})

    def write(self, *changes: dict[str, Any]) -> None:
        """Store changes, then make them."""
        with self.path.open("a") as file:
            file.writelines(json.dumps(change) + "\n" for change in changes)
        for change in changes:
            self._apply(change)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _apply(self, change: dict[str, Any]) -> None:
        if "life" in change:  # what lies after `common` is no more
            common = change["common"]
            self.lives = [life for life in self.lives if common] + [Life(*change["life"])]
            self.entries = [entry for entry in self.entries if entry.offset <= common]
            self.tokens = {token: known for token, known in self.tokens.items() if known[0] <= common}
            self.lost = {name: lost for name, lost in self.lost.items() if lost <= common}
            self.latest = common
            self.removed = min(self.removed, common)
        elif "events" in change:
            first = self.latest + 1
            for name, event, data in change["events"]:
                self.latest += 1
                self.entries.append(Entry(self.latest, name, event, data, change["time"]))
            if change["token"] is not None:
                self.tokens[change["token"]] = first, change["time"], len(change["events"])
        else:
            gone = set(change["remove"])
            for entry in self.entries:
                if entry.offset in gone:
                    self.lost[entry.channel] = max(self.lost.get(entry.channel, 0), entry.offset)
                    self.removed = max(self.removed, entry.offset)
            self.entries = [entry for entry in self.entries if entry.offset not in gone]
            for name in change["forget"]:
                self.lost.pop(name, None)

    def newest(self, channel: str) -> Entry | None:
        return next((entry for entry in reversed(self.entries) if entry.channel == channel), None)


class JsonLines(Engine):
    """The engine, for one event loop.

    Args:
        path: the file.
        retention: what to keep; enforced by `trim` alone.
        clock: what time it is.
        dice: for the trouble.

    Attributes:
        trouble: how likely a call fails, from 0 to 1, before or after it did its work.
        stalled: calls hang.
    """

    limits = EngineLimits(nul=False, batch_events=10_000, batch_bytes=32 * 2**20, answer_seconds=20.0)
    atomic = True

    def __init__(
        self,
        path: Path,
        retention: RetentionRules = None,
        clock: Callable[[], float] = time.time,
        *,
        dice: random.Random | None = None,
        answer_seconds: float = 20.0,
    ) -> None:
        self.limits = EngineLimits(
            nul=False, batch_events=10_000, batch_bytes=32 * 2**20, answer_seconds=answer_seconds
        )
        self.trouble = 0.0
        self.stalled = False
        self._path = path
        self._rules = Rules(retention)
        self._clock = clock
        self._dice = dice or random.Random()
        self._queue: list[tuple[Sequence[Batch], OnDone]] = []
        self._writer: asyncio.Task[None] | None = None

    @property
    def store(self) -> Store:
        """What is in the file, which is opened if need be."""
        store = _stores.get(self._path)
        if store is None:
            store = _stores[self._path] = Store(self._path)
        store.users.add(id(self))
        return store

    # -- trouble

    async def _step(self) -> None:
        """One step of a call: here it may hang, or fail."""
        while self.stalled:  # nothing tells a call that hangs
            await asyncio.sleep(0.001)
        if self._dice.random() < 0.3:
            await asyncio.sleep(0)
        if self._dice.random() < self.trouble:
            raise self._dice.choice([LogUnavailable("away"), OSError(5, "I/O"), KeyError("a bug"), TimeoutError()])

    def roll_back(self, events: int) -> None:
        """Lose the newest events, as a replica does that takes over without them: another life begins."""
        store = self.store
        common = max(store.latest - events, 0)
        store.write({"life": [new_epoch(), common], "common": common})

    def wipe(self) -> None:
        """Begin from nothing."""
        self.store.write({"life": [new_epoch(), 0], "common": 0})

    # -- the contract

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        self._queue.append((batches, on_done))
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while self._queue:
            batches, on_done = self._queue.pop(0)
            epoch = ""
            try:
                await self._step()
                outcomes, epoch = self._store(batches), self.store.lives[-1].epoch
            except Exception as error:
                outcomes = [LogUnavailable(f"not now: {error!r}")] * len(batches)
            try:
                await self._step()
            except KeyError:
                continue  # the answer is lost without a word
            except Exception as error:
                outcomes = [
                    LogUncertain(f"perhaps: {error!r}") if isinstance(outcome, int) else outcome for outcome in outcomes
                ]
            on_done(outcomes, epoch)
        self._writer = None

    def _store(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        store = self.store
        outcomes: list[Outcome] = []
        now = self._clock()
        for batch in batches:
            known = store.tokens.get(batch.token or "")
            if known is not None and known[1] > now - TOKEN_SECONDS:
                outcomes.append(Known(known[0]) if known[2] == len(batch.events) else TokenReused())
                continue
            if batch.condition is not None:
                newest = store.newest(batch.condition.channel)
                lost = store.lost.get(batch.condition.channel, 0)
                there = max(newest.offset if newest else 0, lost)
                if there != batch.condition.newest or batch.condition.is_lost(Lives(store.lives)):
                    outcomes.append(None)
                    continue
            outcomes.append(store.latest + 1)
            events = [(name, event.event, event.data) for name, event in batch.events]
            store.write({"events": events, "time": now, "token": batch.token})
        return outcomes

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        at = after
        while True:
            await self._step()
            store = self.store
            changed = store.changed
            if store.lives[-1].epoch != epoch:
                raise EpochChanged(store.lives[-1].epoch)
            if at < store.removed:
                raise TrimmedAway(store.removed)
            entries = [entry for entry in store.entries if entry.offset > at][:1000]
            if not entries:
                await changed.wait()
                continue
            at = entries[-1].offset
            wanted = [entry for entry in entries if channels is None or entry.channel in channels]
            if wanted:
                on_entries(wanted, at == store.latest)

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        await self._step()
        store = self.store
        found: list[Entry] = []
        through, size = max(store.latest, after), 0
        for entry in store.entries:
            if entry.offset > after and entry.channel in channels:
                size += len(entry.data)
                if len(found) == limit or (found and size > PAGE_BYTES):
                    through = found[-1].offset
                    break
                found.append(entry)
        lost = max((offset for name, offset in store.lost.items() if name in channels), default=0)
        return Page(found, through, lost, epoch=store.lives[-1].epoch)

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        await self._step()
        return [self.store.newest(name) for name in channels]

    async def span(self) -> Span:
        await self._step()
        store = self.store
        earliest = store.entries[0].offset - 1 if store.entries else store.latest
        return Span(store.lives[-1].epoch, earliest, store.latest, Lives(store.lives))

    async def drop(self, cuts: Mapping[str, int]) -> int:
        await self._step()
        store = self.store
        gone = [entry.offset for entry in store.entries if entry.offset <= cuts.get(entry.channel, 0)]
        left = {entry.channel for entry in store.entries if entry.offset > cuts.get(entry.channel, 0)}
        store.write({"remove": gone, "forget": [name for name in cuts if name not in left]})
        return len(gone)

    async def trim(self) -> int:
        await self._step()
        store, now = self.store, self._clock()
        count: dict[str, int] = {}
        size: dict[str, int] = {}
        gone = []
        for entry in reversed(store.entries):
            name, rule = entry.channel, self._rules.of(entry.channel)
            if rule.max_age is not None and entry.time + rule.max_age < now:
                gone.append(entry.offset)
                continue
            count[name] = count.get(name, 0) + 1
            size[name] = size.get(name, 0) + len(entry.data.encode())
            if (rule.max_events is not None and count[name] > rule.max_events) or (
                rule.max_bytes is not None and size[name] > rule.max_bytes
            ):
                gone.append(entry.offset)
        if gone:
            store.write({"remove": gone, "forget": []})
        return len(gone)

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer
        store = _stores.get(self._path)
        if store is not None:
            store.users.discard(id(self))
            if not store.users:
                del _stores[self._path]
