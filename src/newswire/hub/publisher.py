"""The publishing half of the hub: values become events, which go to the log or into a transaction of the caller's.

`Hub` is a publisher that can be subscribed to; `newswire.hub.sync` has the same calls for threads. A value is checked
before anything is stored: by the channel's contract if it has one, and by what the log can store.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from newswire.errors import LogUnavailable
from newswire.hub.lifecycle import Lifecycle
from newswire.hub.options import HubOptions
from newswire.hub.transactions import Ticket, Writing, elsewhere
from newswire.hub.versions import Versions
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.log.retry import keep_trying
from newswire.log.transactions import Found, NotReady
from newswire.validate import check_seconds, shown
from newswire.wire.event import Event, Named, Names
from newswire.wire.payload import to_event

N = TypeVar("N", bound=str)

_RANDOM: Final = re.compile(r"[0-9a-f]{32,64}")
_KEY_CHARACTERS: Final = 255


class Publisher(Lifecycle):
    """What can be published to.

    Attributes:
        versions: what publishing with a version knows.
    """

    def __init__(self, log: Log, options: HubOptions) -> None:
        super().__init__(log, options)
        self.versions: Versions = Versions(log, self._append_if)

    if TYPE_CHECKING:

        def _names(self) -> Named[str]: ...

    @overload
    async def publish(
        self: Names[N],
        channel: str,
        data: Any,
        *,
        event: N = ...,
        idempotency_key: str | None = ...,
        version: int | None = ...,
        connection: None = ...,
        wait: float | None = ...,
    ) -> Position: ...

    @overload
    async def publish(
        self: Names[N],
        channel: str,
        data: Any,
        *,
        event: N = ...,
        idempotency_key: str | None = ...,
        connection: object,
    ) -> Ticket[Position]: ...

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        event: str = "message",
        idempotency_key: str | None = None,
        version: int | None = None,
        connection: object | None = None,
        wait: float | None = None,
    ) -> Position | Ticket[Position]:
        """Publish one event.

        If the caller is cancelled while it waits, the event may or may not be stored.

        Args:
            channel: where to: any name within the rules (`newswire.log.channels`). A channel need not be made first.
            data: a str is stored as it is, bytes are decoded as UTF-8, an `Event` brings its own type (then `event`
                must not be given), and everything else is stored as JSON.
            event: the event's type. `error`, `open` and `newswire.…` are reserved. Where the channel has a contract,
                the class of `data` says which type it is; name it only if several types have that class.
            idempotency_key: a text of 1 to 255 characters that names this publish. Publishing to the same channel with
                the same key again, within ten minutes, stores nothing and returns the first position, of which
                `Position.stored` is False. The data is not compared. Use it to publish again after `LogUncertain`, or
                after your own process was interrupted.
            version: an integer of at most 64 bits that grows with each change, such as a row's version or a time. If
                the channel has an event of the same or a higher version, nothing is stored: the position returned is
                that event's, and its `stored` is False.
            connection: a connection of yours to the database that the log is in: publish in its transaction. Readers
                get the event if and only if the transaction commits. `docs/outbox.md` has the kinds of connections.
            wait: how many seconds to try again while the log is away or gives no answer; the event is stored once. The
                last attempt may take as long as the log's own timeout. None: the first failure is raised at once. It
                has no effect with a `connection`.

        Returns:
            the event's position, once the event is stored as safely as the log stores (docs/engines.md). With a
            `connection`, a ticket, at once: await it after the commit if you want the position.

        Raises:
            InvalidEvent, InvalidChannel: it can't be published; nothing was stored.
            LimitExceeded: its data has more bytes than the log can store: `hub.log.limits.event_bytes`.
            InvalidConnection: events can't be published through this connection; nothing was written.
            ContractBroken: the channel's contract does not allow it (it is an `InvalidEvent`).
            LogUnavailable: the log can't store it now; nothing was stored.
            LogUncertain: the log gave no answer: the event may be stored, or not.
            TokenReused: the key was used for another number of events (`publish_many`); nothing was stored.
            Closed: the hub was closed.
            ValueError: `idempotency_key`, `version` or `wait` is not a valid one, or the first two are both given;
                nothing was stored.
        """
        contracts = self.contracts
        made = to_event(data, event) if contracts is None else contracts.encode(channel, data, event)
        if idempotency_key is None and version is None and connection is None and wait is None and self.tracer is None:
            if not self.is_open_here():
                await self.runtime()
            return await self.log.append_one(channel, made)
        check_seconds("wait", wait)
        batch = [(channel, made)]
        if version is not None:
            check_version(version, idempotency_key, connection)
            return await self._store_version(batch[0], version, wait)
        if connection is not None:
            return (await self._write(connection, batch, idempotency_key)).ticket(self, first)
        return (await self._store(batch, idempotency_key, wait))[0]

    @overload
    async def publish_many(
        self,
        events: Iterable[tuple[str, Any]],
        *,
        idempotency_key: str | None = ...,
        connection: None = ...,
        wait: float | None = ...,
    ) -> list[Position]: ...

    @overload
    async def publish_many(
        self, events: Iterable[tuple[str, Any]], *, idempotency_key: str | None = ..., connection: object
    ) -> Ticket[list[Position]]: ...

    async def publish_many(
        self,
        events: Iterable[tuple[str, Any]],
        *,
        idempotency_key: str | None = None,
        connection: object | None = None,
        wait: float | None = None,
    ) -> list[Position] | Ticket[list[Position]]:
        """Publish a batch: all of it, in this order, with nothing in between, or nothing.

        Args:
            events: pairs of channel and data; see `publish`. An `Event` brings its own type.
            idempotency_key: see `publish`. It names the whole batch, and belongs to the channel of the first event.
                Use it again only with the same events.
            connection, wait: see `publish`.

        Returns:
            the events' positions, in order; with a `connection`, a ticket for them. An empty batch has none.

        Raises:
            LimitExceeded: an event or the whole batch is larger than the log can store (`hub.log.limits`).
            NewswireError, ValueError: as `publish`; if one event can't be published, nothing of the batch is stored.
            TypeError: `events` are no pairs.
        """
        check_seconds("wait", wait)
        batch = self.events_of(events)
        if connection is None:
            return await self._store(batch, idempotency_key, wait)
        return (await self._write(connection, batch, idempotency_key)).ticket(self, list)

    async def _store_version(self, pair: tuple[str, Event], version: int, wait: float | None) -> Position:
        self.log.check([pair])
        token = None if wait is None else token_hex()  # an attempt whose answer was lost is known by it

        async def store() -> Position:
            await self.runtime()
            return await self.versions.publish(pair, version, token)

        return await (store() if wait is None else keep_trying(store, wait))

    def _store(
        self, batch: list[tuple[str, Event]], key: str | None, wait: float | None
    ) -> Coroutine[Any, Any, list[Position]]:
        token = None if key is None else _token(key, batch)
        if wait is None:
            stored = self._append(batch, token)
        elif token is not None:
            stored = keep_trying(partial(self._append, batch, token), wait)
        else:
            stored = self._keep_trying(batch, wait)
        return stored if self.tracer is None else self.tracer.publish(batch, stored)

    async def _keep_trying(self, batch: list[tuple[str, Event]], wait: float) -> list[Position]:
        token = token_hex()  # so that an attempt whose answer was lost is not stored again
        stored = await keep_trying(partial(self._append, batch, token), wait)
        return [Position(position.epoch, position.offset) for position in stored]  # each was stored by this call

    async def _append_if(
        self, batch: Sequence[tuple[str, Event]], condition: Condition, token: str | None
    ) -> list[Position] | None:
        await self.runtime()
        return await self.log.append_if(batch, condition, token=token)

    async def _close(self) -> None:
        await self.versions.close()
        await super()._close()

    async def _append(self, batch: list[tuple[str, Event]], token: str | None) -> list[Position]:
        if not self.is_open_here():
            await self.runtime()
        return await self.log.append(batch, token=token)

    async def _write(self, connection: object, batch: list[tuple[str, Event]], key: str | None) -> Writing:
        writing = self.writing(connection, batch, key)
        try:
            await writing.write()
        except NotReady as missing:
            try:
                await self.runtime()
                await writing.transactions.prepare()
            except LogUnavailable as error:
                raise missing from error
            with elsewhere():
                await writing.write()
        return writing

    # -- for newswire itself

    def event_of(self, channel: str, data: Any, event: str | None) -> Event:
        """The event that a value becomes on a channel."""
        contracts = self.contracts
        return to_event(data, event) if contracts is None else contracts.encode(channel, data, event)

    def events_of(self, events: Iterable[tuple[str, Any]]) -> list[tuple[str, Event]]:
        """The events of a batch of values."""
        contracts = self.contracts
        pairs = _pairs(events)
        if contracts is None:
            return [(channel, to_event(data)) for channel, data in pairs]
        return [(channel, contracts.encode(channel, data, None)) for channel, data in pairs]

    def writing(self, connection: object, batch: list[tuple[str, Event]], key: str | None) -> Writing:
        """Prepare to write a batch through a connection."""
        return Writing(self.log, connection, batch, None if key is None else _token(key, batch))

    async def find(self, token: str) -> Found:
        """Wait until the log has what was written under a token."""
        runtime = await self.runtime()
        await runtime.follower.begin()  # an event that comes is a reason to look
        return await runtime.tickets.find(token)


def check_version(version: object, key: str | None, connection: object | None) -> None:
    """See that a version can be used as it is given.

    Raises:
        ValueError: it can't.
    """
    if type(version) is not int or not -(2**63) <= version < 2**63:
        raise ValueError(f"a version is a whole number of 64 bits, not {version!r:.60}")
    if key is not None:
        raise ValueError("a version makes a publish idempotent by itself: leave out the idempotency key")
    if connection is not None:
        raise ValueError("in a transaction no version is needed: events come in the order of the commits; leave it out")


def _pairs(events: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The pairs of channel and data of a batch.

    Raises:
        TypeError: it has something else in it, and is not an iterable of pairs.
    """
    what = "a batch is a list of pairs of channel and data, such as [('news', data)]"
    if isinstance(events, Mapping) or not isinstance(events, Iterable):
        raise TypeError(f"{what}, not {shown(events)}")
    pairs: list[Any] = list(events)
    for pair in pairs:
        # Rows of a database and named tuples are pairs too; a text of two characters is none.
        is_sequence = type(pair) is tuple or (isinstance(pair, Sequence) and not isinstance(pair, (str, bytes)))
        if not is_sequence or len(pair) != 2:
            raise TypeError(f"{what}, and this has {shown(pair)} in it")
    return pairs


