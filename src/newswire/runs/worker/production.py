"""A run that this process produces: its source, driven in a task, with its time limits, to one of the four ends.

However the task comes to its end, the run gets one: what the source returned or raised, a time limit, or what others
have decided meanwhile (a stop, another worker), which the claim tells.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, Final

from newswire.errors import LimitExceeded, RunFailed
from newswire.redact import without_userinfo
from newswire.runs.dialects.base import End
from newswire.runs.store.record import Record
from newswire.runs.store.store import as_ended, last_events
from newswire.runs.worker.sources import Source, drive
from newswire.runs.worker.write_queue import Claim
from newswire.wire.strict_json import as_read

logger = logging.getLogger("newswire.runs")

_MAX_MESSAGE: Final = 1000  # characters of an exception's text that readers get


class Production:
    """What this process does for one run.

    Attributes:
        claim: the right to write to it.
        readers_at: when a reader was there last, by `time.monotonic()`; for `RunOptions.abandon_after`.
        begun_at: when the source was started, by `time.monotonic()`; None: it was not yet.
    """

    def __init__(self, claim: Claim, *, tell_errors: bool, ended: Callable[[Production, End | None], None]) -> None:
        self.claim = claim
        self.readers_at = monotonic()
        self.begun_at: float | None = None
        self._tell_errors = tell_errors
        self._ended = ended
        self._told = False
        self._task: asyncio.Task[None] | None = None
        self._total: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._flush_progress: Callable[[], None] = lambda: None
        claim.on_over = self._over

    @property
    def record(self) -> Record:
        """The record that was claimed."""
        return self.claim.record

    def begin(self, source: Source | None, run: Any, args: Mapping[str, Any]) -> None:
        """Drive `source`; None: somebody writes to the run by its handle, and ends it."""
        loop = asyncio.get_running_loop()
        self.begun_at = self.claim.last_at = monotonic()
        self._flush_progress = run.flush_progress
        record = self.record
        if record.timeout is not None:
            what = f"the run took longer than {record.timeout:g} seconds"
            self._total = loop.call_later(record.timeout, self._time_out, what)
        if record.idle_timeout is not None:
            self._watch_idle(record.idle_timeout)
        if source is not None:
            self._task = loop.create_task(self._main(source, run, args), name=f"newswire run {self.record.id}")

    async def _main(self, source: Source, run: Any, args: Mapping[str, Any]) -> None:
        try:
            end = End("done", result=await drive(source, self.claim, run, args))
        except asyncio.CancelledError:
            if not self.claim.over:  # nobody of ours cancelled it
                await self.finish(End("failed", {"type": "CancelledError", "message": "the producer was cancelled"}))
            raise
        except (Exception, SystemExit) as error:  # the outermost frame of a producer: its readers get it
            if self.claim.over:
                return
            end = self.failure(error)
        await self.finish(end)

    def failure(self, error: BaseException) -> End:
        """The end that an exception makes: readers get its text only if it is meant for them."""
        logger.warning("run %s failed\n%s", self.record.id, _trace(error))
        kind = type(error).__name__
        if self._tell_errors or isinstance(error, RunFailed):
            message = without_userinfo(_text(error))[:_MAX_MESSAGE]
        else:
            message = f"the producer failed ({kind})"
        return End("failed", {"type": kind, "message": message})

    # -- time

    def _time_out(self, what: str) -> None:
        self.end_soon(End("failed", {"type": "TimeoutError", "message": what}))

    def _watch_idle(self, limit: float, due: float | None = None) -> None:
        now = monotonic()
        if due is not None and now - due > limit / 4:
            self._idle_since = now  # the process stood still: its producer could not write
        left = max(self.claim.last_at, self._idle_since) + limit - now
        if left > 0:
            self._idle = asyncio.get_running_loop().call_later(left, self._watch_idle, limit, now + left)
        else:
            self._time_out(f"the run's producer wrote nothing for {limit:g} seconds")

    # -- the end

    def keep_for(self, seconds: float) -> None:
        """Keep the run no longer than so many seconds after its end."""
        limit = self.record.keep_for
        self.claim.record = replace(self.record, keep_for=seconds if limit is None else min(seconds, limit))

    def end_soon(self, end: End) -> None:
        """End the run now, whatever its source does."""
        if not self.claim.over:
            task = asyncio.get_running_loop().create_task(self.finish(end), name="newswire run ends")
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[bool]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("run %s could not be ended", self.record.id, exc_info=error)

    async def finish(self, end: End) -> bool:
        """Store the end, behind all that was written.

        Returns:
            False if the run had its end already, or is another worker's.
        """
        if self.claim.over:
            return False
        self._flush_progress()
        self._stop()
        stored = False
        try:
            try:
                end = replace(end, result=as_read(end.result))
                stored = await self.claim.close(last_events(as_ended(self.record, end)))
            except (TypeError, ValueError, RecursionError, LimitExceeded) as error:
                what = "the run's result is stored as JSON, and this can't be"
                logger.warning("run %s failed: %s: %s", self.record.id, what, without_userinfo(_text(error)))
                end = End("failed", {"type": type(error).__name__, "message": what})
                stored = await self.claim.close(last_events(as_ended(self.record, end)))
        finally:
            self._tell(end if stored else None)
        return stored

    def _over(self) -> None:
        """Somebody else has ended the run, or taken it over."""
        self._stop()
        self._tell(None)

    def _stop(self) -> None:
        for timer in (self._total, self._idle):
            if timer is not None:
                timer.cancel()
        task = self._task
        if task is not None and not task.done() and task is not asyncio.current_task():
            task.cancel()

    def _tell(self, end: End | None) -> None:
        if not self._told:
            self._told = True
            self._ended(self, end)

    async def gone(self) -> None:
        """Wait until the source has ended too; it may be closing what it uses."""
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its own __str__ fails: whatever that raises
        return "its text can't be made"


def _trace(error: BaseException) -> str:
    """The traceback, for the server's own log, which gets no passwords either."""
    return without_userinfo("".join(traceback.format_exception(error)).rstrip())
