"""The writer of the SQLite log: one thread, which stores what has come together meanwhile in one transaction.

While one transaction waits for the disk, the next batches queue up: so the number of commits follows the disk, and the
number of events the publishers. Retention's deletions run in the same thread, in short transactions in between. What
one transaction does is in `append`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from newswire.errors import LogError, NewswireError
from newswire.log.engine import Batch, Copied, Entry, OnDone, Outcome, weigh
from newswire.log.failures import as_log_error
from newswire.log.sqlite.admin import restore
from newswire.log.sqlite.append import Appender
from newswire.log.sqlite.file import WAL_CHECKPOINT, WAL_LIMIT, LogFile
from newswire.log.sqlite.thread import DatabaseJob, DatabaseThread, call_in

logger: logging.Logger = logging.getLogger("newswire.log")

# What goes into one transaction: bounded so that the first batch does not wait long for the last.
_GROUP_EVENTS: Final = 4096
_GROUP_BYTES: Final = 16 * 2**20
_WAL_LOOK_SECONDS: Final = 0.05
_WAL_CHECK_SECONDS: Final = 5.0


class Submission:
    """Batches that were submitted together.

    Attributes:
        loop: the event loop that they came from.
    """

    __slots__ = ("batches", "bytes", "events", "loop", "on_done")

    def __init__(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        self.batches: Sequence[Batch] = batches
        self.on_done: OnDone = on_done
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.events: int
        self.bytes: int
        self.events, self.bytes = weigh(batches)


class _Stored(NamedTuple):
    """What one transaction has stored: these batches, at the offsets from `first` to `last`."""

    batches: list[Batch]
    first: int
    last: int
    time: float

    def entries(self) -> list[Entry]:
        pairs = [pair for batch in self.batches for pair in batch.events]
        return [
            Entry(index, name, event.event, event.data, self.time)
            for index, (name, event) in enumerate(pairs, self.first)
        ]


class SqliteWriter(DatabaseThread):
    """Stores batches.

    Args:
        clock: the time, in seconds since the Unix epoch.
        committed: called in the event loop after each transaction, before its publishers go on, with a function that
            makes the entries stored.

    Attributes:
        checkpoint: called in the thread when the write-ahead log should be emptied into the database; calls back,
            in any thread, when most is done.
        newest: the newest offset that this process has stored; `committed` may not have been called for it yet.
    """

    name = "newswire log writer"

    def __init__(
        self,
        file: LogFile,
        clock: Callable[[], float],
        committed: Callable[[int, int, Callable[[], list[Entry]]], None],
    ) -> None:
        super().__init__(file)
        self.newest: int = 0
        self._clock = clock
        self._committed = committed
        self._appender = Appender()
        self._left: list[Submission] = []
        self.checkpoint: Callable[[Callable[[], object]], None] = lambda done: None
        self._emptying = False
        self._next_wal_look = 0.0
        self._next_wal_check = 0.0
        self._wal_is_held = False  # and that was logged

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        self.put(Submission(batches, on_done))

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        await self.run(lambda connection: self._restore(connection, copied))

    # -- the thread

    def _restore(self, connection: sqlite3.Connection, copied: Copied) -> None:
        other = copied.lives.epoch != self.file.epoch
        if other and not self.file.alone():
            raise LogError(f"another process has {self.file.path} open: stop it, then copy")
        self._appender.forget()
        restore(connection, copied)
        self.file.adopt(copied.lives)

    def _take(self) -> Any:
        return self._left or self._queue.get()

    def _turn(self, item: Any) -> bool:
        if item is not self._left:
            if item is None:
                return False
            if isinstance(item, DatabaseJob):
                self._taken = [item]
                self.do(item)
                self._taken = []
                return True
            self._left = [item]
        jobs, ending = self._take_more()
        self._taken = jobs
        self._store(self._next_group())
        self._bound_wal()
        while jobs:
            self.do(jobs[0])
            del jobs[0]
        if ending:
            while self._left:
                self._store(self._next_group())
        return not ending

    def _take_more(self) -> tuple[list[DatabaseJob[Any]], bool]:
        """Add what is queued behind, which has waited long enough, to `_left`."""
        jobs: list[DatabaseJob[Any]] = []
        while len(self._left) < _GROUP_EVENTS:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return jobs, True
            if isinstance(item, DatabaseJob):
                jobs.append(item)
            else:
                self._left.append(item)
        return jobs, False

    def _next_group(self) -> list[Submission]:
        events = size = taken = 0
        for submission in self._left:
            events += submission.events
            size += submission.bytes
            if taken and (events > _GROUP_EVENTS or size > _GROUP_BYTES):
                break
            taken += 1
        group, self._left = self._left[:taken], self._left[taken:]
        return group

    def _over(self, error: NewswireError) -> None:
        self._taken, self._left = [*self._left, *self._taken], []
        super()._over(error)

    def _refuse(self, item: Any, error: NewswireError) -> None:
        if isinstance(item, DatabaseJob):
            item.fail(error)
        else:
            self._acknowledge([item], [as_log_error(error)] * len(item.batches), [])

    def _store(self, group: list[Submission]) -> None:
        before = len(self._taken)
        self._taken += group
        outcomes: list[Outcome] = []
        stored: list[_Stored] = []
        self._commit([batch for submission in group for batch in submission.batches], outcomes, stored)
        self._acknowledge(group, outcomes, stored)
        del self._taken[before:]

    def _commit(self, batches: list[Batch], outcomes: list[Outcome], stored: list[_Stored]) -> None:
        """Store batches in one transaction, or, if that is of use, each in its own."""
        try:
            now = round(self._clock(), 3)
            found, first = self.attempt(
                lambda connection: self._appender.append(connection, batches, now, self.file.lives)
            )
        except Exception as error:  # the outermost frame of a transaction: the thread goes on
            if len(batches) > 1 and not _concerns_all(error):
                for batch in batches:  # where a large batch finds no room, a small one may
                    self._commit([batch], outcomes, stored)
            else:
                outcomes += [as_log_error(error)] * len(batches)
            return
        outcomes += found
        new = [batch for batch, outcome in zip(batches, found, strict=True) if type(outcome) is int]
        if new:  # else the newest is somebody else's: the watch has to tell of it
            self.newest = first - 1 + sum([len(batch.sizes) for batch in new])
            stored.append(_Stored(new, first, self.newest, now))

    def _bound_wal(self) -> None:
        """Have the write-ahead log emptied; cut it back if readers have kept it from being reused.

        Most of it is moved to the database while we store more. The rest is moved here, when nothing is being stored:
        only a log that has been moved as a whole begins again.
        """
        now = time.monotonic()
        if now < self._next_wal_look:
            return
        self._next_wal_look = now + _WAL_LOOK_SECONDS
        size, used = self.file.wal_size()
        if used > WAL_CHECKPOINT and not self._emptying:
            self._emptying = True
            self.checkpoint(lambda: self.put(DatabaseJob(self._move_rest)))
        if size <= WAL_LIMIT:
            self._wal_is_held = False
        elif now >= self._next_wal_check and self._connection is not None:
            self._next_wal_check = now + _WAL_CHECK_SECONDS
            with suppress(sqlite3.Error):  # what is wrong with the file shows where events are stored
                self._cut_wal(self._connection, size)

    def _cut_wal(self, connection: sqlite3.Connection, size: int) -> None:
        patience = connection.execute("PRAGMA busy_timeout").fetchone()[0]
        connection.execute("PRAGMA busy_timeout = 50")  # another time, if readers take longer
        try:
            holders = [] if self._wal_is_held else self.file.wal_readers()
            done = self.file.checkpoint(connection, "TRUNCATE")
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience}")
        if not done and not self._wal_is_held:
            self._wal_is_held = True
            logger.warning(
                "the write-ahead log of %s is %d MB and grows: %s keeps an old snapshot of it. End its transaction "
                "(of a database browser, a backup, a query that was not finished); newswire cuts the log back then",
                self.file.path, size // 10**6, " or ".join(holders) or "another program",
            )  # fmt: skip

    def _move_rest(self, connection: sqlite3.Connection) -> None:
        self._emptying = False
        self.file.checkpoint(connection, "PASSIVE")

    # -- back to the event loop

    def _acknowledge(self, group: list[Submission], outcomes: list[Outcome], stored: list[_Stored]) -> None:
        """Call back in each event loop that has batches in a group.

        It is one loop, unless some came from a loop that was closed before they were stored.
        """
        for loop in {submission.loop: None for submission in group}:
            call_in(loop, self._resolve, loop, group, outcomes, stored)

    def _resolve(
        self,
        loop: asyncio.AbstractEventLoop,
        group: list[Submission],
        outcomes: list[Outcome],
        stored: list[_Stored],
    ) -> None:
        try:
            if loop is group[-1].loop:
                for each in stored:
                    self._committed(each.first, each.last, each.entries)
        finally:
            at = 0
            for submission in group:
                if submission.loop is loop:
                    submission.on_done(outcomes[at : at + len(submission.batches)], self.file.epoch)
                at += len(submission.batches)


def _concerns_all(error: Exception) -> bool:
    """Whether trying again batch by batch makes no sense: the file is locked, or is not there any more."""
    cause = error.__cause__
    if not isinstance(cause, sqlite3.Error):
        return isinstance(error, LogError)
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
