"""The hub's one reader of the log's end: every event that any process appends, in order and once.

It survives whatever the log does. Each attempt to follow begins after the newest event that the hub has, and may end
by any exception; then the next one follows after a wait, and what was appended meanwhile comes with it. A log that was
put back may be another one, or an older copy: then the hub begins again. `docs/explain/following-the-log.md`
explains why. This module knows no window, groups or streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from newswire.errors import EpochChanged, LogUnavailable, TrimmedAway
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
    """Follows a log for a receiver until it is closed.

    Args:
        log: the log.
        receiver: gets its events from its `head` on.
        outage: gets each failure.
    """

    def __init__(self, log: Log, receiver: Receiver, outage: Outage) -> None:
        self._log = log
        self._receiver = receiver
        self._tailed = False  # the log was followed before
        self._retry = Retry()
        self._task = SupervisedTask(self._follow, outage, retry=self._retry)
        self._task.start()

    @property
    def failure(self) -> BaseException | None:
        """Why nothing comes from the log now; None while all is well."""
        return self._task.failure

    async def settle(self) -> None:
        """As `check`, but a log that has begun another life is taken in first. That takes a moment.

        Raises:
            LogUnavailable: no events come now.
        """
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
        if self._task.failure is None:
            self._task.restart(error)

    async def close(self) -> None:
        """Stop following."""
        await self._task.close()

    def abandon(self) -> None:
        """The event loop is closed: free what is held in the log."""
        self._task.abandon()

    # -- one attempt

    async def _follow(self) -> None:
        if self._tailed:
            await self._look_at_the_log()
        self._tailed = True
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
        """Begin again if the log is another one now. Returns whether it is."""
        span = await self._log.span()
        receiver = self._receiver
        other = span.epoch != receiver.epoch or span.latest < receiver.head
        if other:
            receiver.begin_again(span)
            self._task.succeeded()  # the log is there
        return other

    async def _tail(self) -> None:
        probation = self._begin_probation()
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
