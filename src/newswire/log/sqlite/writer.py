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
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

from newswire.errors import LogError, NewswireError, TokenReused
from newswire.log.engine import TOKEN_SECONDS, TOKENS_KEPT, Batch, Copied, Entry, Known, OnDone, Outcome
from newswire.log.failures import as_log_error
from newswire.log.forgotten import Forgotten
from newswire.log.sqlite.copied import restore
from newswire.log.sqlite.file import WAL_CHECKPOINT, WAL_LIMIT, LogFile, fetch, roll_back
from newswire.log.sqlite.retention import read_forgotten
from newswire.log.sqlite.schema import NEWEST
from newswire.log.sqlite.thread import DatabaseThread, Job, tell

logger: logging.Logger = logging.getLogger("newswire.log")

# What goes into one transaction: bounded so that the first batch does not wait long for the last.
_GROUP_EVENTS: Final = 4096
_GROUP_BYTES: Final = 16 * 2**20
_ROWS: Final = 128  # to a statement; with 6 values a row, under the 999 that every SQLite can bind
_VALUES: Final = 6
_ROW: Final = "(?, ?, ?, ?, ?, ?)"
_INSERT: Final = [f"INSERT INTO newswire_events VALUES {', '.join([_ROW] * rows)}" for rows in range(_ROWS + 1)]
_INSERT_IF: Final = [
    f"""INSERT INTO newswire_events SELECT * FROM (VALUES {", ".join([_ROW] * rows)})
        WHERE (SELECT {NEWEST} = ? AND trims = ? AND forgets = ? FROM newswire_meta)"""
    for rows in range(_ROWS + 1)
]
_CHANNELS_KNOWN: Final = 100_000  # ids of channels that are remembered
_WAL_LOOK_SECONDS: Final = 0.05
_WAL_CHECK_SECONDS: Final = 5.0


# Of each token the first offset of its batch, and the number of its events (0: not known any more).
_Tokens: TypeAlias = dict[str, tuple[int, int]]


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
        self.events: int = sum(len(batch.sizes) for batch in batches)
        self.bytes: int = sum(sum(batch.sizes) for batch in batches)


