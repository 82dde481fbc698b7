"""A power that a log may have: to call back at once, in the frame in which it learns what has happened.

An awaited call goes on in a later pass of the event loop, and so does each that waits for it. A pass takes as long as
all that is in it: with a thousand producers writing, three of them made most of an event's way from `append` to the
connections. The logs that live in this process call back; another is awaited by what is here, for its callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from newswire.errors import LogError
from newswire.log.base import Entry, Log
from newswire.log.ledger import Guarded, Ledger, Outcome

# Both are called in the event loop, perhaps before the call that was given them returns. If `Take` raises, so does the
# iterator it was given for; what `Settle` raises is logged.
Settle: TypeAlias = Callable[[list[Outcome]], object]
# New entries, and whether they are all that comes together: else more may come in this pass of the event loop.
Take: TypeAlias = Callable[[Sequence[Entry], bool], object]


@runtime_checkable
class Immediate(Protocol):
    """A `Log` and `Ledger` that calls back."""

    def submit(self, batches: Sequence[Guarded], settle: Settle) -> None:
        """As `Ledger.append_guarded`, but calls `settle` with what that returns.

        The caller has gathered what it has: nothing is waited for that might come in the same pass of the event loop.

        Raises:
            InvalidChannel, InvalidEvent, LimitExceeded, Closed: nothing of any batch was stored, and `settle` is not
                called.
        """
        ...

    def follow_at_once(self, after: int | None, take: Take) -> AsyncIterator[Sequence[Entry]]:
        """As `Log.follow`, but what is appended while the iterator waits is given to `take` instead.

        Entries come one way or the other, once, in order. `take` is called where the log learns of them: within an
        append, before that returns.
        """
        ...


class Awaiting:
    """`Immediate.submit` of a ledger that has to be awaited. What fails as a whole comes as outcomes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, batches: Sequence[Guarded], settle: Settle) -> None:
        """See `Immediate.submit`."""
        task = asyncio.get_running_loop().create_task(self._append(batches, settle), name="newswire append")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append(self, batches: Sequence[Guarded], settle: Settle) -> None:
        outcomes: list[Outcome] = [LogError("the log was cancelled while it stored this")] * len(batches)
        try:
            outcomes = await self._ledger.append_guarded(batches)
        except Exception as error:  # the outermost frame of a task: whoever submitted gets it
            outcomes = [as_log_error(error)] * len(batches)
        finally:
            settle(outcomes)


def as_log_error(error: Exception) -> LogError:
    """What a log raised, as an outcome: an error that is none of ours is the `__cause__` of one that is."""
    if isinstance(error, LogError):
        return error
    failed = LogError(f"the log failed: {error!r}")
    failed.__cause__ = error
    return failed


def follow_at_once(log: Log, after: int | None, take: Take) -> AsyncIterator[Sequence[Entry]]:
    """`Immediate.follow_at_once` of any log; of one that has it not, everything comes out of the iterator."""
    return log.follow_at_once(after, take) if isinstance(log, Immediate) else log.follow(after)


class Follower:
    """One iteration over a log, as the log keeps it.

    Attributes:
        at: the offset up to which it has been given everything.
        failed: what `take` raised.
        take: where to give entries while it waits; None: it is woken, and looks for itself.
        waiting: whether it has caught up and waits.
    """

    __slots__ = ("_loop", "_wake", "at", "failed", "take", "waiting")

    def __init__(self, at: int, take: Take | None) -> None:
        self.at = at
        self.take = take
        self.failed: BaseException | None = None
        self.waiting = False
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()

    def tell(self, entries: Sequence[Entry], whole: bool) -> bool:
        """There are new entries; see `Take`. Returns whether they were taken; else `wake` it."""
        if not self.waiting or self.take is None or self.at != entries[0].offset - 1:
            return False
        self.at = entries[-1].offset
        try:
            self.take(entries, whole)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the outermost frame of a callback: publishers and other followers go on
            self.failed = error
            self.wake()
        return True

    def wake(self) -> None:
        """Let it look."""
        if not self._loop.is_closed():
            self._wake.set()

    async def wait(self) -> None:
        """Wait to be woken; raise what `take` raised meanwhile."""
        self._wake.clear()
        self.waiting = True
        try:
            await self._wake.wait()
        finally:
            self.waiting = False
        if self.failed is not None:
            raise self.failed
