"""Connections to the database, and what they find there: which life of the log goes on.

A `PostgresLink` is one connection, made when it is needed and made again after it broke. Each time it enters the log
first: a server process that is another one may have lost the newest events, and so may a database that knows less than
this process has seen. Then the log begins another life, and all who share the `PostgresServer` hear of it. No password
is ever in what is raised or logged here.

Behind a proxy that pools transactions, each call is a transaction of its own with a BEGIN and a COMMIT, and nothing is
left to the session: no prepared statement, no setting, no lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from asyncpg import exceptions as errors

from newswire.deadline import Timer
from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.position import new_epoch
from newswire.log.postgres.address import Address
from newswire.log.postgres.schema import STEPS, Schema
from newswire.log.server import LinkLost, RemoteServer, no_log, text_of

logger: logging.Logger = logging.getLogger("newswire.log")

ENTER: Final = "SELECT * FROM @schema@.enter($1, $2, $3, $4, $5)"
# What a server says that has no place for this now, and may have later: by the first letters of its codes.
_LATER: Final = ("40", "53", "54", "55", "57014", "58")
# What it says when it ends the connection: whether it has done its work is not known.
_LOST: Final = ("08", "57P")
_IN_USE: Final = "it was closed while it was in use"  # asyncpg says what it was about to do itself
_RUN: Final = "SELECT pg_postmaster_start_time()::text"
_ATTEMPTS: Final = 4
# A process that stands still in a transaction loses its session, and with it the log's lock.
_SETTINGS: Final = {"idle_in_transaction_session_timeout": "5s"}
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '5s'"


class Gone(LogUnavailable):
    """The tables are not there."""


class PostgresServer(RemoteServer):
    """What all connections of an engine share.

    Args:
        address: where the database is.
        schema: the log's names there.
        timeout: seconds to wait for a connection or an answer.
        pooled: whether a proxy is in between that pools transactions.
        create: whether to make the tables if they are missing.

    Attributes:
        refusal: why another life of the log, which has to begin before anything is written, could not begin: the
            server's code and words. Empty: it need not.
    """

    refusals: tuple[type[Exception], ...] = (
        errors.InvalidAuthorizationSpecificationError,
        errors.InvalidCatalogNameError,
    )
    asks_for = "this user, password or database"

    def __init__(self, address: Address, schema: Schema, timeout: float, pooled: bool, create: bool) -> None:
        super().__init__(f"{address.name} ({schema.name})", timeout, create)
        self.schema = schema
        self.address = address
        self.pooled = pooled
        self.refusal: str = ""
        self._entering = asyncio.Lock()

    async def enter(self, link: PostgresLink) -> None:
        """Find out which life of the log goes on, and begin another if it has to be."""
        async with self._entering:
            for _ in range(_ATTEMPTS):
                try:
                    row = await link.run(ENTER, len(STEPS), new_epoch(), self.epoch, self.seen, self._lives)
                except Gone:
                    await self._make(link)
                    continue
                version, epoch, latest, lives, refusal = row[0]
                if version < len(STEPS):
                    await self._make(link)
                elif version > len(STEPS):
                    raise LogCorrupt(f"the log in {self.name} was made by a newer version: use that one")
                else:
                    self.refusal = refusal or ""
                    self.found(epoch, latest, lives)
                    return
        raise self.incomplete()

    def incomplete(self) -> LogCorrupt:
        """What to raise where the log is there, and not all of it."""
        return LogCorrupt(f"the log in {self.name} lacks some of its tables: restore them, or drop the schema")

    def refused(self, code: str, text: str) -> LogError:
        """What to raise for an answer of the server's that is an error."""
        if code in ("42P01", "42883", "3F000", "XX000"):
            return Gone(f"the log in {self.name} is not there: {text}")
        if code == "25006":
            return LogUnavailable(
                f"{self.name} is read-only now: its log can be read; to publish give the URL of a server that is no "
                f"standby, and look at default_transaction_read_only ({text})"
            )
        if code == "42501":
            return LogUnavailable(f"the server {self.name} does not let this user do it: {text}")
        if code == "NW002":
            return LogUnavailable(f"{self.name} can't have a log: {text}")
        if code.startswith(_LATER):
            return LogUnavailable(f"the server {self.name} can't serve this now: {text}")
        return LogError(f"the server {self.name} failed: {text}")

    async def _make(self, link: PostgresLink) -> None:
        """Make the tables that are missing."""
        schema = self.schema
        if not self.create:
            raise no_log(f"in {self.name}")
        script = f"""
            {_BEGIN};
            SET LOCAL statement_timeout = 0;
            {schema.sql("SELECT pg_advisory_xact_lock(@log@)")};
        """
        try:
            await link.script(script)
            [[there, version]] = await link.run_inside(
                "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL",
                schema.quoted,
                f"{schema.quoted}.life",
            )
            if version:
                [[version]] = await link.run_inside("SELECT coalesce(max(version), $1) FROM @schema@.life", len(STEPS))
            else:
                version = 0
            steps = schema.steps(version)
            if version:
                steps += f"\n;UPDATE {schema.quoted}.life SET version = {len(STEPS)}"
            await link.script(f"{'' if there else f'CREATE SCHEMA {schema.quoted};'} {steps}; COMMIT")
            self.made = True
        except BaseException:
            await link.close()
            raise


