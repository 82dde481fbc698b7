"""Batches on their way to an engine: checked, then those of one pass of the event loop together, in bounded groups.

Gathering, and a deadline for the answer, are for engines that answer later. One that calls back before its `submit`
returns goes to `Log` itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final, TypeAlias

from newswire.deadline import Timer
from newswire.errors import Closed, LogError, LogUncertain
from newswire.log.arguments import BatchCheck
from newswire.log.engine import (
    Batch,
    Engine,
    EngineLimits,
    Known,
    OnDone,
    Outcome,
)
from newswire.log.failures import as_log_error, own_copy
from newswire.log.histogram import Histogram
from newswire.log.position import KnownPosition, Position, positions
from newswire.validate import shown
from newswire.wire.event import Event

logger: logging.Logger = logging.getLogger("newswire.log")

_INT: Final = frozenset({int})
_SMALL: Final = 65_536  # bytes: a larger single event is a batch of its own


class _Singles(Batch):
    """Single events of several publishers.

    Attributes:
        loop: the event loop that they come in.
        room: how many more may join.
        waiting: a future for each.
    """

    __slots__ = ("loop", "room", "waiting")

    events: list[tuple[str, Event]]
    sizes: list[int]

    def __init__(self, loop: asyncio.AbstractEventLoop, room: int) -> None:
        super().__init__([])
        self.sizes = []
        self.loop: asyncio.AbstractEventLoop = loop
        self.room: int = room
        self.waiting: list[asyncio.Future[Position]] = []


# The future of a batch, or those of single events.
_Waiting: TypeAlias = "asyncio.Future[list[Position] | None] | list[asyncio.Future[Position]]"


class Submissions:
    """All of a log's.

    Args:
        engine: where they go.
        check: raises for what can't be stored.
        seconds: counts how long the engine took, from being given batches to its answer.
        on_answer: gets the outcomes of each answer.

    Attributes:
        closed: whether the log is.
        epoch, stored: the newest epoch that an answer was from, and the offset of the newest event stored in it.
    """

    def __init__(
        self,
        engine: Engine,
        check: BatchCheck,
        seconds: Histogram,
        on_answer: Callable[[Sequence[Outcome]], object],
    ) -> None:
        self.closed: bool = False
        self.epoch: str = ""
        self.stored: int = 0
        self._engine = engine
        self._limits = engine.limits
        self._most_singles = _most_singles(engine.limits)
        self._check = check.check
        self._check_event = check.check_event
        self._seconds = seconds
        self._on_answer = on_answer
        self._gathered: list[Batch] = []
        self._waiting: list[_Waiting] = []  # for what was gathered
        self._singles: _Singles | None = None  # the last of what was gathered, if more single events may join it
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will submit what was gathered
        self._pending: dict[_Submission, float] = {}  # and when its answer is overdue
        self._timer: Timer | None = None
        self._timed: asyncio.AbstractEventLoop | None = None  # the event loop of the timer

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        if len(groups := self._groups(batches, self._limits.group_events)) == 1:
            self._send(batches, on_done)
            return
        joined = _Joined(len(groups), on_done)
        for number, group in enumerate(groups):
            self._send(group, partial(joined.done, number))

    def append(self, batch: Batch) -> asyncio.Future[list[Position] | None]:
        """Check a batch, and submit it with all that come in this pass of the event loop.

        Returns:
            the future of what `Log.append_if` returns, or raises if the engine could not store it.
        """
        if self.closed:
            raise Closed("the log is closed")
        given = batch.events
        self._check(batch)
        stored: asyncio.Future[list[Position] | None] = asyncio.get_running_loop().create_future()
        if batch.events:
            if batch.events is given:
                batch.events = list(given)  # the caller's may change meanwhile
            self._gather(batch, stored)
            self._singles = None  # what comes after it is stored after it
        else:
            stored.set_result([])
        return stored

    def append_one(self, channel: str, event: Event) -> asyncio.Future[Position]:
        """As `append`, for an event alone. Those that come one after the other are one batch: see `Engine.atomic`."""
        size = self._check_event(channel, event)
        singles = self._singles
        if singles is None or size > _SMALL or not singles.loop.is_running():
            singles = self._begin_singles(channel, event, size)
        stored: asyncio.Future[Position] = singles.loop.create_future()
        singles.events.append((channel, event))
        singles.sizes.append(size)
        singles.waiting.append(stored)
        singles.room -= 1
        if not singles.room:
            self._singles = None
        return stored

    def _begin_singles(self, channel: str, event: Event, size: int) -> _Singles:
        if self.closed:
            raise Closed("the log is closed")
        room = min(self._engine.part_events, self._most_singles)
        if size > _SMALL:
            self._check(Batch([(channel, event)]))
            room = 1
        singles = self._singles = _Singles(asyncio.get_running_loop(), room)
        self._gather(singles, singles.waiting)
        return singles

    def _gather(self, batch: Batch, waiting: _Waiting) -> None:
        loop = self._loop
        if not self._gathered or loop is None or not loop.is_running():
            loop = asyncio.get_running_loop()
            self._gathered, self._waiting = [], []  # of a loop that was closed
            self._loop = loop
            loop.call_soon(self._flush)
        self._gathered.append(batch)
        self._waiting.append(waiting)

    def flush_here(self) -> None:
        """Submit now what was gathered in this event loop."""
        if self._loop is asyncio.get_running_loop():
            self._flush()

    def _flush(self) -> None:
        if not self._gathered:
            return
        gathered, self._gathered = self._gathered, []
        waiting, self._waiting = self._waiting, []
        self._singles = None
        for batch in gathered:
            if type(batch) is _Singles:
                batch.size = sum(batch.sizes)
        at = 0
        for group in self._groups(gathered, self._engine.part_events):
            self._send(group, partial(_resolve, group, waiting[at : at + len(group)]))
            at += len(group)

    def close(self) -> None:
        """The engine is closed: what has no answer gets none."""
        for submission in list(self._pending):
            submission.fail(LogUncertain("the log was closed, and may have stored the batch"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _groups(self, batches: Sequence[Batch], most: int) -> list[Sequence[Batch]]:
        """What goes to the engine in one call: bounded, so that the first does not wait long for the last."""
        if len(batches) == 1:
            return [batches]
        limits = self._limits
        begin = events = size = 0
        groups: list[Sequence[Batch]] = []
        for index, batch in enumerate(batches):
            events += len(batch.sizes)
            size += batch.size
            if index > begin and (events > most or size > limits.group_bytes):
                groups.append(batches[begin:index])
                begin, events, size = index, len(batch.sizes), batch.size
        return [*groups, batches[begin:]]

    def _send(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        submission = _Submission(batches, on_done, self)
        try:
            self._engine.submit(batches, submission.done)
        except Exception as error:  # whatever an engine raises: it has stored nothing
            submission.done([as_log_error(error)] * len(batches), "")
        if not submission.is_done and self._limits.answer_seconds is not None:
            loop = asyncio.get_running_loop()
            self._pending[submission] = loop.time() + self._limits.answer_seconds
            if self._timer is None or self._timed is not loop:
                self._watch(loop, self._limits.answer_seconds)

    def answered(self, submission: _Submission, outcomes: Sequence[Outcome], epoch: str) -> None:
        """The engine has answered."""
        self._seconds.observe(perf_counter() - submission.began)
        self._on_answer(outcomes)
        last = _last(submission.batches, outcomes)
        if self._pending:
            self._pending.pop(submission, None)
        if last and (last > self.stored or epoch != self.epoch):
            self.epoch, self.stored = epoch, last

    # -- deadlines: one timer for all, which goes on when all were answered: the next would need it again

    def _watch(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timed = Timer(loop, seconds, self._end_overdue, loop), loop

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
                    f"the log has not answered for {self._limits.answer_seconds:g} s, and may have stored the batch: "
                    "publish it again under the same token, or look"
                )
            )


class _Submission:
    """One call of `Engine.submit`, until it has its outcomes.

    Attributes:
        batches: what was submitted.
        began: when.
    """

    __slots__ = ("_on_done", "_owner", "batches", "began")

    def __init__(self, batches: Sequence[Batch], on_done: OnDone, owner: Submissions) -> None:
        self.began: float = perf_counter()
        self.batches: Sequence[Batch] = batches
        self._on_done: OnDone | None = on_done
        self._owner = owner

    @property
    def is_done(self) -> bool:
        """Whether it has its outcomes."""
        return self._on_done is None

    def done(self, outcomes: Sequence[Outcome], epoch: str) -> None:
        """Take the outcomes. What comes first counts: the deadline may have passed."""
        on_done, self._on_done = self._on_done, None
        if on_done is None:
            return
        outcomes = as_outcomes(outcomes, self.batches)
        self._owner.answered(self, outcomes, epoch)
        try:
            on_done(outcomes, epoch)
        except Exception:  # the outermost frame of a callback: others of its group wait for theirs
            logger.exception("a callback for what was appended failed")

    def fail(self, error: LogError) -> None:
        """There was no answer."""
        self.done([error] * len(self.batches), "")


def _last(batches: Sequence[Batch], outcomes: Sequence[Outcome]) -> int:
    """The offset of the newest event that was stored; 0: none was. Offsets grow from batch to batch."""
    for index in range(len(outcomes) - 1, -1, -1):
        if type(first := outcomes[index]) is int:
            return first + len(batches[index].sizes) - 1
    return 0


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


def stored_as(batch: Batch, outcome: Outcome, epoch: str) -> list[Position] | None:
    """What became of a batch, as `Log.append_if` returns or raises it."""
    if isinstance(outcome, int):
        kind = KnownPosition if batch.token is not None and type(outcome) is Known else Position
        return positions(epoch, outcome, len(batch.sizes), kind)
    if outcome is None and batch.condition is not None:
        return None
    raise own_copy(outcome or _refused())


def _resolve(batches: Sequence[Batch], waiting: Sequence[_Waiting], outcomes: Sequence[Outcome], epoch: str) -> None:
    for batch, stored, outcome in zip(batches, waiting, outcomes, strict=True):
        if isinstance(stored, list):
            _resolve_singles(stored, outcome, epoch)
        elif not stored.done():
            try:
                stored.set_result(stored_as(batch, outcome, epoch))
            except LogError as error:
                stored.set_exception(error)


def _resolve_singles(waiting: list[asyncio.Future[Position]], outcome: Outcome, epoch: str) -> None:
    if isinstance(outcome, int):
        new = str.__new__  # as `positions` does
        for offset, stored in enumerate(waiting, outcome):
            if not stored.done():
                stored.set_result(new(Position, f"{epoch}-{offset}"))
        return
    error = outcome or _refused()
    for stored in waiting:
        if not stored.done():
            stored.set_exception(own_copy(error))


def _refused() -> LogError:
    return LogError("the log refused a batch that has no condition")


def why_not(outcomes: Sequence[Outcome]) -> LogError | None:
    """The first error, if nothing was stored."""
    if any(isinstance(outcome, int) for outcome in outcomes):
        return None
    return next((outcome for outcome in outcomes if isinstance(outcome, LogError)), None)


def _most_singles(limits: EngineLimits) -> int:
    """How many single events may be one batch, so that it can be stored."""
    most = limits.batch_events or limits.group_events
    return most if limits.batch_bytes is None else min(most, max(limits.batch_bytes // _SMALL, 1))


def as_outcomes(outcomes: Sequence[object], batches: Sequence[Batch]) -> Sequence[Outcome]:
    """What an engine gave as outcomes, with errors of ours in place of what is none: another exception, say."""
    if len(outcomes) != len(batches):
        return [LogError(f"the log gave {len(outcomes)} outcomes for {len(batches)} batches")] * len(batches)
    if _INT.issuperset(map(type, outcomes)):  # nearly always; runs in C
        return outcomes  # type: ignore[return-value]
    return [
        outcome
        if outcome is None or isinstance(outcome, (int, LogError))
        else as_log_error(outcome)
        if isinstance(outcome, Exception)
        else LogError(f"the log gave an outcome that is none: {shown(outcome)}")
        for outcome in outcomes
    ]
