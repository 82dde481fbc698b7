"""Writing to a run: what its producer has, and whoever attached to it.

A `RunWriter` holds a claim, the right to write. All that it writes goes through the claim, and so does the run's end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from dataclasses import replace
from math import inf, isfinite
from time import monotonic
from types import TracebackType
from typing import Any, Final, TypeVar, get_args, overload

from newswire.errors import LimitExceeded, RunFailed, RunOver
from newswire.redact import without_userinfo
from newswire.runs.dialects.base import End, Reason
from newswire.runs.parts import Progress, check_part, event_of
from newswire.runs.reading.reader import Readers
from newswire.runs.reading.run import Run
from newswire.runs.store.store import as_ended, last_events
from newswire.runs.worker.write_queue import Claim
from newswire.validate import check_kind, is_number, shown
from newswire.wire.payload import as_read, is_writable

logger: logging.Logger = logging.getLogger("newswire.runs")

T = TypeVar("T")

_PROGRESS_SECONDS: Final = 0.05  # between two progress events of a run; the next event says what comes faster
_MAX_MESSAGE: Final = 1000  # characters of an exception's text that readers get


class RunWriter(Run):
    """A handle that also writes to its run. A producer gets one, and `Runs.attach` returns one.

    Attributes:
        ended: the end that was stored through this handle.
    """

    def __init__(
        self,
        readers: Readers,
        claim: Claim,
        *,
        taken_over: bool = False,
        may_end: bool = True,
        tell_errors: bool = False,
    ) -> None:
        super().__init__(readers, claim.record, started=may_end, taken_over=taken_over)
        self.ended: End | None = None
        self._claim = claim
        self._may_end = may_end  # False: the run has a producer, and this handle adds to it
        self._tell_errors = tell_errors
        self._progress_lock = threading.Lock()
        self._progress: Progress | None = None
        self._progress_due = False
        self._progress_at = 0.0

    async def _parts(self) -> AsyncIterator[object]:
        if not self._claim.over:
            await self._claim.flushed()
        async for part in super()._parts():
            yield part

    # -- write

    def put(self, item: Any) -> None:
        """Write to the run without waiting: a part, text, an `Event`, or anything that JSON can say.

        In the event loop it returns at once; `await write()` there, where much comes. From any other thread it waits
        while the log is behind.

        Raises:
            RunOver: the run has ended, or another process produces it now.
            InvalidEvent, LimitExceeded: it can't be stored.
        """
        if self._claim.in_loop():
            self._claim.put(event_of(item))
        else:
            self._claim.put_from_thread(event_of(item))

    async def write(self, item: Any) -> None:
        """Write to the run, and wait if the log is far behind; see `put`. Cancelling the wait takes nothing back."""
        if self._claim.put(event_of(item)):
            await self._claim.room()

    async def flush(self) -> None:
        """Wait until all that was written is stored.

        Raises:
            RunOver: some of it never will be.
        """
        self._flush_progress()
        await self._claim.flushed()

    def content_begins(self) -> None:
        """Note that the answer itself begins now: the time to the first content is measured up to here."""
        self._claim.first_at = monotonic()

    # -- progress

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the work is. From any thread; never waits.

        Readers get an event `progress`, at most 20 a second; the last one always.

        Raises:
            InvalidEvent: `done` or `total` is no finite number, or `message` no text.
        """
        progress = Progress(done, total, message)
        check_part(progress)
        if not (_is_finite(done) and _is_finite(total or 0)):
            event_of(progress)  # refused here: later there is only the run to fail
        with self._progress_lock:
            self._progress = progress
            planned, self._progress_due = self._progress_due or self._claim.over, True
        if not planned:
            self._claim.call(self._plan_progress)

    def _plan_progress(self) -> None:
        wait = self._progress_at + _PROGRESS_SECONDS - monotonic()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._flush_progress)
        else:
            self._flush_progress()

    def _flush_progress(self) -> None:
        self._progress_at = monotonic()
        with self._progress_lock:
            self._progress_due = False
            progress, self._progress = self._progress, None
        if progress is not None and not self._claim.over:
            self._claim.put(event_of(progress))

    @overload
    def track(
        self, items: AsyncIterable[T], message: str | None = None, *, total: float | None = None
    ) -> AsyncIterator[T]: ...
    @overload
    def track(self, items: Iterable[T], message: str | None = None, *, total: float | None = None) -> Iterator[T]: ...
    def track(
        self, items: Iterable[T] | AsyncIterable[T], message: str | None = None, *, total: float | None = None
    ) -> Iterator[T] | AsyncIterator[T]:
        """Iterate over `items` and report how many are done, as tqdm does on a terminal.

        Args:
            items: what to work on.
            message: what is going on, for people.
            total: how many there are; None: what `len()` says, if it says anything.
        """
        if total is None:
            length = getattr(items, "__len__", None)
            total = length() if length is not None else None
        if isinstance(items, AsyncIterable):
            return _Tracked(self, items, message, total)
        return self._track(items, message, total)

    def _track(self, items: Iterable[T], message: str | None, total: float | None) -> Iterator[T]:
        self.progress(0, total, message)
        for done, item in enumerate(items, 1):
            yield item
            self.progress(done, total, message)

    # -- end

    async def finish(self, result: Any = None) -> bool:
        """End the run, as done. Its producer is cancelled if it is another task.

        Args:
            result: anything that JSON can say; the end has it.

        Returns:
            False if it had ended already, or is another worker's now.

        Raises:
            RunOver: the run has another producer, to which this handle only adds.
        """
        return await self.end_with(End("done", result=result))

    async def fail(self, error: BaseException | str | End, *, keep_for: float | None = None) -> bool:
        """End the run, as failed; see `finish`.

        Args:
            error: what went wrong: a text, which readers get without the passwords of URLs in it; an exception, as if
                the producer had raised it; or the end itself, whose error has a type of its own.
            keep_for: keep the run no longer than so many seconds after its end; None: what its options say.

        Raises:
            RunOver: see `finish`.
            TypeError: `error` is something else.
            ValueError: `keep_for` is no number of seconds greater than 0.
        """
        if keep_for is not None:
            if not (is_number(keep_for) and 0 < keep_for < inf):  # the record could not be stored, nor the end
                raise ValueError(f"keep_for must be a finite number greater than 0, not {keep_for!r}")
            limit = self._claim.record.keep_for
            self._claim.record = replace(
                self._claim.record, keep_for=keep_for if limit is None else min(keep_for, limit)
            )
        if not isinstance(error, (str, BaseException, End)):
            raise TypeError(f"a run fails with an exception, a text or an End, not {shown(error)}")
        if isinstance(error, str):
            error = End("failed", {"type": "Error", "message": _writable(without_userinfo(error))})
        return await self.end_with(error if isinstance(error, End) else self._failure(error))

    async def end_with(self, end: End) -> bool:
        """End the run in any way, behind all that was written; see `finish`.

        Raises:
            RunOver: see `finish`.
            TypeError, ValueError: it is no `End`, or its reason is none of those.
        """
        check_kind("end", end, End)
        if end.reason not in get_args(Reason):
            raise ValueError(f"a run's end is 'done', 'failed', 'stopped' or 'interrupted', not {end.reason!r:.60}")
        if not self._may_end:
            raise RunOver(f"run {self.id} is not produced through this handle, which only adds to it")
        claim = self._claim
        if claim.over:
            return False
        self._flush_progress()
        try:
            if end.result is not None:
                end = replace(end, result=as_read(end.result))
            stored = await claim.close(last_events(as_ended(claim.record, end)))
        except (TypeError, ValueError, RecursionError, LimitExceeded) as error:
            what = "the run's result is stored as JSON, and this can't be"
            logger.warning("run %s failed: %s: %s", self.id, what, without_userinfo(_text(error)))
            end = End("failed", {"type": type(error).__name__, "message": what})
            stored = await claim.close(last_events(as_ended(claim.record, end)))
        if stored:
            self.ended = end
        return stored

    def _failure(self, error: BaseException) -> End:
        """The end that an exception makes: readers get its text only if it is meant for them."""
        trace = "".join(traceback.format_exception(error)).rstrip()
        logger.warning("run %s failed\n%s", self.id, without_userinfo(trace))
        kind = _writable(type(error).__name__)
        if self._tell_errors or isinstance(error, RunFailed):
            message = _writable(without_userinfo(_text(error))[:_MAX_MESSAGE])
        else:
            message = f"the producer failed ({kind})"
        return End("failed", {"type": kind, "message": message})


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its own __str__ fails: whatever that raises
        return "its text can't be made"


