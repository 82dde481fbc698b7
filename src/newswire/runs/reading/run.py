"""A run, as an application has it in its hand: read it, follow it, stop it; and for whoever produces it, write to it.

A handle knows the run's record as it was when the handle was made, asks the log for what may have changed since, and
holds nothing open. `Runs` makes them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from newswire.errors import RunNotFound, RunOver
from newswire.hub.subscription import Subscription
from newswire.log.position import Position
from newswire.redact import without_userinfo
from newswire.runs.dialects import READERS
from newswire.runs.dialects.base import End
from newswire.runs.parts import Progress, Reasoning, Text, event_of, part_of
from newswire.runs.reading.reader import is_loss
from newswire.runs.store.record import Record, State, read_end
from newswire.wire.reserved import END

if TYPE_CHECKING:
    from newswire.runs.response import RunAccepted, RunResponse
    from newswire.runs.runs import Runs
    from newswire.runs.worker.production import Production
    from newswire.runs.worker.write_queue import Claim

T = TypeVar("T")

_PROGRESS_SECONDS: Final = 0.05  # between two progress events of a run; what comes faster is told by the next


class Run:
    """A handle of a run.

    Attributes:
        id: names it; its readers' URL has it.
        name: what it was started under.
        created: when, in seconds since the Unix epoch.
        meta: what the one who started it said of it.
        taken_over: whether its producer goes on for one that died.
    """

    def __init__(self, runs: Runs, record: Record, claim: Claim | None = None, *, taken_over: bool = False) -> None:
        self.id = record.id
        self.name = record.name
        self.created = record.created
        self.meta: Mapping[str, Any] = record.meta
        self.taken_over = taken_over
        self._runs = runs
        self._record = record
        self._claim = claim
        self._production: Production | None = None
        self._progress_lock = threading.Lock()
        self._progress: Progress | None = None
        self._progress_due = False
        self._progress_at = 0.0

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    # -- look

    @property
    def produced_here(self) -> bool:
        """Whether this handle is the producer's own: `Runs.start` has begun the run, and not found it."""
        return self._production is not None

    @property
    def record(self) -> Record:
        """What the log knew of it when this handle was made; for newswire itself."""
        return self._record if self._claim is None else self._claim.record

    async def state(self) -> State:
        """`waiting` for a producer, `running` or `ended`.

        Raises:
            RunNotFound: it is not kept any more.
        """
        return (await self._look()).state

    async def end(self) -> End | None:
        """How it ended; None while it has not."""
        return (await self._look()).end

    async def _look(self) -> Record:
        record = await self._runs.books.look(self.id)
        if record is None:
            raise RunNotFound(self.id)
        return record

    async def wait(self) -> End:
        """Wait for the end.

        Raises:
            RunNotFound: it is not kept any more.
        """
        record = await self._look()
        if record.begun != self._record.begun:
            raise RunNotFound(self.id)  # another one of the same key has its place
        if record.end is not None:
            return record.end
        reader = self._runs.reader(record, Position(self._runs.hub.epoch, record.offset), counts=False)
        async for event in reader:
            if event.event == END:
                end = read_end(event.data)
                if is_loss(end):
                    raise RunNotFound(self.id)
                return end
        raise RunOver(f"run {self.id}: the hub was closed before the run ended")

    async def text(self) -> str:
        """The answer so far: all text, without reasoning, tools and the rest.

        Raises:
            RunNotFound: it is not kept any more.
        """
        return "".join([part.text async for part in self._parts() if isinstance(part, Text)])

    async def reasoning(self) -> str:
        """What the model thought so far; see `text`."""
        return "".join([part.text async for part in self._parts() if isinstance(part, Reasoning)])

    async def _parts(self) -> AsyncIterator[object]:
        if self._claim is not None and not self._claim.over:
            await self._claim.flushed()
        raw = self._record.head.raw
        reader = READERS[raw]() if raw is not None and raw in READERS else None
        async for piece in self._runs.books.pieces(self.id, self._record.begun):
            if reader is None:
                yield part_of(piece.event, piece.data)
            else:
                for part in reader.stored(piece.event, piece.data):
                    yield part
        if (await self._look()).begun != self._record.begun:  # what was read may be half of it, or nothing
            raise RunNotFound(self.id)

    # -- read

    def subscribe(self, after: Position | str | None = None) -> Subscription:
        """Iterate over the run's events, first those that are there, then live, up to and with `newswire.end`.

        If the run stops being kept before all of it was read, that end is `failed` with an error of type `EventsLost`.

        Args:
            after: the position to go on from; None: from the beginning.

        Raises:
            RunNotFound: at the first event: the run is not kept any more.
        """
        return self._runs.reader(self._record, after)

    def response(
        self,
        request: Any,
        *,
        dialect: str | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> RunResponse:
        """The response that streams the run to the one who has started it; see `Runs.response`.

        To any method but GET it says where to go on: `Content-Location`, and `Location` if `status_code` is 201 or 202.
        """
        return self._runs.response_to(self, request, dialect=dialect, status_code=status_code, headers=headers)

    def accepted(self, request: Any) -> RunAccepted:
        """The response `202` that only says where the run can be read, as `Location` and in JSON."""
        return self._runs.accepted(self, request)

    async def stop(self) -> bool:
        """End it now, wherever it is produced: readers get `stopped`.

        Returns:
            False if it had ended already.
        """
        return await self._runs.stop_record(self.id)

    # -- write, for the one who produces it

    def _writable(self) -> Claim:
        if self._claim is None:
            raise RunOver(
                f"this handle of run {self.id} only reads: its producer writes, or who has it from runs.attach()"
            )
        return self._claim

    def put(self, item: Any) -> None:
        """Write to the run without waiting: a part, text, an `Event`, or anything that JSON can say.

        In the event loop it returns at once; `await write()` there, where much comes. From any other thread it waits
        while the log is behind.

        Raises:
            RunOver: the run has ended, or another process produces it now.
            InvalidEvent, LimitExceeded: it can't be stored.
        """
        claim = self._writable()
        if self._runs.in_loop():
            claim.put(event_of(item))
        else:
            claim.put_from_thread(event_of(item))

    async def write(self, item: Any) -> None:
        """Write to the run, and wait if the log is far behind; see `put`."""
        claim = self._writable()
        claim.put(event_of(item))
        if claim.full:
            await claim.room()

    def content_begins(self) -> None:
        """Say that the answer itself begins now: what was written before does not count for the time to the first."""
        claim = self._writable()
        claim.first_at = time.monotonic()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the work is. From any thread; never waits.

        Readers get an event `progress`, at most 20 a second; the last one always.

        Raises:
            RunOver: this handle only reads.
            InvalidEvent: `done` or `total` is no finite number.
        """
        claim = self._writable()
        progress = Progress(done, total, message)
        if not (isfinite(done) and isfinite(total or 0)):
            event_of(progress)  # refused here: later there is only the run to fail
        with self._progress_lock:
            self._progress = progress
            planned, self._progress_due = self._progress_due or claim.over, True
        if not planned:
            self._runs.call(self._plan_progress)

    def _plan_progress(self) -> None:
        wait = self._progress_at + _PROGRESS_SECONDS - time.monotonic()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self.flush_progress)
        else:
            self.flush_progress()

    def flush_progress(self) -> None:
        """Write the progress that was told last; for newswire itself."""
        self._progress_at = time.monotonic()
        with self._progress_lock:
            self._progress_due = False
            progress, self._progress = self._progress, None
        if progress is not None and self._claim is not None and not self._claim.over:
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
        """Iterate over `items` and tell how many are done, as tqdm does on a terminal.

        Args:
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

    async def flush(self) -> None:
        """Wait until all that was written is stored.

        Raises:
            RunOver: some of it never will be.
        """
        claim = self._writable()
        self.flush_progress()
        await claim.flushed()

    async def finish(self, result: Any = None) -> bool:
        """End a run that this process has attached to.

        Args:
            result: anything that JSON can say; the end tells it.

        Returns:
            False if it had ended already, or is another worker's now.
        """
        return await self._finish(End("done", result=result))

    async def fail(self, error: BaseException | str | End, *, keep_for: float | None = None) -> bool:
        """End a run that this process has attached to, as failed.

        Args:
            error: what went wrong: a text, which readers get without the passwords of URLs in it; an exception, as if
                the producer had raised it; or the end itself, whose error has a type of its own.
            keep_for: seconds after which nobody will ask for it any more; None: what its options say.
        """
        production = self._production
        if production is None:
            raise RunOver(f"run {self.id} is not produced through this handle: runs.attach() gives one that is")
        if keep_for is not None:
            production.keep_for(keep_for)
        if isinstance(error, str):
            error = End("failed", {"type": "Error", "message": without_userinfo(error)})
        return await self._finish(error if isinstance(error, End) else production.failure(error))

    async def _finish(self, end: End) -> bool:
        if self._production is None:
            raise RunOver(f"run {self.id} is not produced through this handle: runs.attach() gives one that is")
        return await self._production.finish(end)

    def produced_by(self, production: Production) -> Run:
        """Note what ends it; for newswire itself."""
        self._production = production
        return self


class _Tracked(AsyncIterator[T]):
    """`Run.track` of an async iterable. No generator: a waiting that is cancelled may be tried again."""

    def __init__(self, run: Run, items: AsyncIterable[T], message: str | None, total: float | None) -> None:
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
