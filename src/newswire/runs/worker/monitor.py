"""The liveness monitor: which runs have not ended, who produces each, and whether that worker is alive.

It follows the records and heartbeats of every process in the log. When a worker is to be suspected, and when it is
dead, `liveness` says. Both are stored in that worker's own channel, under the condition that its newest event is still
the one that was judged. The worker stores its heartbeats under the same kind of condition. So one of the two comes
first, and both know which. A verdict concerns the records before it in the log, and none after it.

The process's own heartbeats are given here too, while it produces a run or reads one that wants to know.

`Expiry` keeps the ended runs until they are forgotten: when each is compacted, and when it is dropped. What this
process sees end is kept by its own clock. What had ended before it came is kept as long as its record's time says, and
never longer than the run's own `keep_for` from then on, whatever the clock of the machine that wrote it said.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from heapq import heappop, heappush
from time import monotonic
from typing import Any, Final, Protocol

from newswire.errors import Closed, LogCorrupt, LogUnavailable
from newswire.hub.leases import Leases
from newswire.log.channels import Channels
from newswire.log.engine import Entry
from newswire.log.position import Position
from newswire.log.retry import repeating
from newswire.runs.reading.reader import Readers
from newswire.runs.store.record import RECORDS, WORKERS, Record, worker_channel
from newswire.wire.reserved import GAP

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


logger: logging.Logger = logging.getLogger("newswire.runs")

_RECORD_PREFIX: Final = RECORDS.removesuffix(">")
_WORKER_PREFIX: Final = WORKERS.removesuffix(">")
_PAGE: Final = 1000
_HEARTBEATS_KEPT_SECONDS: Final = 300.0
_LAST_HEARTBEAT_SECONDS: Final = 1.0  # that closing waits for it; without it the lease says the same, later


class MonitorListener(Protocol):
    """The worker, as its monitor knows it."""

    def changed(self, record: Record) -> None:
        """A record has changed, here or elsewhere."""
        ...

    async def orphaned(self, record: Record, since: float) -> None:
        """A run has had no living producer for `since` seconds; called again and again until that changes."""
        ...

    def declared_dead(self, offset: int) -> None:
        """Another process took this one for dead: what it produces by records before `offset` is not its own now."""
        ...

    def read_elsewhere(self, run_id: str) -> None:
        """Another process has a reader of a run."""
        ...

    def produces(self, run_id: str | None = None) -> bool:
        """Whether this process produces that run, or any, or holds one that it would start."""
        ...

    def on_tick(self) -> None:
        """Some time has passed."""
        ...


class LivenessMonitor:
    """The runs that have not ended.

    Attributes:
        unfinished: their newest records, by id; the store has them for all.
        seen: set once all that was in the log at the start was read.
        expiry: the runs that have ended.
    """

    def __init__(self, readers: Readers, worker: str, lease: float, listener: MonitorListener) -> None:
        self.unfinished: dict[str, Record] = readers.store.unfinished
        self.unfinished.clear()
        self.seen: asyncio.Event = asyncio.Event()
        self.expiry: Expiry = Expiry(readers)
        self._readers = readers
        self._store = readers.store
        self._worker = worker
        self._lease = lease
        self._listener = listener
        self._leases = Leases(readers.hub.log, _WORKER_PREFIX, worker, lease, taken=self._take_heartbeat)
        self._since: dict[str, float] = {}  # when each record of `unfinished` was read, by the monotonic clock
        self._orphans: dict[str, float] = {}  # since when each was seen to have no producer
        self._dead: dict[str, int] = {}  # worker: the offset of the newest verdict, or of its own goodbye
        self._heartbeats: dict[str, tuple[int, float]] = {}  # worker: the newest heartbeat, and when it was read
        self._heartbeat_now = asyncio.Event()
        self._heartbeats_dropped = monotonic()
        self._epoch = ""  # of the log that all this was seen in
        self._follower = repeating(self._follow, "runs can't be watched", logger)
        self._tasks = {
            "follow": self._follower,
            "heartbeat": repeating(
                self._repeat_heartbeat, "this worker's heartbeats can't be stored", logger, longest=lease / 8
            ),
            "judge": repeating(self._judge, "runs of dead workers can't be ended", logger),
            "expire": repeating(self._expire, "ended runs can't be compacted or dropped", logger),
        }

    async def stop(self, *names: str) -> None:
        """End some of the tasks `follow`, `heartbeat`, `judge` and `expire`; all of them by default."""
        await asyncio.gather(*(self._tasks[name].close() for name in names or self._tasks))

    async def close(self) -> None:
        """Stop. The worker's last heartbeat says that it is gone."""
        await self.stop()
        self.unfinished.clear()
        if self._leases.own:
            try:
                async with asyncio.timeout(_LAST_HEARTBEAT_SECONDS):
                    await self._leases.renew(gone=True)
            except Exception as error:  # the last thing of a worker that ends: whatever its log raises
                logger.debug("no last heartbeat: %r", error)

    # -- what is in the log

    async def _follow(self) -> None:
        log = self._readers.hub.log
        wanted = Channels([RECORDS, WORKERS])
        at, latest = 0, (span := await log.span()).latest
        if span.epoch != self._epoch:
            self._epoch = span.epoch
            self._forget()
        while at < latest:
            page = await log.read(wanted, at, _PAGE, epoch=span.epoch)
            for entry in page.entries:
                self._take(entry)
            at = page.through
        self.seen.set()
        self._follower.succeeded()
        async for event in self._readers.hub.subscribe(RECORDS, WORKERS, after=Position(span.epoch, at)):
            if event.event == GAP:
                raise LogUnavailable("records were removed before they were seen")  # begin again
            offset = Position.parse(event.id or "").offset
            self._take(Entry(offset, event.channel or "", event.event, event.data, 0.0))

    def _forget(self) -> None:
        """Forget what was seen, which is not in a log that was wiped. What is in it is read again."""
        for known in (self.unfinished, self._since, self._orphans, self._dead, self._heartbeats):
            known.clear()

    def _take(self, entry: Entry) -> None:
        try:
            if entry.channel.startswith(_RECORD_PREFIX):
                known = self.unfinished.get(entry.channel.removeprefix(_RECORD_PREFIX))
                if known is None or known.offset < entry.offset:
                    self.take(Record.read(entry))
            elif entry.channel.startswith(_WORKER_PREFIX):
                self._leases.take(entry)
        except LogCorrupt as error:  # one bad entry is no reason to see no more
            logger.error("passed over: %s", error)

    def _take_heartbeat(self, entry: Entry, worker: str, beat: Mapping[str, Any]) -> None:
        if beat.get("suspected") and worker == self._worker and entry.offset > self._leases.own:
            self._heartbeat_now.set()
        if entry.offset > self._heartbeats.get(worker, (0, 0.0))[0]:
            self._heartbeats[worker] = entry.offset, monotonic()
            if worker != self._worker:
                for run_id in beat.get("reading", ()):
                    self._listener.read_elsewhere(run_id)
        if beat.get("gone") and entry.offset > self._dead.get(worker, 0):
            self._dead[worker] = entry.offset
            if worker == self._worker:
                self._listener.declared_dead(entry.offset)

    def take(self, record: Record) -> None:
        """Take note of a record, seen in the log or just stored."""
        known = self.unfinished.get(record.id)
        if known is not None and known.offset >= record.offset:
            return
        self._orphans.pop(record.id, None)
        if record.state == "ended":
            self.unfinished.pop(record.id, None)
            self._since.pop(record.id, None)
            self.expiry.add(record, seen_live=self.seen.is_set())
        else:
            self.unfinished[record.id] = record
            self._since[record.id] = monotonic()
        self._listener.changed(record)

    # -- who is alive

    def is_orphaned(self, record: Record) -> bool:
        """Whether a run that has not ended is known to have no living producer."""
        if record.worker is not None:
            return self._dead.get(record.worker, 0) > record.offset
        if record.state == "running":
            return True  # its worker has let it go
        since = self._since.get(record.id)
        return record.claim_within is not None and since is not None and monotonic() > since + record.claim_within

    async def _judge(self) -> None:
        await self.seen.wait()
        await asyncio.sleep(min(max(self._lease / 10, 0.02), 0.5))
        self._listener.on_tick()
        await self._look_for_dead()
        failed: Exception | None = None
        now = monotonic()
        for record in list(self.unfinished.values()):
            stray = record.worker == self._worker and not self._listener.produces(record.id)
            if not stray and not self.is_orphaned(record):
                continue
            since = now - self._orphans.setdefault(record.id, now)
            if stray and since < self._lease and not self.is_orphaned(record):
                continue  # it is only just being started, or has just ended
            try:
                await self._listener.orphaned(record, since)
            except Closed:
                raise
            except Exception as error:  # the outermost frame of one run: the others have to be looked at too
                failed = error
        if failed is not None:
            raise failed

    async def _look_for_dead(self) -> None:
        """Read the newest heartbeats of all workers that produce something, and judge which was silent for too long."""
        workers = {record.worker for record in self.unfinished.values() if not self.is_orphaned(record)} - {
            None,
            self._worker,
        }
        for name, offset in (await self._leases.judge(name for name in workers if name is not None)).items():
            logger.info("worker %s has given no heartbeat for too long: its runs end, or others go on", name)
            self._dead[name] = offset

    # -- heartbeats

    def heartbeat_now(self) -> None:
        """Give a heartbeat at once: something has begun that others want to know of."""
        self._heartbeat_now.set()

    async def heartbeat(self) -> None:
        """Give a heartbeat, if somebody wants to know."""
        reading = [
            record.id
            for record in self.unfinished.values()
            if record.abandon_after is not None and self._readers.has(record.id)
        ]
        if not reading and not self._listener.produces():
            return
        await self._leases.renew(**({"reading": reading} if reading else {}))

    async def _repeat_heartbeat(self) -> None:
        self._heartbeat_now.clear()
        await self.heartbeat()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lease / 4):
                await self._heartbeat_now.wait()

    # -- what is not kept any more

    async def _expire(self) -> None:
        await self.seen.wait()
        await asyncio.sleep(min(max(self._lease / 10, 0.02), 0.5))
        await self.expiry.step()
        await self._readers.end_lost()
        if monotonic() > self._heartbeats_dropped + _HEARTBEATS_KEPT_SECONDS:
            self._heartbeats_dropped = monotonic()
            await self._drop_heartbeats()

    async def _drop_heartbeats(self) -> None:
        """Keep the last heartbeat of each worker; where one died long ago, none."""
        producing = {record.worker for record in self.unfinished.values()}
        cuts = {}
        for worker, (offset, read) in list(self._heartbeats.items()):
            if worker in producing or worker == self._worker:
                cuts[worker_channel(worker)] = offset - 1
            elif monotonic() - read > _HEARTBEATS_KEPT_SECONDS:
                cuts[worker_channel(worker)] = offset
                del self._heartbeats[worker]
                self._dead.pop(worker, None)
        if cuts:
            await self._store.log.drop(cuts)
