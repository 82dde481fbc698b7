"""What one process does for runs: it produces some, and ends those that nothing produces any more.

`Runs` has one worker while its hub is open. The worker's monitor tells it what other processes did.

A `Production` is a run that this process produces: its source, driven in a task, with its time limits, to one of the
four ends. However the task comes to its end, the run gets one: what the source returned or raised, a time limit, or
what others decided meanwhile (a stop, another worker). A `KeyboardInterrupt` is the exception: it ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any

from newswire.counted import counted
from newswire.errors import Closed, RunOver
from newswire.log.retry import Retry
from newswire.runs.dialects.base import End
from newswire.runs.options import WorkerOptions
from newswire.runs.reading.reader import Readers
from newswire.runs.store.record import Record
from newswire.runs.store.store import RunStore
from newswire.runs.worker.monitor import LivenessMonitor
from newswire.runs.worker.sources import Source, discard, run_source
from newswire.runs.worker.write_queue import Claim, WriteQueue
from newswire.runs.worker.writer import RunWriter

logger: logging.Logger = logging.getLogger("newswire.runs")


class Production:
    """One execution of a source.

    Args:
        writer: what the source gets, and what stores the end.
        claim: the writer's right to write.
        source: what to drive; None: somebody writes to the run by its handle, and ends it.
        args: keyword arguments of a callable source.

    Attributes:
        claim: see above.
        started_at: when the source was started, by `time.monotonic()`; None: it was not yet.
        readers_at: when a reader was there last; for `RunOptions.abandon_after`.
    """

    def __init__(self, writer: RunWriter, claim: Claim, source: Source | None, args: Mapping[str, Any]) -> None:
        self.writer = writer
        self.claim = claim
        self.started_at: float | None = None
        self.readers_at: float = monotonic()
        self._source = source
        self._args = args
        self._wanted: asyncio.Event | None = asyncio.Event() if claim.record.state == "waiting" else None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._idle_since = 0.0
        self._ending: asyncio.Task[bool] | None = None  # what ends the run from outside of its task

    @property
    def waits(self) -> bool:
        """Whether it waits for a first reader."""
        return self._wanted is not None and not self._wanted.is_set()

    def start(self, record: Record) -> None:
        """A reader has come, and the run's record says so: start."""
        self.claim.record = record
        if self._wanted is not None:
            self._wanted.set()

    async def run(self) -> End | None:
        """Produce the run.

        Returns:
            the end that was stored; None if others ended the run, or took it over.
        """
        claim = self.claim
        claim.producer = asyncio.current_task()
        try:
            if not claim.over:
                if self._wanted is not None:
                    await self._wanted.wait()
                await self.writer.finish(await self._begin())
        except asyncio.CancelledError:
            if not claim.over:  # nothing of ours cancelled it
                error = {"type": "CancelledError", "message": "the producer was cancelled"}
                await self.writer.end_with(End("failed", error))
        except (KeyboardInterrupt, GeneratorExit):  # the process ends, or the loop has thrown this task away
            raise
        except BaseException as error:  # the outermost frame of a producer: its readers get it, groups of any kind too
            if not claim.over:
                await self.writer.fail(error)
        finally:
            for timer in self._timers.values():
                timer.cancel()
        if self.started_at is None:
            await discard(self._source)
        await claim.closed()
        return self.writer.ended

    def _begin(self) -> Awaitable[Any]:
        """Start the source. Returns what gives its result: no coroutine of ours, since each token passes through."""
        self.started_at = self.readers_at = self.claim.last_at = monotonic()
        record = self.claim.record
        if record.timeout is not None:
            what = f"the run took longer than {counted(record.timeout, 'second')}"
            self._timers["total"] = asyncio.get_running_loop().call_later(record.timeout, self._time_out, what)
        if record.idle_timeout is not None:
            self._check_idle(record.idle_timeout)
        if self._source is None:
            return asyncio.get_running_loop().create_future()  # cancelled when the claim is over
        return run_source(self._source, self.claim, self.writer, self._args)

    # -- time

    def _time_out(self, what: str) -> None:
        self.end_soon(End("failed", {"type": "TimeoutError", "message": what}))

    def _check_idle(self, limit: float, due: float | None = None) -> None:
        now = monotonic()
        if due is not None and now - due > limit / 4:
            self._idle_since = now  # the process stood still: its producer could not write
        left = max(self.claim.last_at, self._idle_since) + limit - now
        if left > 0:
            self._timers["idle"] = asyncio.get_running_loop().call_later(left, self._check_idle, limit, now + left)
        else:
            self._time_out(f"the run's producer wrote nothing for {counted(limit, 'second')}")

    # -- ends from outside

    def end_soon(self, end: End) -> None:
        """End the run now, whatever its source does."""
        if not self.claim.over:
            self._ending = asyncio.get_running_loop().create_task(self.writer.end_with(end), name="newswire run ends")
            self._ending.add_done_callback(self._check_ending)

    def _check_ending(self, task: asyncio.Task[bool]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("run %s could not be ended", self.writer.id, exc_info=error)


class Worker:
    """One process's part.

    Args:
        readers: the readers of this process, and the store.
        producers: the registered ones, by name.
        options: see `WorkerOptions`.

    Attributes:
        id: names it in the log.
        store: the records.
        readers, producers: see above.
        monitor: what it sees of all runs.
        productions: the runs that it produces, by id.
        closed: it starts nothing any more.
    """

    def __init__(self, readers: Readers, producers: Mapping[str, Callable[..., Any]], options: WorkerOptions) -> None:
        self.id: str = secrets.token_hex(6)
        self.store: RunStore = readers.store
        self.readers = readers
        self.producers = producers
        self.productions: dict[str, Production] = {}
        self.closed: bool = False
        self._options = options
        self._idle = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()  # one for each production, until its source has ended …
        self._refused: set[asyncio.Task[None]] = set()  # … and these end runs that the log refused to store
        self._ticked = monotonic()
        self._queue = WriteQueue(self.store.log, asyncio.get_running_loop())
        self.monitor: LivenessMonitor = LivenessMonitor(readers, self.id, options.lease, self)

    async def close(self, grace: float) -> None:
        """See `Runs.close`."""
        self.closed = True
        if self.productions and grace > 0:
            self._idle.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._idle.wait()
            except TimeoutError:
                pass
        # Not for ever: the log may be away, and a source may ignore that it is cancelled.
        lease, count = self._options.lease, len(self.productions)
        try:
            async with asyncio.timeout(lease):
                letting_go = [self._let_go(each) for each in self.productions.values()]
                await asyncio.gather(*letting_go, return_exceptions=True)
        except TimeoutError:
            logger.warning("%d runs could not be let go within %g s", count, lease)
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=lease)
            if left:
                logger.warning("the sources of %d runs did not end within %g s", len(left), lease)
        for task in self._refused:
            task.cancel()
        await asyncio.gather(*self._refused, return_exceptions=True)
        await self.monitor.close()
        self._queue.close()

    async def _let_go(self, production: Production) -> None:
        claim = production.claim
        if not claim.record.takeover:
            await production.writer.end_with(End("interrupted"))
            return
        await claim.flushed()
        if await self.store.change(claim.record, worker=None, state="running") is not None:
            claim.lost()

    # -- produce

    @property
    def producing(self) -> int:
        """How many runs can still be written to here. The source of another one may be closing what it uses."""
        return sum(not production.claim.over for production in self.productions.values())

    def produce(
        self, record: Record, source: Source | None, args: Mapping[str, Any], *, taken_over: bool = False
    ) -> RunWriter:
        """Produce a run whose record names this worker. A lazy one waits for its first reader."""
        claim = Claim(self._queue, record)
        writer = RunWriter(self.readers, claim, taken_over=taken_over, tell_errors=self._options.tell_errors)
        production = Production(writer, claim, source, args)
        self.productions[record.id] = production
        self.store.stats.started += not production.waits
        self.monitor.take(record)
        if len(self.productions) == 1:
            self.monitor.heartbeat_now()
        task = asyncio.get_running_loop().create_task(self._produce(production), name=f"newswire run {record.id}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._check_task, production))
        return writer

    def _check_task(self, production: Production, task: asyncio.Task[None]) -> None:
        """End a run whose source has ended its task from within, by a `GeneratorExit`, which no frame may answer."""
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        run_id = production.writer.id
        logger.error("run %s: its task ended with %s", run_id, type(error).__name__, exc_info=error)
        if self.productions.get(run_id) is production:
            del self.productions[run_id]
        if not self.productions:
            self._idle.set()
        if not isinstance(error, KeyboardInterrupt):
            kind = type(error).__name__
            production.end_soon(End("failed", {"type": kind, "message": f"the producer failed ({kind})"}))

    async def _produce(self, production: Production) -> None:
        end = await production.run()
        claim, stats = production.claim, self.store.stats
        record = claim.record
        if self.productions.get(record.id) is production:
            del self.productions[record.id]
        if not self.productions:
            self._idle.set()
        if production.started_at is not None:
            stats.seconds += claim.last_at - production.started_at
            stats.events += claim.written
            if claim.first_at is not None:
                stats.first_seconds.append(claim.first_at - production.started_at)
        if end is not None:
            stats.ended[end.reason] += 1
        if claim.error is not None:
            task = asyncio.get_running_loop().create_task(self._end_refused(record), name="newswire run is refused")
            self._refused.add(task)
            task.add_done_callback(self._refused.discard)

    async def _end_refused(self, record: Record) -> None:
        """End a run whose log has refused what it wrote: the end itself may be taken, now or later."""
        end = End("failed", {"type": "LogError", "message": "a part of the run could not be stored"})
        retry = Retry()
        while True:
            try:
                await self.store.end([record], end)
                return
            except Closed:
                return
            except Exception as error:  # the outermost frame of a task: whatever a log raises
                logger.warning("run %s can't be ended now, trying again: %s", record.id, error)
            await asyncio.sleep(retry.next())

    async def take_over(self, record: Record, source: Source | None, args: Mapping[str, Any]) -> RunWriter | None:
        """Go on with a run that has no producer; None if another process does."""
        claimed = await self.store.change(record, worker=self.id, state="running", claim_within=None)
        if claimed is None:
            return None
        taken_over = record.state == "running"
        self.store.stats.taken_over += taken_over
        return self.produce(claimed, source, args, taken_over=taken_over)

    async def attach(self, find: Callable[[], Awaitable[Record]]) -> RunWriter:
        """A writer to a run. It owns the run's end if no other producer has the run."""
        while True:
            record = await find()
            if record.state == "ended":
                raise RunOver(f"run {record.id} has ended")
            production = self.productions.get(record.id)
            if production is not None and not production.claim.over:
                return RunWriter(self.readers, production.claim, may_end=False)
            if record.worker is not None and not self.monitor.is_orphaned(record):
                return RunWriter(self.readers, Claim(self._queue, record), may_end=False)
            writer = await self.take_over(record, None, {})
            if writer is not None:
                return writer

    # -- what the monitor reports

    def changed(self, record: Record) -> None:
        """See `MonitorListener`."""
        self.readers.supersede(record)
        production = self.productions.get(record.id)
        if production is None or record.offset <= production.claim.record.offset:
            return
        if production.waits and record.state == "running" and record.worker == self.id:
            self.store.stats.started += 1
            production.start(record)
        else:
            production.claim.lost()

    async def orphaned(self, record: Record, since: float) -> None:
        """See `MonitorListener`."""
        if record.takeover:
            producer = self.producers.get(record.producer or "")
            if producer is not None:
                await self.take_over(record, producer, record.args)
                return
            if since < self._options.lease:
                return  # another process may have its producer, or start it with the same key
        await self.store.end([record], End("interrupted"))

    def read_elsewhere(self, run_id: str) -> None:
        """See `MonitorListener`."""
        production = self.productions.get(run_id)
        if production is not None:
            production.readers_at = monotonic()

    def produces(self, run_id: str | None = None) -> bool:
        """See `MonitorListener`."""
        return bool(self.productions) if run_id is None else run_id in self.productions

    def declared_dead(self, offset: int) -> None:
        """See `MonitorListener`."""
        for production in list(self.productions.values()):
            if production.claim.record.offset < offset:
                logger.warning("run %s is given up: this process gave no heartbeat for too long", production.writer.id)
                production.claim.lost()

    def on_tick(self) -> None:
        """See `MonitorListener`."""
        now = monotonic()
        ticked, self._ticked = self._ticked, now
        for production in list(self.productions.values()):
            limit = production.claim.record.abandon_after
            if limit is None or production.started_at is None:
                continue
            stood_still = now - ticked > self._options.lease / 2  # then nothing could say of readers elsewhere
            if stood_still or self.readers.has(production.writer.id):
                production.readers_at = now
            elif now - production.readers_at > limit:
                production.end_soon(End("stopped"))
