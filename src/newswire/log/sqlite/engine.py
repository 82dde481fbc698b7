"""The embedded log: one SQLite file, for any number of processes on one machine. The default.

Stored, then seen: `append` returns, and followers get an event, after SQLite has committed it, with `synchronous=FULL`
unless told otherwise. A `kill -9` at any moment leaves whole batches and loses none that was acknowledged.

The work is done in two threads. The writer stores what has come together meanwhile in one transaction. The reader reads
pages, notices what other processes append, and plans what retention removes. This file is what the event loop sees.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Literal, TypeVar

from newswire.errors import EpochChanged, LogUnavailable, TrimmedAway
from newswire.log.channels import Channels
from newswire.log.engine import Batch, Copied, Engine, Entry, Info, Losses, OnDone, OnEntries, Page, Span, TailCursor
from newswire.log.log import Log
from newswire.log.retention import RetentionRules, Rules
from newswire.log.sqlite.admin import info_of, losses_of
from newswire.log.sqlite.file import LogFile
from newswire.log.sqlite.fork import carried
from newswire.log.sqlite.pages import PageReader, newest_of, next_entries, scan, span
from newswire.log.sqlite.plan import SqlitePlanner
from newswire.log.sqlite.reader import SqliteReader
from newswire.log.sqlite.retention import SqliteRetentionJob, drop, trim
from newswire.log.sqlite.schema import STEPS, version_of_file
from newswire.log.sqlite.tail import BATCH, SqliteTail
from newswire.log.sqlite.transactions import SqliteTransactions
from newswire.log.sqlite.writer import SqliteWriter
from newswire.validate import is_number

logger: logging.Logger = logging.getLogger("newswire.log")

T = TypeVar("T")


class SqliteLog(Log):
    """A log in an SQLite file.

    Args:
        path: the file; it is made if it does not exist, its folder is not. Two more appear beside it, `-wal` and
            `-shm`, and belong to it. Not for network file systems.
        synchronous: `FULL`: what was stored survives a power cut. `NORMAL`: a crash of the process or of newswire
            loses nothing either, but a power cut may take the last events; many times faster where a disk is slow to
            sync.
        retention: what to keep of each channel; enforced each second by one of the processes that have the file open.
        busy_timeout: seconds to wait for another process's transaction before `LogUnavailable`. newswire's own take
            milliseconds.
        clock: what time it is, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        retention: RetentionRules = None,
        busy_timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(SqliteEngine(path, synchronous, retention, busy_timeout, clock))


