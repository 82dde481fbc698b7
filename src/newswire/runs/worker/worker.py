"""What one process does for runs: it produces some, ends those that nobody produces any more, and tells its log so.

The inside of `Runs`, which is its face, in the event loop of the hub. The watch tells it what other processes did.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from newswire.errors import Closed, RunNotFound, RunOver
from newswire.log.retry import Retry
from newswire.runs.dialects.base import End
from newswire.runs.options import WorkerOptions
from newswire.runs.reading.run import Run
from newswire.runs.store.record import Record, out_channel
from newswire.runs.worker.monitor import Watch
from newswire.runs.worker.production import Production
from newswire.runs.worker.sources import Source
from newswire.runs.worker.write_queue import Claim, Outbox

if TYPE_CHECKING:
    from newswire.runs.reading.reader import RunReader
    from newswire.runs.runs import Runs

logger = logging.getLogger("newswire.runs")

_LOOKED_AT_ONCE: Final = 500  # runs whose readers may have lost them


class Worker:
    """One process's part.

    Attributes:
        id: names it in the log.
        watch: what it sees of all runs.
        productions: the runs that it produces, by id.
    """

    def __init__(self, runs: Runs, options: WorkerOptions) -> None:
        self.id = secrets.token_hex(6)
        self.productions: dict[str, Production] = {}
        self._runs = runs
        self._options = options
        self._begin_later: dict[str, Callable[[Record], None]] = {}
        self._idle = asyncio.Event()
        self._endings: set[asyncio.Task[None]] = set()
        self._looked = monotonic()
        self._outbox = Outbox(runs.books.log, asyncio.get_running_loop())
        self.watch = Watch(runs.hub, runs.books, self.id, options.lease, self)

    async def close(self, grace: float) -> None:
        """See `Runs.close`."""
        if self.productions and grace > 0:
            self._idle.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._idle.wait()
            except TimeoutError:
                pass
        productions = list(self.productions.values())
        # Not for ever: the log may be away, and a source may ignore that it is cancelled.
        for calls in ([self._let_go(each) for each in productions], [each.gone() for each in productions]):
            try:
                async with asyncio.timeout(self._options.lease):
                    await asyncio.gather(*calls, return_exceptions=True)
            except TimeoutError:
                logger.warning("%d runs could not be let go within %g s", len(productions), self._options.lease)
        for task in list(self._endings):
            task.cancel()
        await asyncio.gather(*self._endings, return_exceptions=True)
        await self.watch.close()
        self._outbox.close()

    async def _let_go(self, production: Production) -> None:
        if not production.record.takeover:
            await production.finish(End("interrupted"))
            return
        await production.claim.flushed()
        if await self._runs.books.change(production.record, worker=None, state="running") is not None:
            production.claim.lost()

    # -- produce

    def produce(self, record: Record, source: Source | None, args: Mapping[str, Any], *, again: bool = False) -> Run:
        """Produce a run whose record names this worker. One that waits begins with its first reader."""
        claim = Claim(self._outbox, record)
        run = Run(self._runs, record, claim, taken_over=again)
        production = Production(claim, tell_errors=self._options.tell_errors, ended=self._ended)
        run.produced_by(production)
        self.productions[record.id] = production

        def begin(newest: Record) -> None:
            claim.record = newest
            self._runs.stats.started += 1
            production.begin(source, run, args)

        if record.state == "waiting":
            self._begin_later[record.id] = begin
        else:
            begin(record)
        self.watch.take(record)
        if len(self.productions) == 1:
            self.watch.beat_now()
        return run

    def _ended(self, production: Production, end: End | None) -> None:
        record = production.record
        self.productions.pop(record.id, None)
        self._begin_later.pop(record.id, None)
        claim = production.claim
        if production.begun_at is not None:
            self._runs.stats.seconds += claim.last_at - production.begun_at
            self._runs.stats.events += claim.written
            if claim.first_at is not None:
                self._runs.stats.first_seconds.append(claim.first_at - production.begun_at)
        if not self.productions:
            self._idle.set()
        if end is not None:
            self._runs.stats.ended[end.reason] += 1
        if claim.error is not None:
            task = asyncio.get_running_loop().create_task(self._end_refused(record), name="newswire run is refused")
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

    async def _end_refused(self, record: Record) -> None:
        """End a run whose log has refused what it wrote: the end itself may be taken, now or later."""
        end = End("failed", {"type": "LogError", "message": "a part of the run could not be stored"})
        retry = Retry()
        while True:
            try:
                await self.end(record, end)
                return
            except Closed:
                return
            except Exception as error:  # the outermost frame of a task: whatever a log raises
                logger.warning("run %s can't be ended now, trying again: %s", record.id, error)
            await asyncio.sleep(retry.next())

    async def take_over(self, record: Record, source: Source | None, args: Mapping[str, Any]) -> Run | None:
        """Go on with a run that has no producer; None if somebody else does."""
        claimed = await self._runs.books.change(record, worker=self.id, state="running", claim_within=None)
        if claimed is None:
            return None
        again = record.state == "running"
        self._runs.stats.taken_over += again
        return self.produce(claimed, source, args, again=again)

    async def attached(self, find: Callable[[], Awaitable[Record]]) -> tuple[Run, bool]:
        """The run to write to, and whether this process has claimed it."""
        while True:
            record = await find()
            if record.state == "ended":
                raise RunOver(f"run {record.id} has ended")
            production = self.productions.get(record.id)
            if production is not None:
                return Run(self._runs, record, production.claim), False
            if record.worker is not None and not self.watch.lapsed(record):
                return Run(self._runs, record, Claim(self._outbox, record)), False
            run = await self.take_over(record, None, {})
            if run is not None:
                return run, True

    async def end(self, record: Record, end: End) -> bool:
        """End a run, whoever produces it; False if its record has changed meanwhile."""
        ended = await self._runs.books.end([record], end)
        for each in ended:
            self._runs.stats.ended[end.reason] += 1
            self.watch.take(each)
        return bool(ended)

    async def reader_came(self, record: Record) -> None:
        """A reader of this process begins to read a run.

        Raises:
            RunNotFound: it is not kept any more.
        """
        newest = self.watch.open.get(record.id)
        if newest is None or newest.begun != record.begun:  # it may have been dropped, and even begun again
            newest = await self._runs.books.look(record.id)
            if newest is None or newest.begun != record.begun:
                raise RunNotFound(record.id)
        record = newest
        if record.state == "waiting" and record.worker is not None:  # a lazy one
            changed = await self._runs.books.change(record, state="running")
            if changed is not None:
                self.watch.take(changed)
        if record.abandon_after is not None and record.worker != self.id:
            asyncio.get_running_loop().call_soon(self.watch.beat_now)  # when it is subscribed

    # -- what the watch tells

    def changed(self, record: Record) -> None:
        """See `watch.Told`."""
        for reader in self._runs.open_readers.get(record.id, ()):
            if reader.begun < record.begun:
                reader.upto = record.begun
        production = self.productions.get(record.id)
        if production is None or record.offset <= production.record.offset:
            return
        begin = self._begin_later.pop(record.id, None)
        if begin is not None and record.state == "running" and record.worker == self.id:
            begin(record)
        else:
            production.claim.lost()

    async def orphaned(self, record: Record, since: float) -> None:
        """See `watch.Told`."""
        if record.takeover:
            producer = self._runs.producers.get(record.producer or "")
            if producer is not None:
                await self.take_over(record, producer, record.args)
                return
            if since < self._options.lease:
                return  # another process may have its producer, or start it with the same key
        await self.end(record, End("interrupted"))

    def read_elsewhere(self, run_id: str) -> None:
        """See `watch.Told`."""
        production = self.productions.get(run_id)
        if production is not None:
            production.readers_at = monotonic()

    async def end_lost_readers(self) -> None:
        """See `watch.Told`: readers whose run has been dropped would wait for its end for ever."""
        uncertain: list[str] = []
        for run_id, readers in list(self._runs.open_readers.items()):
            known = self.watch.open.get(run_id)
            if known is None:
                uncertain.append(run_id)
            elif any(reader.begun < known.begun for reader in readers):
                await self._end_passed_readers(known, readers)
        for at in range(0, len(uncertain), _LOOKED_AT_ONCE):
            ids = uncertain[at : at + _LOOKED_AT_ONCE]
            kept = await self._runs.books.kept(ids)
            for run_id in ids:
                if run_id not in kept:
                    for reader in list(self._runs.open_readers.get(run_id, ())):
                        reader.lose()
                elif any(reader.begun < kept[run_id].begun for reader in self._runs.open_readers.get(run_id, ())):
                    await self._end_passed_readers(kept[run_id], self._runs.open_readers[run_id])

    async def _end_passed_readers(self, newer: Record, readers: Iterable[RunReader]) -> None:
        """Another run of the same key has the id: readers of the one before end when nothing of it is left."""
        passed = [reader for reader in readers if reader.begun < newer.begun]
        for reader in passed:
            reader.upto = newer.begun
            if not await self._runs.books.has_events(newer.id, reader.seen, newer.begun):
                reader.lose()

    def read_here(self, run_id: str) -> bool:
        """See `watch.Told`."""
        return bool(self._runs.hub.subscribers(out_channel(run_id)))

    def produces(self, run_id: str | None = None) -> bool:
        """See `watch.Told`."""
        return bool(self.productions) if run_id is None else run_id in self.productions

    def declared_dead(self, offset: int) -> None:
        """See `watch.Told`."""
        for production in list(self.productions.values()):
            if production.record.offset < offset:
                logger.warning("run %s is given up: this process gave no heartbeat for too long", production.record.id)
                production.claim.lost()

    async def look_round(self) -> None:
        """See `watch.Told`."""
        now = monotonic()
        looked, self._looked = self._looked, now
        for production in list(self.productions.values()):
            limit = production.record.abandon_after
            if limit is None or production.begun_at is None:
                continue
            stood_still = now - looked > self._options.lease / 2  # then nobody could tell of readers elsewhere
            if stood_still or self.read_here(production.record.id):
                production.readers_at = now
            elif now - production.readers_at > limit:
                production.end_soon(End("stopped"))
