"""The outbox: events that applications publish in their own transactions.

**Publishing is one INSERT** on the application's connection, and nothing else: no lock and no NOTIFY, so no
transaction waits for another one. Readers see the event if and only if the transaction commits.

    INSERT INTO "newswire".outbox (ticket, channel, event, data) VALUES ($1, $2, $3, $4)

`Outbox.insert` gives this statement with the schema's name and a driver's own marks for parameters. `ticket` is a UUID
that the publisher draws; `event` is NULL for the type `message`; the other columns have defaults: `id`, from a
sequence, and `tx`, the transaction's id. Values are checked before, as for every publish. For triggers and other
languages there is `SELECT "newswire".newswire_publish(channel, data, event)`, which checks them itself and returns the
ticket.

**One of the processes that have the log open is the leader** (`leader`). Its `Sequencer` moves rows whose transactions
have committed into the log, with consecutive offsets, in the order of their ids. So the events of one session are in
its order. It finds them by snapshots: a row that is visible now and was not in the snapshot before belongs to a
transaction that was open then, or has begun since. Both are few and have an index. So no transaction that stays open
delays the rows of others, and dead rows cost nothing.

**The ticket leads to the position.** `find` looks for the offset of a ticket, from the move on for as long as a log
knows a token. A row that can't be an event is set aside in the table `refused`, with a line in the log.

**A transaction that fails moves fewer rows the next time**, half as many, for it may have taken longer than the server
lets it. A row that can't be moved by itself in some attempts either (it is damaged, or a trigger refuses it) is set
aside where it is, with a line in the log, and the others go on. `newswire log info` counts both kinds.

**Snapshot and tail.** `barrier` finds the position that belongs to a snapshot of the application's own connection: what
the snapshot sees is before it, all else after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from newswire.errors import LogError, LogUnavailable
from newswire.log.position import Position
from newswire.log.postgres.link import PostgresLink, PostgresServer
from newswire.log.postgres.schema import array

logger: logging.Logger = logging.getLogger("newswire.log")

_MOVE: Final = """
    SELECT o_status, o_snapshot::text, o_rest::text, o_moved, o_missed, o_more, o_refused, o_before, o_latest
    FROM @schema@.move($1, $2, $3::text::pg_snapshot, $4::text::pg_snapshot, $5::text::tid[], $6, $7)"""
_FIND: Final = """
    SELECT l.epoch, t.ticket, t.number FROM @schema@.life AS l
    LEFT JOIN @schema@.tickets AS t ON t.ticket = ANY ($1)"""
_BARRIER: Final = """
    BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '5s'; SELECT pg_advisory_xact_lock(@log@)"""
_NONE_LEFT: Final = (None, array(()))  # of the rows that a move has found
_MOVED: Final = 1000  # rows moved in one transaction: some 20 ms, which is what publishing waits
_ATTEMPTS: Final = 3  # to move a row by itself
# What is no fault of the rows that a transaction was about to move, by the first letters of codes.
_NOT_OF_ROWS: Final = ("08", "25", "28", "40", "42P01", "42883", "3F000", "42501", "53", "55", "57P", "58")
_FIRST: Final = "SELECT id, channel FROM @schema@.outbox WHERE aside IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
# What is large in a row is not written again.
_SET_ASIDE: Final = "UPDATE @schema@.outbox SET aside = $2 WHERE id = $1"


class Outbox:
    """What the event loop asks of the outbox.

    Args:
        link: for looking up tickets.
        on_moved: called when this process has moved something.

    Attributes:
        name: the log's, as errors have it.
        place_query: what any connection can ask to find out whether it leads to this log's database; see `place`.
    """

    def __init__(
        self, server: PostgresServer, link: PostgresLink, clock: Callable[[], float], on_moved: Callable[[], object]
    ) -> None:
        self._server = server
        self._link = link
        self._clock = clock
        self._on_moved = on_moved
        self._expected = asyncio.Event()
        self.name: str = server.name
        table = server.schema.sql("@schema@.outbox")
        self.place_query: str = f"""SELECT pg_postmaster_start_time() || ' ' || current_database() || ' ' ||
            coalesce(to_regclass('{table}')::oid::text, 'nowhere')"""

    async def place(self) -> str:
        """What `place_query` says on a connection to the log's own database."""
        [(place,)] = await self._link.call(self.place_query)
        return str(place)

    async def look_up(self, query: str, *arguments: Any) -> tuple[str, list[Any]]:
        """Ask the database something else; also gives the log's schema, as SQL has it."""
        return self._server.schema.quoted, await self._link.call(query, *arguments)

    def insert(self, ticket: str, channel: str, event: str, data: str, *, rows: int = 1) -> str:
        """The statement that publishes, with these marks for its parameters: `$1` or `%s` or `%(name)s`, say."""
        values = ", ".join([f"({ticket}, {channel}, {event}, {data})"] * rows)
        return self._server.schema.sql(f"INSERT INTO @schema@.outbox (ticket, channel, event, data) VALUES {values}")

    def expect(self) -> None:
        """A transaction of this process has published something: a leader looks more often for a while."""
        self._expected.set()

    async def expected(self, seconds: float) -> bool:
        """Wait so long, or until something is expected. Returns whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._expected.wait()
        except TimeoutError:
            return False
        self._expected.clear()
        return True

    async def find(self, tickets: Sequence[UUID]) -> dict[UUID, Position | None]:
        """Where the events of these tickets are, if they were moved. None: it was refused."""
        rows = await self._link.call(_FIND, list(tickets))
        return {
            ticket: Position(epoch, number) if number else None for epoch, ticket, number in rows if ticket is not None
        }

    @asynccontextmanager
    async def barrier(self) -> AsyncIterator[Barrier]:
        """Hold the log's lock, so that nothing gets an offset, until `Barrier.pass_` was called, or the block ends.

        In the block, take a snapshot on the application's connection (`SELECT pg_current_snapshot()::text`, the first
        statement of a transaction that is REPEATABLE READ), at once, and call `pass_` with it. Publishing waits.
        """
        link = PostgresLink(self._server)
        try:
            await link.enter()
            await link.settle()
            await link.script(self._server.schema.sql(_BARRIER))
            yield Barrier(self, link)
        finally:
            await link.close()

    async def move(
        self, link: PostgresLink, before: str | None, rest: str | None, only: str | None = None, most: int = _MOVED
    ) -> Any:
        """Move rows; see the SQL function. Returns what it says; None: the log was not as it was known."""
        server = self._server
        arguments = (server.epoch, server.seen, before, only, rest, most, int(self._clock() * 1e6))
        [answer] = await (link.call(_MOVE, *arguments) if only is None else link.run_inside(_MOVE, *arguments))
        if answer["o_status"]:
            return None
        for what in answer["o_refused"] or ():
            logger.warning("a row of the outbox of %s is no event, and was set aside: %s", server.name, what)
        if answer["o_moved"]:
            self._on_moved()
        return answer


class Barrier:
    """The log stands still; see `Outbox.barrier`."""

    def __init__(self, outbox: Outbox, link: PostgresLink) -> None:
        self._outbox = outbox
        self._link = link

    async def snapshot(self) -> str:
        """What has ended by now, as `pg_snapshot` writes it."""
        [(snapshot,)] = await self._link.run_inside("SELECT pg_current_snapshot()::text")
        return str(snapshot)

    async def pass_(self, snapshot: str) -> Position:
        """Move what this snapshot sees and was not moved yet, and let the log go on.

        Returns:
            the position that belongs to the snapshot.
        """
        server = self._outbox._server
        rest, more = None, True
        while more:
            answer = await self._outbox.move(self._link, None, rest, snapshot)
            if answer is None:
                raise LogUnavailable(f"the log in {server.name} has begun another life just now: try again")
            if answer["o_missed"]:
                raise LogUnavailable(f"somebody holds locks on rows of the outbox of {server.name}: try again")
            more = bool(answer["o_moved"] or answer["o_refused"] or answer["o_rest"] not in _NONE_LEFT)
            rest = answer["o_rest"]
        await self._link.script("COMMIT")
        return Position(server.epoch, answer["o_latest"])


class Sequencer:
    """Moves rows into the log, for the leader."""

    def __init__(self, outbox: Outbox, link: PostgresLink) -> None:
        self._outbox = outbox
        self._link = link
        self._before: str | None = None  # the snapshot of which all rows were moved
        self._most = _MOVED  # rows of one transaction
        self._blamed: tuple[int, int] | None = None  # a row, and how often it could not be moved by itself

    def look_at_all(self) -> None:
        """Nothing is known of what was moved."""
        self._before = None

    async def step(self) -> int:
        """Move all that has committed since the last step. Returns how many rows there were."""
        before, self._before = self._before, None  # if this does not come to its end
        snapshot, rest, again = None, None, False
        count: int = 0
        while True:
            answer = await self._move(before, rest)
            if answer is None:
                return count
            moved: int = answer["o_moved"] + len(answer["o_refused"] or ())
            count += moved
            again = again or answer["o_more"] or answer["o_missed"] > 0
            snapshot, before, rest = snapshot or answer["o_snapshot"], None, answer["o_rest"]
            if moved:
                self._most, self._blamed = min(2 * self._most, _MOVED), None
            if rest in _NONE_LEFT:
                break
        self._before = None if again else snapshot
        return count

    async def _move(self, before: str | None, rest: str | None) -> Any:
        """Move some rows. Returns what the SQL function says; None: there is something else to do first."""
        alone = await self._link.call(_FIRST) if self._most == 1 and rest is None else []
        try:
            answer = await self._outbox.move(self._link, before, rest, most=self._most)
        except LogError as error:
            if self._link.code and not self._link.code.startswith(_NOT_OF_ROWS):
                self._most = max(self._most // 2, 1)
                if alone:
                    [[row, channel]] = alone
                    await self._blame(row, channel, error)
                if self._link.is_open:
                    return None
            raise
        if answer is None:
            await self._link.enter()
        return answer

    async def _blame(self, row: int, channel: str, error: LogError) -> None:
        """A row could not be moved by itself: set it aside after some attempts."""
        count = self._blamed[1] + 1 if self._blamed is not None and self._blamed[0] == row else 1
        self._blamed = row, count
        if count < _ATTEMPTS:
            return
        await self._link.call(_SET_ASIDE, row, str(error))
        what = (
            "row %d of the outbox of %s, of channel %.100s, can't be moved, and was set aside: %s. To try again, set "
        )
        logger.error(what + "its `aside` to NULL and its `tx` to DEFAULT", row, self._outbox.name, channel, error)
        self._blamed = None
