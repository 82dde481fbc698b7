"""Pages of the log, for subscribers that are behind the window; each is read once for all who need it soon.

Pages of one channel set begin at multiples of their length, so that subscribers whose cursors differ still meet on the
same page, and go on where the page before ended: in a log of one channel that is where the next one begins. A page that
several need at the same time is read once; a few that were read lately are kept, bounded in bytes. Reading is retried
while the log is away: its subscribers stay connected.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from newswire.errors import LogError, LogUnavailable, NewswireError
from newswire.hub.frames import Frame
from newswire.hub.options import HubOptions
from newswire.log.base import Log, Page
from newswire.log.channels import Channels

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

logger = logging.getLogger("newswire.hub")

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds between attempts while the log is away

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


class Pages:
    """The pages that are being read, and those read lately.

    Attributes:
        read: pages read from the log so far.
    """

    def __init__(self, log: Log, epoch: str, options: HubOptions) -> None:
        self._log = log
        self._epoch = epoch
        self._options = options
        self._kept: OrderedDict[_Key, LogPage] = OrderedDict()
        self._kept_bytes = 0
        self._waiting: dict[_Key, list[Subscription]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
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
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(member)
            return
        self._waiting[key] = [member]
        task = asyncio.get_running_loop().create_task(self._fetch(key), name="newswire log page")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _aligned(self, cursor: int) -> int:
        return cursor - cursor % self._options.page_events

    async def _fetch(self, key: _Key) -> None:
        page: LogPage | None = None
        try:
            page = await self._read(*key)
        except NewswireError as error:
            logger.error("streams end because the log can't be read: %s", error)
        finally:
            members = self._waiting.pop(key)
        if page is None:
            for member in members:
                member.goodbye()
            return
        self._keep(key, page)
        for member in members:
            member.page = page
            member.wake()

    async def _read(self, channels: Channels, start: int) -> LogPage:
        wait = _FIRST_WAIT
        while True:
            try:
                page = await self._log.read(channels, start, self._options.page_events)
            except LogUnavailable as error:
                logger.warning("the log can't be read now, trying again: %s", error)
            else:
                self.read += 1
                if page.through <= start:
                    raise LogError(f"the log ends at offset {page.through}, before a known event ({start})")
                epoch = self._epoch
                frames = [Frame(epoch, entry) for entry in page.entries]
                return LogPage(start, page, frames)
            await asyncio.sleep(random.uniform(wait / 2, wait))
            wait = min(2 * wait, _LONGEST_WAIT)

    def _keep(self, key: _Key, page: LogPage) -> None:
        old = self._kept.pop(key, None)
        if old is not None:
            self._kept_bytes -= old.size
        self._kept[key] = page
        self._kept_bytes += page.size
        while self._kept_bytes > self._options.page_cache_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= dropped.size

    async def close(self) -> None:
        """Stop reading."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
