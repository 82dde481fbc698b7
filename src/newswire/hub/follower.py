"""The hub's one reader of the log's end: every event that any process appends, in order and once; and the log's state.

It survives whatever the log does. Each attempt to follow begins after the newest event that the hub has, and may end
by any exception; then the next one follows after a wait, and what was appended meanwhile comes with it. A log that was
put back may be another one, or an older copy: then the hub begins again. `docs/explain/following-the-log.md`
explains why. This module knows no window, groups or streams.

An engine may wait for its server in silence, and a log without publishers may be wiped without a sign. So the hub
itself looks where the log is, every two seconds, on any engine (`LogMonitor`). What this finds is the state that
operators see; whatever changes it is logged once, also if several parts of the hub suffer from it
(`newswire.log.retry.Outage`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

from newswire.errors import EpochChanged, LogError, LogUnavailable, LogUncertain, TrimmedAway
from newswire.hub.stats import LogState
from newswire.log.engine import Entry, Span
from newswire.log.log import Log
from newswire.log.retry import Outage, Retry, SupervisedTask

# A log that has failed counts as back when it was followed for as long as was waited before, and at most so long.
_PROBATION: Final = 1.0  # seconds
_LIFE_SECONDS: Final = 2.0  # how long a stream waits for the hub to take in another life of the log; then it is refused
_LOOK_SECONDS: Final = 0.02  # between two looks at whether it has


class Receiver(Protocol):
    """What gets the events.

    Attributes:
        epoch: of the log that it has events of.
        head: the offset of the newest event that it has.
    """

    @property
    def epoch(self) -> str: ...

    @property
    def head(self) -> int: ...

    def take(self, entries: Sequence[Entry], whole: bool) -> None:
        """Take the next entries; see `newswire.log.engine.OnEntries`."""
        ...

    def lose_track(self) -> None:
        """Taking some entries failed midway; those that were taken are in the window."""
        ...

    def skip_to(self, latest: int) -> None:
        """Go on after `latest`: retention removed events before they came here."""
        ...

    def begin_again(self, span: Span) -> None:
        """The log is another one, or an older copy, and spans this."""
        ...


class LogFollower:
    """Follows a log for a receiver, from `begin` on, until it is closed.

    A process that only publishes needs nothing of what others publish: nothing is followed before somebody asks for it.

    Args:
        log: the log.
        receiver: gets its events from its `head` on.
        outage: gets each failure.

    Attributes:
        begun: the log is followed.
    """

    def __init__(self, log: Log, receiver: Receiver, outage: Outage) -> None:
        self.begun: bool = False
        self._log = log
        self._receiver = receiver
        self._placed = False  # the receiver has what it needs up to its head
        self._tried = asyncio.Event()
        self._retry = Retry()
        self._task = SupervisedTask(self._follow, outage, retry=self._retry, on_failure=lambda _: self._tried.set())

    async def begin(self) -> None:
        """Follow the log from its newest event on, if it is not followed yet. Waits until it is, or has failed."""
        if not self.begun:
            self.begun = True
            self._task.start()
        await self._tried.wait()

    def start(self) -> None:
        """Follow the log from the receiver's head on, if it is not followed yet. Waits for nothing."""
        if not self.begun:
            self.begun = self._placed = True
            self._tried.set()
            self._task.start()

    @property
    def failure(self) -> BaseException | None:
        """Why nothing comes from the log now; None while all is well."""
        return self._task.failure

    async def settle(self) -> None:
        """As `check`, but begin if nothing is followed yet, and take in another life of the log. Both take a moment.

        Raises:
            LogUnavailable: no events come now.
        """
        await self.begin()
        if self._task.failure is None:
            return
        loop = asyncio.get_running_loop()
        patience = loop.time() + _LIFE_SECONDS
        while isinstance(self._task.failure, EpochChanged) and loop.time() < patience:  # noqa: ASYNC110  rare
            await asyncio.sleep(_LOOK_SECONDS)
        self.check()

    def check(self) -> None:
        """See that events come.

        Raises:
            LogUnavailable: they don't, now.
        """
        if self._task.failure is not None:
            raise LogUnavailable(f"the log can't be followed now: {self._task.failure}") from self._task.failure

    def restart(self, error: Exception) -> None:
        """Follow again, and look whether the log is still the same: a reader found that it can't be."""
        if self.begun and self._task.failure is None:
            self._task.restart(error)

    async def close(self) -> None:
        """Stop following."""
        await self._task.close()

    def abandon(self) -> None:
        """The event loop is closed: free what is held in the log."""
        self._task.abandon()

    # -- one attempt

    async def _follow(self) -> None:
        await self._look_at_the_log()
        while True:
            try:
                await self._tail()
            except TrimmedAway:
                # What did not come here is a gap, which the log's pages will report.
                latest = (await self._log.span()).latest
                if latest <= self._receiver.head:
                    raise  # there is nothing to skip: wait
                self._receiver.skip_to(latest)
            except EpochChanged:
                if not await self._look_at_the_log():
                    raise  # the log contradicts itself: wait

    async def _look_at_the_log(self) -> bool:
        """Begin again if the log is another one now, or an older copy of itself. Returns whether it is."""
        receiver = self._receiver
        head = receiver.head
        span = await self._log.span()
        other = span.epoch != receiver.epoch or span.latest < head
        if other:
            receiver.begin_again(span)
            self._task.succeeded()  # the log is there
        elif not self._placed and span.latest > receiver.head:
            receiver.skip_to(span.latest)
        self._placed = True
        return other

    async def _tail(self) -> None:
        probation = self._begin_probation()
        if not self._tried.is_set():
            asyncio.get_running_loop().call_soon(self._tried.set)  # a log in this process is followed by then
        try:
            await self._log.tail(self._receiver.head, self._receiver.epoch, self._take)
        finally:
            if probation is not None:
                probation.cancel()
        raise LogUnavailable("it ended, though the hub is open: was the log closed?")

    def _begin_probation(self) -> asyncio.TimerHandle | None:
        if self._task.failure is None:
            return None
        return asyncio.get_running_loop().call_later(min(self._retry.wait, _PROBATION), self._task.succeeded)

    def _take(self, entries: Sequence[Entry], whole: bool) -> None:
        try:
            self._receiver.take(entries, whole)
        except BaseException:
            self._receiver.lose_track()
            raise
        if self._task.failure is not None:
            self._task.succeeded()


