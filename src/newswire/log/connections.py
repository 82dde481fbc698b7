"""The connections that an application may publish through, each with the way in which a statement is executed on it.

A connection is recognised by the module that its class comes from. So newswire imports no driver. What is known:
`sqlite3`, `aiosqlite`, SQLAlchemy 2 (Connection, Session, and both with asyncio), asyncpg, psycopg 3 (with and without
asyncio), and Django's `connection`; of SQLAlchemy and Django, on SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from newswire.errors import InvalidConnection
from newswire.log.transactions import Raw, Row, Statement, Steps

T = TypeVar("T")

_KNOWN: Final = (
    "a connection of sqlite3, aiosqlite, SQLAlchemy (Connection, Session, AsyncConnection, AsyncSession), asyncpg or "
    "psycopg 3, or Django's `connection`"
)


class Caller(NamedTuple):
    """An application's connection.

    Attributes:
        database: `sqlite` or `postgresql`.
        waits: whether what it executes has to be awaited.
        execute: executes a statement and gives the rows; for None gives the `Raw` connection. Or
            gives what has to be awaited for that.
    """

    database: str
    waits: bool
    execute: Callable[[Statement | None], Any]


def caller_of(connection: Any) -> Caller:
    """Recognise a connection.

    Raises:
        InvalidConnection: it is no connection, or of a kind that newswire does not know.
    """
    for kind in type(connection).__mro__:
        found = _KINDS.get(kind.__module__.partition(".")[0])
        if found is not None:
            caller = found(connection)
            if caller is not None:
                return caller
    given = f"{type(connection).__module__}.{type(connection).__qualname__}"
    hint = ": give a connection that you got from it" if given.endswith(("Engine", "Pool", "sessionmaker")) else ""
    raise InvalidConnection(f"events are published through {_KNOWN}, not {given}{hint}")


def run(caller: Caller, steps: Steps[T]) -> T:
    """Execute steps on a connection that need not be awaited."""
    try:
        run_async(caller, steps).send(None)  # it awaits nothing, so it ends at once
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("the calls of this connection are awaited")


async def run_async(caller: Caller, steps: Steps[T]) -> T:
    """Execute steps on any connection."""
    try:
        statement = next(steps)
        while True:
            try:
                answer = caller.execute(statement)
                if caller.waits:
                    answer = await answer
            except Exception as error:  # the driver's: the steps may know what it means
                statement = steps.throw(error)
            else:
                statement = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


# -- the kinds: each gives None for an object that is no connection


def _sqlite3(connection: Any) -> Caller | None:
    if not hasattr(connection, "total_changes"):
        return None

    def execute(statement: Statement | None) -> Any:
        if statement is None:
            return Raw(connection, False)
        cursor = connection.cursor()
        cursor.row_factory = None  # the application's may make anything of a row
        return cursor.execute(*statement).fetchall()

    return Caller("sqlite", False, execute)


def _aiosqlite(connection: Any) -> Caller | None:
    if not hasattr(connection, "total_changes"):
        return None

    async def execute(statement: Statement | None) -> Any:
        if statement is None:
            return Raw(connection, False)
        async with connection.cursor() as cursor:
            cursor.row_factory = None
            await cursor.execute(*statement)
            return list(await cursor.fetchall())

    return Caller("sqlite", True, execute)


def _sqlalchemy(connection: Any) -> Caller | None:
    is_session = hasattr(connection, "get_bind")
    if not is_session and not hasattr(connection, "exec_driver_sql"):
        return None
    waits = hasattr(connection, "run_sync")
    dialect = (connection.get_bind() if is_session else connection).dialect
    database, style = _database(dialect.name), dialect.paramstyle

    def execute(statement: Statement | None) -> Any:
        target = connection.connection() if is_session else connection
        if statement is None:
            return Raw(target.connection.driver_connection, True)
        return _sqlalchemy_rows(target.exec_driver_sql(*_styled(statement, style)))

    async def execute_async(statement: Statement | None) -> Any:
        target = await connection.connection() if is_session else connection
        if statement is None:
            return Raw((await target.get_raw_connection()).driver_connection, True)
        return _sqlalchemy_rows(await target.exec_driver_sql(*_styled(statement, style)))

    return Caller(database, waits, execute_async if waits else execute)


def _sqlalchemy_rows(result: Any) -> list[Row]:
    return _tuples(result) if result.returns_rows else []


def _asyncpg(connection: Any) -> Caller | None:
    if not hasattr(connection, "fetch") or hasattr(connection, "acquire"):
        return None

    async def execute(statement: Statement | None) -> Any:
        if statement is None:
            return Raw(connection, False)
        sql, parameters = _styled(statement, "numeric_dollar")
        return _tuples(await connection.fetch(sql, *parameters))

    return Caller("postgresql", True, execute)


def _psycopg(connection: Any) -> Caller | None:
    if not hasattr(connection, "cursor") or not hasattr(connection, "pgconn"):
        return None
    from psycopg import AsyncCursor, Cursor
    from psycopg.rows import tuple_row

    # Not `connection.cursor`: the application's class of cursors may know other marks for parameters. And in a pipeline
    # there is no description before rows are fetched.
    def execute(statement: Statement | None) -> Any:
        if statement is None:
            return Raw(connection, False)
        with Cursor(connection, row_factory=tuple_row) as cursor:
            cursor.execute(*_styled(statement, "format"))
            return cursor.fetchall() if _gives_rows(statement) else []

    async def execute_async(statement: Statement | None) -> Any:
        if statement is None:
            return Raw(connection, False)
        async with AsyncCursor(connection, row_factory=tuple_row) as cursor:
            await cursor.execute(*_styled(statement, "format"))
            return await cursor.fetchall() if _gives_rows(statement) else []

    waits = hasattr(connection, "__aenter__")
    return Caller("postgresql", waits, execute_async if waits else execute)


def _django(connection: Any) -> Caller | None:
    vendor = getattr(connection, "vendor", None)
    if vendor is None:
        return None

    def execute(statement: Statement | None) -> Any:
        if statement is None:
            connection.ensure_connection()
            return Raw(connection.connection, False)
        with connection.cursor() as cursor:
            cursor.execute(*_styled(statement, "format"))
            return _fetched(cursor)

    return Caller(_database(vendor), False, execute)


def _fetched(cursor: Any) -> list[Row]:
    return cursor.fetchall() if cursor.description else []


def _gives_rows(statement: Statement) -> bool:
    return statement[0].lstrip().startswith(("SELECT", "SHOW"))


def _tuples(rows: Iterable[Iterable[Any]]) -> list[Row]:
    """The rows of a driver as tuples."""
    return [tuple(row) for row in rows]


_Kind: TypeAlias = Callable[[Any], Caller | None]
_KINDS: Final[dict[str, _Kind]] = {
    "sqlite3": _sqlite3,
    "aiosqlite": _aiosqlite,
    "sqlalchemy": _sqlalchemy,
    "asyncpg": _asyncpg,
    "psycopg": _psycopg,
    "django": _django,
}


def _database(name: str) -> str:
    if name not in ("sqlite", "postgresql"):
        raise InvalidConnection(f"events are published through connections to SQLite and PostgreSQL, not to {name}")
    return name


def _styled(statement: Statement, style: str) -> tuple[str, tuple[object, ...]]:
    """A statement with its parameters marked as a driver wants them."""
    sql, parameters = statement
    if style == "numeric_dollar":
        numbers = count(1)
        sql = "".join(f"${next(numbers)}" if part == "?" else part for part in _split(sql))
    elif style in ("format", "pyformat"):
        sql = sql.replace("?", "%s")
    return sql, tuple(parameters)


def _split(sql: str) -> list[str]:
    parts: list[str] = []
    for part in sql.split("?"):
        parts += (part, "?")
    return parts[:-1]
