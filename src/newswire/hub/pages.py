"""Pages of the log, for subscribers that are behind the window; each is read once for all who need it soon.

Pages of one channel set begin at multiples of their length, so that subscribers whose cursors differ still meet on the
same page, and go on where the page before ended: in a log of one channel that is where the next one begins. A page that
several need at the same time is read once; a few that were read lately are kept, bounded in bytes. Reading is tried
again whatever the log raises: its subscribers stay connected, and a page that has lost them all is given up.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from newswire.errors import LogError
from newswire.hub.frames import Frame
from newswire.hub.options import HubOptions
from newswire.log.base import Log, Page
from newswire.log.channels import Channels
from newswire.log.lives import Lives
from newswire.log.retry import Outage, SupervisedTask

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

logger = logging.getLogger("newswire.hub")

_KEY_BYTES: Final = 600  # what a kept page's key costs beyond its names: sets, a tuple, the entry in the cache
_NAME_BYTES: Final = 120  # each name's string header, and its places in the sets

_Key: TypeAlias = tuple[Channels, int]


class LogPage:
    """A page's frames, from offset `start`; `through`, `lost` and `doubt` as in `newswire.log.Page`."""

    __slots__ = ("doubt", "frames", "lost", "size", "start", "through")

    def __init__(self, start: int, page: Page, frames: list[Frame]) -> None:
        self.start = start
        self.through = page.through
        self.lost = page.lost
        self.doubt = page.doubt
        self.frames = frames
        self.size = sum(frame.size for frame in frames) * 2 + 500 * len(frames) + 500

    def covers(self, cursor: int) -> bool:
        """Whether the page has what comes right after `cursor`."""
        return self.start <= cursor < self.through


class _Fetch:
    """A page that is being read, and the subscribers that wait for it."""

    __slots__ = ("members", "task")

    def __init__(self) -> None:
        self.members: dict[Subscription, None] = {}
        self.task: SupervisedTask


class Pages:
    """The pages that are being read, and those read lately.

    Attributes:
        read: pages read from the log so far.
    """

    def __init__(
        self, log: Log, lives: Lives, options: HubOptions, went_back: Callable[[LogError], None] = lambda _: None
    ) -> None:
        self._log = log
        self._lives = lives
        self._options = options
        self._went_back = went_back  # called if the log ends before a known event
        self._outage = Outage("the log can't be read", logger)
        self._kept: OrderedDict[_Key, LogPage] = OrderedDict()
        self._kept_bytes = 0
        self._fetches: dict[_Key, _Fetch] = {}
        self._awaited: dict[Subscription, _Key] = {}
        self._given_up: list[SupervisedTask] = []
        self.read = 0

    def find(self, channels: Channels, cursor: int, last: LogPage | None) -> LogPage | None:
        """The page that covers `cursor`, if it is at hand; `last` is the one that the subscriber read before."""
        if last is not None and last.covers(cursor):
            return last
        for start in (cursor, self._aligned(cursor)):
            page = self._kept.get((channels, start))
            if page is not None and page.covers(cursor):
                self._kept.move_to_end((channels, start))
                return page
        return None

    def fetch(self, channels: Channels, cursor: int, last: LogPage | None, member: Subscription) -> None:
        """Read the page that covers `cursor`, once for all who ask meanwhile, then wake `member`."""
        start = self._aligned(cursor) if last is None else cursor
        key = (channels, start)
        self._awaited[member] = key
        fetch = self._fetches.get(key)
        if fetch is not None:
            fetch.members[member] = None
            return
        fetch = self._fetches[key] = _Fetch()
        fetch.members[member] = None
        fetch.task = SupervisedTask(partial(self._fetch, key, fetch), self._outage)
        fetch.task.start()

    def forget(self, member: Subscription) -> None:
        """`member` has left; a page that nobody waits for any more is not read."""
        key = self._awaited.pop(member, None)
        if key is None:
            return
        fetch = self._fetches[key]
        del fetch.members[member]
        if not fetch.members:
            del self._fetches[key]
            fetch.task.cancel()
            self._given_up = [task for task in self._given_up if not task.ended]
            self._given_up.append(fetch.task)

    def begin_again(self, lives: Lives) -> None:
        """The log is another one now."""
        self._lives = lives
        self._kept.clear()
        self._kept_bytes = 0

    def _aligned(self, cursor: int) -> int:
        return cursor - cursor % self._options.page_events

    async def _fetch(self, key: _Key, fetch: _Fetch) -> None:
        page = await self._read(*key)
        if self._fetches.get(key) is not fetch:
            return  # it was given up, and the log went on regardless
        del self._fetches[key]
        fetch.task.succeeded()
        self._keep(key, page)
        for member in fetch.members:
            del self._awaited[member]
            member.page = page
            member.wake()

    async def _read(self, channels: Channels, start: int) -> LogPage:
        page = await self._log.read(channels, start, self._options.page_events)
        self.read += 1
        if page.through <= start:
            error = LogError(f"the log ends at offset {page.through}, before a known event ({start})")
            self._went_back(error)
            raise error
        epoch_at = self._lives.epoch_at
        return LogPage(start, page, [Frame(epoch_at(entry.offset), entry) for entry in page.entries])

    def _keep(self, key: _Key, page: LogPage) -> None:
        channels = key[0]
        names = [*channels.names, *channels.patterns]
        page.size += _KEY_BYTES + _NAME_BYTES * len(names) + sum(map(len, names))
        old = self._kept.pop(key, None)
        if old is not None:
            self._kept_bytes -= old.size
        self._kept[key] = page
        self._kept_bytes += page.size
        while self._kept_bytes > self._options.page_cache_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= dropped.size

    def _tasks(self) -> list[SupervisedTask]:
        return [*self._given_up, *(fetch.task for fetch in self._fetches.values())]

    async def close(self) -> None:
        """Stop reading."""
        for task in self._tasks():
            await task.close()

    def abandon(self) -> None:
        """The event loop is closed: free what is held in the log."""
        for task in self._tasks():
            task.abandon()
