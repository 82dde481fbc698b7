"""The log that is another newswire server: an edge reads the origin's log, and publishes there.

An edge serves replay and live to its own readers. Its epoch and its offsets are the origin's, so a cursor of one edge
is good at every other and at the origin. One stream from the origin feeds the whole process, and a page that many
readers need is requested once: what the origin does depends on the number of edges, not of readers.

While the origin is away, readers stay, with heartbeats, and publishing fails at once. The stream comes back by itself,
and goes on after the last event that came. `newswire.server.edges` is the other end.

An edge may keep the events that came lately on its own disk, in a `Cache`: an SQLite log with the origin's positions.
Readers that come back find what they missed without a request to the origin, also while it is away. The cache is filled
by the stream that the edge has anyway: it begins where the cache ends, so the cache never has a hole. What does not
fit, another log or one that has gone too far ahead, is forgotten, and the cache begins again; so is a damaged one. What
is removed is a cache only: beside the file is another one, `FILE-cache`, that says so.

Internal channels are never read from it: those that write to them have to see the newest. What the origin removes stays
there until the cache's own retention removes it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from newswire.client.async_source import AsyncEventSource
from newswire.client.backoff import Backoff
from newswire.client.options import Hooks, Limits, Opened, Options, Timeouts
from newswire.edge.origin import Origin, OriginAway, OriginSilent, OriginWriter
from newswire.errors import (
    Closed,
    EpochChanged,
    LogCorrupt,
    LogError,
    LogUnavailable,
    LogUncertain,
    NewswireError,
    SourceError,
    TrimmedAway,
)
from newswire.log import form
from newswire.log.channels import Channels, is_internal
from newswire.log.engine import Batch, Copied, Entry, Info, Losses, OnDone, OnEntries, Page, Span
from newswire.log.engine import EngineLimits as LogLimits
from newswire.log.log import Log
from newswire.log.position import Lives, Position
from newswire.log.remote import Part, RemoteEngine
from newswire.log.retention import DEFAULT_RETENTION
from newswire.log.retry import Outage
from newswire.log.sqlite import SqliteLog
from newswire.validate import check_greater_than_0, check_kind
from newswire.wire.event import Event

_CATCH_UP: Final = 50_000  # events that the stream brings for the cache alone; a cache that lacks more begins again
_QUEUED: Final = 20_000  # events that wait to be stored; then the cache begins again


class Cache:
    """The cache of one edge, for one event loop.

    Args:
        path: of the file.

    Attributes:
        at: the offset up to which it has been given everything.
    """

    def __init__(self, path: Path) -> None:
        self.at: int = 0
        self._path = path
        self._log: SqliteLog | None = None
        self._lives: Lives | None = None
        self._missing = 0  # up to here the origin has removed events that are not here
        self._damaged = False
        self._queue: list[tuple[Sequence[Entry], int, int]] = []  # with the offsets that they come after and go up to
        self._queued = 0
        self._task: asyncio.Task[None] | None = None
        self._outage = Outage(f"the cache {path} can't be used", logger)

    async def begin(self, lives: Lives, after: int) -> int:
        """A stream begins, for a follower that has everything up to `after`. Returns where the stream has to begin."""
        await self._drain()
        try:
            span = await self._span()
            assert self._log is not None
            place = lives.resume(span.epoch, span.latest)
            fits = place is not None and not place.lost and after - _CATCH_UP <= span.latest
            fits = fits and span.latest >= self._missing
            if not fits:
                await self._forget()
                span = await self._log.span()
            self._lives = lives
            if not fits or span.latest == 0:
                await self._log.restore(Copied(entries=(), through=after, lives=lives))
                self.at = after
            else:
                self.at = span.latest
            self._outage.ended()
        except (LogError, OSError) as error:
            self._give_up(error)
            return after
        return min(self.at, after)

    async def _span(self) -> Span:
        """What the cache holds. One that is damaged begins again."""
        if self._log is None:
            self._log = self._open()
        if not self._damaged:
            try:
                return await self._log.span()
            except LogCorrupt as error:
                logger.warning("the cache %s begins again: %s", self._path, error)
        self._damaged = False
        await self._forget()
        return await self._log.span()

    def put(self, entries: Sequence[Entry], through: int) -> None:
        """Store what came next."""
        if self._lives is None:
            return
        self._queue.append((entries, self.at, through))
        self._queued += len(entries)
        self.at = through
        if self._queued > _QUEUED:
            self._give_up(LogError("the disk is too slow"))
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire edge cache")

    def lacks(self, offset: int) -> None:
        """The origin has removed events up to here that the cache has not got: it begins again with the next stream."""
        self._missing = max(self._missing, offset)

    async def read(self, channels: Channels, after: int, limit: int, epoch: str) -> Page | None:
        """A page, if all of it is here; else None."""
        log, lives = self._log, self._lives
        if log is None or lives is None or lives.epoch != epoch or after >= self.at:
            return None
        if any(map(is_internal, (*channels.names, *channels.patterns))):
            return None
        try:
            if after < (await log.span()).earliest:
                return None
            page = await log.read(channels, after, limit, epoch=epoch)
        except LogCorrupt as error:
            self._give_up(error)
            return None
        except (LogError, Closed):
            return None
        return page if page.through > after and max(page.lost, page.doubt) <= after else None

    async def close(self) -> None:
        """Store what came, and close the file."""
        await self._drain()
        log, self._log, self._lives = self._log, None, None
        if log is not None:
            await log.close()

    async def _drain(self) -> None:
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._queue and self._lives is not None and self._log is not None:
                queue, self._queue = self._queue, []
                self._queued = 0
                entries = [entry for some, _, _ in queue for entry in some]
                part = Copied(entries=entries, through=queue[-1][2], lives=self._lives, after=queue[0][1])
                await self._log.restore(part)
        except Exception as error:  # the outermost frame of a task: the edge goes on without a cache
            self._give_up(error)
        finally:
            self._task = None

    def _give_up(self, error: BaseException) -> None:
        """Go on without a cache until the next stream begins."""
        self._outage.failed(error)
        self._damaged = self._damaged or isinstance(error, LogCorrupt)
        self._lives = None
        self._queue = []
        self._queued = 0

    def _open(self) -> SqliteLog:
        mark = Path(f"{self._path}-cache")
        if not mark.exists():
            if self._path.exists() and self._path.stat().st_size:
                raise LogError(f"{self._path} is there, and is no cache of an edge's: name another file, or remove it")
            mark.touch(mode=0o600)
        return SqliteLog(self._path, synchronous="NORMAL", retention=DEFAULT_RETENTION)

    async def _forget(self) -> None:
        assert self._log is not None
        await self._log.close()
        for suffix in ("", "-wal", "-shm", "-life"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}{suffix}")
        self._log = self._open()


logger: logging.Logger = logging.getLogger("newswire.log")

T = TypeVar("T")

_MOST_BYTES: Final = 256 * 2**20  # of one event of the stream: far above what an origin sends
_SILENCE: Final = 60.0  # seconds without a byte after which the stream is opened again


class EdgeLog(Log):
    """The log of another newswire server.

    Args:
        url: `https://origin.example/`, perhaps with a path. A password in it (`https://:KEY@origin.example/`) is the
            origin's `--edge-key`, which gives the whole log, internal channels and removing too; or a token of the
            origin's. Without one the edge has what any client of the origin has.
        timeout: seconds to wait for a connection or an answer. A request whose answer was lost goes out again for three
            times as long, and what it publishes is stored once.
        cache: a file, for one process, in which the edge keeps the events of the last seven days: readers that come
            back are served from there, also while the origin is away.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, cache: str | os.PathLike[str] | None = None) -> None:
        super().__init__(EdgeEngine(url, timeout, None if cache is None else Path(cache).absolute()))


