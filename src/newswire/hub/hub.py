"""The hub: the channels that are alive in this process.

It follows the log, keeps the window, knows the subscribers and gives each what comes after its cursor. It knows
nothing of requests, responses or runs: they stand above it and take it as an argument. A hub belongs to no event loop
until it is opened (by its first awaited call, or `async with`), and to that one until it is closed, or the event loop
is. Then it may be opened again, in another event loop too.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from newswire.errors import Closed, InvalidPosition
from newswire.hub.cursor import From
from newswire.hub.frames import Form
from newswire.hub.live import Live
from newswire.hub.options import HubOptions
from newswire.hub.subscription import Subscription
from newswire.hub.sync import SyncHub
from newswire.hub.transform import Transform
from newswire.log.base import Log, Page, Reopenable, RetentionRules
from newswire.log.channels import Channels
from newswire.log.lives import Lives
from newswire.log.open import open_log
from newswire.log.position import Position
from newswire.log.retry import ask
from newswire.log.workers import warn_if_not_shared
from newswire.wire.event import Event
from newswire.wire.payload import to_event

Mode: TypeAlias = Literal["goodbye", "drain", "cut"]


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


class Hub:
    """Publish, and subscribe from where you left off.

    Args:
        log: the log, or its URL: `memory://`, `sqlite:///events.db` …
        retention: what the log keeps of each channel, where `log` is a URL: a `Retention`, or one for each pattern of
            channels. None: a file keeps events for seven days, and memory the newest 64 MiB; `Retention()` keeps
            everything. See `newswire.open_log`.
        options: sizes; see `HubOptions`.

    Raises:
        ValueError: the URL names no log, or `retention` is given with a log that was made already.

    Attributes:
        sync: the same hub for threads; see `SyncHub`.
    """

    def __init__(
        self, log: Log | str = "memory://", *, retention: RetentionRules = None, options: HubOptions | None = None
    ) -> None:
        if retention is not None and not isinstance(log, str):
            raise ValueError("a log that was made already has its retention: give it there, or the hub a URL")
        self.log: Log = open_log(log, retention=retention) if isinstance(log, str) else log
        self.options = options or HubOptions()
        self.sync = SyncHub(self)
        self._live: Live | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid: int | None = None  # the process that opened it
        self._opening: asyncio.Task[Live] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed = False
        self._closed_in: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def __aenter__(self) -> Hub:
        try:
            await self.open()
        except BaseException:
            await self.close()  # nobody else will: without an entry there is no exit
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """The hub's life as an application's: `Starlette(lifespan=hub.lifespan)`, `FastAPI(lifespan=hub.lifespan)`."""
        async with self:
            yield

    # -- open and close

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the hub is open in; None before it is opened."""
        return self._loop

    @property
    def closed(self) -> bool:
        """Whether the hub was closed."""
        return self._closed

    @property
    def loop_is_gone(self) -> bool:
        """Whether the event loop that the hub is or was open in is closed."""
        loop = self._closed_in() if self._closed_in is not None else self._loop
        return loop.is_closed() if loop is not None else self._closed

    def check_process(self) -> None:
        """See that the hub was not carried over a fork.

        Raises:
            RuntimeError: it was open when this process was forked. Its event loop and threads are the parent's.
        """
        if self._pid is not None and self._pid != os.getpid():
            raise RuntimeError(
                f"this hub was opened in process {self._pid}, of which {os.getpid()} is a fork: open hubs after the "
                "fork, one in each process (with gunicorn --preload, a pool or a daemon: publish nothing before)"
            )

    async def live(self) -> Live:
        """The inside of the hub, which is opened if need be; for newswire itself.

        Raises:
            Closed: the hub was closed in this event loop: whoever comes late does not open it again.
            LogUnavailable, LogCorrupt, RuntimeError: see `open`.
        """
        if self._closed and self._closed_in is not None and self._closed_in() is asyncio.get_running_loop():
            raise Closed("the hub is closed")
        return await self.open()

    async def open(self) -> Live:
        """Open the log and follow it. Idempotent; every awaited call does it when it must.

        A hub that was closed is opened again: by this method and `async with`, and in another event loop by every call.

        Returns:
            the inside of the hub; what it offers is for newswire itself.

        Raises:
            LogUnavailable, LogCorrupt: the log can't be opened. The next call tries again.
            Closed: the hub was closed, and its log can't be opened again.
            RuntimeError: the hub is open in another event loop, or was open when this process was forked.
        """
        loop = asyncio.get_running_loop()
        self.check_process()
        if self._loop is not None and self._loop is not loop:
            if self._loop.is_closed():
                self._abandon()
            elif not await self._take_over(loop):
                raise RuntimeError("this hub is open in another event loop: use hub.sync there, or make a hub for each")
        if self._ending is not None:
            await asyncio.shield(self._ending)
        if self._closed:
            self._reopen()
        if self._live is not None:
            return self._live
        self._loop = loop
        self._pid = os.getpid()
        if self._opening is None:
            self._opening = loop.create_task(self._open(loop), name="newswire hub opens")
        return await asyncio.shield(self._opening)

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Live:
        warn_if_not_shared(self.log)
        try:
            self._live = Live(self.log, await ask(self.log.span()), self.options, loop)
        except BaseException:
            self._loop = self._pid = None
            raise
        finally:
            self._opening = None
        return self._live

    async def _take_over(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Go on in `loop`, if the hub is open in the background thread of `sync` and nobody reads there."""
        background = self.sync.background
        if background is None or self._loop is not background:
            return False

        async def hand_over() -> bool:
            if self._opening is not None:
                await asyncio.wait([self._opening])
            # Whoever waited for that goes first: one pass through the shield, one to wake, one to go on.
            for _ in range(3):
                await asyncio.sleep(0)
            live = self._live
            if self._loop is not background or live is None or live.members or self._closing or self._ending:
                return False
            with self.sync.lock:  # threads give their calls to `loop` from here on
                self._loop, self._live = loop, None
            await live.close()
            return True

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(hand_over(), background))

    def _abandon(self) -> None:
        """The event loop was closed with the hub open in it. The log is not bound to it."""
        live, self._live = self._live, None
        self._loop = self._opening = self._ending = None
        self._closing.clear()
        if live is not None:
            live.abandon()

    def _reopen(self) -> None:
        if not isinstance(self.log, Reopenable):
            raise Closed("the hub is closed, and its log can't be opened again: make a new Hub")
        self.log.reopen()
        self._live = None
        self._closed = False
        self._closed_in = None

    async def close(self) -> None:
        """End every stream with a goodbye, then close the log. Idempotent.

        If the caller is cancelled, the hub is closed all the same before the cancellation goes on.
        """
        if self._closed:
            return
        if self._loop is not None and self._loop.is_closed():
            self._abandon()
        self.check_process()
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._close(), name="newswire hub closes")
        ending = self._ending
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending])
            raise

    async def _close(self) -> None:
        try:
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait([self._opening])
            while self._closing:
                await self._closing.pop()()
            await self.shutdown(grace=1.0)
        finally:
            self._closed = True
            self._closed_in = weakref.ref(asyncio.get_running_loop())
            self._loop = self._pid = self._ending = None
            try:
                if self._live is not None:
                    await self._live.close()
            finally:
                await self.log.close()

    def before_close(self, call: Callable[[], Awaitable[None]]) -> None:
        """Await `call()` when the hub is asked to close, while it still works: for what is built upon it."""
        self._closing.append(call)

    async def shutdown(self, grace: float = 5.0, mode: Mode = "goodbye") -> None:
        """End every stream, and take no new ones. Publishing goes on working until `close`.

        Args:
            grace: seconds that clients have to take what they are still owed; then they are cut.
            mode: `goodbye` and `drain` tell clients when to come back (`retry:`, with jitter) and finish in order:
                subscriptions have no end of their own to wait for. `cut` drops the connections.
        """
        live = self._live
        if live is None:
            return
        if mode == "cut":
            live.draining = True
            live.cut()
        else:
            live.stop()
        await live.empty(grace)

    # -- publish

    async def publish(self, channel: str, data: Any, *, event: str = "message") -> Position:
        """Publish one event.

        Args:
            channel: where to; any name (see `newswire.log.channels`), which needs no creation.
            data: a str as it is, bytes as UTF-8, an `Event` as it is (then `event` must not be given), everything
                else as JSON.
            event: the event's type. `error`, `open` and `newswire.…` are reserved.

        Returns:
            the event's position, once it is stored under the log's durability.

        Raises:
            InvalidEvent, InvalidChannel: it can't be published; nothing was stored.
            LogUnavailable: the log can't store it now; nothing was stored.
        """
        return (await self._append([(channel, to_event(data, event))]))[0]

    async def publish_many(self, events: Iterable[tuple[str, Any]]) -> list[Position]:
        """Publish a batch: all of it, in this order, with nothing in between, or nothing.

        Args:
            events: pairs of channel and data; see `publish`. An `Event` brings its own type.

        Returns:
            the events' positions, in order.
        """
        return await self._append([(channel, to_event(data)) for channel, data in events])

    async def _append(self, batch: list[tuple[str, Event]]) -> list[Position]:
        if self._live is None or self._closed or asyncio.get_running_loop() is not self._loop:
            await self.live()
        return await self.log.append(batch)

    # -- subscribe

    def subscribe(
        self,
        *channels: str,
        after: Position | str | None = None,
        start: Literal["earliest", "latest"] = "latest",
        envelope: bool = False,
        transform: Transform | None = None,
    ) -> Subscription:
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
        lives = (await self.live()).lives
        position = Position.parse(after) if after else Position(lives.epoch, 0)
        resumed = lives.resume(position.epoch, position.offset)
        if resumed is None:
            raise InvalidPosition(f"{position} is a position of another log: start again, without `after`")
        if resumed.lost:
            raise InvalidPosition(
                f"{position} is past what this log has kept of its past: start again, without `after`"
            )
        page = await self.log.read(Channels(channels), resumed.offset, limit)
        return page, Position(lives.epoch, page.through)

    # -- look

    @property
    def epoch(self) -> str:
        """The log's epoch; empty before the hub is opened."""
        return "" if self._live is None else self._live.epoch

    @property
    def following(self) -> bool:
        """Whether events come from the log. False before the hub is opened, and while the log can't be followed: then
        open streams wait, and new ones are refused."""
        return self._live is not None and self._live.follower.failure is None

    @property
    def lives(self) -> Lives:
        """The epochs that the log has had; see `newswire.log.lives`. One without a name before the hub is opened."""
        return Lives.single("") if self._live is None else self._live.lives

    @property
    def latest(self) -> int:
        """The offset of the newest event that has come to this process; 0 before the hub is opened."""
        return 0 if self._live is None else self._live.fanout.window.head

    def subscribers(self, channel: str) -> int:
        """How many open streams in this process get this channel's events, patterns included."""
        return 0 if self._live is None else sum(group.size for group in self._live.index.groups(channel))

    def channels(self, limit: int | None = None) -> Mapping[str, int]:
        """The channels and patterns subscribed to in this process, with their numbers of subscribers.

        Args:
            limit: at most so many channels and so many patterns: with 50,000 of them, all take some 20 ms.
        """
        return {} if self._live is None else self._live.index.subscribed(limit)

    def stats(self) -> HubStats:
        """Numbers for metrics and benchmarks."""
        live = self._live
        if live is None:
            return HubStats(0, 0, 0, 0, 0, 0, 0, 0)
        fanout = live.fanout
        return HubStats(
            followed=live.followed,
            delivered=fanout.delivered,
            subscribers=len(live.members),
            stalled=len(fanout.stalled),
            gaps=live.gaps,
            pages_read=live.pages.read,
            window_events=len(fanout.window),
            window_bytes=fanout.window.bytes,
        )
