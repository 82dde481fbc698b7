"""A hub that is open: everything of it that belongs to one event loop.

Follows the log into the window, marks the groups that want an event, knows who is subscribed. `Hub` is its face for
applications; subscriptions call it on their way through it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Sequence

from newswire.errors import Closed, LogUnavailable, NewswireError, TrimmedAway
from newswire.hub.cursor import From, Place, Start, gap_data, place
from newswire.hub.fanout import Fanout
from newswire.hub.frames import Chunk, Form, Frame
from newswire.hub.group import Group
from newswire.hub.options import HubOptions, StreamOptions
from newswire.hub.pages import Pages
from newswire.hub.patterns import ChannelIndex
from newswire.hub.subscription import Subscription
from newswire.hub.window import Due, Window, due_of_page
from newswire.log.base import Entry, Log, Span
from newswire.log.immediate import follow_at_once
from newswire.log.position import Position
from newswire.wire.encoder import encode, opening
from newswire.wire.event import Event
from newswire.wire.goodbye import come_back, goodbye

logger = logging.getLogger("newswire.hub")

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds between attempts while the log is away


class Live:
    """The inside of an open hub.

    Attributes:
        epoch: the log's.
        index: which groups want a channel's events.
        followed, gaps: counts since the hub was opened.
        draining: no new streams are taken.
        on_empty: called once each when the last stream has ended.
    """

    finite = False

    def __init__(self, log: Log, span: Span, options: HubOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.epoch = span.epoch
        self.fanout = Fanout(Window(options.window_bytes, start=span.latest), options, loop)
        self.pages = Pages(log, span.epoch, options)
        self.index = ChannelIndex()
        self.members: dict[Subscription, None] = {}
        self.followed = 0
        self.gaps = 0
        self.draining = False
        self.on_empty: list[Callable[[], None]] = []
        self._log = log
        self._groups: dict[tuple[object, ...], Group] = {}
        self._beyond_head: list[Subscription] = []
        self._wait = _FIRST_WAIT
        self._last_opening: tuple[int, int, Chunk] = (-1, -1, Chunk(b""))
        self.fanout.start()
        self._follower = loop.create_task(self._follow(), name="newswire hub")

    # -- from the log

    async def _follow(self) -> None:
        while True:
            try:
                async for entries in follow_at_once(self._log, self.fanout.window.head, self._take_at_once):
                    self._take_all(entries)
                return  # the log was closed
            except TrimmedAway:
                # Retention was faster than we: what we did not see is a gap, which the log's pages will tell.
                await self._skip_to_latest()
            except LogUnavailable as error:
                logger.warning("the log can't be followed now, trying again: %s", error)
                await asyncio.sleep(random.uniform(self._wait / 2, self._wait))
                self._wait = min(2 * self._wait, _LONGEST_WAIT)
            except Closed:
                return
            except NewswireError as error:
                logger.error("the log can't be followed any more, so all streams end: %s", error)
                self.goodbye_all()
                return

    def _take_at_once(self, entries: Sequence[Entry], whole: bool) -> None:
        """Take entries where the log learns of them, and write them too, unless more may come in this pass."""
        if whole and self.fanout.reserve():
            self._take_all(entries)
            self.fanout.run()
        else:
            self._take_all(entries)

    def _take_all(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._take(entry)
        if self._beyond_head:
            self._wake_beyond_head()
        self._wait = _FIRST_WAIT

    def _take(self, entry: Entry) -> None:
        frame = Frame(self.epoch, entry)
        self.fanout.window.append(frame)
        self.followed += 1
        for group in self.index.groups(entry.channel):
            group.add(frame)

    async def _skip_to_latest(self) -> None:
        span = await self._log.span()
        self.fanout.window.restart(span.latest)
        for group in self._groups.values():
            group.lose_track()
        self._wake_beyond_head()

    def _wake_beyond_head(self) -> None:
        waiting, self._beyond_head = self._beyond_head, []
        for member in waiting:
            member.wake()

    # -- for subscriptions

    async def place(self, start: Start) -> Place:
        """Where a subscription starts."""
        if self.draining:
            raise Closed("the hub is shutting down: connect again in a moment")
        head = self.fanout.window.head
        if start is From.LATEST:
            return Place(head)
        span = Span(self.epoch, 0, head)
        found = place(start, span)
        if isinstance(start, From) or found.gap is None:
            return found
        return place(start, await self._log.span())  # perhaps another process has published since

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
        group.leave(member)
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
        self._beyond_head.append(member)

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

    def opening(self, retry: int, cursor: int) -> Chunk:
        """The chunk that a stream starts with; the same object for all that start at one place."""
        last_retry, last_cursor, chunk = self._last_opening
        if (last_retry, last_cursor) != (retry, cursor):
            chunk = Chunk(opening(retry, self.text(cursor)))
            self._last_opening = (retry, cursor, chunk)
        return chunk

    def text(self, offset: int) -> str:
        """The text of a position."""
        return str(Position(self.epoch, offset))

    def gap(self, reason: str, after: int, through: int, *, certain: bool = True) -> str:
        """The data of a gap event between two offsets."""
        return gap_data(reason, self.text(after), self.text(through), certain=certain)

    # -- the end

    def goodbye_chunk(self, form: Form, retry: int | None) -> Chunk:
        """What ends a stream whose client should come back; see `newswire.wire.goodbye`."""
        event = goodbye(come_back(retry))
        if form is Form.ENVELOPE:
            data = json.dumps({"channel": None, "event": event.event, "data": event.data})
            event = Event(data, retry=event.retry)
        return Chunk(encode(event))

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
            member.goodbye()

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
        self._follower.cancel()
        await asyncio.gather(self._follower, return_exceptions=True)
        self.fanout.stop()
        await self.pages.close()