class _Stored(NamedTuple):
    """What one transaction has stored: these batches, from the offset `first` on."""

    batches: list[Batch]
    first: int
    time: float

    @property
    def last(self) -> int:
        return self.first + sum(len(batch.events) for batch in self.batches) - 1

    def entries(self) -> list[Entry]:
        pairs = [pair for batch in self.batches for pair in batch.events]
        return [
            Entry(index, name, event.event, event.data, self.time)
            for index, (name, event) in enumerate(pairs, self.first)
        ]


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
        self.newest: int = 0
        self._clock = clock
        self._committed = committed
        self._channels: dict[str, int] = {}
        # The newest offset, `trims` and `forgets`, when the file was last seen. As long as it has the same, nobody has
        # appended or removed anything, and what is known of channels is so.
        self._seen: tuple[int, int, int] | None = None
        self._forgotten = (-1, Forgotten())  # and `meta.forgets` when it was read
        self._newest: dict[str, int] = {}  # the newest offset of channels that conditions were about
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
        self._seen = None
        self._newest.clear()
        restore(connection, copied)
        self.file.adopt(copied.lives)

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
        if isinstance(item, Job):
            item.fail(error)
        else:
            self._tell([item], [as_log_error(error)] * len(item.batches), [])

    def _store(self, group: list[Submission]) -> None:
        before = len(self._taken)
        self._taken += group
        outcomes: list[Outcome] = []
        stored: list[_Stored] = []
        self._commit([batch for submission in group for batch in submission.batches], outcomes, stored)
        self._tell(group, outcomes, stored)
        del self._taken[before:]

    def _commit(self, batches: list[Batch], outcomes: list[Outcome], stored: list[_Stored]) -> None:
        """Store batches in one transaction, or, if that is of use, each in its own."""
        try:
            now = round(self._clock(), 3)
            found, first = self.attempt(lambda connection: self._transact(connection, batches, now))
        except Exception as error:  # the outermost frame of a transaction: the thread goes on
            if len(batches) > 1 and not _concerns_all(error):
                for batch in batches:  # where a large batch finds no room, a small one may
                    self._commit([batch], outcomes, stored)
            else:
                outcomes += [as_log_error(error)] * len(batches)
            return
        outcomes += found
        new = [batch for batch, outcome in zip(batches, found, strict=True) if type(outcome) is int]
        if new:  # else the newest is somebody else's, of which the watch has to tell
            stored.append(_Stored(new, first, now))
            self.newest = stored[-1].last

    def _transact(self, connection: sqlite3.Connection, batches: list[Batch], now: float) -> tuple[list[Outcome], int]:
        """Store batches in one transaction; returns their outcomes, and the first offset that was free."""
        found = self._store_at_once(connection, batches, now)
        if found is not None:
            return found
        execute = connection.execute
        fresh: dict[str, int] = {}
        execute("BEGIN IMMEDIATE")
        try:
            seen = execute(f"SELECT {NEWEST}, trims, forgets FROM newswire_meta").fetchone()
            if seen != self._seen:
                self._newest.clear()
                if self._seen is None or seen[2] != self._seen[2]:
                    self._channels.clear()
            self._seen = None  # until this is committed
            fresh = self._identify(connection, batches, seen[2])
            self._channels.update(fresh)
            newest = self._conditions(connection, batches)
            tokens = _known_tokens(connection, batches)
            rows, outcomes = _rows_of(batches, self._channels, newest, tokens, seen[0], now)
            for begin in range(0, len(rows), _VALUES * _ROWS):
                part = rows[begin : begin + _VALUES * _ROWS]
                execute(_INSERT[len(part) // _VALUES], part)
            if tokens:
                _remember_tokens(connection, tokens, seen[0], now)
            execute("COMMIT")
        except BaseException:
            roll_back(connection)
            for name in fresh:
                self._channels.pop(name, None)  # perhaps it was made here, and has no id now
            raise
        self._newest.update(newest)
        self._seen = (seen[0] + len(rows) // _VALUES, *seen[1:])
        return outcomes, int(seen[0]) + 1

    def _store_at_once(
        self, connection: sqlite3.Connection, batches: list[Batch], now: float
    ) -> tuple[list[Outcome], int] | None:
        """Store a few batches by one statement, if all that this needs is known; else None.

        Each statement lets go of Python's lock several times, and a busy event loop gives it back late. So what the
        transaction would ask the file first is a condition of the statement: that nobody else has changed it.
        """
        seen = self._seen
        if seen is None or sum(len(batch.sizes) for batch in batches) > _ROWS:
            return None
        ids, known = self._channels, self._newest
        newest: dict[str, int] = {}
        for batch in batches:
            if batch.token is not None:
                return None
            if batch.condition is not None:
                channel = batch.condition.channel
                if channel not in known:
                    return None
                newest[channel] = known[channel]
            for name, _ in batch.events:
                if name not in ids:
                    return None
                if name in known:
                    newest[name] = known[name]
        rows, outcomes = _rows_of(batches, ids, newest, {}, seen[0], now)
        count = len(rows) // _VALUES
        if not count or connection.execute(_INSERT_IF[count], (*rows, *seen)).rowcount != count:
            return None
        known.update(newest)
        self._seen = (seen[0] + count, *seen[1:])
        return outcomes, seen[0] + 1

    def _conditions(self, connection: sqlite3.Connection, batches: list[Batch]) -> dict[str, int]:
        """The newest offset of each channel that a condition is about, and of those known that the batches change."""
        names = {batch.condition.channel for batch in batches if batch.condition is not None}
        known = self._newest
        if len(known) > _CHANNELS_KNOWN:
            known.clear()
        if known:
            names.update(name for batch in batches for name, _ in batch.events if name in known)
        found = {name: known[name] for name in names if name in known}
        unknown = names - found.keys()
        if unknown:
            query = """SELECT name, max(lost, coalesce((SELECT max(offset) FROM newswire_events WHERE channel = id), 0))
                       FROM newswire_channels WHERE name IN (SELECT value FROM json_each(?))"""
            found |= dict.fromkeys(unknown, 0) | dict(fetch(connection, 2, query, json.dumps(list(unknown))))
        return found

    def _identify(self, connection: sqlite3.Connection, batches: list[Batch], forgets: int) -> dict[str, int]:
        """The ids of the batches' channels that are not known yet; those that don't exist are made."""
        known = self._channels
        if len(known) > _CHANNELS_KNOWN:
            known.clear()
        unknown = {name for batch in batches for name, _ in batch.events if name not in known}
        if not unknown:
            return {}
        if self._forgotten[0] != forgets:
            self._forgotten = forgets, read_forgotten(connection)
        forgotten = self._forgotten[1]
        made = json.dumps([(name, forgotten.doubt(name)) for name in sorted(unknown)])
        pairs = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
        connection.execute(f"INSERT OR IGNORE INTO newswire_channels (name, doubt) {pairs}", (made,))
        query = "SELECT name, id FROM newswire_channels WHERE name IN (SELECT value FROM json_each(?))"
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

    def _tell(self, group: list[Submission], outcomes: list[Outcome], stored: list[_Stored]) -> None:
        """Call back in each event loop that has batches in a group.

        It is one loop, unless some came from a loop that was closed before they were stored.
        """
        for loop in {submission.loop: None for submission in group}:
            tell(loop, self._resolve, loop, group, outcomes, stored)

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


def _rows_of(
    batches: list[Batch], ids: dict[str, int], newest: dict[str, int], tokens: _Tokens, offset: int, now: float
) -> tuple[list[object], list[Outcome]]:
    """The values of the rows of those batches that are to be stored, one after the other, and all outcomes.

    Args:
        batches: what to judge, and to store after `offset`.
        ids: of their channels.
        newest: the newest offset of channels that conditions are about; changed by what is stored.
        tokens: known tokens, and what they were given; those that are stored are added.
    """
    rows: list[object] = []
    outcomes: list[Outcome] = []
    for batch in batches:
        condition = batch.condition
        if batch.token is not None and batch.token in tokens:
            first, count = tokens[batch.token]
            outcomes.append(Known(first) if count in (0, len(batch.events)) else TokenReused())
            continue
        if condition is not None and newest[condition.channel] != condition.newest:
            outcomes.append(None)
            continue
        outcomes.append(offset + 1)
        if batch.token is not None:
            tokens[batch.token] = offset + 1, len(batch.events)
        for (name, event), size in zip(batch.events, batch.sizes, strict=True):
            offset += 1
            kind = event.event
            rows += (offset, ids[name], size, now, None if kind == "message" else kind, event.data)
            if name in newest:
                newest[name] = offset
    return rows, outcomes


def _known_tokens(connection: sqlite3.Connection, batches: list[Batch]) -> _Tokens:
    wanted = [batch.token for batch in batches if batch.token is not None]
    if not wanted:
        return {}
    query = "SELECT token, first, events FROM newswire_tokens WHERE token IN (SELECT value FROM json_each(?))"
    return {token: (first, events) for token, first, events in fetch(connection, 3, query, json.dumps(wanted))}


def _remember_tokens(connection: sqlite3.Connection, tokens: _Tokens, newest: int, now: float) -> None:
    """Store the tokens of batches that were stored after `newest`; forget old ones."""
    execute = connection.execute
    new = json.dumps([(token, first, count) for token, (first, count) in tokens.items() if first > newest])
    rows = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(3))
    execute(f"INSERT INTO newswire_tokens (token, first, events, time) SELECT {rows}, ? FROM json_each(?)", (now, new))
    last = "SELECT max(number) FROM newswire_tokens"
    execute(f"DELETE FROM newswire_tokens WHERE number <= ({last}) - ?", (TOKENS_KEPT,))
    fresh = "SELECT number FROM newswire_tokens WHERE time >= ? ORDER BY number LIMIT 1"
    execute(f"DELETE FROM newswire_tokens WHERE number < ({fresh})", (now - TOKEN_SECONDS,))


def _concerns_all(error: Exception) -> bool:
    """Whether trying again batch by batch makes no sense: the file is locked, or is not there any more."""
    cause = error.__cause__
    if not isinstance(cause, sqlite3.Error):
        return isinstance(error, LogError)
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
