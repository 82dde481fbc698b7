"""The hub: the channels that are alive in this process.

It follows the log, keeps the window, knows the subscribers and gives each what comes after its cursor. It knows
nothing of requests, responses or runs: they stand above it and take it as an argument. Here is what applications call,
`Hub` in an event loop and `SyncHub` in threads; `newswire.hub.lifecycle` opens and closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, overload

from newswire.contract.contract import Contract
from newswire.errors import InvalidPosition
from newswire.hub.contracts import ContractRules, Contracts
from newswire.hub.frames import Form
from newswire.hub.lifecycle import Lifecycle
from newswire.hub.options import HubOptions
from newswire.hub.start import From
from newswire.hub.subscription import Subscription
from newswire.hub.transform import Transform
from newswire.log.channels import Channels
from newswire.log.engine import Page
from newswire.log.log import Log
from newswire.log.open import open_log
from newswire.log.position import Lives, Position
from newswire.log.retention import RetentionRules
from newswire.wire.event import Event
from newswire.wire.payload import to_event

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only a type checker needs its defaults

    E = TypeVar("E", covariant=True, default=Event)
else:
    from typing import TypeVar

    E = TypeVar("E", covariant=True)
C = TypeVar("C")
D = TypeVar("D")
N = TypeVar("N", bound=str)
T = TypeVar("T")

_KEY_CHARACTERS: Final = 255


@dataclass(frozen=True, slots=True)
class HubStats:
    """What a hub has done since it was opened, and what it holds now.

    Attributes:
        followed: events that came from the log.
        delivered: events given to subscribers, counted once for each.
        subscribers: streams and iterations that are open.
        stalled: those of them whose connection can take no more now.
        gaps: gap events sent.
        pages_read: pages read from the log for subscribers behind the window.
        window_events, window_bytes: what the window holds.
    """

    followed: int
    delivered: int
    subscribers: int
    stalled: int
    gaps: int
    pages_read: int
    window_events: int
    window_bytes: int


class Hub(Lifecycle, Generic[E]):
    """Publish, and subscribe from where you left off.

    A type checker knows what its readers get: `Hub` is a hub without a contract, `Hub[ShopEvent]` one whose contract is
    a `Contract[ShopEvent]`.

    Args:
        log: the log, or its URL: `memory://`, `sqlite:///events.db` …
        retention: what the log keeps of each channel, where `log` is a URL: a `Retention`, or one for each pattern of
            channels. None: a file keeps events for seven days, and memory the newest 64 MiB; `Retention()` keeps
            everything. See `newswire.open_log`.
        contract: a `newswire.contract.Contract` of all channels, or one for each pattern of channels (the first that
            matches counts). Publishing checks events by it, and iterating over a subscription gives `TypedEvent`s.
        options: sizes; see `HubOptions`.

    Raises:
        ValueError: the URL names no log, or `retention` is given with a log that was made already.

    Attributes:
        sync: the same hub for threads; see `SyncHub`.
    """

    @overload
    def __init__(
        self: Hub[Event],
        log: Log | str = ...,
        *,
        retention: RetentionRules = ...,
        contract: None = ...,
        options: HubOptions | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Hub[C],
        log: Log | str = ...,
        *,
        retention: RetentionRules = ...,
        contract: Contract[C],
        options: HubOptions | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Hub[C | Event],
        log: Log | str = ...,
        *,
        retention: RetentionRules = ...,
        contract: Mapping[str, Contract[C]],
        options: HubOptions | None = ...,
    ) -> None: ...

    def __init__(
        self,
        log: Log | str = "memory://",
        *,
        retention: RetentionRules = None,
        contract: ContractRules[Any] | None = None,
        options: HubOptions | None = None,
    ) -> None:
        if retention is not None and not isinstance(log, str):
            raise ValueError("a log that was made already has its retention: give it there, or the hub a URL")
        if isinstance(log, str):
            log = open_log(log, retention=retention)
        super().__init__(log, options or HubOptions())
        if contract is not None:
            self.contracts = Contracts(contract)
        self.sync = SyncHub(self)

    # -- publish

    async def publish(
        self, channel: str, data: Any, *, event: str = "message", idempotency_key: str | None = None
    ) -> Position:
        """Publish one event.

        Args:
            channel: where to; any name (see `newswire.log.channels`), which needs no creation.
            data: a str as it is, bytes as UTF-8, an `Event` as it is (then `event` must not be given), everything
                else as JSON.
            event: the event's type. `error`, `open` and `newswire.…` are reserved. Where the channel has a contract,
                the event is known from the class of `data`, and need be named only if several have this class.
            idempotency_key: a text of 1 to 255 characters that names this publish. Publishing to the same channel with
                the same key again, within ten minutes, stores nothing and returns the first position. The data is not
                compared. Use it to publish again after `LogUncertain`, or after your own process was interrupted.

        Returns:
            the event's position, once it is stored under the log's durability.

        Raises:
            InvalidEvent, InvalidChannel: it can't be published; nothing was stored.
            ContractBroken: the channel's contract does not allow it (it is an `InvalidEvent`).
            LogUnavailable: the log can't store it now; nothing was stored.
            LogUncertain: the log gave no answer: the event may be stored, or not.
            ValueError: `idempotency_key` is no such text; nothing was stored.
        """
        contracts = self.contracts
        made = to_event(data, event) if contracts is None else contracts.encode(channel, data, event)
        return (await self._append([(channel, made)], idempotency_key))[0]

    async def publish_many(
        self, events: Iterable[tuple[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Position]:
        """Publish a batch: all of it, in this order, with nothing in between, or nothing.

        Args:
            events: pairs of channel and data; see `publish`. An `Event` brings its own type.
            idempotency_key: see `publish`. It names the whole batch, and belongs to the channel of the first event.
                Use it again only with the same events.

        Returns:
            the events' positions, in order.
        """
        contracts = self.contracts
        if contracts is None:
            batch = [(channel, to_event(data)) for channel, data in events]
        else:
            batch = [(channel, contracts.encode(channel, data, None)) for channel, data in events]
        return await self._append(batch, idempotency_key)

    async def _append(self, batch: list[tuple[str, Event]], key: str | None) -> list[Position]:
        token = None if key is None else _token(key, batch)
        if self._runtime is None or self.closed or asyncio.get_running_loop() is not self.loop:
            await self.runtime()
        return await self.log.append(batch, token=token)

    # -- subscribe

    def subscribe(
        self,
        *channels: str,
        after: Position | str | None = None,
        start: Literal["earliest", "latest"] = "latest",
        envelope: bool = False,
        transform: Transform | None = None,
    ) -> Subscription[E]:
        """Subscribe to channels; iterate over the result, or give it to an `EventSourceResponse`.

        Args:
            channels: names, each a str, and patterns: `Pattern("orders.*")` is one token more, `Pattern("orders.>")`
                all below. `channel("user", user_id)` makes a safe name of what a user sent.
            after: the position to go on from: a `Position`, or the text of one as a client sent it (any text gives a
                stream; what is no position of this log gives a gap). None or empty: begin at `start`.
            start: where to begin without `after`. `earliest` means what is kept of each channel now: what retention
                removed before is no gap, what it removes from then on is.
            envelope: write each event as a `message` whose data is a JSON object of channel, event, data and time.
            transform: writes what this one reader gets; for what is built upon the hub.

        Raises:
            InvalidChannel: a channel or pattern breaks the rules.
        """
        wanted = Channels(channels)
        form = Form.ENVELOPE if envelope else Form.PLAIN if wanted.single is not None else Form.NAMED
        return Subscription(self, wanted, form, after or From(start), transform)

    async def history(
        self, *channels: str, after: Position | str | None = None, limit: int = 100
    ) -> tuple[Page, Position]:
        """Read kept events, oldest first.

        Returns:
            a page, and the position that its reader goes on from.

        Raises:
            InvalidPosition: `after` is no position of this log, or past what the log has kept of its past.
        """
        lives = (await self.runtime()).lives
        position = Position.parse(after) if after else Position(lives.epoch, 0)
        resumed = lives.resume(position.epoch, position.offset)
        if resumed is None:
            raise InvalidPosition(f"{position} is a position of another log: start again, without `after`")
        if resumed.lost:
            raise InvalidPosition(
                f"{position} is past what this log has kept of its past: start again, without `after`"
            )
        page = await self.log.read(Channels(channels), resumed.offset, limit, epoch=lives.epoch)
        return page, Position(lives.epoch, page.through)

    # -- look

    def contract_of(self, channel: str) -> Contract[Any] | None:
        """The contract of a channel, if it has one."""
        return None if self.contracts is None else self.contracts.of(channel)

    @property
    def epoch(self) -> str:
        """The log's epoch; empty before the hub is opened."""
        return "" if self._runtime is None else self._runtime.epoch

    @property
    def following(self) -> bool:
        """Whether events come from the log. False before the hub is opened, and while the log can't be followed: then
        open streams wait, and new ones are refused."""
        return self._runtime is not None and self._runtime.follower.failure is None

    @property
    def lives(self) -> Lives:
        """The epochs that the log has had; see `newswire.log.position`. One without a name before the hub is opened."""
        return Lives.single("") if self._runtime is None else self._runtime.lives

    @property
    def latest(self) -> int:
        """The offset of the newest event that has come to this process; 0 before the hub is opened."""
        return 0 if self._runtime is None else self._runtime.head

    def subscribers(self, channel: str) -> int:
        """How many open streams in this process get this channel's events, patterns included."""
        return 0 if self._runtime is None else sum(group.size for group in self._runtime.index.groups(channel))

    def channels(self, limit: int | None = None) -> Mapping[str, int]:
        """The channels and patterns subscribed to in this process, with their numbers of subscribers.

        Args:
            limit: at most so many channels and so many patterns: with 50,000 of them, all take some 20 ms.
        """
        return {} if self._runtime is None else self._runtime.index.subscribed(limit)

    def stats(self) -> HubStats:
        """Numbers for metrics and benchmarks."""
        runtime = self._runtime
        if runtime is None:
            return HubStats(0, 0, 0, 0, 0, 0, 0, 0)
        window = runtime.history.window
        return HubStats(
            followed=runtime.followed,
            delivered=runtime.chunks.delivered,
            subscribers=len(runtime.members),
            stalled=len(runtime.stalled),
            gaps=runtime.gaps,
            pages_read=runtime.history.pages_read,
            window_events=len(window),
            window_bytes=window.bytes,
        )


