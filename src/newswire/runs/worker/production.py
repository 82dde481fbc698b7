"""A run that this process produces: its source, driven in a task, with its time limits, to one of the four ends.

However the task comes to its end, the run gets one: what the source returned or raised, a time limit, or what others
decided meanwhile (a stop, another worker).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

from newswire.runs.dialects.base import End
from newswire.runs.store.record import Record
from newswire.runs.worker.sources import Source, discard, run_source
from newswire.runs.worker.write_queue import Claim
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
                await self.writer.finish(await self._result())
        except asyncio.CancelledError:
            if not claim.over:  # nothing of ours cancelled it
                error = {"type": "CancelledError", "message": "the producer was cancelled"}
                await self.writer.end_with(End("failed", error))
        except (Exception, SystemExit) as error:  # the outermost frame of a producer: its readers get it
            if not claim.over:
                await self.writer.fail(error)
        finally:
            for timer in self._timers.values():
                timer.cancel()
        if self.started_at is None:
            await discard(self._source)
        await claim.closed()
        return self.writer.ended

    async def _result(self) -> Any:
        if self._wanted is not None:
            await self._wanted.wait()
        self.started_at = self.readers_at = self.claim.last_at = monotonic()
        record = self.claim.record
        if record.timeout is not None:
            what = f"the run took longer than {record.timeout:g} seconds"
            self._timers["total"] = asyncio.get_running_loop().call_later(record.timeout, self._time_out, what)
        if record.idle_timeout is not None:
            self._check_idle(record.idle_timeout)
        if self._source is None:
            return await asyncio.get_running_loop().create_future()  # cancelled when the claim is over
        return await run_source(self._source, self.claim, self.writer, self._args)

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
            self._time_out(f"the run's producer wrote nothing for {limit:g} seconds")

    # -- ends from outside

    def end_soon(self, end: End) -> None:
        """End the run now, whatever its source does."""
        if not self.claim.over:
            self._ending = asyncio.get_running_loop().create_task(self.writer.end_with(end), name="newswire run ends")
            self._ending.add_done_callback(self._check_ending)

    def _check_ending(self, task: asyncio.Task[bool]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("run %s could not be ended", self.writer.id, exc_info=error)