def first(positions: list[Position]) -> Position:
    """The position of a batch of one."""
    return positions[0]


def _token(key: object, batch: list[tuple[str, Event]]) -> str:
    """The log's token for a key: one of the channel, so that publishers of different channels can't meet.

    It says of which channel, so that an origin can tell whether an edge may use it (`may_use`).
    """
    if not isinstance(key, str) or not 0 < len(key) <= _KEY_CHARACTERS:
        raise ValueError(f"an idempotency key is a text of 1 to {_KEY_CHARACTERS} characters, not {key!r:.60}")
    channel = str(batch[0][0]) if batch else ""  # no channel's name has a NUL
    try:
        both = sha256(channel.encode("utf-8", "surrogatepass") + b"\0" + key.encode()).hexdigest()
    except UnicodeEncodeError:
        raise ValueError("an idempotency key is a text that UTF-8 can write: this one has a lone surrogate") from None
    return f"{_of_channel(channel)}.{both}"


def _of_channel(channel: str) -> str:
    return sha256(channel.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def may_use(token: str, channel: str) -> bool:
    """Whether a batch may have a token, if its sender may publish to `channel` alone.

    With a token of another channel's key it could make that key known before its publisher comes, who then gets the
    answer that the event is stored. What is drawn at random belongs to no key.
    """
    first, dot, _ = token.partition(".")
    return first == _of_channel(channel) if dot else _RANDOM.fullmatch(token) is not None
