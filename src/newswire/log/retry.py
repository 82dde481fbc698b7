"""Trying again while the log is away: wait, double, jitter. The one rule, for everything that depends on a log.

`Retry` counts the waits. `keep_trying` is a call that waits until the log is back. `SupervisedTask` is a task that
depends on a log and goes on whatever the log raises: each attempt is a task of its own, and whatever ends one (any
exception, also a cancellation that no one asked for) begins the next one after a wait. `repeating` begins one for a
step that is to be done for ever. Each outage is logged once. Nothing here knows what an attempt does.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from newswire.errors import Closed, LogUnavailable, LogUncertain, NewswireError

T = TypeVar("T")

_CLOSE_SECONDS: Final = 1.0  # how often a task that ignores its cancellation is cancelled again


class Retry:
    """The waits between the attempts at one thing, in seconds.

    Each is twice as long as the one before, and drawn from its upper half, so that many who lost one log at the same
    moment come back spread.

    Args:
        first: the longest first wait.
        longest: the longest of all.

    Attributes:
        wait: the longest that the next wait may be.
    """

    __slots__ = ("_first", "_longest", "wait")

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self.wait: float = first

    def next(self) -> float:
        """How long to wait now, after one more failure."""
        wait = self.wait
        self.wait = min(2 * wait, self._longest)
        return random.uniform(wait / 2, wait)

    def reset(self) -> None:
        """An attempt has succeeded: the next failure waits for `first` again."""
        self.wait = self._first


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, if there is one, and wait until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


async def keep_trying(call: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Await `call()` again and again while it raises `LogUnavailable` or `LogUncertain`. It has to be one that may be
    repeated.

    Args:
        seconds: no attempt begins later than this after the first.

    Raises:
        LogUncertain: the last attempt failed, and one of them may have been served.
        LogUnavailable: the last attempt failed, and none was served.
    """
    retry = Retry(0.05, 1.0)
    uncertain: LogUncertain | None = None
    give_up = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except (LogUnavailable, LogUncertain) as error:
            if isinstance(error, LogUncertain):
                uncertain = error
            left = give_up - time.monotonic()
            if left <= 0:
                if uncertain is None or uncertain is error:
                    raise
                raise uncertain from error
            pause = min(retry.next(), left)
        await asyncio.sleep(pause)


class Outage:
    """An outage for the logger: one line when it begins, one when it ends, from all that suffer it together.

    An error that says something else is another state, and so another line: of a log that is away, that it is damaged.

    Args:
        what: what fails: `the log can't be followed`.
        logger: gets a warning for what newswire's own errors say, an error with its traceback for all else.
        quiet: log at the level DEBUG: those who use this hear of each failure, and say it where it counts.

    Attributes:
        count: how many there have been.
        failures: attempts that failed.
        is_on: whether something fails now.
    """

    __slots__ = ("_last", "_logger", "_quiet", "_since", "_suffering", "count", "failures", "is_on", "what")

    def __init__(self, what: str, logger: logging.Logger, *, quiet: bool = False) -> None:
        self.what: str = what
        self.count: int = 0
        self.failures: int = 0
        self.is_on: bool = False
        self._logger = logger
        self._quiet = quiet
        self._last = ""
        self._since = 0.0
        self._suffering: set[object] = set()

    def failed(self, error: BaseException, who: object = None) -> None:
        """An attempt of `who` has failed."""
        self.failures += 1
        if not self._suffering:
            self.count += 1
            self._since = time.monotonic()
        self._suffering.add(who)
        self.is_on = True
        text = f"{type(error).__name__}: {error}"
        # A log that is away has many words for it.
        kind = "away" if isinstance(error, (LogUnavailable, LogUncertain)) else text
        if kind == self._last:
            return
        self._last = kind
        if self._quiet:
            self._logger.debug("%s now, trying again: %s", self.what, error)
        elif isinstance(error, NewswireError):
            self._logger.warning("%s now, trying again: %s", self.what, error)
        else:
            self._logger.error("%s now, trying again: %s", self.what, text, exc_info=error)

    def ended(self, who: object = None) -> None:
        """An attempt of `who` has succeeded."""
        if self._suffering and self.left(who):
            level = logging.DEBUG if self._quiet else logging.INFO
            self._logger.log(level, "%s: this is over, after %.1f s", self.what, time.monotonic() - self._since)

    def left(self, who: object) -> bool:
        """`who` makes no more attempts. Returns whether nothing fails any more."""
        self._suffering.discard(who)
        self.is_on = bool(self._suffering)
        if self.is_on:
            return False
        self._last = ""
        return True


