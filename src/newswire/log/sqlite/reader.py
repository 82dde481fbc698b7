"""The reader of the SQLite log: one thread, in which pages are read, other processes' appends noticed and the work of
retention planned, while the event loop does other things.

Each job sees one snapshot of the file. While somebody follows, the thread looks every `WATCH_SECONDS` whether a commit
has changed the index of the write-ahead log, and only then, or when `_CHECK_SECONDS` are over, asks SQLite (`PRAGMA
data_version`) and sees whether the file is still at its path. On a 2-core virtual machine the thread of an idle process
used 0.5% of a core this way, and 0.8% without the first look; what another process published arrived after 14 ms
(median).

On Linux, a thread that has seen nothing new for `_QUIET_SECONDS` sleeps for `_CHECK_SECONDS`, or until somebody writes
to the write-ahead log. A write is no commit yet: SQLite changes the index later, with `synchronous=FULL` after the disk
has it. So a thread that a write has woken looks every `_EAGER_SECONDS` for a moment, and then as often as before; and
it does not sleep until it has had the file watched for `_SETTLE_SECONDS`, in which a commit that had begun is seen.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from newswire import posix
from newswire.errors import LogCorrupt, LogError, LogUnavailable, NewswireError
from newswire.log import native
from newswire.log.sqlite import fork
from newswire.log.sqlite.file import LogFile, roll_back
from newswire.log.sqlite.retention import SqliteRetentionJob
from newswire.log.sqlite.schema import NEWEST
from newswire.log.sqlite.thread import DatabaseJob, DatabaseThread

logger: logging.Logger = logging.getLogger("newswire.log")

T = TypeVar("T")

WATCH_SECONDS: Final = 0.025
_CHECK_SECONDS: Final = 0.25
_QUIET_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 0.25
_EAGER_SECONDS: Final = 0.002
_AGAIN_SECONDS: Final = 600.0  # after which a file that could not be watched is tried again
_NOTHING: Final = object()
_NEWS: Final = f"SELECT {NEWEST}, (SELECT coalesce(max(number), 0) FROM newswire_refused) FROM newswire_meta"


class SqliteReader(DatabaseThread):
    """Reads, watches and plans.

    Args:
        noticed: called in the thread with the newest offset in the file when another process has appended, and with
            the error if the file can't be watched any more.
        own: tells the newest offset that this process has appended, which followers learn in a shorter way.
        retention: what it does in the background; None if there is none.

    Attributes:
        watching: whether to look for what others append; set by the event loop.
    """

    name = "newswire log reader"

    def __init__(
        self,
        file: LogFile,
        noticed: Callable[[int | LogError], None],
        *,
        own: Callable[[], int],
        retention: SqliteRetentionJob | None = None,
    ) -> None:
        super().__init__(file)
        self.watching: bool = False
        self._noticed = noticed
        self._own = own
        self._retention = retention
        self._version = -1
        self._refused: int | None = None  # the newest row that was set aside, when it was looked at last
        self._next_watch = 0.0
        self._mark = b""  # of the file at the last question to SQLite
        self._next_check = 0.0
        self._writes: posix.WriteWatch | None = None
        self._watched = False  # the next write to the write-ahead log will be noticed
        self._sleeping = False  # whoever enqueues something has to wake the thread; changes under the lock
        self._watch_from = 0.0  # when the file will have been quiet for long enough
        self._sleep_from = 0.0  # when it will have been watched for long enough
        self._newest = -1  # in the file, at the last question to SQLite
        self._eager_until = 0.0

    async def query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query in a snapshot.

        Raises:
            LogUnavailable, LogCorrupt: the file can't be read.
        """
        return await self.run(lambda connection: in_snapshot(connection, query))

    async def search(self, steps: Generator[None, sqlite3.Connection, T]) -> T:
        """Run a query of several steps, each in a snapshot of its own, with others' queries in between."""
        next(steps)
        while True:
            found = await self.query(partial(_step, steps))
            if found is not None:
                return found[0]

    def checkpoint(self, done: Callable[[], object]) -> None:
        """Move what is in the write-ahead log to the database, soon, then call `done` in the thread.

        By default SQLite does it within a commit, for which publishers wait some 10 ms, and a full one 100. Here they
        don't. What is stored meanwhile is left in the log.
        """
        self.put(DatabaseJob(lambda connection: self.file.checkpoint(connection, "PASSIVE"), over=done))

    def _enqueue(self, item: object) -> None:
        super()._enqueue(item)
        if self._sleeping and self._writes is not None:
            self._writes.wake()

    def _take(self) -> Any:
        wait = self._wait()
        try:
            if wait is None or not self._watched or self._writes is None:
                return self._queue.get(timeout=wait)
            self._sleep(self._writes, wait)
            return self._queue.get_nowait()
        except queue.Empty:
            return _NOTHING

    def _sleep(self, writes: posix.WriteWatch, seconds: float) -> None:
        self._sleeping = True
        try:
            written = self._queue.empty() and writes.wait(seconds)
        finally:
            self._sleeping = False
        if written:
            self._watched = False
            now = self._next_watch = time.monotonic()
            self._eager_until = now + WATCH_SECONDS
            self._watch_from = now + _QUIET_SECONDS

    def _turn(self, job: Any) -> bool:
        if job is None:
            self._leave()
            return False
        if job is not _NOTHING:
            self._taken = [job]
            self.do(job)
            self._taken = []
        if self.watching and time.monotonic() >= self._next_watch:
            self._watch()
            self._next_watch = time.monotonic() + self._pause()
        if self._retention is not None and self._retention.due <= time.monotonic():
            self._keep(self._retention)
        return True

    def _pause(self) -> float:
        """How long to wait until the next look."""
        now = time.monotonic()
        if now < self._eager_until:
            return _EAGER_SECONDS
        if not self._watched and now >= self._watch_from:
            self._watch_writes(now)
        return _CHECK_SECONDS if self._watched and now >= self._sleep_from else WATCH_SECONDS

    def _watch_writes(self, now: float) -> None:
        """Have the next write to the write-ahead log noticed, if the system does that."""
        try:
            if self._writes is None:
                self._writes = posix.WriteWatch(native.poll)
                for descriptor in self._writes.descriptors:
                    fork.add_descriptor(descriptor)
            self._writes.begin(os.path.realpath(self.file.path) + "-wal")
        except OSError:
            self._watch_from = now + _AGAIN_SECONDS
        else:
            self._watched = True
            self._sleep_from = now + _SETTLE_SECONDS

    def _changed(self, newest: int) -> None:
        """There is something new in the file."""
        now = time.monotonic()
        told = not self._watched or (self._writes is not None and self._writes.wait(0))
        if not told and newest != self._newest and now >= self._sleep_from:
            self._watch_from = now + _AGAIN_SECONDS  # this file system does not tell
        else:
            self._watch_from = max(self._watch_from, now + _QUIET_SECONDS)
        self._newest = newest
        self._watched = False

    def _over(self, error: NewswireError) -> None:
        with self._lock:
            writes, self._writes = self._writes, None
            if writes is not None:
                for descriptor in writes.descriptors:
                    fork.close_descriptor(descriptor)
        self._watched = False
        super()._over(error)
        if isinstance(error, LogError):  # it has died, and no one watches
            self._noticed(error)
            if self._retention is not None:
                with suppress(LogUnavailable):
                    self.start()

    def _keep(self, retention: SqliteRetentionJob) -> None:
        retention.rest()  # also where the file can't be opened, and no step is done
        try:
            self.attempt(lambda connection: in_snapshot(connection, retention.step))
        except LogError:
            pass  # readers and publishers learn what is wrong; it tries again later
        except Exception:  # the outermost frame of background work: the thread goes on
            logger.exception("retention of %s failed", self.file.path)

    def _wait(self) -> float | None:
        due = min(
            self._next_watch if self.watching else math.inf,
            self._retention.due if self._retention is not None else math.inf,
        )
        return None if due == math.inf else max(due - time.monotonic(), 0.0)

    def _watch(self) -> None:
        mark, now = self.file.mark(), time.monotonic()
        if mark and mark == self._mark and now < self._next_check and self._connection is not None:
            return
        self._mark, self._next_check = b"", now + _CHECK_SECONDS
        try:
            connection = self.connection()
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                newest, refused = connection.execute(_NEWS).fetchone()
                self._changed(newest)
                if refused != self._refused:
                    self._log_refused(connection, refused)
                self._version = version  # not before: what could not be read is looked at again
                if newest != self._own():
                    self._noticed(newest)
            self._mark = mark  # what is stored from here on has another
        except LogCorrupt as error:
            self.watching = False
            self._noticed(error)
        except LogError as error:
            if self.file.is_gone:
                self._noticed(error)  # it is opened again as soon as somebody asks for something
        except sqlite3.Error as error:
            explained = self.file.explain(error)
            self._disconnect()
            self._version = -1
            if isinstance(explained, LogCorrupt):
                self.watching = False
                self._noticed(explained)

    def _log_refused(self, connection: sqlite3.Connection, newest: int) -> None:
        """Log which rows of the outbox were set aside since the last look."""
        before, self._refused = self._refused, newest
        if before is None:
            return
        query = "SELECT wrong, channel, event FROM newswire_refused WHERE number > ? ORDER BY number LIMIT 100"
        for wrong, channel, event in connection.execute(query, (before,)).fetchall():
            logger.warning(
                "a row of the outbox of %s is no event, and was set aside in newswire_refused: %s (channel %.100r, "
                "event %.100r)", self.file.path, wrong, channel, event,
            )  # fmt: skip

    def _leave(self) -> None:
        if self._retention is not None and self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.execute(
                    "PRAGMA busy_timeout = 100"
                )  # else the next process waits for the lease to end
                self._retention.leave(self._connection)


def _step(steps: Generator[None, sqlite3.Connection, T], connection: sqlite3.Connection) -> tuple[T] | None:
    try:
        steps.send(connection)
    except StopIteration as end:
        return (end.value,)
    return None


def in_snapshot(connection: sqlite3.Connection, query: Callable[[sqlite3.Connection], T]) -> T:
    """Run a query that reads several times and has to see one state of the file."""
    connection.execute("BEGIN")
    try:
        result = query(connection)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return result