class SqliteEngine(Engine):
    """The engine of an `SqliteLog`, which has the same arguments."""

    answers_get_lost = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: Literal["FULL", "NORMAL"],
        retention: RetentionRules,
        busy_timeout: float,
        clock: Callable[[], float],
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        if os.fspath(path) in ("", ":memory:"):
            raise ValueError("an SQLite log is a file: name one, or use a MemoryLog (memory://)")
        self._path = os.path.abspath(path)  # a later `chdir` changes nothing
        self._synchronous: Literal["FULL", "NORMAL"] = synchronous
        if not (is_number(busy_timeout) and 0 <= busy_timeout < inf):
            raise ValueError(f"busy_timeout is a number of seconds, 0 or more, not {busy_timeout!r:.60}")
        self._patience = busy_timeout
        self._rules = Rules(retention)
        self._clock = clock
        self._replacing: asyncio.Task[None] | None = None  # the file has gone, and its threads are being ended
        self._begin()

    def _begin(self, *, replaces: bool = False) -> None:
        self._made_in = os.getpid()
        rules = self._rules
        self._file = LogFile(self._path, synchronous=self._synchronous, patience=self._patience, replaces=replaces)
        self._tail = SqliteTail()
        self._pages = PageReader()
        self._writer = SqliteWriter(self._file, self._clock, self._tail.committed)
        writer = self._writer
        self._planner = SqlitePlanner(rules)
        retention = SqliteRetentionJob(self._planner, self._clock) if rules else None
        # Nothing here refers to this object, so that one that was forgotten unclosed can be seen in `__del__`.
        self._reader = SqliteReader(self._file, self._tail.heard, own=lambda: writer.newest, retention=retention)
        self._writer.checkpoint = self._reader.checkpoint
        if retention is not None:
            retention.attach(writer=self._writer, reader=self._reader)
        self._pid: int | None = None  # the process that uses it

    def _enter(self) -> None:
        """The engine is going to be used."""
        pid = os.getpid()
        if self._pid != pid:
            if self._pid is not None:
                raise carried(self._file.path, self._pid)
            if self._made_in != pid:
                self._begin()  # what a parent made has the same name in all its children
            self._pid = pid
            rules = self._rules.in_words
            kept = f"what it keeps: {rules}" if rules else "no retention rule removes events"
            logger.info("%s opens; %s", self._file.path, kept)
            if self._rules:
                self._reader.start()
        if self._file.is_gone:
            if self._replacing is None:
                logger.debug(
                    "%s was deleted, moved, replaced or emptied: newswire begins with what is there", self._file.path
                )
                self._replacing = asyncio.get_running_loop().create_task(self._replace(), name="newswire log reopens")
            raise LogUnavailable(
                f"{self._file.path} was deleted, moved, replaced or emptied, and is being opened again"
            )

    async def _replace(self) -> None:
        """Let go of the files that have gone, then begin with what is at their path."""
        writer, reader, tail = self._writer, self._reader, self._tail
        tail.noticed(LogUnavailable(f"{self._file.path} was deleted, moved, replaced or emptied"))
        try:
            await writer.close()
            await reader.close()
        finally:
            if self._writer is writer:  # else it was closed meanwhile
                pid = self._pid
                self._begin(replaces=True)
                self._pid = pid
                if self._rules:
                    self._reader.start()
            self._replacing = None

    def __repr__(self) -> str:
        return self._file.path

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        self._enter()
        self._writer.submit(batches, on_done)

    # -- read

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Engine.read`."""
        self._enter()
        return await self._reader.search(self._pages.read(channels, after, limit))

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Engine.newest`."""
        self._enter()
        return await self._reader.query(lambda connection: newest_of(connection, channels))

    async def span(self) -> Span:
        """See `Engine.span`."""
        self._enter()
        found = await self._reader.query(span)
        return Span(found.epoch, found.earliest, found.latest, self._file.lives)

    @property
    def transactions(self) -> SqliteTransactions:
        """See `Engine.transactions`."""
        return SqliteTransactions(self._path, self._query)

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._enter()
        return await self._reader.query(query)

    # -- tail

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        """See `Engine.tail`. What this process stores is given before its publisher goes on."""
        self._enter()
        tail, reader = self._tail, self._reader
        follower = TailCursor(max(after, 0), on_entries)
        tail.enter(follower)
        reader.watching = True
        try:
            found = await reader.query(span)
            if found.epoch != epoch:
                raise EpochChanged(found.epoch)
            tail.readable(found.latest)
            while True:
                if tail.broken is not None:
                    raise type(tail.broken)(*tail.broken.args)
                if follower.at < tail.newest:
                    follower.give(tail.at_hand(follower.at) or await _next(reader, tail, follower.at), False)
                    await asyncio.sleep(0)
                else:
                    await follower.wait()
        finally:
            if tail.leave(follower):
                reader.watching = False

    # -- the rest

    async def trim(self) -> int:
        """See `Engine.trim`."""
        self._enter()
        # Those of now: the log may be closed, and opened again, meanwhile.
        reader, writer, planner = self._reader, self._writer, self._planner
        now = self._clock()
        removed = 0
        over: list[int] = []
        await reader.run(lambda _: planner.look_again())
        while True:
            plan = await reader.query(partial(planner.plan, now=now, upto=None, over=over))
            if plan.offsets or plan.count:
                gone, over = await writer.run(partial(trim, plan=plan, least=planner.least))
                removed += gone
            elif not plan.more:
                return removed

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Engine.drop`."""
        self._enter()
        return await self._writer.run(partial(drop, cuts=dict(cuts))) if cuts else 0

    # -- for operators

    async def info(self) -> Info:
        """See `Engine.info`."""
        self._enter()
        # The writer's connection is the one whose settings decide.
        return await self._writer.run(
            partial(info_of, path=self._path, retention=str(self._rules) if self._rules else "")
        )

    async def init(self) -> str:
        """See `Engine.init`."""
        before = version_of_file(self._path)
        self._enter()
        epoch = (await self.span()).epoch
        if before is None:
            return f"made {self._path}, a log in its life {epoch}"
        if before < len(STEPS):
            return f"took {self._path} from format {before} to {len(STEPS)}; the log is in its life {epoch}"
        return f"{self._path} is there, in format {before}; the log is in its life {epoch}"

    async def scan(self, after: int, limit: int) -> Page:
        """See `Engine.scan`."""
        self._enter()
        return await self._reader.query(partial(scan, after=max(after, 0), limit=limit))

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        self._enter()
        return await self._reader.query(losses_of)

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        self._enter()
        await self._writer.restore(copied)
        self._tail.readable(copied.through)

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._pid != os.getpid():
            return  # never used, or a parent's: the child of a fork has no thread of it
        self._pid = None
        if self._replacing is not None:
            await asyncio.wait([self._replacing])
        writer, reader = self._writer, self._reader
        self._tail.wake()
        self._begin()
        await writer.close()
        await reader.close()

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid():
            warnings.warn(f"unclosed log {self._file.path}", ResourceWarning, stacklevel=2, source=self)
            self._writer.end()
            self._reader.end()


async def _next(reader: SqliteReader, tail: SqliteTail, at: int) -> Sequence[Entry]:
    newest = tail.newest
    entries = await reader.query(lambda connection: next_entries(connection, at, BATCH))
    # Offsets have no holes but those that retention makes.
    if not entries or entries[0].offset != at + 1:
        raise TrimmedAway(entries[0].offset - 1 if entries else newest)
    if entries[-1].offset == at + len(entries):
        return entries
    return [entry for index, entry in enumerate(entries, at + 1) if entry.offset == index]