_MONITOR_SECONDS: Final = 2.0
_PUBLISH_SECONDS: Final = 5.0  # how long a publish that failed counts, if none has succeeded since


class LogMonitor:
    """Looks at a log until it is closed.

    Args:
        log: the log.
        receiver: what its events come to.
        outage: what all suffer together.
        follower: follows it.

    Attributes:
        latest: the newest offset that the log had at the last look.
    """

    def __init__(self, log: Log, receiver: Receiver, outage: Outage, follower: LogFollower) -> None:
        self.latest: int = receiver.head
        self._log = log
        self._receiver = receiver
        self._outage = outage
        self._follower = follower
        self._publish_failed = 0.0  # when; 0: the last one did not
        self._task = SupervisedTask(self._look, outage, retry=Retry(0.1, 5.0))
        self._task.start()
        log.on_answer.append(self._on_answer)

    @property
    def lag(self) -> int:
        """How many events the log had at the last look that have not come here yet."""
        return max(0, self.latest - self._receiver.head) if self._follower.begun else 0

    @property
    def state(self) -> LogState:
        """`down`: the log can't be used. `behind`: it can, and older events are still on their way here."""
        return "down" if self._outage.is_on else "behind" if self.lag else "up"

    def _on_answer(self, error: LogError | None) -> None:
        """What was published got this error, or is stored again; see `Log`."""
        if isinstance(error, (LogUnavailable, LogUncertain)):
            self._publish_failed = time.monotonic()
            self._outage.failed(error, self)
        elif self._publish_failed and error is None:
            self._publish_failed = 0.0
            self._outage.ended(self)

    async def close(self) -> None:
        """Stop looking."""
        self._leave()
        self._outage.left(self)
        await self._task.close()

    def abandon(self) -> None:
        """The event loop is closed."""
        self._leave()
        self._task.abandon()

    def _leave(self) -> None:
        if self._on_answer in self._log.on_answer:
            self._log.on_answer.remove(self._on_answer)

    async def _look(self) -> None:
        while True:
            if self._task.failure is None:
                await asyncio.sleep(_MONITOR_SECONDS)
            head = self._receiver.head
            span = await self._log.span()
            self._task.succeeded()
            if self._publish_failed and time.monotonic() - self._publish_failed > _PUBLISH_SECONDS:
                self._on_answer(None)  # no publisher tries any more: what is known of the log now is that it answers
            self.latest = span.latest
            if span.epoch != self._receiver.epoch or span.latest < head:
                if self._follower.begun:
                    self._follower.restart(EpochChanged(span.epoch))
                else:
                    self._receiver.begin_again(span)