def _is_finite(number: float) -> bool:
    try:
        return isfinite(number)
    except OverflowError:  # an int that no float can be; JSON has it
        return True


def _writable(text: str) -> str:
    """A text as UTF-8 can write it: an error's may quote half of a surrogate pair."""
    return text if is_writable(text) else text.encode("utf-8", "backslashreplace").decode()


class _Tracked(AsyncIterator[T]):
    """`RunWriter.track` of an async iterable. No generator: a waiting that is cancelled may be tried again."""

    def __init__(self, run: RunWriter, items: AsyncIterable[T], message: str | None, total: float | None) -> None:
        self._run = run
        self._message = message
        self._total = total
        self._items = aiter(items)
        self._done = -1  # before the first call
        self._done_one = False  # the item that was given last was not reported yet

    async def __anext__(self) -> T:
        if self._done < 0:
            self._done = 0
            self._run.progress(0, self._total, self._message)
        elif self._done_one:
            self._done += 1
            self._run.progress(self._done, self._total, self._message)
        self._done_one = False
        item = await anext(self._items)
        self._done_one = True
        return item


class Attachment:
    """What `Runs.attach` returns: an async context manager of the run, or something to await for it.

    Whoever awaits it ends the run with `run.finish()` or `run.fail()`.
    """

    def __init__(self, attach: Callable[[], Awaitable[RunWriter]]) -> None:
        self._attach = attach
        self._run: RunWriter | None = None

    def __await__(self) -> Generator[Any, None, RunWriter]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> RunWriter:
        self._run = await self._attach()
        return self._run

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = self._run
        if run is None:
            return
        if not run.started:  # it has a producer
            if error is None:
                await run.flush()
        elif error is None:
            await run.finish()
        elif not isinstance(error, RunOver):
            await run.fail(error)