class SyncHub:
    """The hub for threads: blocking calls, for any thread but the event loop's own."""

    def __init__(self, hub: Hub[Any]) -> None:
        self._hub = hub

    def publish(
        self,
        channel: str,
        data: Any,
        *,
        event: str = "message",
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Position:
        """Publish one event; see `Hub.publish`.

        Args:
            timeout: seconds to wait; then the event may or may not be stored.

        Raises:
            TimeoutError: the time is over.
            RuntimeError: called in an event loop, which it would block; in a fork of the process that opened the hub;
                or where gevent has replaced the threads.
        """
        return self.call(
            lambda: self._hub.publish(channel, data, event=event, idempotency_key=idempotency_key), timeout
        )

    def publish_many(
        self, events: Iterable[tuple[str, Any]], *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> list[Position]:
        """Publish a batch; see `Hub.publish_many`."""
        return self.call(lambda: self._hub.publish_many(events, idempotency_key=idempotency_key), timeout)

    def close(self, timeout: float | None = None) -> None:
        """Close the hub, and the background thread if there is one. Idempotent."""
        self._hub.close_from_thread(timeout)

    def call(self, call: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = None) -> T:
        """Await `call()` in the hub's event loop and wait for its result: for what is built upon the hub.

        Raises:
            TimeoutError, RuntimeError: see `publish`.
            Closed: the hub was closed, by `close` or in an event loop that is still there.
        """
        return self._hub.call_from_thread(call, timeout)


def _token(key: object, batch: list[tuple[str, Event]]) -> str:
    """The log's token for a key: one of the channel, so that publishers of different channels can't meet."""
    if not isinstance(key, str) or not 0 < len(key) <= _KEY_CHARACTERS:
        raise ValueError(f"an idempotency key is a text of 1 to {_KEY_CHARACTERS} characters, not {key!r:.60}")
    channel = str(batch[0][0]) if batch else ""  # no channel's name has a NUL
    try:
        return sha256(channel.encode("utf-8", "surrogatepass") + b"\0" + key.encode()).hexdigest()
    except UnicodeEncodeError:
        raise ValueError("an idempotency key is a text that UTF-8 can write: this one has a lone surrogate") from None
