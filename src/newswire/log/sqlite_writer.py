"""The writer of the SQLite log: one thread, which stores what has come together meanwhile in one transaction.

While one transaction waits for the disk, the next batches queue up: so the number of commits follows the disk, and the
number of events the publishers. Retention's deletions run in the same thread, in short transactions in between.

Every statement lets go of Python's lock and has to get it back from a busy event loop. So rows go in many to a
statement: with the loop busy sending, that stores 1.4 times as many events a second as one statement a row.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from newswire.errors import LogError
from newswire.log.base import Entry
from newswire.log.ledger import Outcome
from newswire.log.position import Position
from newswire.log.sqlite_file import NEWEST, WAL_LIMIT, LogFile, fetch, roll_back
from newswire.log.sqlite_thread import DatabaseThread, Job, tell
from newswire.wire.event import Event

# What goes into one transaction: bounded so that the first batch does not wait long for the last.
_GROUP_EVENTS: Final = 4096
_GROUP_BYTES: Final = 16 * 2**20
_ROWS: Final = 128  # to a statement; with 6 values a row, under the 999 that every SQLite can bind
_ROW: Final = "(?, ?, ?, ?, ?, ?)"
_INSERT: Final = [f"INSERT INTO events VALUES {', '.join([_ROW] * rows)}" for rows in range(_ROWS + 1)]
_CHANNELS_KNOWN: Final = 100_000  # ids of channels that are remembered
_WAL_CHECK_SECONDS: Final = 5.0


class Batch:
    """What is to be stored as one, and how it came out.

    Attributes:
        guard: a channel, and the newest offset that it must have; see `Guarded`.
        refused: whether the guard held it back, in the transaction.
        outcome: see `Ledger.append_guarded`.
    """

    __slots__ = ("bytes", "call", "events", "guard", "outcome", "refused", "sizes")

    def __init__(
        self, events: Sequence[tuple[str, Event]], sizes: list[int], guard: tuple[str, int] | None = None
    ) -> None:
        self.events = events
        self.sizes = sizes
        self.bytes = sum(sizes)
        self.guard = guard
        self.refused = False
        self.outcome: Outcome = None
        self.call: Call

    def settle(self, outcome: Outcome) -> None:
        """It was stored, refused, or could not be stored; in the event loop."""
        self.outcome = outcome
        self.call.settled()


class Call:
    """One call of the log and the batches that it waits for."""

    __slots__ = ("_left", "done")

    def __init__(self, batches: list[Batch]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = len(batches)
        for batch in batches:
            batch.call = self

    def settled(self) -> None:
        """One of the batches has its outcome."""
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.done.set_result(None)


class Writer(DatabaseThread):
    """Stores batches.

    Args:
        clock: the time, in seconds since the Unix epoch.
        committed: called in the event loop after each transaction, before its publishers go on, with a function that
            makes the entries stored.

    Attributes:
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
        self._forgets = 0
        # What this connection knows of the file, as long as no other connection changes it (PRAGMA data_version).
        self._known_by: tuple[sqlite3.Connection, int] | None = None
        self._at = 0
        self._guards: dict[str, int] = {}
        self._left: list[Batch] = []
        self._next_wal_check = 0.0

    async def append(self, batches: list[Batch]) -> None:
        """Store checked batches; each has its outcome then.

        Publishers that were woken together come here in one pass of the event loop. They are handed over together
        after it; else the first would have a transaction of its own and the others wait for it.
        """
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self.flush)
        call = Call(batches)
        self._gathered += batches
        await call.done

    def flush(self) -> None:
        """Hand the gathered batches over to the thread."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self.put(gathered)

    # -- the thread

    def _turn(self) -> bool:
        if not self._left:
            item = self._queue.get()
            if item is None:
                return False
            if isinstance(item, Job):
                self.do(item)
                return True
            self._left = item
        jobs, ending = self._take_more()
        group = self._next_group()
        self._store(group)
        self._bound_wal()
        for job in jobs:
            self.do(job)
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

    def _store(self, group: list[Batch]) -> None:
        now = round(self._clock(), 3)
        try:
            first = self.attempt(lambda connection: self._transact(connection, group, now))
        except Exception as error:  # the outermost frame of a transaction: the thread goes on
            if len(group) > 1 and not _concerns_all(error):
                for batch in group:  # where a large batch finds no room, a small one may
                    self._store([batch])
            else:
                self._tell(group, _refuse, group, error)
            return
        stored = sum(len(batch.events) for batch in group if not batch.refused)
        if stored:  # else the newest is somebody else's, of which the watch has to tell
            self.newest = first + stored - 1
        self._tell(group, self._resolve, group, first, now)

    def do(self, job: Job[Any]) -> None:
        """See `DatabaseThread.do`; what retention removes here is no other connection's change."""
        self._known_by = None
        super().do(job)

    def _transact(self, connection: sqlite3.Connection, group: list[Batch], now: float) -> int:
        """Store batches in one transaction; returns the first offset."""
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            known_by = connection, execute("PRAGMA data_version").fetchone()[0]
            if known_by != self._known_by:
                self._at, forgets = execute(f"SELECT {NEWEST}, forgets FROM meta").fetchone()
                self._forget_ids(forgets)
                self._guards.clear()
            self._known_by = None  # until this is committed
            fresh = self._identify(connection, group)
            guards = self._guarded(connection, group)
            ids = self._channels
            values: list[object] = []
            offset = self._at
            for batch in group:
                if guards and _is_refused(batch, guards, offset):
                    continue
                for (name, event), size in zip(batch.events, batch.sizes, strict=True):
                    offset += 1
                    channel = ids.get(name) or fresh[name]
                    kind = event.event
                    values += (offset, channel, size, now, None if kind == "message" else kind, event.data)
                    if len(values) == 6 * _ROWS:
                        execute(_INSERT[_ROWS], values)
                        values.clear()
            if values:
                execute(_INSERT[len(values) // 6], values)
            execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        ids.update(fresh)  # not before: a channel that was rolled back has no id
        self._guards.update(guards)
        first, self._at = self._at + 1, offset
        self._known_by = known_by
        return first

    def _forget_ids(self, forgets: int) -> None:
        if forgets != self._forgets:
            self._channels.clear()
            self._forgets = forgets

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

    def _identify(self, connection: sqlite3.Connection, group: list[Batch]) -> dict[str, int]:
        """The ids of the group's channels that are not known yet; those that don't exist are made."""
        known = self._channels
        if len(known) > _CHANNELS_KNOWN:
            known.clear()
        unknown = {name for batch in group for name, _ in batch.events if name not in known}
        if not unknown:
            return {}
        names = json.dumps(sorted(unknown))
        connection.execute(
            "INSERT OR IGNORE INTO channels (name, lost) SELECT value, (SELECT forgotten FROM meta) FROM json_each(?)",
            (names,),
        )
        found = connection.execute(
            "SELECT name, id FROM channels WHERE name IN (SELECT value FROM json_each(?))", (names,)
        )
        return dict(found.fetchall())

    def _bound_wal(self) -> None:
        """Cut back a write-ahead log that readers have kept from being reused."""
        now = time.monotonic()
        if now < self._next_wal_check:
            return
        self._next_wal_check = now + _WAL_CHECK_SECONDS
        if self.file.wal_size() <= WAL_LIMIT or self._connection is None:
            return
        patience = self._connection.execute("PRAGMA busy_timeout").fetchone()[0]
        self._connection.execute("PRAGMA busy_timeout = 50")  # another time, if readers take longer
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            pass  # what is wrong with the file shows where events are stored
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {patience}")

    # -- back to the event loop

    @staticmethod
    def _tell(group: list[Batch], call: Callable[..., object], *args: object) -> None:
        tell(group[0].call.done, call, *args)

    def _resolve(self, group: list[Batch], first: int, now: float) -> None:
        stored = [batch for batch in group if not batch.refused]
        for batch in group:
            if batch.refused:
                batch.settle(None)
        last = first + sum(len(batch.events) for batch in stored) - 1
        if last >= first:
            self._committed(first, last, lambda: _entries(stored, first, now))
        epoch = self.file.epoch
        new = tuple.__new__  # half the price of a named tuple's own constructor
        offset = first
        for batch in stored:
            after = offset + len(batch.events)
            batch.settle([new(Position, (epoch, each)) for each in range(offset, after)])
            offset = after


def _is_refused(batch: Batch, guarded: dict[str, int], offset: int) -> bool:
    """Judge a batch that would be stored after `offset`; note in `guarded` what it changes if it is."""
    guard = batch.guard
    batch.refused = guard is not None and guarded[guard[0]] != guard[1]
    if not batch.refused:
        for index, (name, _) in enumerate(batch.events, offset + 1):
            if name in guarded:
                guarded[name] = index
    return batch.refused


def _entries(group: list[Batch], first: int, now: float) -> list[Entry]:
    pairs = [pair for batch in group for pair in batch.events]
    return [Entry(first + index, name, event.event, event.data, now) for index, (name, event) in enumerate(pairs)]


def _refuse(group: list[Batch], error: Exception) -> None:
    for batch in group:
        one = type(error)(*error.args) if isinstance(error, LogError) else LogError(f"the log failed: {error!r}")
        one.__cause__ = error.__cause__ or error
        batch.settle(one)  # its own: a raised exception keeps where it was raised


def _concerns_all(error: Exception) -> bool:
    """Whether trying again batch by batch makes no sense: the file is locked, or is not there any more."""
    cause = error.__cause__
    if not isinstance(cause, sqlite3.Error):
        return isinstance(error, LogError)
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
