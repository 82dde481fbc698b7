"""The hub for threads: the calls of `newswire.hub.hub`, which wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from newswire.errors import LogUnavailable
from newswire.hub.publisher import Publisher, check_version, first
from newswire.hub.transactions import SyncTicket, elsewhere, require_sync, through
from newswire.log.connections import run
from newswire.log.position import Position
from newswire.log.transactions import NotReady
from newswire.wire.event import Event, Named, Names, NoName

E = TypeVar("E", covariant=True)
N = TypeVar("N", bound=str)
T = TypeVar("T")


class SyncHub(Generic[E]):
    """The hub for threads: blocking calls, for any thread but the event loop's own.

    A type checker knows the names of its events, as those of `Hub`.
    """

    def __init__(self, hub: Publisher) -> None:
        self._hub = hub

    if TYPE_CHECKING:

        def _names(self) -> E | Named[NoName]: ...

    @overload
    def publish(
        self: Names[N],
        channel: str,
        data: Any,
        *,
        event: N = ...,
        idempotency_key: str | None = ...,
        version: int | None = ...,
        connection: None = ...,
        wait: float | None = ...,
        timeout: float | None = ...,
    ) -> Position: ...

    @overload
    def publish(
        self: Names[N],
        channel: str,
        data: Any,
        *,
        event: N = ...,
        idempotency_key: str | None = ...,
        connection: object,
    ) -> SyncTicket[Position]: ...

    def publish(
        self,
        channel: str,
        data: Any,
        *,
        event: str = "message",
        idempotency_key: str | None = None,
        version: int | None = None,
        connection: object | None = None,
        wait: float | None = None,
        timeout: float | None = None,
    ) -> Position | SyncTicket[Position]:
        """Publish one event; see `Hub.publish`.

        Args:
            connection: publish in its transaction; see `Hub.publish`. The event is written in this thread, which may
                have an event loop too. The ticket that is returned has `wait`.
            timeout: seconds to wait; then the event may or may not be stored. It means nothing with a `connection`.

        Raises:
            TimeoutError: the time is over.
            RuntimeError: called in an event loop, which it would block; or in a fork of the process that opened the
                hub.
            NewswireError, ValueError: what `Hub.publish` raises.
        """
        if version is not None:
            check_version(version, idempotency_key, connection)
            return self.call(lambda: self._hub.publish(channel, data, event=event, version=version, wait=wait), timeout)
        if connection is None:
            return self.call(
                lambda: self._hub.publish(channel, data, event=event, idempotency_key=idempotency_key, wait=wait),
                timeout,
            )
        batch = [(channel, self._hub.event_of(channel, data, event))]
        return self._write(connection, batch, idempotency_key, first)

    @overload
    def publish_many(
        self,
        events: Iterable[tuple[str, Any]],
        *,
        idempotency_key: str | None = ...,
        connection: None = ...,
        wait: float | None = ...,
        timeout: float | None = ...,
    ) -> list[Position]: ...

    @overload
    def publish_many(
        self, events: Iterable[tuple[str, Any]], *, idempotency_key: str | None = ..., connection: object
    ) -> SyncTicket[list[Position]]: ...

    def publish_many(
        self,
        events: Iterable[tuple[str, Any]],
        *,
        idempotency_key: str | None = None,
        connection: object | None = None,
        wait: float | None = None,
        timeout: float | None = None,
    ) -> list[Position] | SyncTicket[list[Position]]:
        """Publish a batch; see `Hub.publish_many`, and `publish` for `connection` and `timeout`."""
        if connection is None:
            return self.call(
                lambda: self._hub.publish_many(events, idempotency_key=idempotency_key, wait=wait), timeout
            )
        return self._write(connection, self._hub.events_of(events), idempotency_key, list)

    def _write(
        self,
        connection: object,
        batch: list[tuple[str, Event]],
        key: str | None,
        result: Callable[[list[Position]], T],
    ) -> SyncTicket[T]:
        writing = self._hub.writing(connection, batch, key)
        try:
            writing.write_sync()
        except NotReady as missing:
            try:
                self.open()
                self.call(writing.transactions.prepare)
            except LogUnavailable as error:
                raise missing from error
            with elsewhere():
                writing.write_sync()
        return SyncTicket(writing.ticket(self._hub, result), self.call)

    @contextmanager
    def snapshot(self, connection: object) -> Iterator[Position]:
        """Read rows of your database, and know the position that they are the state of; see `Hub.snapshot`."""
        caller, transactions = through(self._hub.log, connection)
        require_sync(caller)
        self.open()
        self.call(transactions.prepare)
        snapshot = transactions.snapshot()
        failed = True
        try:
            try:
                self.call(snapshot.hold)
                with elsewhere():
                    run(caller, snapshot.begin())
                position = self.call(snapshot.settle)
            finally:
                self.call(snapshot.abandon)
            yield position
            failed = False
        finally:
            run(caller, snapshot.end(failed))

    def open(self, timeout: float | None = None) -> None:
        """Open the hub, if it is not open: where a program starts, rather than in its first request.

        Args:
            timeout: seconds to wait; None: as long as it takes.

        Raises:
            LogUnavailable, LogCorrupt, Closed: see `Hub.open`.
            TimeoutError, RuntimeError: see `publish`.
        """
        self.call(self._hub.runtime, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Close the hub, and the background thread if there is one. Idempotent.

        Args:
            timeout: seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError, RuntimeError: see `publish`.
        """
        self._hub.close_from_thread(timeout)

    def call(self, call: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = None) -> T:
        """Await `call()` in the hub's event loop and wait for its result: for what is built upon the hub.

        Raises:
            TimeoutError, RuntimeError: see `publish`.
            Closed: the hub was closed, by `close` or in an event loop that is still there.
        """
        return self._hub.call_from_thread(call, timeout)
