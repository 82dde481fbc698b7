"""The writer of the SQLite log: one thread, which stores what has come together meanwhile in one transaction.

While one transaction waits for the disk, the next batches queue up; so the number of commits follows the disk, the
number of events the publishers. Retention runs in the same thread, in small transactions between batches.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from newswire.errors import Closed, LogError
from newswire.log.base import Entry
from newswire.log.position import Position
from newswire.log.retention import Rules
from newswire.log.sqlite_file import connect, explain
from newswire.log.sqlite_trim import trim_some
from newswire.wire.event import Event

# Batches in one transaction: bounded so that the first does not wait for the last.
_MAX_EVENTS: Final = 4096
# How often retention runs, in seconds; and events between runs, so that a fast publisher can't outrun it.
_TRIM_SECONDS: Final = 5.0
_TRIM_EVENTS: Final = 10_000


@dataclass(slots=True)
class Batch:
    """What one `append` brought, and who waits for it."""

    events: Sequence[tuple[str, Event]]
    done: asyncio.Future[list[Position]]


@dataclass(slots=True)
class _Trim:
    """A request to run retention now."""

    done: asyncio.Future[int]


class Writer:
    """Owns the connection that writes. Its thread starts with the first call and ends with `close`.

    Args:
        committed: called in the event loop with the entries of each transaction, before its publishers go on.
    """

    def __init__(
        self,
        path: Path,
        synchronous: str,
        rules: Rules,
        committed: Callable[[Sequence[Entry]], None],
    ) -> None:
        self._path = path
        self._synchronous = synchronous
        self._rules = rules
        self._committed = committed
        self._queue: queue.SimpleQueue[Batch | _Trim | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._channels: dict[str, int] = {}
        self._epoch = ""
        self._since_trim = 0
        self._thread = threading.Thread(target=self._run, name="newswire log writer", daemon=True)
        self._thread.start()

    def append(self, events: Sequence[tuple[str, Event]]) -> asyncio.Future[list[Position]]:
        """Queue a checked batch."""
        done: asyncio.Future[list[Position]] = self._loop.create_future()
        self._queue.put(Batch(events, done))
        return done

    def trim(self) -> asyncio.Future[int]:
        """Run retention now."""
        done: asyncio.Future[int] = self._loop.create_future()
        self._queue.put(_Trim(done))
        return done

    async def close(self) -> None:
        """Store what was queued, then end."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- the thread

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        next_trim = time.monotonic() + _TRIM_SECONDS
        closing = False
        while not closing:
            batches, trims, closing = self._collect(next_trim if self._rules else None)
            try:
                if connection is None and (batches or trims):
                    connection = self._open()
                if batches and connection is not None:
                    self._store(connection, batches)
            except LogError as error:
                self._fail([batch.done for batch in batches], error)
            if connection is not None and self._rules:
                if trims or time.monotonic() >= next_trim or self._since_trim >= _TRIM_EVENTS:
                    self._trim(connection, trims)
                    next_trim = time.monotonic() + _TRIM_SECONDS
            else:
                self._tell([(request.done, 0) for request in trims], ())
        self._fail_rest()
        if connection is not None:
            connection.close()

    def _collect(self, until: float | None) -> tuple[list[Batch], list[_Trim], bool]:
        """Wait for something to do; then take all that is there."""
        batches: list[Batch] = []
        trims: list[_Trim] = []
        events = 0
        try:
            item = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            while item is not None:
                if isinstance(item, _Trim):
                    trims.append(item)
                else:
                    batches.append(item)
                    events += len(item.events)
                    if events >= _MAX_EVENTS:
                        return batches, trims, False
                item = self._queue.get_nowait()
            return batches, trims, True
        except queue.Empty:
            return batches, trims, False

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._path, synchronous=self._synchronous, create=True)
        self._epoch = connection.execute("SELECT epoch FROM meta").fetchone()[0]
        return connection

    def _store(self, connection: sqlite3.Connection, batches: list[Batch]) -> None:
        now = time.time()
        known = dict(self._channels) if len(self._channels) < 100_000 else {}
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
                offset = last[0] if last is not None else 0
                rows: list[tuple[int, int, str, str, float]] = []
                entries: list[Entry] = []
                results = []
                for batch in batches:
                    positions = []
                    for name, event in batch.events:
                        offset += 1
                        channel = known.get(name) or self._channel(connection, name, known)
                        rows.append((offset, channel, event.event, event.data, now))
                        entries.append(Entry(offset, name, event.event, event.data, now))
                        positions.append(Position(self._epoch, offset))
                    results.append((batch.done, positions))
                connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise explain(error, self._path) from error
        self._channels = known  # channels made in a transaction that failed are not remembered
        self._since_trim += len(rows)
        self._tell(results, entries)

    @staticmethod
    def _channel(connection: sqlite3.Connection, name: str, known: dict[str, int]) -> int:
        row = connection.execute("SELECT id FROM channels WHERE name = ?", (name,)).fetchone()
        if row is None:
            row = (connection.execute("INSERT INTO channels (name) VALUES (?)", (name,)).lastrowid,)
        id: int = row[0]
        known[name] = id
        return id

    def _trim(self, connection: sqlite3.Connection, trims: list[_Trim]) -> None:
        removed = 0
        try:
            while some := trim_some(connection, self._rules, time.time()):
                removed += some
                if not trims and not self._queue.empty():
                    break  # publishers first; the rest is for the next time
            self._since_trim = 0
        except sqlite3.Error as error:
            self._fail([request.done for request in trims], explain(error, self._path))
            return
        self._tell([(request.done, removed) for request in trims], ())

    # -- back to the event loop

    def _tell(self, results: Sequence[tuple[asyncio.Future[Any], Any]], entries: Sequence[Entry]) -> None:
        def tell() -> None:
            if entries:
                self._committed(entries)
            for future, result in results:
                if not future.done():
                    future.set_result(result)

        self._call(tell)

    def _fail(self, futures: Sequence[asyncio.Future[Any]], error: Exception) -> None:
        def fail() -> None:
            for future in futures:
                if not future.done():
                    future.set_exception(error)

        self._call(fail)

    def _fail_rest(self) -> None:
        while not self._queue.empty():
            item = self._queue.get()
            if item is not None:
                self._fail([item.done], Closed("the log is closed"))

    def _call(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop was closed without closing the log: nobody waits any more
