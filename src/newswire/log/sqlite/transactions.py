"""Publishing through an application's own connection to the SQLite file, and the position that its rows are at.

A connection inserts into the view `newswire_outbox`, which appends to the log at once; see
`newswire.log.sqlite.schema`. What the transaction does not commit was never there. This file has the statements, and
the SQL of triggers that publish each change of a table; the connection is the application's.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Final

from newswire.errors import InvalidConnection, LimitExceeded, LogError
from newswire.log.position import Position, positions
from newswire.log.sqlite.file import fetch
from newswire.log.sqlite.schema import NEWEST
from newswire.log.transactions import (
    ChannelTemplate,
    Found,
    NotReady,
    Snapshot,
    Statement,
    Steps,
    Transactions,
    name,
    quoted,
)
from newswire.wire.event import Event

_COLUMNS: Final = 40  # to one `json_object`, which takes 127 arguments in every SQLite
_TRIGGERS: Final = ("insert", "update", "delete")


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table of the application's.

    Raises:
        LogError: there is no such table.
    """
    query = "SELECT type, rootpage FROM sqlite_master WHERE lower(name) = lower(?)"
    found = connection.execute(query, (table,)).fetchone()
    if found is None or found[0] != "table" or table.lower().startswith(("newswire_", "sqlite_")):
        raise LogError(f"the file has no table {table!r} of an application: make the table first")
    if not found[1]:
        raise LogError(f"{table!r} is a virtual table, and SQLite has no triggers on those: watch the table behind it")
    query = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid"
    return [column for (column,) in connection.execute(query, (table,)).fetchall()]


def triggers(table: str, columns: list[str], template: ChannelTemplate) -> str:
    """The statements that make the triggers.

    Raises:
        LogError: the template names a column that the table has not.
    """
    for column in template.columns:
        if column.lower() not in (each.lower() for each in columns):
            raise LogError(f"the table {table!r} has no column {column!r}; it has {', '.join(columns)}")
    old, new = template.sql("OLD.{}"), template.sql("NEW.{}")
    changed = " OR ".join(f"OLD.{name(each)} IS NOT NEW.{name(each)}" for each in columns)
    return (
        remove(table)
        + f"""
CREATE TRIGGER {_trigger(table, "insert")} AFTER INSERT ON {name(table)} BEGIN
    {_publish(new, "NEW", columns, "'insert'")};
END;

CREATE TRIGGER {_trigger(table, "update")} AFTER UPDATE ON {name(table)} WHEN {changed} BEGIN
    {_publish(old, "OLD", columns, "'delete'")}
    WHERE ({old}) IS NOT ({new});
    {_publish(new, "NEW", columns, f"CASE WHEN ({old}) IS ({new}) THEN 'update' ELSE 'insert' END")};
END;

CREATE TRIGGER {_trigger(table, "delete")} AFTER DELETE ON {name(table)} BEGIN
    {_publish(old, "OLD", columns, "'delete'")};
END;
"""
    )


def remove(table: str) -> str:
    """The statements that remove the triggers."""
    return "".join(f"DROP TRIGGER IF EXISTS {_trigger(table, what)};\n" for what in _TRIGGERS)


def _trigger(table: str, what: str) -> str:
    return name(f"newswire_watch_{table}_{what}")


def _publish(channel: str, row: str, columns: list[str], event: str) -> str:
    return f"""INSERT INTO newswire_outbox (channel, event, data)
    SELECT {channel}, {event}, {_object(row, columns)}"""


def _object(row: str, columns: list[str]) -> str:
    """An expression: the row as a JSON object. Blobs are hexadecimal digits; JSON has no infinite numbers: texts."""
    parts = []
    for begin in range(0, len(columns), _COLUMNS):
        values = ((quoted(each), f"{row}.{name(each)}") for each in columns[begin : begin + _COLUMNS])
        pairs = [
            f"{key}, CASE typeof({value}) WHEN 'blob' THEN hex({value}) WHEN 'real' THEN "
            f"CASE {value} WHEN 9e999 THEN 'Infinity' WHEN -9e999 THEN '-Infinity' ELSE {value} END ELSE {value} END"
            for key, value in values
        ]
        parts.append(f"json_object({', '.join(pairs)})")
    if len(parts) == 1:
        return parts[0]
    inner = " || ',' || ".join(f"substr({part}, 2, length({part}) - 2)" for part in parts)
    return f"'{{' || {inner} || '}}'"


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
