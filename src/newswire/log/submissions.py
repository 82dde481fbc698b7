"""Batches on their way to an engine: checked, then those of one pass of the event loop together, in bounded groups.

Checking is for all engines. Gathering, and a deadline for the answer, are for engines that answer later. One that calls
back before its `submit` returns goes to `Log` itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Sequence
from functools import partial
from time import perf_counter
from typing import Final

from newswire.errors import InvalidEvent, LimitExceeded, LogError, LogUncertain
from newswire.log.channels import check_channel
from newswire.log.engine import Batch, Engine, Limits, OnDone, Outcome
from newswire.log.failures import as_log_error
from newswire.log.histogram import Histogram

_NAMES_KNOWN: Final = 100_000  # channel names whose check is remembered
_TOKEN_CHARACTERS: Final = 256


class BatchCheck:
    """Checks batches.

    Args:
        limits: the engine's.
        known: names of channels that need no other check; None: those that were checked are remembered here.
    """

    def __init__(self, limits: Limits, known: Container[str] | None) -> None:
        self._limits = limits
        self._checked: set[str] = set()
        self._known: Container[str] = self._checked if known is None else known
        # Whether an event that may be stored may be stored alone.
        self._alone = limits.batch_bytes is None or limits.batch_bytes >= limits.event_bytes

    def check(self, batch: Batch) -> None:
        """Raise what `Log.append` raises for it; else set `Batch.sizes` and `Batch.size`."""
        most, known, nul = self._limits.event_bytes, self._known, self._limits.nul
        sizes, size = [], 0
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
            if not nul and "\0" in data:
                raise InvalidEvent("data", "this log can't store the character NUL: publish without it")
            size = len(data) if data.isascii() else len(data.encode())
            if size > most:
                hint = "store it elsewhere and publish where it is"
                raise LimitExceeded("an event's size in bytes", limit=most, actual=size, hint=hint)
            sizes.append(size)
        batch.sizes, batch.size = sizes, size
        if len(sizes) > 1 or not self._alone or batch.token is not None:
            batch.size = sum(sizes)
            self._check_whole(batch)

    def _check_whole(self, batch: Batch) -> None:
        limits, sizes = self._limits, batch.sizes
        if limits.batch_events is not None and len(sizes) > limits.batch_events:
            raise LimitExceeded("the number of events in a batch", limit=limits.batch_events, actual=len(sizes))
        if limits.batch_bytes is not None and batch.size > limits.batch_bytes:
            raise LimitExceeded("a batch's size in bytes", limit=limits.batch_bytes, actual=batch.size)
        if batch.token is not None and not 0 < len(batch.token) <= _TOKEN_CHARACTERS:
            raise ValueError(f"a token has 1 to {_TOKEN_CHARACTERS} characters, not {len(batch.token)}")


logger: logging.Logger = logging.getLogger("newswire.log")


class Submissions:
    """All of a log's.

    Args:
        seconds: counts how long the engine took, from being given batches to its answer.

    Attributes:
        epoch, stored: the newest epoch that an answer was from, and the offset of the newest event stored in it.
    """

    def __init__(self, engine: Engine, seconds: Histogram) -> None:
        self.epoch: str = ""
        self.stored: int = 0
        self._engine = engine
        self._limits = engine.limits
        self._part_events = min(engine.limits.part_events, engine.limits.group_events)
        self._seconds = seconds
        self._gathered: list[tuple[Batch, asyncio.Future[tuple[Outcome, str]]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will submit what was gathered
        self._pending: dict[_Submission, float] = {}  # and when its answer is overdue
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        if len(groups := self._groups(batches, self._limits.group_events)) == 1:
            self._send(batches, on_done)
            return
        joined = _Joined(len(groups), on_done)
        for number, group in enumerate(groups):
            self._send(group, partial(joined.done, number))

    def gather(self, batch: Batch) -> asyncio.Future[tuple[Outcome, str]]:
        """Submit a batch with all that come in this pass of the event loop."""
        loop = self._loop
        if not self._gathered or loop is None or not loop.is_running():
            loop = asyncio.get_running_loop()
            self._gathered = []  # of a loop that was closed
            self._loop = loop
            loop.call_soon(self._flush)
        stored: asyncio.Future[tuple[Outcome, str]] = loop.create_future()
        self._gathered.append((batch, stored))
        return stored

    def flush_here(self) -> None:
        """Submit now what was gathered in this event loop."""
        if self._loop is asyncio.get_running_loop():
            self._flush()

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        at = 0
        for group in self._groups([batch for batch, _ in gathered], self._part_events) if gathered else ():
            waiting = [stored for _, stored in gathered[at : at + len(group)]]
            at += len(group)
            self._send(group, partial(_resolve, waiting))

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
            if self._timer is None or len(self._pending) == 1:
                self._watch(loop, self._limits.answer_seconds)

    def answered(self, submission: _Submission, seconds: float, last: int, epoch: str) -> None:
        """The engine has answered.

        Args:
            seconds: that it took.
            last: the offset of the newest event that it has stored; 0: none.
            epoch: in which it did.
        """
        self._seconds.observe(seconds)
        if self._pending:
            self._pending.pop(submission, None)
        if last and (last > self.stored or epoch != self.epoch):
            self.epoch, self.stored = epoch, last

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
                    f"the log has not answered for {self._limits.answer_seconds:g} s, and may have stored the batch: "
                    "publish it again under the same token, or look"
                )
            )


class _Submission:
    """One call of `Engine.submit`, until it has its outcomes."""

    __slots__ = ("_batches", "_began", "_on_done", "_owner")

    def __init__(self, batches: Sequence[Batch], on_done: OnDone, owner: Submissions) -> None:
        self._began = perf_counter()
        self._batches = batches
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
        if len(outcomes) != len(self._batches):
            outcomes = wrong_number(outcomes, self._batches)
        self._owner.answered(self, perf_counter() - self._began, _last(self._batches, outcomes), epoch)
        try:
            on_done(outcomes, epoch)
        except Exception:  # the outermost frame of a callback: others of its group wait for theirs
            logger.exception("a callback for what was appended failed")

    def fail(self, error: LogError) -> None:
        """There was no answer."""
        self.done([error] * len(self._batches), "")


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


def _resolve(waiting: Sequence[asyncio.Future[tuple[Outcome, str]]], outcomes: Sequence[Outcome], epoch: str) -> None:
    for future, outcome in zip(waiting, outcomes, strict=True):
        if not future.done():
            future.set_result((outcome, epoch))


def wrong_number(outcomes: Sequence[Outcome], batches: Sequence[Batch]) -> list[Outcome]:
    """The outcomes of an engine that gave too many or too few."""
    return [LogError(f"the log gave {len(outcomes)} outcomes for {len(batches)} batches")] * len(batches)