class EdgeEngine(RemoteEngine):
    """The engine of an `EdgeLog`, which has the same arguments."""

    tail_early = True  # it fills the cache
    limits: LogLimits = LogLimits(group_events=2000, group_bytes=512 * 2**10)

    def __init__(self, url: str, timeout: float, cache: Path | None) -> None:
        check_kind("a log's URL", url, str)
        check_greater_than_0("timeout", timeout)
        self._url = url
        self._timeout = timeout
        self._file = cache
        self._epoch = ""  # of the newest answer
        self._lives: Lives | None = None  # of the newest span
        super().__init__()

    def _begin(self) -> None:
        self._origin = Origin(self._url, self._timeout)
        self._writer = OriginWriter(self._origin, lambda: self._epoch)
        self._cache = None if self._file is None else Cache(self._file)

    def _parts(self) -> Sequence[Part]:
        return self._writer, self._origin, *([] if self._cache is None else [self._cache])

    def __repr__(self) -> str:
        return self._origin.name

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        self._enter()
        self._writer.submit(batches, on_done)

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Engine.read`."""
        if self._cache is not None:
            self._enter()
            cached = await self._cache.read(channels, max(after, 0), limit, self._epoch)
            if cached is not None:
                return cached
        wanted = {"channels": form.of_channels(channels), "after": max(after, 0), "limit": limit}
        page = await self._ask("read", form.to_page, wanted)
        self._epoch = page.epoch
        return page

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Engine.newest`."""

        def read(found: Any) -> list[Entry | None]:
            rows = found["entries"]
            if not rows:
                raise ValueError("the origin's answer has no entries")
            return [None if row is None else Entry(*row) for row in rows]

        entries: list[Entry | None] = []
        while len(entries) < len(channels):  # an answer has as many as are not too large together
            entries += await self._ask("newest", read, {"channels": list(channels[len(entries) :])})
        return entries

    async def span(self) -> Span:
        """See `Engine.span`."""
        span = await self._ask("span", form.to_span)
        self._epoch, self._lives = span.epoch, span.lives
        return span

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        """See `Engine.tail`: one stream from the origin."""
        self._enter()
        at = begin = max(after, 0)
        if self._cache is not None:
            lives = self._lives if self._lives is not None and self._lives.epoch == epoch else (await self.span()).lives
            if lives.epoch != epoch:
                raise EpochChanged(lives.epoch)
            begin = await self._cache.begin(lives, at)
        outage = Outage(f"no stream from the origin {self._origin.name}", logger, quiet=True)

        def failed(error: NewswireError, wait: float | None) -> None:
            outage.failed(error)

        def opened(opened: Opened) -> None:
            outage.ended()

        source = AsyncEventSource(
            f"{self._origin.url}/log/tail",
            headers={**self._origin.headers, "accept-encoding": "gzip"},  # what an origin sends holds nothing back
            last_event_id=Position(epoch, begin),
            options=Options(
                backoff=Backoff(retry=0.1, first=0.1, cap=2.0, longest=5.0),
                limits=Limits(max_line=_MOST_BYTES, max_event=_MOST_BYTES),
                timeouts=Timeouts(connect=self._timeout, response=self._timeout * 2, inactivity=_SILENCE),
                hooks=Hooks(error=failed, open=opened),
            ),
        )
        try:
            async with source:
                async for event in source:
                    at = self._take(event, at, epoch, on_entries)
        except SourceError as error:
            raise LogUnavailable(f"the origin {self._origin.name} gives no stream: {error}") from error
        raise LogUnavailable(f"the origin {self._origin.name} has ended the stream")

    def _take(self, event: Event, at: int, epoch: str, on_entries: OnEntries) -> int:
        """Take an event of the stream. Returns the offset up to which all was given."""
        if event.event == form.EPOCH:
            raise EpochChanged(event.data)
        if event.event == form.TRIMMED:
            if int(event.data) <= at and self._cache is not None:  # it was for the cache alone
                self._cache.lacks(int(event.data))
                raise LogUnavailable("the cache lacks what the origin has removed: it begins again")
            raise TrimmedAway(int(event.data))
        if event.event != form.ENTRIES:
            return at
        place = Position.parse(event.id or "")
        if place.epoch != epoch:
            raise EpochChanged(place.epoch)
        entries = form.entries_of(json.loads(event.data))
        if self._cache is not None and place.offset > self._cache.at:
            self._cache.put([entry for entry in entries if entry.offset > self._cache.at], place.offset)
        if entries[0].offset <= at:
            entries = [entry for entry in entries if entry.offset > at]
        if entries:
            on_entries(entries, True)
        return max(at, place.offset)

    # -- the rest

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Engine.drop`. Needs the edge key."""
        return await self._ask("drop", _removed, {"cuts": dict(cuts)})

    async def trim(self) -> int:
        """See `Engine.trim`. Needs the edge key."""
        return await self._ask("trim", _removed)

    async def info(self) -> Info:
        """See `Engine.info`: the origin's."""
        info = await self._ask("info", form.to_info)
        storage = f"the newswire server {self._origin.name}, on {info.storage}"
        return Info(
            storage=storage,
            settings=info.settings,
            risks=info.risks,
            retention=info.retention,
            events=info.events,
            size=info.size,
        )

    async def scan(self, after: int, limit: int) -> Page:
        """See `Engine.scan`."""
        return await self._ask("scan", form.to_page, {"after": max(after, 0), "limit": limit})

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        return await self._ask("losses", form.to_losses)

    async def _ask(self, name: str, read: Callable[[Any], T], payload: object = None) -> T:
        """Ask for something; asking twice does no harm."""
        self._enter()
        try:
            return await self._origin.call(name, read, payload)
        except OriginSilent as error:
            raise OriginAway(str(error)) from error
        except LogUncertain as error:
            raise LogUnavailable(str(error)) from error


def _removed(found: Any) -> int:
    return int(found["removed"])
