"""The hub: the channels that are alive in this process.

It follows the log, keeps the window, knows the subscribers and gives each what comes after its cursor. It knows
nothing of requests, responses or runs: they stand above it and take it as an argument. Here is `Hub`, which
applications call. `newswire.hub.publisher` publishes, `newswire.hub.sync` is the hub for threads, and
`newswire.hub.lifecycle` opens and closes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from newswire.errors import EpochChanged, InvalidPosition
from newswire.hub.frames import FrameForm
from newswire.hub.latest import LatestRules
from newswire.hub.options import CoalesceRules, HubOptions, pace_of
from newswire.hub.presence.member import Member
from newswire.hub.presence.names import ALL as PRESENCE_CHANNELS
from newswire.hub.presence.names import members_of
from newswire.hub.presence.presences import Presence, Presences
from newswire.hub.publisher import Publisher
from newswire.hub.start import From
from newswire.hub.stats import HubStats
from newswire.hub.subscription import Subscription
from newswire.hub.sync import SyncHub
from newswire.hub.transactions import elsewhere, through
from newswire.hub.transform import Transform
from newswire.log.channels import Channels
from newswire.log.connections import run_async
from newswire.log.engine import Condition, Page
from newswire.log.log import Log
from newswire.log.open import open_log
from newswire.log.position import Lives, Position
from newswire.log.retention import RetentionRules
from newswire.validate import check_flag, check_kind, is_whole, options_or, shown
from newswire.wire.event import Event, Named, NoName

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only a type checker needs its defaults

    from newswire.contract.contract import Contract
    from newswire.hub.contracts import ContractRules, Contracts

    E = TypeVar("E", covariant=True, default=Event)
else:
    from typing import TypeVar

    E = TypeVar("E", covariant=True)
C = TypeVar("C")
D = TypeVar("D")
N = TypeVar("N", bound=str)


class Hub(Publisher, Generic[E]):
    """Publish, and subscribe from where you left off.

    It opens at its first awaited call. Close it when your application ends: `lifespan=hub.lifespan`, `async with hub:`
    or `await hub.close()`. Each process makes a hub of its own; hubs with the same log share all events.

    For type checkers: `Hub[ShopEvent]` is a hub whose `contract` is a `Contract[ShopEvent]`; its readers get
    `ShopEvent`s. `Hub` is one without a contract; its readers get `Event`s.

    Args:
        log: the log, or its URL, such as `memory://`, `sqlite:///events.db` or `redis://host`; `newswire.open_log` has
            all of them.
        retention: what the log keeps of each channel, where `log` is a URL: a `Retention`, or one for each pattern of
            channels. None: a file or a server keeps events for seven days, and `memory://` the newest 64 MiB;
            `Retention()` keeps everything.
        contract: a `newswire.contract.Contract`, which declares an application's events: one for all channels, or one
            for each pattern (the first that matches counts). Publishing checks events by it, and iterating over a
            subscription gives `TypedEvent`s.
        latest: names and patterns of channels that have a state, which is their newest event: `["prices.*"]`. A reader
            that comes, returns or is slow gets the newest event of each, then `newswire.live`, then every event. If
            `log` is a URL, only the newest event of each is kept, unless `retention` has a rule for the same pattern.
            See docs/latest.md.
        coalesce: how many seconds an event may wait for others, so that small ones are sent in one write: a number for
            all channels, or one for each pattern of channels (the first that matches counts).
        presence: names and patterns of channels that have members: `["room.*"]`. See `presence` and docs/presence.md.
        options: sizes; see `HubOptions`.

    Raises:
        ValueError: the URL names no log, `retention` is given with a log that was made already, or a number is out of
            its range.
        TypeError: an argument is of another kind.

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
        latest: Iterable[str] = ...,
        coalesce: float | Mapping[str, float] | None = ...,
        presence: Iterable[str] = ...,
        options: HubOptions | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Hub[C],
        log: Log | str = ...,
        *,
        retention: RetentionRules = ...,
        contract: Contract[C],
        latest: Iterable[str] = ...,
        coalesce: float | Mapping[str, float] | None = ...,
        presence: Iterable[str] = ...,
        options: HubOptions | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Hub[C | Event],
        log: Log | str = ...,
        *,
        retention: RetentionRules = ...,
        contract: Mapping[str, Contract[C]],
        latest: Iterable[str] = ...,
        coalesce: float | Mapping[str, float] | None = ...,
        presence: Iterable[str] = ...,
        options: HubOptions | None = ...,
    ) -> None: ...

    def __init__(
        self,
        log: Log | str = "memory://",
        *,
        retention: RetentionRules = None,
        contract: ContractRules[Any] | None = None,
        latest: Iterable[str] = (),
        coalesce: float | Mapping[str, float] | None = None,
        presence: Iterable[str] = (),
        options: HubOptions | None = None,
    ) -> None:
        if not isinstance(log, (str, Log)):
            raise TypeError(f"a hub takes a log, or the URL of one such as 'sqlite:///events.db', not {shown(log)}")
        if retention is not None and not isinstance(log, str):
            raise ValueError("a log that was made already has its retention: give it there, or the hub a URL")
        with_members = LatestRules(presence, "presence")
        rules = LatestRules(latest, also=[PRESENCE_CHANNELS] if with_members else ())
        if isinstance(log, str):
            log = open_log(log, retention=rules.kept(retention, log))
        super().__init__(log, options_or("options", options, HubOptions))
        self.contracts: Contracts[Any] | None = None
        if contract is not None:
            from newswire.hub.contracts import Contracts  # a hub without contracts imports nothing of them

            self.contracts = Contracts(contract)
        self.latest_rules: LatestRules | None = rules or None
        self._presences = Presences(self, with_members, self.options.presence) if with_members else None
        self._coalesce = None if coalesce is None else CoalesceRules(coalesce)
        self.sync: SyncHub[E] = SyncHub(self)

    if TYPE_CHECKING:

        def _names(self) -> E | Named[NoName]: ...  # type: ignore[override]  # a publisher's names are any

    # -- subscribe

    def subscribe(
        self,
        *channels: str,
        after: Position | str | None = None,
        start: Literal["earliest", "latest"] | None = None,
        envelope: bool = False,
        transform: Transform | None = None,
        live: bool = False,
        max_rate: float | None = None,
        coalesce: float | None = None,
        presence: Member | bool = False,
    ) -> Subscription[E]:
        """Subscribe to channels; iterate over the result, or give it to an `EventSourceResponse`.

        Args:
            channels: names, each a str, and patterns: `Pattern("orders.*")` matches names with one more token, such as
                `orders.eu`, and `Pattern("orders.>")` with one or more. `channel("user", user_id)` makes a safe name
                of text that a user sent.
            after: the position to go on from: a `Position`, or the text of one as a client sent it. Any text gives a
                stream; if it is no position of this log, the stream begins with a gap event, and then with the earliest
                event that is kept. None or empty: begin at `start`.
            start: where to begin without `after`. `earliest`: with the earliest event that is kept of each channel.
                No gap event tells of what retention has removed. `latest`: with what is published from now on.
                None: as `latest`, but channels that have a state (see `Hub`) begin with their newest event.
            envelope: write each event as a `message` whose data is a JSON object of channel, event, data and time.
            transform: changes the events that this one reader gets; newswire's runs use it.
            live: send `newswire.live` when all that was stored has been sent: what follows is live. It has no id.
                Readers of channels that have a state get it always.
            max_rate: send at most so many events a second of each channel that has a state, and leave out older ones.
            coalesce: hold events back for so many seconds at most, so that small ones are sent in one write. None: what
                the hub's own `coalesce` says of these channels.
            presence: also send who is on these channels, as events of type `newswire.presence`. With a `Member`, that
                member is on the channels while the stream is open. See docs/presence.md.

        Returns:
            a subscription, for one reader: it can be iterated over once. That gives an `Event` for each event, or a
            `TypedEvent` if the hub has a contract. Nothing is read before; if the log can't be read then, the first
            step raises the error.

        Raises:
            InvalidChannel: a channel or pattern breaks the rules, or there is none.
            ValueError: `start` is another text, `max_rate` or `coalesce` is out of its range; `max_rate` is given, and
                no channel has a state; or `presence` is given, and no channel has members.
            TypeError: an argument is of another kind.
            InvalidEvent, LimitExceeded: the state of the `Member` can't be JSON, or is too large.
        """
        check_flag("envelope", envelope)
        check_flag("live", live)
        if after is not None and not isinstance(after, str):  # a Position is one
            raise TypeError(f"`after` is a position, or the text of one, not {shown(after)}")
        if not isinstance(presence, (bool, Member)):
            raise TypeError(f"presence is True, False or a Member, not {shown(presence)}")
        wanted = Channels(channels)
        attendance = None
        if presence is not False:
            presences = self._need_presence()
            with_members = presences.among(wanted)
            wanted = Channels([*channels, *map(members_of, with_members)])
            attendance = presences.attend(with_members, presence if isinstance(presence, Member) else None)
        form = FrameForm.ENVELOPE if envelope else FrameForm.PLAIN if wanted.single is not None else FrameForm.NAMED
        state = None if self.latest_rules is None else self.latest_rules.split(wanted)[0]
        if max_rate is not None and state is None:
            raise ValueError("max_rate leaves out events, so it is for channels that have a state: see Hub(latest=...)")
        if start not in (None, "earliest", "latest"):
            raise ValueError(f"start is 'earliest' or 'latest', not {start!r:.60}")
        begin = From(start) if start is not None else From.LATEST if state is None else From.STATE
        if coalesce is None and self._coalesce is not None:
            coalesce = self._coalesce.of(wanted)
        pace = pace_of(coalesce, max_rate)
        if transform is not None:
            check_kind("transform", transform, Transform)
        subscription: Subscription[E] = Subscription(
            self, wanted, form, after or begin, transform, live=live, pace=pace
        )
        if attendance is not None:
            subscription.attend(attendance)
        return subscription

    def presence(self, channel: str) -> Presence:
        """The members of a channel, over all processes with the same log: `await hub.presence("room.1").members()`.

        Raises:
            InvalidChannel: it is no channel's name, or too long.
            ValueError: the channel has no members: see `Hub(presence=[...])`.
        """
        return Presence(self._need_presence(), channel, self.subscribe)

    def _need_presence(self) -> Presences:
        if self._presences is None:
            how = "Hub(presence=['room.*']), or newswire serve --presence 'room.*'"
            raise ValueError(f"this hub has no channels with members: name them, as in {how}")
        return self._presences

    async def history(
        self, *channels: str, after: Position | str | None = None, limit: int = 100
    ) -> tuple[Page, Position]:
        """Read kept events, oldest first, and wait for no new ones (`subscribe` does).

        Args:
            channels: names and patterns; see `subscribe`.
            after: read what comes after this position; None: from the earliest kept event.
            limit: how many events at most; less than 1 counts as 1. A page may have fewer, or none, before the end.

        Returns:
            a page, and the position that its reader goes on from. There is no more where that is the newest position
            of the log, `log.span()`'s `latest`.

        Raises:
            InvalidChannel: a channel or pattern breaks the rules, or there is none.
            InvalidPosition: `after` is no position of this log, or past what the log has: its end, or what it has kept
                of its past.
            LogUnavailable, Closed: the log can't be read now; the hub is closed.
            ValueError, TypeError: `limit` is no integer; `after` is no text.
        """
        if not is_whole(limit):
            raise ValueError(f"limit is a number of events, not {shown(limit)}")
        await self.runtime()
        try:
            return await self._page(channels, after, limit)
        except EpochChanged:  # between a question and the next
            return await self._page(channels, after, limit)

    async def _page(self, channels: Sequence[str], after: Position | str | None, limit: int) -> tuple[Page, Position]:
        """A page of the log as it is now: the hub may not have taken in yet that it began another life."""
        span = await self.log.span()
        lives = span.lives
        position = Position.parse(after) if after else Position(lives.epoch, 0)
        resumed = lives.resume(position.epoch, position.offset)
        if resumed is None:
            raise InvalidPosition(f"{position} is a position of another log: start again, without `after`")
        if resumed.lost or resumed.offset > span.latest:
            raise InvalidPosition(f"{position} is past what this log has: start again, without `after`")
        page = await self.log.read(Channels(channels), resumed.offset, limit, epoch=lives.epoch)
        return page, Position(lives.epoch, page.through)

    @asynccontextmanager
    async def snapshot(self, connection: object) -> AsyncIterator[Position]:
        """Read rows of your database, and know the position that they are the state of.

            async with hub.snapshot(connection) as position:
                rows = await connection.fetch("SELECT * FROM orders")
            async for event in hub.subscribe("orders", after=position):
                ...

        Within the block the connection sees one state of the database, in one transaction. What was published in the
        transactions of connections up to `position` is in that state; a subscriber after `position` gets all that is
        not, and nothing that is.

        Args:
            connection: to the database that the log is in; see `publish`. Best one that is in no transaction: one is
                begun, and ended after the block. On PostgreSQL, a transaction that has read already can't be used.

        Raises:
            InvalidConnection: newswire does not know its kind, it leads to another database, or its transaction has
                published events itself or can't have a snapshot.
            LogUnavailable: the log can't be opened.
        """
        caller, transactions = through(self.log, connection)
        await self.runtime()
        await transactions.prepare()
        snapshot = transactions.snapshot()
        failed = True
        try:
            try:
                await snapshot.hold()
                with elsewhere():
                    await run_async(caller, snapshot.begin())
                position = await snapshot.settle()
            finally:
                await snapshot.abandon()
            yield position
            failed = False
        finally:
            await run_async(caller, snapshot.end(failed))

    # -- for newswire itself

    async def append(self, batch: Sequence[tuple[str, Event]], condition: Condition | None) -> list[Position] | None:
        """Store events of newswire's own, perhaps under a condition; None: it does not hold."""
        if condition is None:
            return await self._append(list(batch), None)
        return await self._append_if(batch, condition, None)

    @property
    def presences(self) -> Presences | None:
        """What knows who is on the channels; None: none has members."""
        return self._presences

    def _abandon(self) -> None:
        if self._presences is not None:
            self._presences.abandon()
        super()._abandon()

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
        """Whether subscribers get what is published. False before the hub is opened, and while the log can't be
        followed: then open streams wait, and new ones are refused."""
        runtime = self._runtime
        if runtime is None or runtime.follower.begun:
            return runtime is not None and runtime.follower.failure is None
        return not runtime.outage.is_on  # the first subscription begins to follow it

    @property
    def lives(self) -> Lives:
        """The epochs that the log has had; see `newswire.log.position`. One without a name before the hub is opened."""
        return Lives.single("") if self._runtime is None else self._runtime.lives

    @property
    def latest(self) -> int:
        """The offset of the newest event that this process knows of; 0 before the hub is opened."""
        return 0 if self._runtime is None else self._runtime.known

    def subscribers(self, channel: str) -> int:
        """How many open streams in this process get this channel's events, patterns included."""
        check_kind("channel", channel, str)
        return 0 if self._runtime is None else sum(group.size for group in self._runtime.index.groups(channel))

    def channels(self, limit: int | None = None) -> Mapping[str, int]:
        """The channels and patterns subscribed to in this process, with their numbers of subscribers.

        Args:
            limit: at most so many channels and so many patterns: with 50,000 of them, all take some 20 ms.
        """
        if limit is not None and not (is_whole(limit) and limit >= 0):
            raise ValueError(f"limit is a number of channels, 0 or more, not {shown(limit)}")
        return {} if self._runtime is None else self._runtime.index.subscribed(limit)

    def patterns(self) -> Mapping[str, int]:
        """The patterns subscribed to in this process, with their numbers of subscribers."""
        return {} if self._runtime is None else self._runtime.index.patterns()

    def stats(self) -> HubStats:
        """Numbers for metrics and benchmarks."""
        runtime = self._runtime
        if runtime is None:
            return HubStats(0, 0, 0, 0, 0, 0, 0, 0, "down")
        window, counts, presences = runtime.history.window, runtime.counts, self._presences
        members, visitors = (0, 0) if presences is None else presences.here()
        return HubStats(
            followed=counts.followed,
            delivered=counts.delivered,
            subscribers=len(runtime.members),
            stalled=len(runtime.stalled),
            gaps=counts.gaps.total(),
            pages_read=runtime.history.pages_read,
            window_events=len(window),
            window_bytes=window.bytes,
            log=runtime.monitor.state,
            lag=runtime.monitor.lag,
            outages=runtime.outage.count,
            retries=runtime.outage.failures,
            epochs=runtime.epochs,
            streams=counts.streams,
            replayed=counts.replayed,
            stream_bytes=counts.stream_bytes,
            compressed_from=counts.compressed_from,
            compressed_to=counts.compressed_to,
            heartbeats=counts.heartbeats,
            gap_reasons=dict(counts.gaps),
            resumes=dict(counts.resumes),
            ends=dict(counts.ends),
            members=members,
            visitors=visitors,
            presence_changes={} if presences is None else dict(presences.changes.counts),
            append=self.log.append_seconds.copy(),
            read=self.log.read_seconds.copy(),
        )
