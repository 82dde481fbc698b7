"""What one process sees of all runs: those that have not ended, who produces them, and whether that one is alive.

It reads the records and the signs of life of every process from the log, and goes on as they come. When a worker has
not been heard for three quarters of its lease, its runs are orphans: each process that sees it says so to its `Runs`,
and the condition on the record lets one of them act. Ended runs are removed when they have been kept for long enough.

The process's own signs of life are given here too, while it produces a run or reads one that wants to know.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from time import monotonic
from typing import Final, Protocol

from newswire.errors import Closed, LogError, LogUnavailable, NewswireError
from newswire.hub.hub import Hub
from newswire.log.base import Entry
from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.runs.books import Books
from newswire.runs.record import RECORDS, WORKERS, Record, out_channel, worker_channel
from newswire.wire.reserved import GAP

logger = logging.getLogger("newswire.runs")

_RECORD_PREFIX: Final = RECORDS.removesuffix(">")
_WORKER_PREFIX: Final = WORKERS.removesuffix(">")
_PAGE: Final = 1000
_DROPPED_AT_ONCE: Final = 20  # runs; in one transaction, which publishing waits for
_DROP_SECONDS: Final = 5.0
_SIGNS_KEPT_SECONDS: Final = 300.0


class Told(Protocol):
    """Who is told what is seen."""

    def changed(self, record: Record) -> None:
        """A record has changed, here or elsewhere."""
        ...

    async def orphaned(self, record: Record, since: float) -> None:
        """A run has no living producer for `since` seconds; told again and again until that changes."""
        ...

    def read_elsewhere(self, run_id: str) -> None:
        """Another process has a reader of a run."""
        ...

    def producing(self) -> bool:
        """Whether this process produces a run, or holds one that it would start."""
        ...

    def look_round(self) -> None:
        """Some time has passed."""
        ...


class Watch:
    """The runs that have not ended.

    Attributes:
        open: their newest records, by id.
        seen: set once all that was in the log at the start was read.
    """

    def __init__(self, hub: Hub, books: Books, worker: str, lease: float, told: Told) -> None:
        self.open: dict[str, Record] = {}
        self.seen = asyncio.Event()
        self._hub = hub
        self._books = books
        self._worker = worker
        self._lease = lease
        self._told = told
        self._heard: dict[str, tuple[float, float, int]] = {}  # worker: when by the monotonic clock, lease, offset
        self._gone: set[str] = set()
        self._orphans: dict[str, float] = {}
        self._kept: list[tuple[float, str, str, int]] = []  # until when (wall clock), id, name, begun; a heap
        self._unfolded: list[tuple[float, str]] = []  # ended runs that are to be folded, and when; a heap
        self._sign_now = asyncio.Event()
        self._next_drop = monotonic() + _DROP_SECONDS
        self._signs_dropped = monotonic()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._again(call), name=f"newswire runs: {call.__name__.strip('_')}")
            for call in (self._follow, self._sign, self._tick)
        ]

    async def close(self) -> None:
        """Stop. The worker's last sign says that it is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._worker in self._heard:
            try:
                await self._books.sign(self._worker, json.dumps({"lease": self._lease, "gone": True}))
            except (LogError, Closed) as error:
                logger.debug("no last sign of life: %s", error)

    async def _again(self, call: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await call()
                return
            except Closed:
                return
            except NewswireError as error:
                logger.warning("runs can't be watched now, trying again: %s", error)
            except Exception:  # the outermost frame of a task that everything depends on
                logger.exception("watching runs failed, trying again")
            await asyncio.sleep(random.uniform(0.2, 1.0))

    # -- what is in the log

    async def _follow(self) -> None:
        log = self._hub.log
        wanted = Channels([RECORDS, WORKERS])
        at, latest = 0, (span := await log.span()).latest
        while at < latest:
            page = await log.read(wanted, at, _PAGE)
            for entry in page.entries:
                self._take(entry, monotonic() - max(time.time() - entry.time, 0.0))
            at = page.through
        self.seen.set()
        async for event in self._hub.subscribe(RECORDS, WORKERS, after=Position(span.epoch, at)):
            if event.event == GAP:
                raise LogUnavailable("records were removed before they were seen")  # begin anew
            offset = Position.parse(event.id or "").offset
            self._take(Entry(offset, event.channel or "", event.event, event.data, 0.0), monotonic())

    def _take(self, entry: Entry, heard: float) -> None:
        if entry.channel.startswith(_RECORD_PREFIX):
            self.take(Record.read(entry), heard)
        elif entry.channel.startswith(_WORKER_PREFIX):
            worker = entry.channel.removeprefix(_WORKER_PREFIX)
            sign = json.loads(entry.data)
            self._heard[worker] = heard, sign["lease"], entry.offset
            if sign.get("gone"):
                self._gone.add(worker)
            if worker != self._worker:
                for run_id in sign.get("reading", ()):
                    self._told.read_elsewhere(run_id)

    def take(self, record: Record, heard: float | None = None) -> None:
        """Take note of a record, seen in the log or just stored; it is a sign of life too."""
        known = self.open.get(record.id)
        if known is not None and known.offset >= record.offset:
            return
        self._orphans.pop(record.id, None)
        if record.state == "ended":
            self.open.pop(record.id, None)
            if record.compact_after is not None and record.ended_at is not None and not record.last:
                heappush(self._unfolded, (record.ended_at + record.compact_after, record.id))
            if record.keep_for is not None and record.ended_at is not None:
                heappush(self._kept, (record.ended_at + record.keep_for, record.id, record.name, record.begun))
        else:
            self.open[record.id] = record
            if record.worker is not None:
                heard = monotonic() if heard is None else heard
                before, lease, offset = self._heard.get(record.worker, (heard, self._lease, 0))
                self._heard[record.worker] = max(before, heard), lease, offset
        self._told.changed(record)

    # -- who is alive

    def lapsed(self, record: Record) -> bool:
        """Whether a run that has not ended has no living producer."""
        if record.worker == self._worker:
            return False
        if record.worker is None:
            if record.state == "running":
                return True  # its worker has let it go
            return record.claim_within is not None and time.time() > record.created + record.claim_within
        heard, lease, _ = self._heard.get(record.worker, (monotonic(), self._lease, 0))
        return record.worker in self._gone or monotonic() - heard > 0.75 * lease

    async def _tick(self) -> None:
        await self.seen.wait()
        while True:
            await asyncio.sleep(min(max(self._lease / 10, 0.02), 0.5))
            self._told.look_round()
            for record in [record for record in self.open.values() if self.lapsed(record)]:
                since = self._orphans.setdefault(record.id, monotonic())
                await self._told.orphaned(record, monotonic() - since)
            if self._unfolded and self._unfolded[0][0] < time.time():
                await self._books.fold(heappop(self._unfolded)[1])
            if monotonic() > self._next_drop:
                self._next_drop = monotonic() + _DROP_SECONDS * random.uniform(0.8, 1.2)
                await self._drop_old()

    # -- signs of life

    def sign_now(self) -> None:
        """Give a sign of life at once: something has begun that others want to know of."""
        self._sign_now.set()

    async def sign(self) -> None:
        """Give a sign of life."""
        reading = [
            record.id
            for record in self.open.values()
            if record.abandon_after is not None and self._hub.subscribers(out_channel(record.id))
        ]
        if not reading and not self._told.producing():
            return
        data = {"lease": self._lease, "reading": reading} if reading else {"lease": self._lease}
        await self._books.sign(self._worker, json.dumps(data))
        self._heard.setdefault(self._worker, (monotonic(), self._lease, 0))

    async def _sign(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._lease / 4):
                    await self._sign_now.wait()
                self._sign_now.clear()
            except TimeoutError:
                pass
            await self.sign()

    # -- what is not kept any more

    async def _drop_old(self) -> None:
        expired: list[Record] = []
        while self._kept and self._kept[0][0] < time.time() and len(expired) < _DROPPED_AT_ONCE:
            _, run_id, name, begun = heappop(self._kept)
            expired.append(Record(id=run_id, name=name, state="ended", created=0.0, begun=begun))
        if expired:
            await self._books.drop(expired)
            self._next_drop = monotonic()  # there may be more
        if monotonic() > self._signs_dropped + _SIGNS_KEPT_SECONDS:
            self._signs_dropped = monotonic()
            await self._drop_signs()

    async def _drop_signs(self) -> None:
        """Keep the last sign of each worker; of those that died long ago, none."""
        producing = {record.worker for record in self.open.values()}
        cuts = {}
        for worker, (heard, _, offset) in list(self._heard.items()):
            if worker in producing or worker == self._worker:
                cuts[worker_channel(worker)] = offset - 1
            elif monotonic() - heard > _SIGNS_KEPT_SECONDS:
                cuts[worker_channel(worker)] = offset
                del self._heard[worker]
                self._gone.discard(worker)
        await self._books.drop_signs(cuts)
