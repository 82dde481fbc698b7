"""The writer of the SQLite log: one thread, which stores what has come together meanwhile in one transaction.

While one transaction waits for the disk, the next batches queue up: so the number of commits follows the disk, and the
number of events the publishers. Retention's deletions run in the same thread, in short transactions in between.

Every statement lets go of Python's lock and has to get it back from a busy event loop. So rows go in many to a
statement: with the loop busy sending, that stores 1.4 times as many events a second as one statement a row.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from newswire.errors import LogError, NewswireError
from newswire.log.base import Entry
from newswire.log.forgotten import Forgotten
from newswire.log.sqlite.batch import Batch, Call, entries_of, rows_of
from newswire.log.sqlite.file import WAL_CHECKPOINT, WAL_LIMIT, LogFile, fetch, roll_back
from newswire.log.sqlite.schema import NEWEST
from newswire.log.sqlite.thread import DatabaseThread, Job, succeed, tell
from newswire.log.sqlite.trim import read_forgotten

logger = logging.getLogger("newswire.log")

# What goes into one transaction: bounded so that the first batch does not wait long for the last.
_GROUP_EVENTS: Final = 4096
_GROUP_BYTES: Final = 16 * 2**20
_ROWS: Final = 128  # to a statement; with 6 values a row, under the 999 that every SQLite can bind
_VALUES: Final = 6
_ROW: Final = "(?, ?, ?, ?, ?, ?)"
_INSERT: Final = [f"INSERT INTO events VALUES {', '.join([_ROW] * rows)}" for rows in range(_ROWS + 1)]
_INSERT_IF: Final = [
    f"""INSERT INTO events SELECT * FROM (VALUES {", ".join([_ROW] * rows)})
        WHERE (SELECT {NEWEST} = ? AND trims = ? AND forgets = ? FROM meta)"""
    for rows in range(_ROWS + 1)
]
_CHANNELS_KNOWN: Final = 100_000  # ids of channels that are remembered
_WAL_LOOK_SECONDS: Final = 0.05
_WAL_CHECK_SECONDS: Final = 5.0


class Writer(DatabaseThread):
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
        self.newest = 0
        self._clock = clock
        self._committed = committed
        self._gathered: list[Batch] = []
        self._channels: dict[str, int] = {}
        # The newest offset, `trims` and `forgets`, when the file was last seen. As long as it has the same, nobody has
        # appended or removed anything, and what is known of channels and guards is so.
        self._seen: tuple[int, int, int] | None = None
        self._forgotten = (-1, Forgotten())  # and `meta.forgets` when it was read
        self._guards: dict[str, int] = {}  # the newest offset of channels that batches were guarded by
        self._left: list[Batch] = []
        self.checkpoint: Callable[[Callable[[], object]], None] = lambda done: None
        self._emptying = False
        self._next_wal_look = 0.0
        self._next_wal_check = 0.0
        self._wal_is_held = False  # and that was logged

    async def append(self, batches: list[Batch]) -> None:
        """Store checked batches; each has its outcome then.

        Publishers that were woken together come here in one pass of the event loop. They are handed over together
        after it; else the first would have a transaction of its own and the others wait for it.
        """
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self.flush)
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        Call(batches, lambda: succeed(stored, None))
        self._gathered += batches
        await stored

    def submit(self, batches: list[Batch], settled: Callable[[], object]) -> None:
        """Store checked batches that were gathered already; `settled` is called when each has its outcome."""
        Call(batches, settled)
        self._gathered += batches
        self.flush()

    def flush(self) -> None:
        """Hand the gathered batches over to the thread."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self.put(gathered)

    # -- the thread

    def _take(self) -> Any:
        return self._left or self._queue.get()

    def _turn(self, item: Any) -> bool:
        if item is not self._left:
            if item is None:
                return False
            if isinstance(item, Job):
                self._taken = [item]
                self.do(item)
                self._taken = []
                return True
            self._left = item
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

    def _take_more(self) -> tuple[list[Job[Any]], bool]:
        """Add what is queued behind, which has waited long enough, to `_left`."""
        jobs: list[Job[Any]] = []
        while len(self._left) < _GROUP_EVENTS:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return jobs, True
            if isinstance(item, Job):
                jobs.append(item)
            else:
                self._left += item
        return jobs, False

    def _next_group(self) -> list[Batch]:
        events = size = taken = 0
        for batch in self._left:
            events += len(batch.events)
            size += batch.bytes
            if taken and (events > _GROUP_EVENTS or size > _GROUP_BYTES):
                break
            taken += 1
        group, self._left = self._left[:taken], self._left[taken:]
        return group

    def _over(self, error: NewswireError) -> None:
        self._taken, self._left = [self._left, *self._taken], []
        super()._over(error)

    def _refuse(self, item: Any, error: NewswireError) -> None:
        if isinstance(item, Job):
            item.fail(error)
        else:
            self._tell(item, _refuse, error)

    def _store(self, group: list[Batch]) -> None:
        self._taken.append(group)
        self._commit(group)
        self._taken.pop()

    def _commit(self, group: list[Batch]) -> None:
        try:
            now = round(self._clock(), 3)
            first = self.attempt(lambda connection: self._transact(connection, group, now))
        except Exception as error:  # the outermost frame of a transaction: the thread goes on
            if len(group) > 1 and not _concerns_all(error):
                for batch in group:  # where a large batch finds no room, a small one may
                    self._commit([batch])
            else:
                self._tell(group, _refuse, error)
            return
        stored = sum(len(batch.events) for batch in group if not batch.refused)
        if stored:  # else the newest is somebody else's, of which the watch has to tell
            self.newest = first + stored - 1
        self._tell(group, self._resolve, first, now)

    def _transact(self, connection: sqlite3.Connection, group: list[Batch], now: float) -> int:
        """Store batches in one transaction; returns the first offset."""
        first = self._store_at_once(connection, group, now)
        if first is not None:
            return first
        execute = connection.execute
        fresh: dict[str, int] = {}
        execute("BEGIN IMMEDIATE")
        try:
            found = execute(f"SELECT {NEWEST}, trims, forgets FROM meta").fetchone()
            if found != self._seen:
                self._guards.clear()
                if self._seen is None or found[2] != self._seen[2]:
                    self._channels.clear()
            self._seen = None  # until this is committed
            fresh = self._identify(connection, group, found[2])
            self._channels.update(fresh)
            guards = self._guarded(connection, group)
            values = rows_of(group, self._channels, guards, found[0], now)
            for begin in range(0, len(values), _VALUES * _ROWS):
                part = values[begin : begin + _VALUES * _ROWS]
                execute(_INSERT[len(part) // _VALUES], part)
            execute("COMMIT")
        except BaseException:
            roll_back(connection)
            for name in fresh:
                self._channels.pop(name, None)  # perhaps it was made here, and has no id now
            raise
        self._guards.update(guards)
        self._seen = (found[0] + len(values) // _VALUES, *found[1:])
        return int(found[0]) + 1

    def _store_at_once(self, connection: sqlite3.Connection, group: list[Batch], now: float) -> int | None:
        """Store a small group by one statement, if all that it needs is known; returns the first offset.

        Each statement lets go of Python's lock several times, and a busy event loop gives it back late. So what the
        transaction would ask the file first is a condition of the statement: that nobody else has changed it.
        """
        seen = self._seen
        if seen is None or sum(len(batch.events) for batch in group) > _ROWS:
            return None
        ids, known = self._channels, self._guards
        guards: dict[str, int] = {}
        for batch in group:
            if batch.guard is not None:
                if batch.guard[0] not in known:
                    return None
                guards[batch.guard[0]] = known[batch.guard[0]]
            for name, _ in batch.events:
                if name not in ids:
                    return None
                if name in known:
                    guards[name] = known[name]
        values = rows_of(group, ids, guards, seen[0], now)
        count = len(values) // _VALUES
        if not count or connection.execute(_INSERT_IF[count], (*values, *seen)).rowcount != count:
            return None
        known.update(guards)
        self._seen = (seen[0] + count, *seen[1:])
        return seen[0] + 1

    def _guarded(self, connection: sqlite3.Connection, group: list[Batch]) -> dict[str, int]:
        """The newest offset of each channel that a guard of the group is about, and of those known that it changes."""
        names = {batch.guard[0] for batch in group if batch.guard is not None}
        known = self._guards
        if len(known) > _CHANNELS_KNOWN:
            known.clear()
        if known:
            names.update(name for batch in group for name, _ in batch.events if name in known)
        found = {name: known[name] for name in names if name in known}
        unknown = names - found.keys()
        if unknown:
            query = """SELECT name, max(lost, coalesce((SELECT max(offset) FROM events WHERE channel = id), 0))
                       FROM channels WHERE name IN (SELECT value FROM json_each(?))"""
            found |= dict.fromkeys(unknown, 0) | dict(fetch(connection, 2, query, json.dumps(list(unknown))))
        return found

    def _identify(self, connection: sqlite3.Connection, group: list[Batch], forgets: int) -> dict[str, int]:
        """The ids of the group's channels that are not known yet; those that don't exist are made."""
        known = self._channels
        if len(known) > _CHANNELS_KNOWN:
            known.clear()
        unknown = {name for batch in group for name, _ in batch.events if name not in known}
        if not unknown:
            return {}
        if self._forgotten[0] != forgets:
            self._forgotten = forgets, read_forgotten(connection)
        forgotten = self._forgotten[1]
        made = json.dumps([(name, forgotten.doubt(name)) for name in sorted(unknown)])
        pairs = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
        connection.execute(f"INSERT OR IGNORE INTO channels (name, doubt) {pairs}", (made,))
        query = "SELECT name, id FROM channels WHERE name IN (SELECT value FROM json_each(?))"
        return dict(fetch(connection, 2, query, json.dumps(list(unknown))))

    def _bound_wal(self) -> None:
        """Have the write-ahead log emptied; cut it back if readers have kept it from being reused.

        Most of it is moved to the database while we store more. The rest is moved here, when nothing is being stored:
        only a log that has been moved as a whole begins anew.
        """
        now = time.monotonic()
        if now < self._next_wal_look:
            return
        self._next_wal_look = now + _WAL_LOOK_SECONDS
        size, used = self.file.wal_size()
        if used > WAL_CHECKPOINT and not self._emptying:
            self._emptying = True
            self.checkpoint(lambda: self.put(Job(self._move_rest)))
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

    @staticmethod
    def _tell(group: list[Batch], call: Callable[..., object], *args: object) -> None:
        """Call back with the loop and the group, in each event loop that has batches in it.

        It is one loop, unless some came from a loop that was closed before they were stored.
        """
        if len(group) == 1:
            tell(loop := group[0].call.loop, call, loop, group, *args)
            return
        for loop in {batch.call.loop: None for batch in group}:
            tell(loop, call, loop, group, *args)

    def _resolve(self, loop: asyncio.AbstractEventLoop, group: list[Batch], first: int, now: float) -> None:
        stored = [batch for batch in group if not batch.refused]
        last = first + sum(len(batch.events) for batch in stored) - 1
        try:
            if last >= first and loop is group[-1].call.loop:
                self._committed(first, last, lambda: entries_of(stored, first, now))
        finally:
            offset = first
            for batch in group:
                if batch.call.loop is loop:
                    batch.settle(None if batch.refused else offset)
                if not batch.refused:
                    offset += len(batch.events)


def _refuse(loop: asyncio.AbstractEventLoop, group: list[Batch], error: BaseException) -> None:
    for batch in group:
        if batch.call.loop is not loop:
            continue
        if isinstance(error, LogError):
            one = type(error)(*error.args)
        else:
            one = LogError(f"the log failed: {str(error) if isinstance(error, NewswireError) else repr(error)}")
        one.__cause__ = error.__cause__ or error
        batch.settle(one)  # its own: a raised exception keeps where it was raised


def _concerns_all(error: Exception) -> bool:
    """Whether trying again batch by batch makes no sense: the file is locked, or is not there any more."""
    cause = error.__cause__
    if not isinstance(cause, sqlite3.Error):
        return isinstance(error, LogError)
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