class SupervisedTask:
    """A task that goes on, whatever ends it, until it is closed or its call returns. `start` begins it.

    Args:
        call: one attempt. It returns when there is no more to do. It calls `succeeded` when it sees that it works.
        outage: gets each failure, for the logger.
        retry: the waits.
        on_failure: called after each failed attempt, with what ended it. It must not raise.

    Attributes:
        failure: what ended the last attempt, until the next one succeeds; None while all is well.
        over: the call has returned, or the task was closed.
    """

    def __init__(
        self,
        call: Callable[[], Awaitable[None]],
        outage: Outage,
        *,
        retry: Retry | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.failure: BaseException | None = None
        self.over: bool = False
        self._call = call
        self._outage = outage
        self._retry = retry or Retry()
        self._on_failure = on_failure
        self._restarted_by: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin an attempt."""
        self._timer = None
        self._task = self._loop.create_task(self._attempt(), name=f"newswire: unless {self._outage.what}")
        self._task.add_done_callback(self._ended)

    @property
    def ended(self) -> bool:
        """Nothing of it runs any more."""
        return self.over and (self._task is None or self._task.done())

    def succeeded(self) -> None:
        """The present attempt works."""
        self._retry.reset()
        self.failure = None
        self._outage.ended(self)

    def restart(self, error: BaseException) -> None:
        """End the present attempt as if it had raised `error`: for a callback that failed on its behalf."""
        self.failure = error
        if self._task is not None and not self._task.done():
            self._restarted_by = error
            self._task.cancel()

    def cancel(self) -> None:
        """End the task, soon. `close` also waits."""
        self.over = True
        self._outage.left(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """End the task, and wait until it has ended. A task that ignores its cancellation is cancelled again."""
        self.cancel()
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=_CLOSE_SECONDS)
            self._task.cancel()

    def abandon(self) -> None:
        """Let go of what the task holds: its event loop is closed, so it will never be cancelled."""
        self.over = True
        if self._task is not None and not self._task.done():
            with suppress(RuntimeError):  # an async generator in the midst of a waiting can't be closed
                self._task.get_coro().close()  # runs the `finally` clauses of its frames

    async def _attempt(self) -> None:
        await self._call()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self.over:
            return
        if self._restarted_by is not None:
            error, self._restarted_by = self._restarted_by, None
        elif error is None:
            self.over = True
            return
        self.failure = error
        self._timer = self._loop.call_later(self._retry.next(), self.start)
        # Whoever cancels all tasks of an event loop is about to close it: no outage to write about.
        if not (isinstance(error, asyncio.CancelledError) and task.cancelling()):
            self._outage.failed(error, self)
        if self._on_failure is not None:
            self._on_failure(error)


def repeating(
    step: Callable[[], Awaitable[None]], what: str, logger: logging.Logger, *, longest: float = 5.0
) -> SupervisedTask:
    """Begin a task that awaits `step()` again and again, until that raises `Closed`.

    Args:
        step: what is awaited. After any other exception it is tried again, after a wait.
        what: what can't be done while it fails, for the logger.
        logger: what reports it.
        longest: the longest wait, in seconds.
    """

    async def repeat() -> None:
        with suppress(Closed):
            while True:
                await step()
                task.succeeded()

    task = SupervisedTask(repeat, Outage(what, logger), retry=Retry(min(0.1, longest), longest))
    task.start()
    return task


def retrieved(task: asyncio.Future[Any]) -> None:
    """A callback for a task that several may wait for by `asyncio.shield`: if all have gone, its failure is no news."""
    if not task.cancelled():
        task.exception()
