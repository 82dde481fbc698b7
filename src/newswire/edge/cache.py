"""What an edge keeps on its own disk: the events that came lately, in an SQLite log with the origin's positions.

Readers that come back find what they missed without a request to the origin, also while it is away. The cache is
filled by the stream that the edge has anyway: it begins where the cache ends, so the cache never has a hole. What does
not fit, another log or one that has gone too far ahead, is forgotten, and the cache begins again.

Internal channels are never read from here: those that write to them have to see the newest. What the origin removes
stays here until the cache's own retention removes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from newswire.errors import Closed, LogError
from newswire.log.channels import Channels, is_internal
from newswire.log.engine import Copied, Entry, Page
from newswire.log.position import Lives
from newswire.log.retention import DEFAULT_RETENTION
from newswire.log.retry import Outage
from newswire.log.sqlite import SqliteLog

logger: logging.Logger = logging.getLogger("newswire.log")

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
        self._queue: list[tuple[Sequence[Entry], int]] = []
        self._queued = 0
        self._task: asyncio.Task[None] | None = None
        self._outage = Outage(f"the cache {path} can't be used", logger)

    async def begin(self, lives: Lives, after: int) -> int:
        """A stream begins, for a follower that has everything up to `after`. Returns where the stream has to begin."""
        await self._drain()
        try:
            if self._log is None:
                self._log = self._open()
            span = await self._log.span()
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

    def put(self, entries: Sequence[Entry], through: int) -> None:
        """Store what came next."""
        if self._lives is None:
            return
        self._queue.append((entries, through))
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
                entries = [entry for some, _ in queue for entry in some]
                await self._log.restore(Copied(entries=entries, through=queue[-1][1], lives=self._lives))
        except Exception as error:  # the outermost frame of a task: the edge goes on without a cache
            self._give_up(error)
        finally:
            self._task = None

    def _give_up(self, error: BaseException) -> None:
        """Go on without a cache until the next stream begins."""
        self._outage.failed(error)
        self._lives = None
        self._queue = []
        self._queued = 0

    def _open(self) -> SqliteLog:
        return SqliteLog(self._path, synchronous="NORMAL", retention=DEFAULT_RETENTION)

    async def _forget(self) -> None:
        assert self._log is not None
        await self._log.close()
        for suffix in ("", "-wal", "-shm", "-life"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}{suffix}")
        self._log = self._open()
