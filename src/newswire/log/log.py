"""The log as applications call it, derived once from what any engine does: `newswire.log.engine`.

An engine stores, reads and calls back. Here is what all have in common: batches are checked, those of one pass of the
event loop are gathered, calls have deadlines, and whatever an engine raises becomes an error of ours. A waiting call is
the call that calls back, and waiting. Nothing here knows where an engine keeps its events.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Container, Coroutine, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeVar

from newswire.errors import (
    Closed,
    EpochChanged,
    InvalidEvent,
    LimitExceeded,
    LogError,
    LogUnavailable,
    LogUncertain,
    NewswireError,
)
from newswire.log.channels import Channels, check_channel
from newswire.log.engine import (
    Batch,
    Condition,
    Copied,
    Engine,
    Entry,
    Info,
    Known,
    Limits,
    Losses,
    OnDone,
    OnEntries,
    Outcome,
    Page,
    Span,
)
from newswire.log.histogram import LOG_BOUNDS, Histogram
from newswire.log.position import KnownPosition, Position, positions
from newswire.wire.event import Event

logger = logging.getLogger("newswire.log")

T = TypeVar("T")

_NAMES_KNOWN: Final = 100_000  # channel names whose check is remembered
_TOKEN_CHARACTERS: Final = 256
_FOLLOWED: Final = 8192  # entries that a slow follower has in memory; then it reads on when it has taken them
_TAIL_SECONDS: Final = 1.0  # how long a tail that was cancelled may take to end, before it is left alone


class Log:
    """An ordered, durable sequence of events. Every method may be called from one event loop at a time.

    A log opens itself at the first call that needs it. All methods raise `LogUnavailable` when the storage can't be
    used now, `LogCorrupt` when it is damaged, `Closed` after `close`.

    Args:
        engine: where the events are.

    Attributes:
        engine: the same.
        limits: what it can store.
        append_seconds: how long an engine took that does not answer at once, from being given batches to its answer.
        read_seconds: how long reading a page took.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.append_seconds = Histogram(LOG_BOUNDS)
        self.read_seconds = Histogram(LOG_BOUNDS)
        self.limits: Limits = engine.limits
        self._closed = False
        self._checked: set[str] = set()
        # Names that need no other check.
        self._known: Container[str] = self._checked if engine.known is None else engine.known
        self._gathered: list[tuple[Batch, asyncio.Future[tuple[Outcome, str]]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will submit what was gathered
        self._pending: dict[_Submission, float] = {}  # and when its answer is overdue
        self._timer: asyncio.TimerHandle | None = None
        self._tails: set[_Tail] = set()
        self._more = False  # whether more may be appended in this pass of the event loop
        self._answer = _Answer()  # of an engine that calls back at once
        self._on_answer = self._answer.done
        self._immediate = engine.immediate
        self._any_size = self.limits.nul and self.limits.batch_events is self.limits.batch_bytes is None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.engine}{' (closed)' if self._closed else ''}>"

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the log is closed")

    # -- store

    def append(
        self, events: Sequence[tuple[str, Event]], *, token: str | None = None
    ) -> Coroutine[Any, Any, list[Position]]:
        """Store a batch of (channel, event): all of it, in this order, with no other event in between, or nothing.

        Returns when the batch is stored under the log's durability. If the caller is cancelled while waiting, the
        batch may or may not be stored.

        Args:
            events: pairs of channel and event.
            token: a text that no other batch has, up to 256 characters. If the log has stored a batch with this token
                in the last ten minutes it stores nothing, and returns what it returned then. So a batch whose answer
                was lost (`LogUncertain`) is appended again under its token, and is there once.

        Returns:
            the events' positions, in order; `Position.stored` is False for those of a batch whose token was known.

        Raises:
            InvalidChannel: a channel's name breaks the rules.
            InvalidEvent: an event has an `id` (the log gives ids) or a `retry` (a stream's setting, not stored), or
                data that the log can't store.
            LimitExceeded: an event or the batch is larger than the log can store; see `limits`.
            LogUncertain: the batch may be stored, or may not.
            TokenReused: the token is of a batch of another length; nothing was stored.
        """
        # Without a condition there are positions. One coroutine less is a tenth of the price of the log in memory.
        return self._append(Batch(events, None, token))  # type: ignore[return-value]

    async def append_if(
        self, events: Sequence[tuple[str, Event]], condition: Condition, *, token: str | None = None
    ) -> list[Position] | None:
        """As `append`, but only if the condition holds: nothing happened in between.

        Returns:
            the events' positions; None if the condition does not hold, and nothing was stored.
        """
        return await self._append(Batch(events, condition, token))

    async def _append(self, batch: Batch) -> list[Position] | None:
        if self._closed:
            raise Closed("the log is closed")
        if not self._immediate:
            batch.events = list(batch.events)  # the caller's may change meanwhile
        self._check(batch)
        if not batch.events:
            return []
        if self._immediate:
            self._more = True
            outcomes, epoch = self._submit_now([batch])
            self._more = False
            outcome = outcomes[0]
        else:
            outcome, epoch = await self._gather(batch)
        if outcome is None:
            return None
        if isinstance(outcome, LogError):
            raise _own(outcome)
        if batch.token is not None and type(outcome) is Known:
            return positions(epoch, outcome, len(batch.events), KnownPosition)
        return positions(epoch, outcome, len(batch.events))

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """Store batches without waiting; see `Engine.submit`, and `append` for what it raises: then nothing of any
        batch is stored, and `on_done` is not called."""
        if self._closed:
            raise Closed("the log is closed")
        for batch in batches:
            self._check(batch)
        if not batches:
            on_done([], "")
        elif self._immediate:
            outcomes, epoch = self._submit_now(batches)
            try:
                on_done(outcomes, epoch)
            except Exception:  # the outermost frame of a callback, as where it is called later
                logger.exception("a callback for what was appended failed")
        elif len(groups := self._groups(batches)) == 1:
            self._submit(batches, on_done)
        else:
            joined = _Joined(len(groups), on_done)
            for number, group in enumerate(groups):
                self._submit(group, partial(joined.done, number))

    def _submit_now(self, batches: Sequence[Batch]) -> tuple[Sequence[Outcome], str]:
        """Submit to an engine that calls back before it returns."""
        answer = self._answer
        answer.outcomes = ()
        try:
            self.engine.submit(batches, self._on_answer)
        except Exception as error:  # whatever an engine raises: it has stored nothing
            return [as_log_error(error)] * len(batches), ""
        if len(answer.outcomes) != len(batches):
            return _wrong_number(answer.outcomes, batches), ""
        return answer.outcomes, answer.epoch

    def check(self, events: Sequence[tuple[str, Event]]) -> Sequence[int]:
        """Weigh the data of each event, and raise what `append` would raise for them as one batch."""
        batch = Batch(events)
        self._check(batch)
        return batch.sizes

    def _check(self, batch: Batch) -> None:
        most, known = self.limits.event_bytes, self._known
        sizes = []
        for channel, event in batch.events:
            if type(channel) is not str or channel not in known:
                check_channel(channel)
                if known is self._checked:
                    if len(self._checked) >= _NAMES_KNOWN:
                        self._checked.clear()
                    self._checked.add(str(channel))
            data, _, id_, retry, _ = event
            if id_ is not None:
                raise InvalidEvent("id", "the log gives events their ids: publish without one")
            if retry is not None:
                raise InvalidEvent("retry", "retry is a setting of a stream and is not stored: publish without it")
            size = len(data) if data.isascii() else len(data.encode())
            if size > most:
                hint = "store it elsewhere and publish where it is"
                raise LimitExceeded("an event's size in bytes", limit=most, actual=size, hint=hint)
            sizes.append(size)
        batch.sizes = sizes
        if not self._any_size or batch.token is not None:
            self._check_whole(batch)

    def _check_whole(self, batch: Batch) -> None:
        limits, sizes = self.limits, batch.sizes
        if not limits.nul and any("\0" in event.data for _, event in batch.events):
            raise InvalidEvent("data", "this log can't store the character NUL: publish without it")
        if limits.batch_events is not None and len(sizes) > limits.batch_events:
            raise LimitExceeded("the number of events in a batch", limit=limits.batch_events, actual=len(sizes))
        if limits.batch_bytes is not None and sum(sizes) > limits.batch_bytes:
            raise LimitExceeded("a batch's size in bytes", limit=limits.batch_bytes, actual=sum(sizes))
        if batch.token is not None and not 0 < len(batch.token) <= _TOKEN_CHARACTERS:
            raise ValueError(f"a token has 1 to {_TOKEN_CHARACTERS} characters, not {len(batch.token)}")

    def _groups(self, batches: Sequence[Batch]) -> list[Sequence[Batch]]:
        """What goes to the engine in one call: bounded, so that the first does not wait long for the last."""
        if len(batches) == 1:
            return [batches]
        limits = self.limits
        begin = events = size = 0
        groups: list[Sequence[Batch]] = []
        for index, batch in enumerate(batches):
            events += len(batch.sizes)
            size += sum(batch.sizes)
            if index > begin and (events > limits.group_events or size > limits.group_bytes):
                groups.append(batches[begin:index])
                begin, events, size = index, len(batch.sizes), sum(batch.sizes)
        return [*groups, batches[begin:]]

    def _gather(self, batch: Batch) -> asyncio.Future[tuple[Outcome, str]]:
        """Submit a batch with all that come in this pass of the event loop."""
        loop = asyncio.get_running_loop()
        if not self._gathered or loop is not self._loop:
            self._gathered = []  # of a loop that was closed
            self._loop = loop
            loop.call_soon(self._flush)
        stored: asyncio.Future[tuple[Outcome, str]] = loop.create_future()
        self._gathered.append((batch, stored))
        return stored

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        at = 0
        for group in self._groups([batch for batch, _ in gathered]) if gathered else ():
            waiting = [stored for _, stored in gathered[at : at + len(group)]]
            at += len(group)
            self._submit(group, partial(_resolve, waiting))

    def _submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        submission = _Submission(batches, on_done, self._pending, self.append_seconds)
        try:
            self.engine.submit(batches, submission.done)
        except Exception as error:  # whatever an engine raises: it has stored nothing
            submission.done([as_log_error(error)] * len(batches), "")
        if not submission.is_done and self.limits.answer_seconds is not None:
            loop = asyncio.get_running_loop()
            self._pending[submission] = loop.time() + self.limits.answer_seconds
            if self._timer is None or len(self._pending) == 1:
                self._watch(loop, self.limits.answer_seconds)

    # -- deadlines: one timer for all

    def _watch(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._end_overdue, loop)

    def _end_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._pending:
            submission, due = next(iter(self._pending.items()))
            if due > now:
                self._watch(loop, due - now)
                return
            submission.fail(
                LogUncertain(
                    f"the log has not answered for {self.limits.answer_seconds:g} s, and may have stored the batch: "
                    "publish it again under the same token, or look"
                )
            )

    async def _ask(self, call: Awaitable[T], seconds: float | None) -> T:
        """Await an engine's call."""
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await call
        except (Exception, asyncio.CancelledError) as error:
            if deadline.expired():
                raise LogUnavailable(f"the log has not answered for {seconds:g} s") from error
            explained = _as_unavailable(error, closed=self._closed)
            if explained is error:
                raise
            raise explained from error

    # -- read

    async def read(self, channels: Channels, after: int, limit: int, *, epoch: str | None = None) -> Page:
        """Read the kept events of these channels after offset `after`: the earliest of them, at most `limit`.

        A page may end early; see `Page.through`.

        Args:
            epoch: the one that `after` is a place in; None: `Page.epoch` says which one it was read in.

        Raises:
            EpochChanged: the log has another epoch now.
        """
        self._check_open()
        began = perf_counter()
        page = await self._ask(self.engine.read(channels, after, max(limit, 1)), self.limits.answer_seconds)
        self.read_seconds.observe(perf_counter() - began)
        if epoch is not None and page.epoch != epoch:
            raise EpochChanged(page.epoch)
        return page

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """The newest kept event of each channel; None where there is none."""
        self._check_open()
        return await self._ask(self.engine.newest(channels), self.limits.answer_seconds)

    async def span(self) -> Span:
        """What the log holds now."""
        self._check_open()
        return await self._ask(self.engine.span(), self.limits.answer_seconds)

    # -- follow

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        """Call `on_entries` with everything stored after `after`, by whomever, where the log learns of it.

        Goes on until it is cancelled, or the log is closed: then it returns. See `Engine.tail`.

        Raises:
            EpochChanged: the log has another epoch than `epoch`; look at its `span`, and tail again.
            TrimmedAway: retention removed an event before the tail came to it. A log removes nothing by itself in its
                first second, so only a tail that starts or falls far behind meets this. Tail again from its `through`
                or later, and let readers find what is left with `read`.
            Exception: what `on_entries` raises ends the tail, which raises it.
        """
        self._check_open()
        tail = _Tail(self, on_entries)
        tail.task = asyncio.create_task(
            self.engine.tail(after, epoch, tail.take, channels), name=f"newswire tail of {self.engine}"
        )
        self._tails.add(tail)
        try:
            await asyncio.wait([tail.task])
        finally:
            self._tails.discard(tail)
            tail.end()
            if not tail.task.done():
                await asyncio.wait([tail.task], timeout=_TAIL_SECONDS)
        if tail.failure is not None:
            raise tail.failure
        if self._closed:
            return
        error = asyncio.CancelledError() if tail.task.cancelled() else tail.task.exception()
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        raise _as_unavailable(error or LogUnavailable("the log's tail ended"), closed=False) from error

    async def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """Iterate over everything appended after `after` (None: after now), by whomever, in order, without holes.

        The iterator waits when it has caught up. "Now" is the call of its first `__anext__`. It ends when the log is
        closed; closing it (`aclose`) frees what it holds. An offset that is left out belongs to no event.

        Raises:
            EpochChanged, TrimmedAway: see `tail`.
        """
        span = await self.span()
        at = span.latest if after is None else max(after, 0)
        while not self._closed:
            queue: deque[Sequence[Entry]] = deque()
            news = asyncio.Event()
            tail = asyncio.create_task(self.tail(at, span.epoch, partial(_enqueue, queue, news)))
            tail.add_done_callback(lambda _, news=news: news.set())  # type: ignore[misc]
            try:
                while not tail.done() or queue:
                    await news.wait()
                    news.clear()
                    while queue:
                        entries = queue.popleft()
                        at = entries[-1].offset
                        yield entries
                tail.result()
            except _TooSlow:
                continue
            finally:
                tail.cancel()
                await asyncio.wait([tail])
                if not tail.cancelled():
                    tail.exception()

    # -- the rest

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """Remove the events of each channel up to an offset, whatever retention says; see `Engine.drop`.

        Returns:
            how many events were removed.
        """
        self._check_open()
        return await self._ask(self.engine.drop(dict(cuts)), self.limits.answer_seconds) if cuts else 0

    async def trim(self) -> int:
        """Remove now what retention does not keep; logs also do so by themselves.

        Returns:
            how many events were removed.
        """
        self._check_open()
        return await self._ask(self.engine.trim(), None)

    # -- for operators; see `Engine`

    async def info(self) -> Info:
        """What the storage is, and which settings of it decide what survives a crash."""
        self._check_open()
        return await self._ask(self.engine.info(), self.limits.answer_seconds)

    async def init(self) -> str:
        """Make what the log needs in its storage, if it is not there. Idempotent.

        Returns:
            what was done, in a sentence.
        """
        self._check_open()
        return await self._ask(self.engine.init(), None)

    async def scan(self, after: int, limit: int, *, epoch: str | None = None) -> Page:
        """As `read`, for all channels, internal ones too; what was lost is left out.

        Raises:
            EpochChanged: the log has another epoch than `epoch`.
        """
        self._check_open()
        page = await self._ask(self.engine.scan(max(after, 0), max(limit, 1)), self.limits.answer_seconds)
        if epoch is not None and page.epoch != epoch:
            raise EpochChanged(page.epoch)
        return page

    async def losses(self) -> Losses:
        """What the log knows of events that it has no more, of all channels."""
        self._check_open()
        return await self._ask(self.engine.losses(), None)

    async def restore(self, copied: Copied) -> None:
        """Store a part of another log at the offsets that it has there; `newswire.log.copy` does it for a whole log.

        Raises:
            LogError: this log has other events, or is in use.
        """
        self._check_open()
        await self._ask(self.engine.restore(copied), None)

    async def close(self) -> None:
        """Finish what was begun (appends that were accepted are stored), then free everything. Idempotent."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            self._flush()
        for tail in list(self._tails):
            tail.end()
        try:
            await self._ask(self.engine.close(), self.limits.answer_seconds)
        finally:
            for submission in list(self._pending):
                submission.fail(LogUncertain("the log was closed, and may have stored the batch"))
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def reopen(self) -> None:
        """Make a closed log usable again, in any event loop. It has what it kept when it was closed. Idempotent."""
        self._closed = False


class _Submission:
    """One call of `Engine.submit`, until it has its outcomes."""

    __slots__ = ("_batches", "_began", "_on_done", "_pending", "_seconds")

    def __init__(
        self, batches: Sequence[Batch], on_done: OnDone, pending: dict[_Submission, float], seconds: Histogram
    ) -> None:
        self._began = perf_counter()
        self._seconds = seconds
        self._batches = batches
        self._on_done: OnDone | None = on_done
        self._pending = pending

    @property
    def is_done(self) -> bool:
        """Whether it has its outcomes."""
        return self._on_done is None

    def done(self, outcomes: Sequence[Outcome], epoch: str) -> None:
        """Take the outcomes. What comes first counts: the deadline may have passed."""
        on_done, self._on_done = self._on_done, None
        if on_done is None:
            return
        self._seconds.observe(perf_counter() - self._began)
        if self._pending:
            self._pending.pop(self, None)
        if len(outcomes) != len(self._batches):
            outcomes = _wrong_number(outcomes, self._batches)
        try:
            on_done(outcomes, epoch)
        except Exception:  # the outermost frame of a callback: others of its group wait for theirs
            logger.exception("a callback for what was appended failed")

    def fail(self, error: LogError) -> None:
        """There was no answer."""
        self.done([error] * len(self._batches), "")


class _Answer:
    """What an engine answered last that calls back at once: read as soon as its `submit` returns."""

    __slots__ = ("epoch", "outcomes")

    def __init__(self) -> None:
        self.outcomes: Sequence[Outcome] = ()
        self.epoch = ""

    def done(self, outcomes: Sequence[Outcome], epoch: str) -> None:
        """See `OnDone`."""
        self.outcomes, self.epoch = outcomes, epoch


class _Joined:
    """Several submissions of one call, whose outcomes come together."""

    def __init__(self, count: int, on_done: OnDone) -> None:
        self._left = count
        self._parts: list[Sequence[Outcome]] = [()] * count
        self._on_done = on_done
        self._epoch = ""

    def done(self, number: int, outcomes: Sequence[Outcome], epoch: str) -> None:
        """One has its outcomes."""
        self._parts[number] = outcomes
        self._left -= 1
        if self._epoch and epoch and epoch != self._epoch:  # one call has one epoch
            changed = LogUncertain("the log began another life, and may have stored the batch")
            self._parts[number] = [changed if isinstance(outcome, int) else outcome for outcome in outcomes]
        self._epoch = self._epoch or epoch
        if self._left == 0:
            self._on_done([outcome for part in self._parts for outcome in part], self._epoch)


class _Tail:
    """One tail: stands between the engine and a callback that may raise.

    Attributes:
        failure: what the callback raised.
    """

    def __init__(self, log: Log, on_entries: OnEntries) -> None:
        self.failure: BaseException | None = None
        self.task: asyncio.Task[None]
        self._log = log
        self._on_entries: OnEntries | None = on_entries

    def take(self, entries: Sequence[Entry], last: bool) -> None:
        """See `OnEntries`."""
        on_entries = self._on_entries
        if on_entries is None:
            return
        try:
            on_entries(entries, last and not self._log._more)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the outermost frame of a callback: publishers and other tails go on
            self.failure = error
            self.end()

    def end(self) -> None:
        """Call back no more."""
        self._on_entries = None
        self.task.cancel()


class _TooSlow(Exception):
    """A follower has enough to do."""


def _enqueue(queue: deque[Sequence[Entry]], news: asyncio.Event, entries: Sequence[Entry], last: bool) -> None:
    if sum(map(len, queue)) > _FOLLOWED:
        raise _TooSlow
    queue.append(entries)
    news.set()


def _resolve(waiting: Sequence[asyncio.Future[tuple[Outcome, str]]], outcomes: Sequence[Outcome], epoch: str) -> None:
    for future, outcome in zip(waiting, outcomes, strict=True):
        if not future.done():
            future.set_result((outcome, epoch))


def _wrong_number(outcomes: Sequence[Outcome], batches: Sequence[Batch]) -> list[Outcome]:
    return [LogError(f"the log gave {len(outcomes)} outcomes for {len(batches)} batches")] * len(batches)


def _own(error: LogError) -> LogError:
    """A copy to raise: a raised exception keeps where it was raised, and several publishers may have got one."""
    one = copy.copy(error)
    one.__cause__ = error.__cause__
    return one


def as_log_error(error: Exception) -> LogError:
    """What an engine raised, as an outcome: an error that is none of ours is the `__cause__` of one that is."""
    if isinstance(error, LogError):
        return error
    failed = LogError(f"the log failed: {str(error) if isinstance(error, NewswireError) else repr(error)}")
    failed.__cause__ = error
    return failed


def _as_unavailable(error: BaseException, *, closed: bool) -> BaseException:
    """What an engine raised, as an error of ours."""
    if isinstance(error, LogError) or (closed and isinstance(error, Closed)):
        return error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return error if task is None or task.cancelling() else LogUnavailable("the log gave up")
    return LogUnavailable(f"the log failed: {type(error).__name__}: {error}")
