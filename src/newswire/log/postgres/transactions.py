"""Publishing through an application's own connection to PostgreSQL, and the position that its rows are at.

A connection inserts rows into the outbox, one for each event and each with a ticket: `newswire.log.postgres.outbox`
says what becomes of them. This file has the statements that the application's connection executes, and the SQL of
triggers that publish each change of a table.

**A snapshot** is taken while the log stands still. The connection's transaction gets its snapshot then; what that sees
and was not moved to the log yet is moved, and then the log goes on. So what the snapshot sees is before the position,
and all else comes after it. The transaction must not have had a snapshot before: it would lack rows whose events are
in the log already. `_is_stale` finds that out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Final
from uuid import UUID, uuid4
from weakref import WeakSet

from newswire.errors import InvalidConnection, LimitExceeded, LogError
from newswire.log.position import Position
from newswire.log.postgres.outbox import Barrier, Outbox
from newswire.log.transactions import (
    ChannelTemplate,
    Found,
    NotReady,
    Raw,
    Snapshot,
    Statement,
    Steps,
    Transactions,
    name,
)
from newswire.wire.event import Event

# PostgreSQL takes 65,535 parameters, and drivers no more than 32,767.
_EVENTS: Final = 8000
_KEPT: Final = ("repeatable read", "serializable")
_IDLE: Final = 0  # libpq's PQTRANS_IDLE
_READ_BEFORE: Final = (
    "the transaction of this connection can't have a snapshot, for it has read or written already: take the snapshot "
    "first in a transaction, or give a connection that is in none"
)


class DatabaseIdentity:
    """Which database the log is in, and which connections lead to it.

    Attributes:
        name: what `Outbox.place` said last; empty: no one has asked yet.
        connections: those that have answered: a connection leads to one database as long as it lives.
    """

    def __init__(self) -> None:
        self.name = ""
        self.connections: WeakSet[Any] = WeakSet()


class PostgresTransactions(Transactions):
    """The transactions of one log's database.

    Args:
        outbox: gives the log's, which is another after a fork, and in another event loop.
        enter: called before the log is used.
        place: where that is.
    """

    database: ClassVar[str] = "postgresql"

    def __init__(self, outbox: Callable[[], Outbox], enter: Callable[[], None], place: DatabaseIdentity) -> None:
        self._outbox = outbox
        self.enter = enter
        self._place = place

    @property
    def outbox(self) -> Outbox:
        """The log's outbox."""
        return self._outbox()

    def write(self, events: Sequence[tuple[str, Event]], key: str | None) -> Steps[Sequence[str]]:
        """See `Transactions.write`."""
        if key is not None:
            raise ValueError(
                "within a transaction on PostgreSQL, use no idempotency key: insert a row with a unique key of yours "
                "in it, and it commits once"
            )
        if len(events) > _EVENTS:
            hint = "publish them by several calls in the same transaction"
            raise LimitExceeded("the number of events in a batch", limit=_EVENTS, actual=len(events), hint=hint)
        yield from self.check()
        tickets = [str(uuid4()) for _ in events]
        rows: list[object] = []
        for ticket, (channel, event) in zip(tickets, events, strict=True):
            rows += (ticket, str(channel), None if event.event == "message" else event.event, event.data)
        yield Statement(self.outbox.insert("?", "?", "?", "?", rows=len(events)), rows)
        return tickets

    def check(self) -> Steps[None]:
        """See that a connection leads to the log's database."""
        place = self._place
        raw = yield None
        connection = getattr(raw.connection, "_con", raw.connection)  # of asyncpg's pool, what is behind the proxy
        if not place.name:
            raise NotReady(
                f"the log {self.outbox.name} has not been reached yet, so it is not known whether this connection "
                "leads to its database: see that its server runs, and open the hub where your application starts "
                "(`async with hub:`, hub.lifespan, or hub.sync.open())"
            )
        if connection in place.connections:
            return
        [(found,)] = yield Statement(self.outbox.place_query)
        if found == place.name:
            place.connections.add(connection)
            return
        raise NotReady(
            f"the database of this connection has not the log {self.outbox.name}: give the hub the URL of the database "
            "that your connections lead to, or publish without `connection` after the commit"
        )

    async def prepare(self) -> None:
        """See `Transactions.prepare`."""
        self.enter()
        found = await self.outbox.place()
        if found != self._place.name:
            self._place.connections.clear()
            self._place.name = found

    async def find(self, tokens: Sequence[str]) -> Mapping[str, Found]:
        """See `Transactions.find`."""
        self.enter()
        self.outbox.expect()
        found = await self.outbox.find([UUID(token) for token in tokens])
        return {str(ticket): None if place is None else [place] for ticket, place in found.items()}

    async def watch(self, table: str, template: ChannelTemplate | None) -> str:
        """See `Transactions.watch`."""
        self.enter()
        schema, rows = await self.outbox.look_up(TABLE, table)
        if not rows:
            raise LogError(f"the database has no table {table!r}: make it first, or name its schema (shop.orders)")
        return remove(schema, rows[0]) if template is None else triggers(schema, table, rows[0], template)

    def snapshot(self) -> Snapshot:
        """See `Transactions.snapshot`."""
        return _Snapshot(self)


