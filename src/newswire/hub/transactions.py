"""Publishing in a transaction of the caller's, through its own connection. `Hub` and `SyncHub` call it.

Everything is checked before anything is written: a database may refuse all further statements of a transaction in which
one has failed. Nothing here needs an open hub, unless the database has no log yet; a ticket opens it when it is waited
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from newswire.errors import InvalidConnection
from newswire.hub.ticket import Finder, Ticket
from newswire.log.connections import Caller, caller_of, run, run_async
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.log.transactions import NotReady, Transactions
from newswire.wire.event import Event

T = TypeVar("T")

_NAMES: Final = {"sqlite": "an SQLite file", "postgresql": "PostgreSQL"}


class Writing:
    """A batch that is to be written through a connection. Making one checks all that can be checked.

    Args:
        log: the hub's.
        connection: the caller's.
        events: pairs of channel and event.
        key: the token of an idempotency key, if there is one.

    Attributes:
        transactions: the log's.

    Raises:
        InvalidConnection: events can't be published through this connection.
        InvalidEvent, InvalidChannel, LimitExceeded: the log can't store them.
    """

    def __init__(self, log: Log, connection: object, events: Sequence[tuple[str, Event]], key: str | None) -> None:
        log.check(events)
        self._events = events
        self._key = key
        self._tokens: Sequence[str] = ()
        self.transactions: Transactions
        self._caller, self.transactions = through(log, connection)

    async def write(self) -> None:
        """Write it, on any connection.

        Raises:
            NotReady: the database has no log yet.
        """
        if self._events:
            self._tokens = await run_async(self._caller, self.transactions.write(self._events, self._key))

    def write_sync(self) -> None:
        """Write it, on a connection that need not be awaited."""
        require_sync(self._caller)
        if self._events:
            self._tokens = run(self._caller, self.transactions.write(self._events, self._key))

    def ticket(self, finder: Finder, result: Callable[[list[Position]], T]) -> Ticket[T]:
        """The ticket of what was written."""
        return Ticket(finder, self._tokens, len(self._events), result)


def through(log: Log, connection: object) -> tuple[Caller, Transactions]:
    """A connection as newswire uses it, and what the log takes through it.

    Raises:
        InvalidConnection: newswire does not know its kind, or the log takes nothing through it.
    """
    transactions = log.engine.transactions
    if transactions is None:
        raise InvalidConnection(
            f"the log {log.engine} is not in a database that your transaction could be in: publish without "
            "`connection` after the commit, or keep the log in your SQLite file (sqlite:///) or PostgreSQL database "
            "(postgresql://)"
        )
    caller = caller_of(connection)
    if caller.database != transactions.database:
        raise InvalidConnection(
            f"this connection is to {_NAMES[caller.database]}, and the log is in {_NAMES[transactions.database]}: give "
            "the hub the URL of the connection's database, or publish without `connection` after the commit"
        )
    return caller, transactions


@contextmanager
def elsewhere() -> Iterator[None]:
    """The second try through a connection, now that the log is open: a database that still has not got it is another.

    Raises:
        InvalidConnection: it is.
    """
    try:
        yield
    except NotReady as still:
        raise InvalidConnection(str(still)) from None


def require_sync(caller: Caller) -> None:
    """See that a connection's calls need not be awaited.

    Raises:
        InvalidConnection: they have to be.
    """
    if caller.waits:
        raise InvalidConnection("the calls of this connection are awaited: use the hub's own method, without .sync")
