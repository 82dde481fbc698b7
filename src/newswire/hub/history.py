"""What comes after a cursor: one answer, from the window in memory or from pages of the log.

A cursor inside the window is served at once. An older one reads pages until it gets there; no event is lost or doubled
at the seam, since both answers say how far they are complete. A page is read once for all who need it soon: pages of
one channel set begin at multiples of their length, so that readers whose cursors differ still meet on one page, and go
on where the page before ended. A few that were read lately are kept, bounded in bytes. Reading is tried again whatever
the log raises: readers stay connected, and a page that has lost all its readers is given up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

from newswire.errors import EpochChanged, LogError
from newswire.hub.frames import Frame
from newswire.hub.window import Due, Window, due_of_page
from newswire.log.channels import Channels
from newswire.log.engine import Page, Span
from newswire.log.log import Log
from newswire.log.retry import Outage, SupervisedTask

# Events in a page: some 100 KB of small events, which a log reads in a millisecond or two.
PAGE_EVENTS: Final = 512
# Bytes of pages kept for others that need the same ones soon: what a storm of reconnecting clients shares.
PAGE_CACHE_BYTES: Final = 16 * 2**20

_KEY_BYTES: Final = 600  # what a kept page's key costs beyond its names: sets, a tuple, the entry in the cache
_NAME_BYTES: Final = 120  # each name's string header, and its places in the sets

_Key: TypeAlias = tuple[Channels, int]


class HistoryReader(Protocol):
    """One who reads history."""

    channels: Channels

    @property
    def cursor(self) -> int:
        """The offset after which it reads."""
        ...

    def wake(self) -> None:
        """Ask again now."""
        ...


class _Page:
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

    def due(self, cursor: int, budget: int) -> Due:
        """What a cursor on this page is due."""
        due = due_of_page(self.frames, cursor, self.through, budget)
        lost = max(self.lost, self.doubt)
        return due if lost <= cursor else due._replace(lost=lost, certain=self.lost > cursor)


class _Fetch:
    """A page that is being read, and the readers that wait for it."""

    __slots__ = ("readers", "task")

    def __init__(self) -> None:
        self.readers: dict[HistoryReader, None] = {}
        self.task: SupervisedTask


class History:
    """The events of a log, for cursors.

    Args:
        log: the log.
        span: what it holds now.
        window_bytes: bound of the window.
        budget: bytes that one answer may have, roughly.
        outage: gets each failure to read.
        went_back: called if the log ends before a known event: it is not the log that it was.

    Attributes:
        window: the newest events.
        budget: see above.
        pages_read: pages read from the log so far.
    """

    def __init__(
        self,
        log: Log,
        span: Span,
        *,
        window_bytes: int,
        budget: int,
        outage: Outage,
        went_back: Callable[[LogError], None],
    ) -> None:
        self.window: Window = Window(window_bytes, start=span.latest)
        self.budget = budget
        self.pages_read: int = 0
        self._log = log
        self._lives = span.lives
        self._went_back = went_back
        self._outage = outage
        self._beyond: dict[HistoryReader, None] = {}  # have seen, by way of another process, what has not come here yet
        self._last: dict[HistoryReader, _Page] = {}  # the page that each read last, until it is in the window
        self._kept: OrderedDict[_Key, _Page] = OrderedDict()
        self._kept_bytes = 0
        self._fetches: dict[_Key, _Fetch] = {}
        self._awaited: dict[HistoryReader, _Key] = {}
        self._given_up: list[SupervisedTask] = []

    # -- reading

    def due(self, reader: HistoryReader, upto: int) -> Due | None:
        """What comes after `reader.cursor`, up to offset `upto` or, from a page, further.

        Returns:
            the next events and how far they are complete. No frames, and `through` at the cursor: there is no more.
            None: the answer has to be waited for; `reader.wake` is called.
        """
        cursor = reader.cursor
        window = self.window
        if cursor > window.head:
            self._beyond[reader] = None
            return None
        last = self._last.get(reader)
        if cursor >= window.floor:
            if last is not None:
                del self._last[reader]
            if cursor >= upto:
                return Due([], cursor)
            return window.due(reader.channels, cursor, upto=upto, budget=self.budget)
        page = self._find(reader.channels, cursor, last)
        if page is None:
            self._fetch(reader, last)
            return None
        self._last[reader] = page
        return page.due(cursor, self.budget)

    def forget(self, reader: HistoryReader) -> None:
        """`reader` has left. A page that it alone waited for is not read."""
        self._beyond.pop(reader, None)
        self._last.pop(reader, None)
        key = self._awaited.pop(reader, None)
        if key is None:
            return
        fetch = self._fetches[key]
        del fetch.readers[reader]
        if not fetch.readers:
            del self._fetches[key]
            fetch.task.cancel()
            self._given_up = [task for task in self._given_up if not task.ended]
            self._given_up.append(fetch.task)

    # -- growing

    def wake_beyond(self) -> None:
        """Something has come: those who were further than this process look again."""
        if self._beyond:
            waiting, self._beyond = self._beyond, {}
            for reader in waiting:
                reader.wake()

    def skip_to(self, latest: int) -> None:
        """Go on after `latest`. What lies between never came here, and is read from pages."""
        self.window.restart(latest)
        self.wake_beyond()

    def begin_again(self, span: Span) -> None:
        """The log is another one now. Readers that wait have to be forgotten."""
        self._lives = span.lives
        self._kept.clear()
        self._kept_bytes = 0
        self.window.restart(span.latest)

    # -- pages

    def _find(self, channels: Channels, cursor: int, last: _Page | None) -> _Page | None:
        """The page that covers `cursor`, if it is at hand."""
        if last is not None and last.covers(cursor):
            return last
        for start in (cursor, cursor - cursor % PAGE_EVENTS):
            page = self._kept.get((channels, start))
            if page is not None and page.covers(cursor):
                self._kept.move_to_end((channels, start))
                return page
        return None

    def _fetch(self, reader: HistoryReader, last: _Page | None) -> None:
        """Read the page that covers the reader's cursor, once for all who ask meanwhile, then wake them."""
        cursor = reader.cursor
        key = (reader.channels, cursor - cursor % PAGE_EVENTS if last is None else cursor)
        self._awaited[reader] = key
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = self._fetches[key] = _Fetch()
            fetch.task = SupervisedTask(partial(self._fetched, key, fetch), self._outage)
            fetch.task.start()
        fetch.readers[reader] = None

    async def _fetched(self, key: _Key, fetch: _Fetch) -> None:
        page = await self._read(*key)
        if self._fetches.get(key) is not fetch:
            return  # it was given up, and the log went on regardless
        del self._fetches[key]
        fetch.task.succeeded()
        self._keep(key, page)
        for reader in fetch.readers:
            del self._awaited[reader]
            self._last[reader] = page
            reader.wake()

    async def _read(self, channels: Channels, start: int) -> _Page:
        page = await self._log.read(channels, start, PAGE_EVENTS)
        self.pages_read += 1
        error: LogError | None = None
        if page.epoch != self._lives.epoch:
            error = EpochChanged(page.epoch)
        elif page.through <= start:
            error = LogError(f"the log ends at offset {page.through}, before a known event ({start})")
        if error is not None:
            if self._lives.resume(page.epoch, 0) is None or page.epoch == self._lives.epoch:  # else this page is old
                self._went_back(error)
            raise error
        epoch_at = self._lives.epoch_at
        return _Page(start, page, [Frame(epoch_at(entry.offset), entry) for entry in page.entries])

    def _keep(self, key: _Key, page: _Page) -> None:
        channels = key[0]
        names = [*channels.names, *channels.patterns]
        page.size += _KEY_BYTES + _NAME_BYTES * len(names) + sum(map(len, names))
        old = self._kept.pop(key, None)
        if old is not None:
            self._kept_bytes -= old.size
        self._kept[key] = page
        self._kept_bytes += page.size
        while self._kept_bytes > PAGE_CACHE_BYTES and len(self._kept) > 1:
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
