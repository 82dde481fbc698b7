"""What one process sees of all runs: those that have not ended, who produces them, and whether that one is alive.

It follows the records and heartbeats of every process in the log. When a worker is to be suspected, and when it is
dead, `liveness` says. Both are stored in that worker's own channel, under the condition that its newest event is still
the one that was judged. The worker stores its heartbeats under the same kind of condition. So one of the two comes
first, and both know which. A verdict concerns the records before it in the log, and none after it.

The process's own heartbeats are given here too, while it produces a run or reads one that wants to know.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Protocol

from newswire.errors import Closed, LogCorrupt, LogUnavailable
from newswire.hub.hub import Hub
from newswire.log.channels import Channels
from newswire.log.engine import Entry
from newswire.log.position import Position
from newswire.log.retry import Outage, Retry, SupervisedTask
from newswire.runs.store.record import RECORDS, WORKERS, Record, out_channel, worker_channel
from newswire.runs.store.store import Books
from newswire.runs.worker.expiry import Expiry
from newswire.runs.worker.liveness import Beat, Liveness
from newswire.wire.reserved import GAP

logger = logging.getLogger("newswire.runs")

_RECORD_PREFIX: Final = RECORDS.removesuffix(">")
_WORKER_PREFIX: Final = WORKERS.removesuffix(">")
_PAGE: Final = 1000
_BEATS_KEPT_SECONDS: Final = 300.0
_LAST_BEAT_SECONDS: Final = 1.0  # that closing waits for it; without it the lease says the same, later


class Told(Protocol):
    """Who is told what is seen."""

    def changed(self, record: Record) -> None:
        """A record has changed, here or elsewhere."""
        ...

    async def orphaned(self, record: Record, since: float) -> None:
        """A run has no living producer for `since` seconds; told again and again until that changes."""
        ...

    def declared_dead(self, offset: int) -> None:
        """Another process took this one for dead: what it produces by records before `offset` is not its own now."""
        ...

    def read_elsewhere(self, run_id: str) -> None:
        """Another process has a reader of a run."""
        ...

    def read_here(self, run_id: str) -> bool:
        """Whether this process has a reader of a run."""
        ...

    async def end_lost_readers(self) -> None:
        """End the readers of this process whose run is not kept any more."""
        ...

    def produces(self, run_id: str | None = None) -> bool:
        """Whether this process produces that run, or any, or holds one that it would start."""
        ...

    async def look_round(self) -> None:
        """Some time has passed."""
        ...


class Watch:
    """The runs that have not ended.

    Attributes:
        open: their newest records, by id.
        seen: set once all that was in the log at the start was read.
        expiry: the runs that have ended.
    """

    def __init__(self, hub: Hub, books: Books, worker: str, lease: float, told: Told) -> None:
        self.open: dict[str, Record] = {}
        self.seen = asyncio.Event()
        self.expiry = Expiry(books, told.read_here)
        self._hub = hub
        self._books = books
        self._worker = worker
        self._lease = lease
        self._told = told
        self._liveness = Liveness(lease)
        self._since: dict[str, float] = {}  # when each record of `open` was read, by the monotonic clock
        self._orphans: dict[str, float] = {}  # since when each was seen to have no producer
        self._dead: dict[str, int] = {}  # worker: the offset of the newest verdict, or of its own goodbye
        self._beats: dict[str, tuple[int, float]] = {}  # worker: the newest heartbeat, and when it was read
        self._own_beat = 0  # the offset of this worker's newest heartbeat
        self._beat_now = asyncio.Event()
        self._beats_dropped = monotonic()
        self._follower = self._supervise(self._follow, "runs can't be watched")
        self._tasks = {
            "follow": self._follower,
            "beat": self._supervise(self._beat_in_turn, "this worker's heartbeats can't be stored", longest=lease / 8),
            "judge": self._supervise(self._judge, "runs of dead workers can't be ended"),
            "expire": self._supervise(self._expire, "ended runs can't be compacted or dropped"),
        }

    def _supervise(self, step: Callable[[], Awaitable[None]], what: str, *, longest: float = 5.0) -> SupervisedTask:
        async def repeat() -> None:
            try:
                while True:
                    await step()
                    task.succeeded()
            except Closed:
                return

        task = SupervisedTask(repeat, Outage(what, logger), retry=Retry(min(0.1, longest), longest))
        task.start()
        return task

    async def stop(self, *names: str) -> None:
        """End some of the tasks `follow`, `beat`, `judge` and `expire`; all of them by default."""
        await asyncio.gather(*(self._tasks[name].close() for name in names or self._tasks))

    async def close(self) -> None:
        """Stop. The worker's last heartbeat says that it is gone."""
        await self.stop()
        if self._own_beat:
            try:
                async with asyncio.timeout(_LAST_BEAT_SECONDS):
                    await self._store_beat(json.dumps({"lease": self._lease, "gone": True}))
            except Exception as error:  # the last thing of a worker that ends: whatever its log raises
                logger.debug("no last heartbeat: %r", error)

    # -- what is in the log

    async def _follow(self) -> None:
        log = self._hub.log
        wanted = Channels([RECORDS, WORKERS])
        at, latest = 0, (span := await log.span()).latest
        while at < latest:
            page = await log.read(wanted, at, _PAGE)
            for entry in page.entries:
                self._take(entry)
            at = page.through
        self.seen.set()
        self._follower.succeeded()
        async for event in self._hub.subscribe(RECORDS, WORKERS, after=Position(span.epoch, at)):
            if event.event == GAP:
                raise LogUnavailable("records were removed before they were seen")  # begin anew
            offset = Position.parse(event.id or "").offset
            self._take(Entry(offset, event.channel or "", event.event, event.data, 0.0))

    def _take(self, entry: Entry) -> None:
        try:
            if entry.channel.startswith(_RECORD_PREFIX):
                self.take(Record.read(entry))
            elif entry.channel.startswith(_WORKER_PREFIX):
                self._take_beat(entry)
        except LogCorrupt as error:  # one bad entry is no reason to see no more
            logger.error("passed over: %s", error)

    def _take_beat(self, entry: Entry) -> Beat:
        worker = entry.channel.removeprefix(_WORKER_PREFIX)
        try:
            beat = json.loads(entry.data)
            found = Beat(entry.offset, float(beat["lease"]), bool(beat.get("suspected")))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise LogCorrupt(f"{entry.channel} has no heartbeat at offset {entry.offset}: {error!r}") from error
        if found.suspected and worker == self._worker and entry.offset > self._own_beat:
            self._beat_now.set()
        if entry.offset > self._beats.get(worker, (0, 0.0))[0]:
            self._beats[worker] = entry.offset, monotonic()
            if worker != self._worker:
                for run_id in beat.get("reading", ()):
                    self._told.read_elsewhere(run_id)
        if beat.get("gone") and entry.offset > self._dead.get(worker, 0):
            self._dead[worker] = entry.offset
            if worker == self._worker:
                self._told.declared_dead(entry.offset)
        return found

    def take(self, record: Record) -> None:
        """Take note of a record, seen in the log or just stored."""
        known = self.open.get(record.id)
        if known is not None and known.offset >= record.offset:
            return
        self._orphans.pop(record.id, None)
        if record.state == "ended":
            self.open.pop(record.id, None)
            self._since.pop(record.id, None)
            self.expiry.add(record, seen_live=self.seen.is_set())
        else:
            self.open[record.id] = record
            self._since[record.id] = monotonic()
        self._told.changed(record)

    # -- who is alive

    def lapsed(self, record: Record) -> bool:
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
        await self._told.look_round()
        await self._look_for_dead()
        failed: Exception | None = None
        now = monotonic()
        for record in list(self.open.values()):
            stray = record.worker == self._worker and not self._told.produces(record.id)
            if not stray and not self.lapsed(record):
                continue
            since = now - self._orphans.setdefault(record.id, now)
            if stray and since < self._lease and not self.lapsed(record):
                continue  # it is only just being started, or has just ended
            try:
                await self._told.orphaned(record, since)
            except Closed:
                raise
            except Exception as error:  # the outermost frame of one run: the others have to be looked at too
                failed = error
        if failed is not None:
            raise failed

    async def _look_for_dead(self) -> None:
        """Read the newest heartbeats of those who produce something, and judge who was silent for too long."""
        workers = {record.worker for record in self.open.values() if not self.lapsed(record)} - {None, self._worker}
        names = sorted(worker for worker in workers if worker is not None)
        entries = await self._books.log.newest([worker_channel(name) for name in names]) if names else []
        beats: dict[str, Beat] = {}
        for name, entry in zip(names, entries, strict=True):
            try:
                beats[name] = Beat(0, self._lease) if entry is None else self._take_beat(entry)
            except LogCorrupt:
                beats[name] = Beat(0 if entry is None else entry.offset, self._lease)  # it is silent, if it is at all
        self._liveness.look(beats, monotonic())
        for name, beat in self._liveness.overdue().items():
            said = "gone" if beat.suspected else "suspected"
            offset = await self._books.beat(name, json.dumps({"lease": beat.lease, said: True}), after=beat.offset)
            if offset is None or not beat.suspected:
                continue  # it lives, or somebody else was faster; or it may answer now
            logger.info("worker %s has given no heartbeat for %g s: its runs end, or others go on", name, beat.lease)
            self._dead[name] = offset

    # -- heartbeats

    def beat_now(self) -> None:
        """Give a heartbeat at once: something has begun that others want to know of."""
        self._beat_now.set()

    async def beat(self) -> None:
        """Give a heartbeat, if somebody wants to know."""
        reading = [
            record.id
            for record in self.open.values()
            if record.abandon_after is not None and self._hub.subscribers(out_channel(record.id))
        ]
        if not reading and not self._told.produces():
            return
        data = {"lease": self._lease, "reading": reading} if reading else {"lease": self._lease}
        await self._store_beat(json.dumps(data))

    async def _store_beat(self, data: str) -> None:
        """Store a heartbeat behind this worker's last one, or behind the verdict that came in between."""
        while (offset := await self._books.beat(self._worker, data, after=self._own_beat)) is None:
            [entry] = await self._books.log.newest([worker_channel(self._worker)])
            self._own_beat = 0 if entry is None else self._take_beat(entry).offset
        self._own_beat = offset

    async def _beat_in_turn(self) -> None:
        self._beat_now.clear()
        await self.beat()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lease / 4):
                await self._beat_now.wait()

    # -- what is not kept any more

    async def _expire(self) -> None:
        await self.seen.wait()
        await asyncio.sleep(min(max(self._lease / 10, 0.02), 0.5))
        await self.expiry.step()
        await self._told.end_lost_readers()
        if monotonic() > self._beats_dropped + _BEATS_KEPT_SECONDS:
            self._beats_dropped = monotonic()
            await self._drop_beats()

    async def _drop_beats(self) -> None:
        """Keep the last heartbeat of each worker; of those that died long ago, none."""
        producing = {record.worker for record in self.open.values()}
        cuts = {}
        for worker, (offset, read) in list(self._beats.items()):
            if worker in producing or worker == self._worker:
                cuts[worker_channel(worker)] = offset - 1
            elif monotonic() - read > _BEATS_KEPT_SECONDS:
                cuts[worker_channel(worker)] = offset
                del self._beats[worker]
                self._dead.pop(worker, None)
        await self._books.drop_beats(cuts)
