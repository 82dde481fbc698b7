"""An open hub: everything of it that belongs to one event loop.

Takes what follows in the log into the window, marks the groups that want an event, and knows who is subscribed. `Hub`
is its face for applications; subscriptions call it on their way through it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from newswire.errors import Closed, EpochChanged, LogUnavailable
from newswire.hub.follower import LogFollower, LogMonitor
from newswire.hub.frames import HEARTBEAT, Chunk, Chunks, Frame, FrameForm, heartbeat_chunk
from newswire.hub.group import Group, GroupMember
from newswire.hub.history import History, HistoryReader
from newswire.hub.index import ChannelIndex
from newswire.hub.latest import LatestRules, LatestTable
from newswire.hub.options import HubOptions, Pace, StreamOptions
from newswire.hub.paced import CoalescingGroup, RatedGroup
from newswire.hub.scheduler import Deadlines, Scheduler
from newswire.hub.shared_rounds import MANY, SharedRounds
from newswire.hub.start import From, Start, StartPoint, resolve_start
from newswire.hub.stats import Counts
from newswire.hub.transactions import TicketWatch
from newswire.hub.view import StateView
from newswire.log.channels import Channels
from newswire.log.engine import Entry, Span
from newswire.log.log import Log
from newswire.log.position import Lives, Position
from newswire.log.retry import Outage
from newswire.wire.encoder import opening

logger: logging.Logger = logging.getLogger("newswire.hub")

_BEGINNINGS_BYTES: Final = 2 * 2**20  # what a storm of clients that come back from a few hundred places begins with


class Beginning(NamedTuple):
    """What the streams begin with that start at one place, and where they are then; see `newswire.hub.window.Due`."""

    chunk: Chunk
    through: int
    lost: int


class RuntimeMember(GroupMember, HistoryReader, Protocol):
    """A subscription, as the runtime sees it."""

    form: FrameForm
    pace: Pace | None
    wire: bool
    began: int

    def goodbye(self) -> None:
        """End the stream in order and ask the client to come back."""
        ...

    def cut(self, why: str = ...) -> None:
        """Drop its connection."""
        ...

    def place_again(self, point: StartPoint) -> None:
        """The log is another one now: go on from here."""
        ...


class HubRuntime:
    """The inside of an open hub.

    Attributes:
        epoch, lives: the log's.
        history, scheduler, deadlines, chunks: what the streams share.
        latest: the newest event of each channel that has a state, if any has.
        index: which groups want a channel's events.
        follower: what brings the log's events here.
        tickets: those that are waited for.
        members: the subscriptions whose streams are open.
        stalled: those of them whose connection can take no more now.
        monitor: what knows the log's state.
        outage: what of the hub can't use the log now.
        counts: what it has done since it was opened.
        epochs: how often the log was another one than before.
        draining: no new streams are taken.
        on_empty: called once each when the last stream has ended.
        on_news: called once each when the next events have come from the log.
    """

    finite = False

    def __init__(
        self,
        log: Log,
        span: Span,
        options: HubOptions,
        loop: asyncio.AbstractEventLoop,
        latest: LatestRules | None = None,
    ) -> None:
        self.epoch: str = span.epoch
        self.lives: Lives = span.lives
        self.counts: Counts = Counts()
        self.outage: Outage = Outage("the log is not available", logger)
        self.history: History = History(
            log,
            span,
            window_bytes=options.window_bytes,
            budget=options.write_budget,
            outage=self.outage,
            went_back=lambda error: self.follower.restart(error),
        )
        self.latest: LatestTable | None = None
        if latest is not None:
            self.latest = LatestTable(latest, log, span, self.outage, head=lambda: self.head)
        self.chunks: Chunks = Chunks(self.counts)
        self.scheduler: Scheduler = Scheduler(loop, self._clear)
        self.deadlines: Deadlines = Deadlines(loop)
        self.index: ChannelIndex = ChannelIndex()
        self.members: dict[RuntimeMember, None] = {}
        self.stalled: dict[RuntimeMember, None] = {}
        self.epochs: int = 0
        self.draining: bool = False
        self.on_empty: list[Callable[[], None]] = []
        self.on_news: set[Callable[[], None]] = set()
        self._log = log
        self._newest = 0  # when the newest member began
        self._groups: dict[tuple[object, ...], Group] = {}
        self._shared = SharedRounds(self.scheduler, self.chunks)
        self._last_opening: tuple[tuple[object, ...], Chunk] = ((), HEARTBEAT)
        self._beginnings: dict[tuple[object, ...], Beginning] = {}
        self._beginnings_bytes = 0
        self.tickets: TicketWatch = TicketWatch(log, lambda call: self.on_news.add(call))
        self.follower: LogFollower = LogFollower(log, self, self.outage)
        self.monitor: LogMonitor = LogMonitor(log, self, self.outage, self.follower)
        if latest is not None or log.engine.tail_early:  # every event may be the newest of its channel
            self.follower.start()

    # -- from the log, called by the follower

    @property
    def head(self) -> int:
        """The offset of the newest event that has come here."""
        return self.history.window.head

    @property
    def known(self) -> int:
        """The offset of the newest event that this process knows of: it has come here, or was stored from here."""
        return max(self.head, self._log.stored(self.epoch))

    def take(self, entries: Sequence[Entry], whole: bool) -> None:
        """Take entries where the log learns of them, and write them too, unless more may come in this pass."""
        at_once = whole and self.scheduler.reserve()
        alone = len(entries) == 1  # several go out together
        try:
            window, groups, epoch, latest = self.history.window, self.index.groups, self.epoch, self.latest
            for entry in entries:
                if entry.offset <= window.head:
                    continue  # a log may give something twice
                frame = Frame(epoch, entry)
                window.append(frame)
                self.counts.followed += 1
                if latest is not None and entry.channel in latest.rules:
                    latest.put(frame)
                wanting = groups(entry.channel)
                if alone and len(wanting) >= MANY:
                    self._shared.add(frame, wanting)
                else:
                    for group in wanting:
                        group.add(frame)
            self.history.wake_beyond()
            if self.on_news:
                calls, self.on_news = self.on_news, set()
                for call in calls:
                    call()
        finally:
            if at_once:
                self.scheduler.run()

    def lose_track(self) -> None:
        """What was taken may not have come to all groups: they look for it in the window."""
        for group in self._groups.values():
            group.lose_track()

    def skip_to(self, latest: int) -> None:
        """Go on after `latest`; what lies between never came here, and is read from the log's pages."""
        self.history.skip_to(latest)
        if self.latest is not None:
            self.latest.begin_again()
        self.lose_track()

    def begin_again(self, span: Span) -> None:
        """The log is another one now, or an older copy of itself: place every cursor in it. The streams stay open."""
        place = f"{span.epoch}-{span.earliest}", f"{span.epoch}-{span.latest}", self.text(self.head)
        if resolve_start(Position(self.epoch, self.head), span).gap is None:
            logger.warning("the log began another life: it spans %s to %s now, and has all up to %s", *place)
        else:
            logger.error("the log spans %s to %s now, and not %s any more: streams go on behind a gap", *place)
        self.epochs += 1
        before, self.epoch, self.lives = self.epoch, span.epoch, span.lives
        self.history.begin_again(span)
        if self.latest is not None:
            self.latest.begin_again(span.lives)
        self._shared.stop()
        self._clear()
        for group in self._groups.values():
            group.disperse()
        for member in list(self.members):
            self.history.forget(member)
            member.place_again(resolve_start(Position(before, member.cursor), span))

    # -- for subscriptions

    async def resolve(self, start: Start) -> StartPoint:
        """Where a subscription starts.

        Raises:
            Closed: the hub is shutting down.
            LogUnavailable: no events come from the log now.
        """
        if self.draining:
            raise Closed("the hub is shutting down: connect again in a moment")
        await self.follower.settle()
        if start is From.LATEST:
            return StartPoint(self.known)
        found = self.place(start)
        if isinstance(start, From) or found.gap is None:
            return found
        span = await self._log.span()  # perhaps another process has published since
        if span.epoch != self.epoch:
            changed = EpochChanged(span.epoch)
            self.follower.restart(changed)
            await self.follower.settle()
            if span.epoch != self.epoch:
                raise LogUnavailable("the log began another life just now: try again") from changed
        return resolve_start(start, span)

    def place(self, start: Start) -> StartPoint:
        """Where `start` is in the log, as far as this process knows it."""
        return resolve_start(start, Span(self.epoch, 0, self.head, self.lives))

    def resumed(self, start: Start, point: StartPoint) -> str:
        """Where a stream begins, for the counts."""
        if isinstance(start, From):
            return "new"
        if point.gap is not None:
            return "gap"
        window = self.history.window
        return "current" if point.cursor >= window.head else "window" if point.cursor >= window.floor else "log"

    def view(self, member: RuntimeMember, start: Start) -> StateView | None:
        """What answers for a subscription some of whose channels have a state; None: none has."""
        if self.latest is None:
            return None
        state, exact = self.latest.rules.split(member.channels)
        if state is None:
            return None
        first = self.known if start is From.STATE and exact is not None else 0
        return StateView(member, state, exact, table=self.latest, history=self.history, first=first)

    def enter(self, member: RuntimeMember, options: StreamOptions) -> Group:
        """Take in a subscription."""
        shared = (member.channels, member.form, options.heartbeat, member.wire, member.pace)
        beat = heartbeat_chunk(options.heartbeat_padding)
        key = (*shared, beat)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._group(*shared)
            group.key, group.beat = key, beat
            self.index.add(group)
            if options.heartbeat is not None:  # first at a random moment, so that not all come at once
                self.deadlines.start(group.send_heartbeat, random.uniform(0, options.heartbeat / 2))
        group.size += 1
        self._newest = member.began = max(self._newest + 1, int(time.time() * 1e6))
        self.members[member] = None
        return group

    def _group(
        self, channels: Channels, form: FrameForm, heartbeat: float | None, wire: bool, pace: Pace | None
    ) -> Group:
        shared: dict[str, Any] = {"history": self.history, "scheduler": self.scheduler, "chunks": self.chunks}
        if pace is None:
            return Group(channels, form, heartbeat, wire, **shared)
        if pace.conflate and self.latest is not None:
            return RatedGroup(pace, self.latest.rules.__contains__, channels, form, heartbeat, wire, **shared)
        return CoalescingGroup(pace, channels, form, heartbeat, wire, **shared)

    def leave(self, member: RuntimeMember, group: Group) -> None:
        """A subscription gets no more events; its sink may still have some to send."""
        self.history.forget(member)
        group.leave(member)
        group.size -= 1
        if group.size == 0:
            del self._groups[group.key]
            group.close()
            self.index.remove(group)
            self.deadlines.cancel(group.send_heartbeat)

    def left(self, member: RuntimeMember) -> None:
        """A subscription's sink is done too."""
        self.members.pop(member, None)
        if not self.members:
            calls, self.on_empty = self.on_empty, []
            for call in calls:
                call()

    def opening(self, options: StreamOptions, cursor: int | None) -> Chunk:
        """The chunk that a stream starts with; the same object for all that start at one place. None: without an id."""
        retry, whole, heartbeat = options.retry, options.opening, options.heartbeat
        key = (retry, cursor, whole, heartbeat)
        last_key, chunk = self._last_opening
        if last_key != key:
            chunk = Chunk(
                raw=opening(retry, None if cursor is None else self.text(cursor), whole=whole, heartbeat=heartbeat)
            )
            self._last_opening = (key, chunk)
        return chunk

    def beginning(self, member: RuntimeMember, opening: Chunk, upto: int) -> Beginning | None:
        """`opening` and what follows `member.cursor`; the same object for all that start at one place.

        Returns:
            None if nothing follows up to offset `upto`, or it is not at hand.
        """
        key = (opening.raw, self.epoch, member.cursor, member.channels, member.form)
        found = self._beginnings.get(key)
        if found is None:
            due = self.history.due(member, upto)
            if due is None or not due.frames or not due.certain:
                return None
            raw = opening.raw + Chunk(due.frames, member.form).raw
            found = Beginning(Chunk(due.frames, member.form, raw), due.through, due.lost)
            self._beginnings_bytes += len(raw)
            if self._beginnings_bytes > _BEGINNINGS_BYTES:
                self._beginnings.clear()
                self._beginnings_bytes = len(raw)
            self._beginnings[key] = found
        return found

    def _clear(self) -> None:
        """Forget what was joined: nothing more is going out now."""
        self.chunks.clear()
        self._beginnings.clear()
        self._beginnings_bytes = 0

    def text(self, offset: int) -> str:
        """The text of a position."""
        return f"{self.epoch}-{offset}"

    # -- the end

    def stop(self) -> None:
        """End every stream and take no new ones: the server is stopping."""
        self.draining = True
        self.goodbye_all()

    def cut(self) -> None:
        """Drop the connections of all streams that are left."""
        for member in list(self.members):
            member.cut()

    def goodbye_all(self) -> None:
        """End every stream, and ask its client to come back."""
        for member in list(self.members):
            try:
                member.goodbye()
            except Exception:  # the outermost frame of each stream's end: the others have theirs
                logger.exception("a stream could not be ended in order, and is cut")
                member.cut()

    async def empty(self, grace: float) -> None:
        """Wait until all streams that were ended are gone; cut those that are not after `grace` seconds."""
        if self.members:
            empty = asyncio.Event()
            self.on_empty.append(empty.set)
            try:
                async with asyncio.timeout(grace):
                    await empty.wait()
            except TimeoutError:
                logger.info("%d streams did not end within %s s and are cut", len(self.members), grace)
            self.cut()

    async def close(self) -> None:
        """Stop following and reading; the streams have ended."""
        self.deadlines.close()
        await self.tickets.close()
        await self.monitor.close()
        await self.follower.close()
        await self.history.close()
        if self.latest is not None:
            await self.latest.close()

    def abandon(self) -> None:
        """The event loop is closed: free what is held in the log."""
        self.monitor.abandon()
        self.follower.abandon()
        self.history.abandon()
        if self.latest is not None:
            self.latest.abandon()
