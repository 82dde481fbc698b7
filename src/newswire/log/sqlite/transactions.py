"""Publishing through an application's own connection to the SQLite file, and the position that its rows are at.

A connection inserts into the view `newswire_outbox`, which appends to the log at once; see
`newswire.log.sqlite.outbox_view`. What the transaction does not commit was never there. This file has the statements;
the connection is the application's.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Final

from newswire.errors import InvalidConnection, LimitExceeded
from newswire.log.position import Position, positions
from newswire.log.sqlite.file import fetch
from newswire.log.sqlite.schema import NEWEST
from newswire.log.sqlite.watch import columns_of, remove, triggers
from newswire.log.transactions import Found, NotReady, Snapshot, Statement, Steps, Transactions
from newswire.log.watch import ChannelTemplate
from newswire.wire.event import Event

# One statement has them all, so that also without a transaction they come together; SQLite binds 32,766 values.
_EVENTS: Final = 8000
_READY: Final = """SELECT file, (SELECT count(*) FROM sqlite_master WHERE name = 'newswire_outbox')
                   FROM pragma_database_list WHERE name = 'main'"""
_PLACE: Final = f"SELECT epoch, {NEWEST} FROM newswire_meta"


class SqliteTransactions(Transactions):
    """The transactions of one log's file.

    Args:
        path: the file.
        query: runs a query in a snapshot of the log's own.
    """

    database: ClassVar[str] = "sqlite"

    def __init__(
        self, path: str, query: Callable[[Callable[[sqlite3.Connection], Any]], Coroutine[Any, Any, Any]]
    ) -> None:
        self._path = path
        self.query = query

    def write(self, events: Sequence[tuple[str, Event]], key: str | None) -> Steps[Sequence[str]]:
        """See `Transactions.write`."""
        if len(events) > _EVENTS:
            hint = "publish them by several calls in the same transaction"
            raise LimitExceeded("the number of events in a batch", limit=_EVENTS, actual=len(events), hint=hint)
        yield from self.check()
        token = key or secrets.token_hex(16)
        rows: list[object] = []
        for number, (channel, event) in enumerate(events):
            rows += (str(channel), event.data, event.event, number)
        values = ", ".join(["(?, ?, ?, ?)"] * len(events))
        yield Statement(
            f"""INSERT INTO newswire_outbox (channel, data, event, number, token)
                SELECT column1, column2, column3, column4, token FROM (VALUES {values}), (SELECT ? AS token)
                WHERE token NOT IN (SELECT token FROM newswire_tokens) ORDER BY column4""",
            (*rows, token),
        )
        return [token]

    def check(self) -> Steps[None]:
        """See that a connection has the log's file open, and that the file has a log."""
        [(file, ready)] = yield Statement(_READY)
        if not file or not _same(file, self._path):
            raise InvalidConnection(
                f"this connection has {file or 'a database in memory'} open, and the log is {self._path}: an event "
                "shares a transaction with rows of the same file only. Give the hub the URL of the application's "
                "database (sqlite:////path/of/app.db), or publish without `connection` after the commit"
            )
        if not ready:
            raise NotReady(
                f"{self._path} has no log yet: open the hub before the transaction, where your application starts "
                "(`async with hub:`, hub.lifespan, or hub.sync.open())"
            )

    async def find(self, tokens: Sequence[str]) -> Mapping[str, Found]:
        """See `Transactions.find`."""
        query = """SELECT token, first, events, epoch FROM newswire_tokens, newswire_meta
                   WHERE token IN (SELECT value FROM json_each(?))"""
        wanted = json.dumps(list(tokens))
        rows = await self.query(lambda connection: fetch(connection, 4, query, wanted))
        return {token: positions(epoch, first, events) for token, first, events, epoch in rows}

    async def watch(self, table: str, template: ChannelTemplate | None) -> str:
        """See `Transactions.watch`."""
        columns = await self.query(lambda connection: columns_of(connection, table))
        return remove(table) if template is None else triggers(table, columns, template)

    def snapshot(self) -> Snapshot:
        """See `Transactions.snapshot`."""
        return _Snapshot(self)


class _Snapshot(Snapshot):
    """A transaction of SQLite's sees one state from its first statement that reads."""

    def __init__(self, transactions: SqliteTransactions) -> None:
        self._transactions = transactions
        self._position: Position
        self._began: int | None = None  # what the connection had changed before the transaction that was begun here

    def begin(self) -> Steps[None]:
        """See `Snapshot.begin`."""
        yield from self._transactions.check()
        raw = yield None
        if not raw.connection.in_transaction:
            self._began = raw.connection.total_changes
            yield Statement("BEGIN")
        [(epoch, newest)] = yield Statement(_PLACE)
        self._position = Position(epoch, newest)

    async def settle(self) -> Position:
        """See `Snapshot.settle`."""
        if self._began is None:
            epoch, newest = await self._transactions.query(lambda connection: connection.execute(_PLACE).fetchone())
            if epoch == self._position.epoch and newest < self._position.offset:
                raise InvalidConnection(
                    "this transaction has published events that are not committed, so its state has no position yet: "
                    "commit it first, or read with another connection"
                )
        return self._position

    def end(self, failed: bool) -> Steps[None]:
        """See `Snapshot.end`. A transaction in which the application has written is the application's to end."""
        raw = yield None
        if self._began == raw.connection.total_changes and raw.connection.in_transaction:
            yield Statement("COMMIT")


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
