"""Reading the SQLite log, off the event loop: two threads, each with a connection of its own."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from newswire.log.base import Entry, Page, Span
from newswire.log.channels import Channels
from newswire.log.sqlite_file import connect, explain

T = TypeVar("T")

# A page ends early past so many characters of data, so that large events can't make a page of gigabytes.
_PAGE_SIZE: Final = 4 * 2**20
# Up to so many channels are read by index, one by one, and merged; more, by scanning the log.
_BY_INDEX: Final = 32


class Reader:
    """Runs queries in snapshots, in threads that start when needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="newswire log reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._names: dict[int, str] = {}  # every channel ever seen; they are never removed
        self._names_lock = threading.Lock()

    async def span(self) -> Span:
        """See `Log.span`."""
        return await self._run(_span)

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        return await self._run(lambda connection: self._read(connection, channels, after, max(1, limit)))

    async def read_all(self, after: int, limit: int) -> list[Entry]:
        """The next entries of all channels."""
        return await self._run(lambda connection: self._read_all(connection, after, limit))

    async def close(self) -> None:
        """End the threads and close their connections."""
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    async def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._query, query)

    def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect(self._path, synchronous="NORMAL", create=True)
            self._local.connection = connection
            self._connections.append(connection)
        try:
            connection.execute("BEGIN")  # one snapshot for all that the query looks at
            try:
                return query(connection)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def _read(self, connection: sqlite3.Connection, channels: Channels, after: int, limit: int) -> Page:
        ids = self._ids(connection, channels)
        if not ids:
            return Page([], max(after, _latest(connection)), 0)
        lost = connection.execute(
            "SELECT max(lost) FROM channels WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
        ).fetchone()[0]
        rows = _rows_by_index(connection, ids, after, limit) if len(ids) <= _BY_INDEX else None
        if rows is None:
            rows = connection.execute(
                # The + keeps SQLite on the key's order.
                """SELECT offset, channel, type, data, time FROM events
                   WHERE offset > ? AND +channel IN (SELECT value FROM json_each(?)) ORDER BY offset LIMIT ?""",
                (after, json.dumps(ids), limit),
            )
        entries = self._entries(connection, rows)
        size = 0
        for index, entry in enumerate(entries):
            size += len(entry.data)
            if size > _PAGE_SIZE and index:
                entries = entries[:index]
                return Page(entries, entries[-1].offset, lost)
        complete = len(entries) < limit
        return Page(entries, max(after, _latest(connection)) if complete else entries[-1].offset, lost)

    def _read_all(self, connection: sqlite3.Connection, after: int, limit: int) -> list[Entry]:
        rows = connection.execute(
            "SELECT offset, channel, type, data, time FROM events WHERE offset > ? ORDER BY offset LIMIT ?",
            (after, limit),
        )
        return self._entries(connection, rows)

    def _entries(self, connection: sqlite3.Connection, rows: Iterable[Sequence[object]]) -> list[Entry]:
        found = list(rows)
        names = self._names
        if any(row[1] not in names for row in found):
            names = self._learn(connection)
        return [Entry(offset, names[channel], *rest) for offset, channel, *rest in found]  # type: ignore[index, arg-type]

    def _ids(self, connection: sqlite3.Connection, channels: Channels) -> list[int]:
        single = channels.single
        if single is not None:
            row = connection.execute("SELECT id FROM channels WHERE name = ?", (single,)).fetchone()
            return [] if row is None else [row[0]]
        return [id for id, name in self._learn(connection).items() if name in channels]

    def _learn(self, connection: sqlite3.Connection) -> dict[int, str]:
        """All channels that this snapshot has, and perhaps some newer ones."""
        with self._names_lock:
            newest = max(self._names, default=0)
            fresh = connection.execute("SELECT id, name FROM channels WHERE id > ?", (newest,)).fetchall()
            if fresh:
                self._names = {**self._names, **dict(fresh)}
            return self._names


def _latest(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return 0 if row is None else int(row[0])


def _span(connection: sqlite3.Connection) -> Span:
    epoch = connection.execute("SELECT epoch FROM meta").fetchone()[0]
    latest = _latest(connection)
    first = connection.execute("SELECT min(offset) FROM events").fetchone()[0]
    return Span(epoch, latest if first is None else first - 1, latest)


def _rows_by_index(
    connection: sqlite3.Connection, ids: list[int], after: int, limit: int
) -> Iterable[Sequence[object]]:
    part = """SELECT * FROM (SELECT offset, channel, type, data, time FROM events
              WHERE channel = ? AND offset > ? ORDER BY offset LIMIT ?)"""
    query = " UNION ALL ".join([part] * len(ids)) + " ORDER BY offset LIMIT ?"
    parameters: list[int] = []
    for id in ids:
        parameters += (id, after, limit)
    return connection.execute(query, (*parameters, limit))
