"""The embedded log: one SQLite file, for any number of processes on one machine. The default.

Durable before anyone sees it: `append` returns, and followers get an event, after SQLite has committed it with
`synchronous=FULL`. Appends of one process go through its writer thread (group commit); what other processes append is
noticed within some 30 ms by a watcher thread that asks SQLite whether the file has changed, which costs microseconds
and runs only while somebody follows. Survives kill -9 at any moment.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from newswire.errors import Closed, NewswireError, TrimmedAway
from newswire.log.base import Entry, Page, RetentionRules, Span
from newswire.log.batch import weigh_batch
from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.log.retention import Rules
from newswire.log.sqlite_file import connect
from newswire.log.sqlite_reader import Reader
from newswire.log.sqlite_writer import Writer
from newswire.wire.event import Event

# How often to look whether another process has written: 30 ms is felt by nobody.
_WATCH_SECONDS: Final = 0.03
_BATCH: Final = 1000  # entries that a follower is given at once
_RECENT: Final = 8192  # own entries kept for followers, so that they need not be read back


class SqliteLog:
    """A `Log` in an SQLite file.

    Args:
        path: the file; made if it does not exist, its folder is not. Two more files appear beside it.
        synchronous: `FULL`: a stored event survives a power cut. `NORMAL`: several times faster to a disk that is slow
            to sync; a power cut (not a crash) may take the last events.
        retention: what to keep; enforced every few seconds, by each process that appends.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, synchronous: str = "FULL", retention: RetentionRules = None
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        self._path = Path(path)
        self._synchronous = synchronous
        self._rules = Rules(retention)
        self._reader = Reader(self._path)
        self._writer: Writer | None = None
        self._watcher: _Watcher | None = None
        self._followers: set[asyncio.Event] = set()
        self._seen = 0  # the newest offset known to be committed
        self._recent: deque[Entry] = deque(maxlen=_RECENT)  # the last own entries: an unbroken run up to `_seen`
        self._pid = os.getpid()
        self._closed = False

    def _check(self) -> None:
        if self._closed:
            raise Closed("the log is closed")
        if os.getpid() != self._pid:
            raise NewswireError("an SQLite log can't be used across a fork: make one in each process")

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[Position]:
        """See `Log.append`."""
        self._check()
        events = list(events)
        weigh_batch(events, ())
        if not events:
            return []
        if self._writer is None:
            self._writer = Writer(self._path, self._synchronous, self._rules, self._committed)
        return await self._writer.append(events)

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        self._check()
        return await self._reader.read(channels, after, limit)

    async def span(self) -> Span:
        """See `Log.span`."""
        self._check()
        return await self._reader.span()

    async def trim(self) -> int:
        """See `Log.trim`."""
        self._check()
        if self._writer is None:
            self._writer = Writer(self._path, self._synchronous, self._rules, self._committed)
        return await self._writer.trim()

    async def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """See `Log.follow`."""
        self._check()
        wake = asyncio.Event()
        self._followers.add(wake)
        try:
            latest = (await self._reader.span()).latest
            self._notice(latest)
            if self._watcher is None:
                self._watcher = _Watcher(self._path, self._notice)
            at = latest if after is None else after
            while not self._closed:
                wake.clear()
                if at < self._seen:
                    batch = await self._next(at)
                    at = batch[-1].offset
                    yield batch
                else:
                    await wake.wait()
        finally:
            self._followers.discard(wake)
            if not self._followers and self._watcher is not None:
                watcher, self._watcher = self._watcher, None
                await watcher.close()

    async def _next(self, at: int) -> list[Entry]:
        recent = self._recent
        if recent and recent[0].offset <= at + 1:
            skip = at + 1 - recent[0].offset
            return list(islice(recent, skip, skip + _BATCH))
        batch = await self._reader.read_all(at, _BATCH)
        # Offsets have no holes but those that retention makes.
        if not batch or batch[0].offset != at + 1:
            raise TrimmedAway(batch[0].offset - 1 if batch else self._seen)
        for index, entry in enumerate(batch):
            if entry.offset != at + 1 + index:
                return batch[:index]  # the next call will raise
        return batch

    def _committed(self, entries: Sequence[Entry]) -> None:
        """This process has stored these."""
        first, last = entries[0].offset, entries[-1].offset
        if first != self._seen + 1:
            self._recent.clear()  # another process's lie between, or the watcher was faster
        if last > self._seen:
            self._recent.extend(entries)
        self._saw(last)

    def _notice(self, latest: int) -> None:
        """The file has events up to here, by whomever."""
        if latest > self._seen:
            self._recent.clear()
            self._saw(latest)

    def _saw(self, latest: int) -> None:
        if latest > self._seen:
            self._seen = latest
            for follower in self._followers:
                follower.set()

    async def close(self) -> None:
        """See `Log.close`."""
        if self._closed:
            return
        self._closed = True
        for follower in self._followers:
            follower.set()
        if self._writer is not None:
            await self._writer.close()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await watcher.close()
        await self._reader.close()


class _Watcher:
    """A thread that notices what other processes append."""

    def __init__(self, path: Path, notice: object) -> None:
        self._path = path
        self._notice = notice
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="newswire log watcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        version = None
        while not self._stop.wait(_WATCH_SECONDS):
            try:
                if connection is None:
                    connection = connect(self._path, synchronous="NORMAL", create=False)
                now = connection.execute("PRAGMA data_version").fetchone()[0]
                if now != version:
                    latest = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
                    version = now
                    self._loop.call_soon_threadsafe(self._notice, 0 if latest is None else latest[0])  # type: ignore[arg-type]
            except (sqlite3.Error, NewswireError):
                continue  # whoever reads or writes will say what is wrong; look again
            except RuntimeError:
                break  # the loop was closed without closing the log
        if connection is not None:
            connection.close()

    async def close(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)