class PostgresLink:
    """One connection. Of several calls at a time one is served after the other.

    Args:
        server: where to.
        direct: go there in place of the server's address: past a proxy.
        settings: of the session, unless a proxy is in between.

    Attributes:
        pid: the server process that serves it, 0 if there is none.
        on_open: called when a connection was made, before anything else uses it.
        code: what the last call that failed has failed with: the server's code; `late`, if there was no answer in time;
            empty, if the connection broke.
    """

    def __init__(
        self, server: PostgresServer, direct: Address | None = None, settings: dict[str, str] | None = None
    ) -> None:
        self.on_open: Callable[[asyncpg.Connection[Any]], Any] | None = None
        self.code: str = ""
        self._server = server
        self._address = direct or server.address
        self._pooled = server.pooled and direct is None
        self._settings = settings or {}
        self._run = ""  # the server process
        self._connection: asyncpg.Connection[Any] | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        if self._connection is None or self._connection.is_closed():
            return False
        return self._pooled or self._run == self._server.run

    @property
    def schema(self) -> Schema:
        """The log's names."""
        return self._server.schema

    @property
    def pid(self) -> int:
        """See the class."""
        return self._connection.get_server_pid() if self._connection is not None and not self._pooled else 0

    async def call(self, sql: str, *arguments: Any, on_sent: Callable[[], object] | None = None) -> list[Any]:
        """Run a statement, and return its rows.

        Args:
            on_sent: called when the server has it to do, for work that need not wait for the answer.

        Raises:
            LinkLost: it was sent, and there is no answer.
            Gone: the tables are not there.
            LogUnavailable: it was not sent, or the server can't do it now.
            LogError: the server refused it.
        """
        async with self._lock:
            await self._connect()
            return await self.run(sql, *arguments, on_sent=on_sent)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Callable[..., Awaitable[list[Any]]]]:
        """Several statements in one transaction: the block gets what runs them."""
        async with self._lock:
            await self._connect()
            await self.script(_BEGIN)
            try:
                yield self.run_inside
            except BaseException:
                if self.is_open:
                    await self.script("ROLLBACK")
                raise
            await self.script("COMMIT")

    async def ask(self, sql: str, *arguments: Any) -> list[Any]:
        """Run a statement whose rows begin with the epoch, whether the tables are the same, and the newest offset; and
        again if the log turns out to be another one."""
        server = self._server
        for _ in range(_ATTEMPTS):
            seen = server.seen  # it may grow while the answer comes
            missing = False
            try:
                rows = await self.call(sql, *arguments)
            except Gone:
                rows, missing = [], True
            if rows and rows[0][0] == server.epoch and rows[0][1] and rows[0][2] >= seen:
                server.seen = max(server.seen, rows[0][2])
                return rows
            await self.enter()
        if missing:
            raise server.incomplete()
        raise LogUnavailable(f"the log in {server.name} begins one life after the other")

    async def enter(self) -> None:
        """Look again which life of the log goes on."""
        async with self._lock:
            if not await self._connect():
                await self._server.enter(self)

    async def settle(self) -> None:
        """Before anything is written: begin the life of the log that has to begin.

        Raises:
            LogUnavailable: it can't begin, since the server lets nothing be written.
        """
        server = self._server
        if server.refusal:
            await self.enter()
            if server.refusal:
                code, _, text = server.refusal.partition(" ")
                raise server.refused(code, text)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connect(self) -> bool:
        """Returns whether a connection had to be made."""
        if self.is_open:
            return False
        await self.close()
        server = self._server
        server.check_pause()
        settings = {"application_name": "newswire"}
        if not self._pooled:
            settings |= {"jit": "off", "default_transaction_isolation": "read committed"} | _SETTINGS | self._settings
        try:
            self._connection = await self._address.connect(
                settings, timeout=server.timeout, statement_cache_size=0 if self._pooled else 100
            )
            if self.on_open is not None:
                await self.on_open(self._connection)
            if not self._pooled:
                [[self._run]] = await self.run_inside(_RUN)
            await server.enter(self)
            if not self._pooled:
                server.run = self._run
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError, LogError) as error:
            await self.close()
            if isinstance(error, LogCorrupt):
                raise
            raise server.failed(error) from None
        except BaseException:
            await self.close()
            raise
        server.reached()
        return True

    async def run(self, sql: str, *arguments: Any, on_sent: Callable[[], object] | None = None) -> list[Any]:
        """As `call`, on a connection that is there."""
        if not self._pooled:
            return await self.run_inside(sql, *arguments, on_sent=on_sent)
        await self.script(_BEGIN)
        try:
            rows = await self.run_inside(sql, *arguments, on_sent=on_sent)
        except LogError:
            if self.is_open:
                await self.script("ROLLBACK")
            raise
        await self.script("COMMIT")
        return rows

    async def run_inside(self, sql: str, *arguments: Any, on_sent: Callable[[], object] | None = None) -> list[Any]:
        """As `run`, without a transaction around it."""
        connection = self._connection
        assert connection is not None
        if on_sent is not None:
            asyncio.get_running_loop().call_soon(on_sent)
        rows: list[Any] = await self._guarded(connection, connection.fetch(self._server.schema.sql(sql), *arguments))
        return rows

    async def script(self, text: str) -> None:
        """Run statements without parameters."""
        connection = self._connection
        assert connection is not None
        await self._guarded(connection, connection.execute(text))

    async def _guarded(self, connection: asyncpg.Connection[Any], call: Any) -> Any:
        # asyncpg would ask the server to cancel, over a connection of its own; a server that stands still can't.
        loop = asyncio.get_running_loop()
        due = loop.time() + self._server.timeout
        timer = Timer(loop, self._server.timeout, connection.terminate)
        try:
            return await call
        except asyncpg.PostgresError as error:
            raise await self._refused(error) from None
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            if isinstance(error, errors.DataError):
                raise LogError(f"this can't be stored: {text_of(error)}") from None
            await self.close()
            late = loop.time() >= due
            self.code = "late" if late else ""
            what = (
                "no answer" if late else _IN_USE if isinstance(error, asyncpg.InternalClientError) else text_of(error)
            )
            raise LinkLost(f"the connection to {self._server.name} broke: {what}") from None
        except BaseException:
            await self.close()
            raise
        finally:
            timer.cancel()

    async def _refused(self, error: asyncpg.PostgresError) -> LogError:
        text, code = text_of(error), error.sqlstate or ""
        self.code = code
        if code.startswith(_LOST) or (self._connection is not None and self._connection.is_closed()):
            await self.close()
            return LinkLost(f"the connection to {self._server.name} broke: {text}")
        return self._server.refused(code, text)
