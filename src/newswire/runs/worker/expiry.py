"""Ended runs, until they are forgotten: when each is compacted, and when it is dropped.

What this process sees end is kept by its own clock. What had ended before it came is kept as long as its record's time
says, and never longer than the run's own `keep_for` from then on, whatever the clock of the machine that wrote it said.
"""

from __future__ import annotations

import random
import time
from heapq import heappop, heappush
from time import monotonic
from typing import Final

from newswire.runs.reading.reader import Readers
from newswire.runs.store.record import Record

_DROPPED_AT_ONCE: Final = 20  # runs; in one transaction, which publishing waits for
_DROP_SECONDS: Final = 5.0
_READERS_SECONDS: Final = 60.0  # an expired run waits so long for its readers, and no longer than its own keep_for


class Expiry:
    """The ended runs that this process knows of.

    Args:
        readers: the readers of this process, and the store.
    """

    def __init__(self, readers: Readers) -> None:
        self._store = readers.store
        self._readers = readers
        self._compact: list[tuple[float, str]] = []  # when by the monotonic clock, and id; a heap
        self._drop: list[tuple[float, str, int]] = []  # when, id, begun; a heap
        self._expiring: dict[tuple[str, int], tuple[Record, float]] = {}  # and when each is dropped at the latest
        self._next_drop = monotonic() + _DROP_SECONDS

    def add(self, record: Record, *, seen_live: bool) -> None:
        """Take note of an ended run.

        Args:
            record: its newest record.
            seen_live: it has ended while this process watched.
        """
        if record.ended_at is None:
            return
        passed = 0.0 if seen_live else max(time.time() - record.ended_at, 0.0)
        now = monotonic()
        if record.compact_after is not None and not record.last:
            heappush(self._compact, (now + max(record.compact_after - passed, 0.0), record.id))
        if record.keep_for is not None and (record.id, record.begun) not in self._expiring:
            due = now + max(record.keep_for - passed, 0.0)
            self._expiring[record.id, record.begun] = record, due + min(record.keep_for, _READERS_SECONDS)
            heappush(self._drop, (due, record.id, record.begun))

    async def step(self) -> None:
        """Do what is due now."""
        while self._compact and self._compact[0][0] < monotonic():
            _, run_id = heappop(self._compact)
            try:
                await self._store.compact(run_id)
            except BaseException:
                heappush(self._compact, (monotonic() + _DROP_SECONDS, run_id))
                raise
        if monotonic() > self._next_drop:
            self._next_drop = monotonic() + _DROP_SECONDS * random.uniform(0.8, 1.2)
            await self.drop_old()

    async def drop_old(self) -> None:
        """Drop the runs that are not kept any more, a few at once."""
        now = monotonic()
        expired: list[Record] = []
        while self._drop and self._drop[0][0] < now and len(expired) < _DROPPED_AT_ONCE:
            _, run_id, begun = heappop(self._drop)
            record, latest = self._expiring[run_id, begun]
            if now < latest and self._readers.has(run_id):
                heappush(self._drop, (min(now + _DROP_SECONDS, latest), run_id, begun))
                continue
            expired.append(record)
        if not expired:
            return
        try:
            await self._store.drop(expired)
        except BaseException:
            for record in expired:
                heappush(self._drop, (monotonic() + _DROP_SECONDS, record.id, record.begun))
            raise
        for record in expired:
            del self._expiring[record.id, record.begun]
        self._next_drop = monotonic()  # there may be more
