"""Batches on their way to the server, until they have their outcomes, in the order in which they were submitted."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence

from newswire.errors import LogUncertain
from newswire.log.engine import Batch, OnDone, Outcome
from newswire.log.nats.stream import NatsStream
from newswire.log.server import HINT


class _Submission:
    """One call of `submit`."""

    __slots__ = ("epoch", "left", "on_done", "outcomes")

    def __init__(self, count: int, on_done: OnDone) -> None:
        self.on_done: OnDone = on_done
        self.outcomes: list[Outcome] = [None] * count
        self.left: int = count
        self.epoch: str = ""  # that its offsets are places in


class Unit:
    """One batch, until it has its outcome."""

    __slots__ = (
        "attempts",
        "batch",
        "epoch",
        "expected",
        "id",
        "index",
        "number",
        "resent",
        "sent",
        "single",
        "submission",
    )

    def __init__(self, batch: Batch, submission: _Submission, index: int, epoch: str) -> None:
        self.batch: Batch = batch
        self.submission: _Submission = submission
        self.index: int = index
        self.epoch: str = epoch  # that its condition is about
        self.single: bool = len(batch.sizes) == 1 and batch.condition is None
        self.expected: int | None = None if batch.condition is None else batch.condition.newest
        self.id: str | None = None if batch.token is None else _id_of(batch.token)
        self.attempts: int = 0
        self.number: int = 0  # in the order of sending
        self.sent: float = 0.0  # when it was first
        self.resent: bool = False  # an answer was lost

    def is_stale(self, stream: NatsStream) -> bool:
        """Whether a condition is about an event that was lost when the log began another life."""
        condition = self.batch.condition
        return condition is not None and condition.is_lost(stream.lives, self.epoch)


class Outcomes:
    """Tells those who submitted."""

    def __init__(self, stream: NatsStream) -> None:
        self._stream = stream
        self._submissions: deque[_Submission] = deque()

    def expect(self, batches: Sequence[Batch], on_done: OnDone) -> list[Unit]:
        """One call of `Engine.submit`."""
        submission = _Submission(len(batches), on_done)
        self._submissions.append(submission)
        return [Unit(batch, submission, index, self._stream.epoch) for index, batch in enumerate(batches)]

    def settle(self, unit: Unit, outcome: Outcome, epoch: str = "") -> None:
        """A batch has its outcome, in this epoch."""
        submission = unit.submission
        if epoch:
            if submission.epoch and epoch != submission.epoch:
                self._carry(submission)
            submission.epoch = epoch
        submission.outcomes[unit.index] = outcome
        submission.left -= 1
        submissions = self._submissions
        while submissions and submissions[0].left == 0:
            done = submissions.popleft()
            done.on_done(done.outcomes, done.epoch)

    def _carry(self, submission: _Submission) -> None:
        """The log began another life within one call, which has one epoch."""
        lives = self._stream.lives
        for index, outcome in enumerate(submission.outcomes):
            if isinstance(outcome, int) and lives is not None and lives.lost(submission.epoch, outcome):
                submission.outcomes[index] = LogUncertain(f"the log began another life; {HINT}")


def _id_of(token: str) -> str:
    return hashlib.blake2b(token.encode(), digest_size=16).hexdigest()
