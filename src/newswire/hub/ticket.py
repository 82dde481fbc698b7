"""Tickets: what a publisher in a transaction of its own gets, since there is no position before the commit.

A ticket waits until the log has the token of what was written. One task of the hub looks for the tokens of all tickets
that are waited for: at once, and then whenever events have come from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from newswire.errors import LogError, LogUnavailable, TokenReused
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.log.transactions import Found

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
