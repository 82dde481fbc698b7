"""A hub that is open: everything of it that belongs to one event loop.

Takes what follows in the log into the window, marks the groups that want an event, knows who is subscribed. `Hub` is
its face for applications; subscriptions call it on their way through it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from newswire.errors import Closed
from newswire.hub.cursor import From, Place, Start, gap_data, place
from newswire.hub.fanout import Fanout
from newswire.hub.follower import LogFollower
from newswire.hub.frames import HEARTBEAT, Chunk, Frame
from newswire.hub.group import Group
from newswire.hub.options import HubOptions, StreamOptions
from newswire.hub.pages import Pages
from newswire.hub.patterns import ChannelIndex
from newswire.hub.subscription import Subscription
from newswire.hub.window import Due, Window, due_of_page
from newswire.log.base import Entry, Log, Span
from newswire.log.position import Position
from newswire.log.retry import ask
from newswire.wire.encoder import opening

logger = logging.getLogger("newswire.hub")


class Live:
    """The inside of an open hub.

    Attributes:
        epoch, lives: the log's.
        index: which groups want a channel's events.
        follower: what brings the log's events here.
        followed, gaps: counts since the hub was opened.
        draining: no new streams are taken.
        on_empty: called once each when the last stream has ended.
    """

    finite = False

    def __init__(self, log: Log, span: Span, options: HubOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.epoch = span.epoch
        self.lives = span.lives
        self.fanout = Fanout(Window(options.window_bytes, start=span.latest), options, loop)
        self.pages = Pages(log, span.lives, options, self._log_went_back)
        self.index = ChannelIndex()
        self.members: dict[Subscription, None] = {}
        self.followed = 0
        self.gaps = 0
        self.draining = False
        self.on_empty: list[Callable[[], None]] = []
        self._log = log
        self._groups: dict[tuple[object, ...], Group] = {}
        self._beyond_head: dict[Subscription, None] = {}
        self._last_opening: tuple[tuple[int, int, bool], Chunk] = ((-1, -1, True), HEARTBEAT)
        self.fanout.start()
        self.follower = LogFollower(log, self)

    # -- from the log, called by the follower

    @property
    def head(self) -> int:
        """The offset of the newest event that has come here."""
        return self.fanout.window.head

    def take(self, entries: Sequence[Entry], whole: bool) -> None:
        """Take entries where the log learns of them, and write them too, unless more may come in this pass."""
        if whole and self.fanout.reserve():
            try:
                self._take_all(entries)
            finally:
                self.fanout.run()
        else:
            self._take_all(entries)

    def _take_all(self, entries: Sequence[Entry]) -> None:
        head = self.fanout.window.head
        for entry in entries:
            if entry.offset > head:  # a log that gives something twice costs nobody an event
                self._take(entry)
        if self._beyond_head:
            self._wake_beyond_head()

    def _take(self, entry: Entry) -> None:
        frame = Frame(self.epoch, entry)
        self.fanout.window.append(frame)
        self.followed += 1
        for group in self.index.groups(entry.channel):
            group.add(frame)

    def lose_track(self) -> None:
        """What was taken may not have come to all groups: they look for it in the window."""
        for group in self._groups.values():
            group.lose_track()

    def skip_to(self, latest: int) -> None:
        """Go on after `latest`; what lies between never came here, and is read from the log's pages."""
        self.fanout.window.restart(latest)
        self.lose_track()
        self._wake_beyond_head()

    def begin_again(self, span: Span) -> None:
        """The log is another one now, or an older copy of itself: every cursor has to be placed again."""
        logger.error(
            "the log spans %s to %s-%d now, and this process had seen %s: all streams end, and their clients come back "
            "to a gap",
            f"{span.epoch}-{span.earliest}", span.epoch, span.latest, self.text(self.head),
        )  # fmt: skip
        self.goodbye_all()
        self.epoch = span.epoch
        self.lives = span.lives
        self.fanout.window.restart(span.latest)
        self.pages.begin_again(span.lives)
        self.lose_track()

    def _log_went_back(self, error: Exception) -> None:
        self.follower.restart(error)

    def _wake_beyond_head(self) -> None:
        waiting, self._beyond_head = self._beyond_head, {}
        for member in waiting:
            member.wake()

    # -- for subscriptions

    async def place(self, start: Start) -> Place:
        """Where a subscription starts.

        Raises:
            Closed: the hub is shutting down.
            LogUnavailable: no events come from the log now.
        """
        if self.draining:
            raise Closed("the hub is shutting down: connect again in a moment")
        self.follower.check()
        head = self.fanout.window.head
        if start is From.LATEST:
            return Place(head)
        span = Span(self.epoch, 0, head, self.lives)
        found = place(start, span)
        if isinstance(start, From) or found.gap is None:
            return found
        return place(start, await ask(self._log.span()))  # perhaps another process has published since

    def enter(self, member: Subscription, options: StreamOptions) -> Group:
        """Take in a subscriber."""
        key = (member.channels, member.form, options.heartbeat)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(member.channels, member.form, options.heartbeat, self.fanout)
            self.index.add(group)
            self.fanout.watch(group)
        group.size += 1
        self.members[member] = None
        if options.max_age is not None:
            self.fanout.limit_age(member, options.max_age)
        return group

    def leave(self, member: Subscription, group: Group) -> None:
        """A subscriber gets no more events; its sink may still have some to send."""
        self.fanout.gone(member)
        self.pages.forget(member)
        self._beyond_head.pop(member, None)
        group.forget(member)
        group.size -= 1
        if group.size == 0:
            del self._groups[group.channels, group.form, group.heartbeat]
            self.index.remove(group)
            self.fanout.forget(group)

    def left(self, member: Subscription) -> None:
        """A subscriber's sink is done too."""
        self.fanout.gone(member)
        self.members.pop(member, None)
        if not self.members:
            calls, self.on_empty = self.on_empty, []
            for call in calls:
                call()

    def wait_for_head(self, member: Subscription) -> None:
        """Wake `member` when something new comes: it has seen an event that has not come here yet."""
        self._beyond_head[member] = None

    def page_due(self, member: Subscription, group: Group) -> Due | None:
        """What a subscriber behind the window is due; None if it has to wait, or has a gap to be told first."""
        page = self.pages.find(group.channels, member.cursor, member.page)
        if page is None:
            member.wait()
            self.pages.fetch(group.channels, member.cursor, member.page, member)
            return None
        if not member.page_at_hand(page):
            return None
        return due_of_page(page.frames, member.cursor, page.through, self.fanout.options.write_budget)

    def opening(self, retry: int, cursor: int, *, whole: bool = True) -> Chunk:
        """The chunk that a stream starts with; the same object for all that start at one place."""
        key = (retry, cursor, whole)
        last_key, chunk = self._last_opening
        if last_key != key:
            chunk = Chunk(raw=opening(retry, self.text(cursor), whole=whole))
            self._last_opening = (key, chunk)
        return chunk

    def text(self, offset: int) -> str:
        """The text of a position."""
        return str(Position(self.epoch, offset))

    def gap(self, reason: str, after: int, through: int, *, certain: bool = True) -> str:
        """The data of a gap event between two offsets."""
        return gap_data(reason, self.text(after), self.text(through), certain=certain)

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
        """End every stream, and tell its client to come back."""
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
        self.fanout.stop()
        await self.follower.close()
        await self.pages.close()

    def abandon(self) -> None:
        """The event loop is closed: free what is held in the log."""
        self.follower.abandon()
        self.pages.abandon()
