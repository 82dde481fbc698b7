"""Trying again while the log is away: wait, double, jitter. The one rule, for everything that depends on a log.

`Retry` counts the waits. `SupervisedTask` is a task that depends on a log and goes on whatever the log raises: each
attempt is a task of its own, and whatever ends one (any exception, also a cancellation that nobody asked for) begins
the next one after a wait. Each outage is logged once. Nothing here knows what an attempt does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from newswire.errors import NewswireError

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
        self.wait = first

    def next(self) -> float:
        """How long to wait now, after one more failure."""
        wait = self.wait
        self.wait = min(2 * wait, self._longest)
        return random.uniform(wait / 2, wait)

    def reset(self) -> None:
        """An attempt has succeeded: the next failure waits for `first` again."""
        self.wait = self._first


class Outage:
    """What the logger gets of an outage: its beginning, another error, its end; once each, from all that suffer it.

    Args:
        what: what fails: `the log can't be followed`.
        logger: gets a warning for what newswire's own errors say, an error with its traceback for all else.
    """

    __slots__ = ("_last", "_logger", "what")

    def __init__(self, what: str, logger: logging.Logger) -> None:
        self.what = what
        self._logger = logger
        self._last = ""

    def failed(self, error: BaseException) -> None:
        """An attempt has failed."""
        text = f"{type(error).__name__}: {error}"
        if text == self._last:
            return
        self._last = text
        if isinstance(error, NewswireError):
            self._logger.warning("%s now, trying again: %s", self.what, error)
        else:
            self._logger.error("%s now, trying again: %s", self.what, text, exc_info=error)

    def ended(self) -> None:
        """An attempt has succeeded."""
        if self._last:
            self._last = ""
            self._logger.info("%s: this is over", self.what)


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
        self.over = False
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
        self._outage.ended()

    def restart(self, error: BaseException) -> None:
        """End the present attempt as if it had raised `error`: for a callback that failed on its behalf."""
        self.failure = error
        if self._task is not None and not self._task.done():
            self._restarted_by = error
            self._task.cancel()

    def cancel(self) -> None:
        """End the task, soon. `close` also waits."""
        self.over = True
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
            self._outage.failed(error)
        if self._on_failure is not None:
            self._on_failure(error)
