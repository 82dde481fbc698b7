"""The log as applications call it, derived once from what any engine does: `newswire.log.engine`.

An engine stores, reads and calls back. Here is what all have in common: batches are checked, those of one pass of the
event loop are gathered, calls have deadlines, and whatever an engine raises becomes an error of ours. A waiting call is
the call that calls back, and waiting. Nothing here knows where an engine keeps its events. The file is one class: what
its calls promise is most of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, TypeVar

from newswire.deadline import Deadline
from newswire.errors import Closed, EpochChanged, LogError, LogUnavailable
from newswire.log.arguments import BatchCheck, check_names, check_page
from newswire.log.channels import Channels
from newswire.log.engine import (
    Batch,
    Condition,
    Copied,
    Engine,
    EngineLimits,
    Entry,
    Info,
    Losses,
    OnDone,
    OnEntries,
    Outcome,
    Page,
    Span,
)
from newswire.log.failures import as_log_error, as_unavailable
from newswire.log.follower import Follower
from newswire.log.histogram import LOG_BOUNDS, Histogram
from newswire.log.position import Position, check_offset
from newswire.log.submissions import Submissions, as_outcomes, stored_as, why_not
from newswire.validate import check_kind, check_list, check_plain, shown
from newswire.wire.event import Event

logger: logging.Logger = logging.getLogger("newswire.log")

T = TypeVar("T")

_TAIL_SECONDS: Final = 1.0  # how long a tail that was cancelled may take to end, before it is left alone


class Log:
    """The events of all channels, stored in one order. Use it from one event loop at a time.

    A log opens itself at the first call that needs it. All methods raise `LogUnavailable` when the storage can't be
    used now, `LogCorrupt` when it is damaged, `Closed` after `close`. Arguments of another kind are a `TypeError` or a
    `ValueError`, and change nothing.

    Args:
        engine: what stores the events.

    Attributes:
        engine: the same.
        limits: the largest events and batches that it can store.
        append_seconds: how long the engine took to store batches; empty for the log in memory, which answers at once.
        read_seconds: how long reading a page took.
        append_one: as `append`, for one event without a token: `await log.append_one(channel, event)` is its position.
        on_answer: each is called with the error whenever nothing was stored of what was appended, and with None when
            something is stored after that.
    """

    def __init__(self, engine: Engine) -> None:
        if not isinstance(engine, Engine):
            raise TypeError(f"Log takes an engine, not {shown(engine)}: open_log makes a log from a URL")
        self.engine = engine
        self.append_seconds: Histogram = Histogram(LOG_BOUNDS)
        self.read_seconds: Histogram = Histogram(LOG_BOUNDS)
        self.limits: EngineLimits = engine.limits
        self.on_answer: list[Callable[[LogError | None], object]] = []
        self._closed = False
        check = BatchCheck(engine.limits, engine.known)
        self._check = check.check
        self._check_copied = check.check_copied
        self._submissions = Submissions(engine, check, self.append_seconds, self._answered)
        self._tails: set[_Tail] = set()
        self._failed = False  # nothing was stored by what was appended last
        self._more = False  # whether more may be appended in this pass of the event loop
        self._answer = _Answer()  # of an engine that calls back at once
        self._take_answer = self._answer.done
        self._immediate = engine.immediate
        self.append_one: Callable[[str, Event], Awaitable[Position]] = (
            self._submissions.append_one if engine.atomic else self._append_one
        )

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
            LogUnavailable, LogCorrupt, LogError: the log can't store it, now or at all; nothing was stored.
            LogUncertain: the batch may be stored, or may not.
            TokenReused: the token is of a batch of another length; nothing was stored.
            ValueError: the token is empty or too long.
            Closed: the log was closed.
        """
        # Without a condition there are positions. One coroutine less is a tenth of the price of the log in memory.
        return self._append(Batch(events, None, token))  # type: ignore[return-value]

    async def append_if(
        self, events: Sequence[tuple[str, Event]], condition: Condition, *, token: str | None = None
    ) -> list[Position] | None:
        """As `append`, but only if `condition` holds in the moment of storing.

        Returns:
            the events' positions; None if the condition does not hold, and nothing was stored.
        """
        check_kind("condition", condition, Condition)
        return await self._append(Batch(events, condition, token))

    async def _append_one(self, channel: str, event: Event) -> Position:
        batch = Batch([(channel, event)])
        stored = self._append_now(batch) if self._immediate else await self._submissions.append(batch)
        return stored[0]  # type: ignore[index]  # it has no condition

    async def _append(self, batch: Batch) -> list[Position] | None:
        if self._immediate:
            return self._append_now(batch)
        return await self._submissions.append(batch)

    def _append_now(self, batch: Batch) -> list[Position] | None:
        if self._closed:
            raise Closed("the log is closed")
        self._check(batch)
        if not batch.events:
            return []
        self._more = True
        outcomes, epoch = self._submit_now([batch])
        self._more = False
        return stored_as(batch, outcomes[0], epoch)

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """Store batches without waiting; see `Engine.submit`, and `append` for what it raises: then nothing of any
        batch is stored, and `on_done` is not called."""
        if self._closed:
            raise Closed("the log is closed")
        check_list("batches", batches)
        if not callable(on_done):
            raise TypeError(f"on_done is a function that is called with the outcomes, not {shown(on_done)}")
        for batch in batches:
            if type(batch) is not Batch:
                check_kind("batch", batch, Batch)
            self._check(batch)
            if not batch.events:
                raise ValueError("a batch has at least one event")
        if not batches:
            on_done([], "")
        elif self._immediate:
            outcomes, epoch = self._submit_now(batches)
            try:
                on_done(outcomes, epoch)
            except Exception:  # the outermost frame of a callback, as where it is called later
                logger.exception("a callback for what was appended failed")
        else:
            self._submissions.submit(batches, on_done)

    def _submit_now(self, batches: Sequence[Batch]) -> tuple[Sequence[Outcome], str]:
        """Submit to an engine that calls back before it returns."""
        answer = self._answer
        answer.done((), "")
        try:
            self.engine.submit(batches, self._take_answer)
        except Exception as error:  # whatever an engine raises: it has stored nothing
            answer.done([as_log_error(error)] * len(batches), "")
        outcomes = answer.outcomes
        if len(batches) > 1 or len(outcomes) != 1 or type(outcomes[0]) is not int:
            answer.outcomes = as_outcomes(outcomes, batches)
        if self._failed or type(answer.outcomes[-1]) is not int:
            self._answered(answer.outcomes)
        return answer.outcomes, answer.epoch

    def _answered(self, outcomes: Sequence[Outcome]) -> None:
        error = None if type(outcomes[-1]) is int else why_not(outcomes)
        if self._failed or error is not None:
            self._failed = error is not None
            for call in self.on_answer:
                call(error)

    def check(self, events: Sequence[tuple[str, Event]]) -> Sequence[int]:
        """Weigh the data of each event, and raise what `append` would raise for them as one batch."""
        batch = Batch(events)
        self._check(batch)
        return batch.sizes

    async def _ask(self, call: Awaitable[T], seconds: float | None) -> T:
        """Await an engine's call."""
        deadline = Deadline(seconds)
        try:
            async with deadline:
                return await call
        except (Exception, asyncio.CancelledError) as error:
            if deadline.expired():
                raise LogUnavailable(f"the log has not answered for {seconds:g} s") from error
            explained = as_unavailable(error, closed=self._closed)
            if explained is error:
                raise
            raise explained from error

    # -- read

    async def read(self, channels: Channels, after: int, limit: int, *, epoch: str | None = None) -> Page:
        """Read the kept events of these channels after offset `after`: the earliest of them.

        A page may end early; see `Page.through`.

        Args:
            channels: whose events.
            after: an offset; 0 for the beginning.
            limit: how many at most; less than 1 counts as 1.
            epoch: the one that `after` is a place in; None: `Page.epoch` says which one it was read in.

        Raises:
            EpochChanged: the log has another epoch now.
            LogUnavailable, LogCorrupt: it can't be read, or gives no answer within `limits.answer_seconds`.
            Closed: the log was closed.
        """
        self._check_open()
        check_kind("channels", channels, Channels)
        limit = check_page(after, limit, epoch)
        began = perf_counter()
        page = await self._ask(self.engine.read(channels, after, limit), self.limits.answer_seconds)
        self.read_seconds.observe(perf_counter() - began)
        if epoch is not None and page.epoch != epoch:
            raise EpochChanged(page.epoch)
        return page

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """The newest kept event of each channel; None where there is none."""
        self._check_open()
        check_list("channels", channels)
        channels = list(channels)
        check_names(channels)
        return await self._ask(self.engine.newest(channels), self.limits.answer_seconds)

    async def lost(self, channel: str) -> int:
        """The offset of the newest event of a channel that the log has removed by itself; 0 if it has removed none.

        Where nothing is kept it is what `append_if` takes as the newest event.
        """
        return (await self.read(Channels([channel]), 0, 1)).lost

    def stored(self, epoch: str) -> int:
        """The offset of the newest event that was stored through this object, in this epoch, and has been answered for.

        0 if there is none, and for a log that gives what it stores to its followers before it answers.
        """
        submissions = self._submissions
        return submissions.stored if submissions.epoch == epoch else 0

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
        check_offset("after", after)
        check_kind("epoch", epoch, str)
        if not callable(on_entries):
            raise TypeError(f"on_entries is a function that is called with new entries, not {shown(on_entries)}")
        check_plain("on_entries", on_entries)
        if channels is not None:
            check_kind("channels", channels, Channels)
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
        raise as_unavailable(error or LogUnavailable("the log's tail ended"), closed=False) from error

    def follow(self, after: int | None = None) -> Follower:
        """Iterate over everything appended after `after` (None: after now), by whomever, in order, without holes.

        The iterator waits when it has caught up. "Now" is the call of its first `__anext__`. It ends when the log is
        closed; closing it (`aclose`) frees what it holds. An offset that is left out belongs to no event. Cancelling
        loses nothing: call it again.

        Raises:
            EpochChanged, TrimmedAway: see `tail`.
        """
        if after is not None:
            check_offset("after", after)
        return Follower(self, after)

    # -- the rest

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """Remove the events of each channel up to an offset, whatever retention says; see `Engine.drop`.

        Returns:
            how many events were removed.
        """
        self._check_open()
        check_kind("cuts", cuts, Mapping)
        check_names(cuts)
        for offset in cuts.values():
            check_offset("the end of a cut", offset)
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
        limit = check_page(after, limit, epoch)
        page = await self._ask(self.engine.scan(max(after, 0), limit), self.limits.answer_seconds)
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
            TypeError, ValueError: an entry is none, or they are not in order; nothing was stored.
        """
        self._check_open()
        self._check_copied(copied)
        await self._ask(self.engine.restore(copied), None)

    async def close(self) -> None:
        """Finish what was begun (appends that were accepted are stored), then free everything. Idempotent."""
        self._closed = self._submissions.closed = True
        self._submissions.flush_here()
        for tail in list(self._tails):
            tail.end()
        try:
            await self._ask(self.engine.close(), self.limits.answer_seconds)
        finally:
            self._submissions.close()

    def reopen(self) -> None:
        """Make a closed log usable again, in any event loop. It has what it kept when it was closed. Idempotent."""
        self._closed = self._submissions.closed = False


class _Answer:
    """What an engine answered last that calls back at once: read as soon as its `submit` returns."""

    __slots__ = ("epoch", "outcomes")

    def __init__(self) -> None:
        self.outcomes: Sequence[Outcome] = ()
        self.epoch = ""

    def done(self, outcomes: Sequence[Outcome], epoch: str) -> None:
        """See `OnDone`."""
        self.outcomes, self.epoch = outcomes, epoch


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