class _Snapshot(Snapshot):
    """See the module."""

    def __init__(self, transactions: PostgresTransactions) -> None:
        self._transactions = transactions
        self._stack = AsyncExitStack()
        self._barrier: Barrier
        self._before = ""  # the server's snapshot, when the log stood still
        self._own = ""  # the connection's
        self._began = False

    async def hold(self) -> None:
        """See `Snapshot.hold`."""
        self._transactions.enter()
        self._barrier = await self._stack.enter_async_context(self._transactions.outbox.barrier())
        self._before = await self._barrier.snapshot()

    def begin(self) -> Steps[None]:
        """See `Snapshot.begin`. What is executed before the last statement takes no snapshot."""
        raw = yield None
        if _is_idle(raw):
            self._began = True
            yield Statement("BEGIN ISOLATION LEVEL REPEATABLE READ")
        else:
            [(level,)] = yield Statement("SHOW transaction_isolation")
            if level not in _KEPT:
                try:
                    yield Statement("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                except Exception as error:  # the driver's; its class is not known here
                    if "before any query" not in str(error):
                        raise
                    raise InvalidConnection(_READ_BEFORE) from error
        yield from self._transactions.check()
        query = "SELECT pg_current_snapshot()::text, current_setting('transaction_isolation')"
        [(self._own, level)] = yield Statement(query)
        if level not in _KEPT:
            raise InvalidConnection(
                "this connection is in no transaction, and something above its driver commits each statement "
                "(AUTOCOMMIT): give one that has transactions"
            )
        if _is_stale(self._own, self._before):
            raise InvalidConnection(_READ_BEFORE)

    async def settle(self) -> Position:
        """See `Snapshot.settle`."""
        return await self._barrier.pass_(self._own)

    async def abandon(self) -> None:
        """See `Snapshot.abandon`."""
        await self._stack.aclose()

    def end(self, failed: bool) -> Steps[None]:
        """See `Snapshot.end`. A transaction that was there, or that the driver began, is its owner's to end."""
        if self._began:
            yield Statement("ROLLBACK" if failed else "COMMIT")


def _is_idle(raw: Raw) -> bool:
    """Whether a connection is in no transaction, and would begin none by itself."""
    connection: Any = raw.connection
    if raw.managed:
        return False
    if hasattr(connection, "is_in_transaction"):  # asyncpg
        return not connection.is_in_transaction()
    return bool(connection.autocommit and connection.info.transaction_status == _IDLE)


def _is_stale(snapshot: str, before: str) -> bool:
    """Whether a snapshot takes for open what had ended when another was taken: then it is the older one."""
    _, upto, open_ = _parse(snapshot)
    _, before_upto, before_open = _parse(before)
    ended_since = any(number < before_upto and number not in before_open for number in open_)
    return ended_since or any(number not in before_open for number in range(upto, before_upto))


def _parse(snapshot: str) -> tuple[int, int, set[int]]:
    """The parts of a `pg_snapshot`: everything before the first is over, nothing from the second on has begun."""
    least, upto, open_ = snapshot.split(":")
    return int(least), int(upto), {int(number) for number in open_.split(",") if number}


# A table as the application writes it, and its columns.
TABLE: Final = """
    SELECT c.oid::regclass::text, n.nspname || '.' || c.relname, (
        SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    ) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')"""


def triggers(schema: str, table: str, found: tuple[str, str, Sequence[str]], template: ChannelTemplate) -> str:
    """The statements that make the trigger and its function.

    Args:
        schema: the log's, quoted.
        table: as the caller named it.
        found: a row of `TABLE`.
        template: of the channel.

    Raises:
        LogError: the template names a column that the table has not.
    """
    shown, full, columns = found
    for column in template.columns:
        if column not in columns:
            raise LogError(f"the table {table!r} has no column {column!r}; it has {', '.join(columns)}")
    old, new = template.sql("OLD.{}::text"), template.sql("NEW.{}::text")
    function = _function(schema, full)
    outbox = f"INSERT INTO {schema}.outbox (channel, event, data)"
    return f"""CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $newswire$
DECLARE
    -- A name that can't be a channel's is set aside with its event: it never fails the application's transaction.
    old_channel text := CASE WHEN TG_OP <> 'INSERT' THEN coalesce({old}, '') END;
    new_channel text := CASE WHEN TG_OP <> 'DELETE' THEN coalesce({new}, '') END;
BEGIN
    IF TG_OP = 'UPDATE' AND OLD *= NEW THEN
        RETURN NULL;
    END IF;
    IF old_channel = new_channel THEN
        {outbox} VALUES (new_channel, 'update', row_to_json(NEW)::text);
        RETURN NULL;
    END IF;
    IF old_channel IS NOT NULL THEN
        {outbox} VALUES (old_channel, 'delete', row_to_json(OLD)::text);
    END IF;
    IF new_channel IS NOT NULL THEN
        {outbox} VALUES (new_channel, 'insert', row_to_json(NEW)::text);
    END IF;
    RETURN NULL;
END $newswire$;
CREATE OR REPLACE TRIGGER newswire_watch AFTER INSERT OR UPDATE OR DELETE ON {shown}
    FOR EACH ROW EXECUTE FUNCTION {function}();
"""


def remove(schema: str, found: tuple[str, str, Sequence[str]]) -> str:
    """The statements that remove the trigger and its function."""
    shown, full, _ = found
    return f"DROP TRIGGER IF EXISTS newswire_watch ON {shown};\nDROP FUNCTION IF EXISTS {_function(schema, full)}();\n"


def _function(schema: str, full: str) -> str:
    """The function for a table; a long name is cut, as PostgreSQL does, but stays another for each table."""
    found = f"watch_{full}"
    if len(found.encode()) > 63:
        digest = hashlib.blake2b(full.encode(), digest_size=8).hexdigest()
        found = f"{found.encode()[:46].decode('utf-8', 'ignore')}_{digest}"
    return f"{schema}.{name(found)}"
