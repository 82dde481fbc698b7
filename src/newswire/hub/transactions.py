"""Publishing in a transaction of the caller's, through its own connection. `Hub` and `SyncHub` call it.

Everything is checked before anything is written: a database may refuse all further statements of a transaction in which
one has failed. Nothing here needs an open hub, unless the database has no log yet; a ticket opens it when it is waited
for.

There is no position before the commit, so a publisher gets a `Ticket`. It waits until the log has the token of what was
written. One task of the hub looks for the tokens of all tickets that are waited for: at once, and then whenever events
have come from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, Protocol, TypeVar

from newswire.errors import InvalidConnection, LogError, LogUnavailable, TokenReused
from newswire.log.connections import Caller, caller_of, run, run_async
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.log.transactions import Found, NotReady, Transactions
from newswire.wire.event import Event

T = TypeVar("T")

WAIT_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0  # between two looks, if nothing comes from the log


class Finder(Protocol):
    """What a ticket asks where its events are."""

    async def find(self, token: str) -> Found:
        """Wait until the log has what was written under a token."""
        ...


class Ticket(Generic[T]):
    """Events that were written in a transaction: the promise of their position.

    `await ticket` waits until the transaction is committed and the events have their places in the log. `Hub.publish`
    gives a ticket for a `Position`, `Hub.publish_many` one for a list of them. A ticket can be dropped: that changes
    nothing for the events. A log knows for ten minutes after the commit which events a ticket is for.
    """

    def __init__(
        self, finder: Finder, tokens: Sequence[str], events: int, result: Callable[[list[Position]], T]
    ) -> None:
        self._finder = finder
        self._tokens = tokens
        self._events = events
        self._result = result

    def __await__(self) -> Generator[object, None, T]:
        return self.wait().__await__()

    async def wait(self, timeout: float | None = WAIT_SECONDS) -> T:
        """Wait for the position, or the positions.

        Args:
            timeout: seconds to wait; None: for ever. `await ticket` waits 30 seconds.

        Raises:
            TimeoutError: the events have not come: the transaction is not committed yet, or was rolled back.
            TokenReused: the idempotency key belongs to a batch of another length; nothing was written.
            LogUnavailable: the hub can't be opened.
        """
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.gather(*map(self._finder.find, self._tokens))
        except TimeoutError:
            raise TimeoutError(
                f"no event of this ticket has come within {timeout:g} s: its transaction is not committed, or was "
                "rolled back"
            ) from None
        places = [position for each in found if each is not None for position in each]
        if None in found:
            raise LogError(
                "the log has refused an event that was published in a transaction, and its log line says why"
            )
        if len(places) != self._events:
            raise TokenReused
        return self._result(places)


class SyncTicket(Generic[T]):
    """A `Ticket` for threads."""

    def __init__(self, ticket: Ticket[T], call: Callable[[Callable[[], Coroutine[Any, Any, T]]], T]) -> None:
        self._ticket = ticket
        self._call = call

    def wait(self, timeout: float | None = WAIT_SECONDS) -> T:
        """Wait for the position, or the positions; see `Ticket.wait`."""
        return self._call(lambda: self._ticket.wait(timeout))


class TicketWatch:
    """Looks for the tokens of all tickets that are waited for, in one event loop.

    Args:
        log: knows the tokens.
        on_news: takes what to call when something has come from the log.
    """

    def __init__(self, log: Log, on_news: Callable[[Callable[[], None]], object]) -> None:
        self._log = log
        self._on_news = on_news
        self._waiting: dict[str, list[asyncio.Future[Found]]] = {}
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def find(self, token: str) -> Found:
        """See `Finder.find`."""
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(token, []).append(found)
        self._look.set()
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="newswire tickets")
        try:
            return await found
        finally:
            left = self._waiting.get(token, [])
            if found in left:
                left.remove(found)
                if not left:
                    del self._waiting[token]

    async def _watch(self) -> None:
        try:
            while self._waiting:
                self._look.clear()
                self._on_news(self._look.set)
                try:
                    found = await self._find(list(self._waiting))
                except LogUnavailable:
                    pass  # it will pass, or those who wait give up
                else:
                    self._resolve(found)
                if self._waiting:
                    await _first(self._look, _LOOK_SECONDS)
        except Exception as error:  # the outermost frame of a task: those who wait get it
            for waiting in self._waiting.values():
                for future in waiting:
                    if not future.done():
                        future.set_exception(error)
        finally:
            self._task = None

    async def _find(self, tokens: Sequence[str]) -> Mapping[str, Found]:
        transactions = self._log.engine.transactions
        return {} if transactions is None else await transactions.find(tokens)

    def _resolve(self, found: Mapping[str, Found]) -> None:
        for token, places in found.items():
            for future in self._waiting.pop(token, ()):
                if not future.done():
                    future.set_result(places)

    async def close(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


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
