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
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final, Literal

from newswire.errors import Closed, LogError, TrimmedAway
from newswire.log.base import Entry, Page, RetentionRules, Span
from newswire.log.batch import weigh_batch
from newswire.log.channels import Channels
from newswire.log.immediate import Follower, Settle, Take
from newswire.log.ledger import Guarded, Outcome
from newswire.log.position import Position, positions
from newswire.log.retention import Rules
from newswire.log.sqlite.batch import Batch
from newswire.log.sqlite.file import LogFile
from newswire.log.sqlite.fork import carried
from newswire.log.sqlite.keeper import Keeper, trim
from newswire.log.sqlite.pages import PageReader, newest_of, next_entries, span
from newswire.log.sqlite.plan import Planner
from newswire.log.sqlite.reader import Reader
from newswire.log.sqlite.tail import BATCH, Tail
from newswire.log.sqlite.thread import succeed
from newswire.log.sqlite.trim import drop
from newswire.log.sqlite.writer import Writer
from newswire.wire.event import Event

logger = logging.getLogger("newswire.log")

_NAMES_KNOWN: Final = 100_000  # channel names whose check is remembered


class SqliteLog:
    """A `Log` in an SQLite file, a `Ledger`, and `Immediate`.

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
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        if os.fspath(path) in ("", ":memory:"):
            raise ValueError("an SQLite log is a file: name one, or use a MemoryLog (memory://)")
        self._path = path
        self._synchronous: Literal["FULL", "NORMAL"] = synchronous
        self._patience = busy_timeout
        self._rules = Rules(retention)
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        rules = self._rules
        self._file = LogFile(self._path, synchronous=self._synchronous, patience=self._patience)
        self._tail = Tail()
        self._pages = PageReader()
        self._writer = Writer(self._file, self._clock, self._tail.committed)
        writer = self._writer
        self._planner = Planner(rules)
        keeper = Keeper(self._planner, self._clock) if rules else None
        # Nothing here refers to this object, so that one that was forgotten unclosed can be seen in `__del__`.
        self._reader = Reader(self._file, self._tail.heard, own=lambda: writer.newest, keeper=keeper)
        self._writer.checkpoint = self._reader.checkpoint
        if keeper is not None:
            keeper.attach(writer=self._writer, reader=self._reader)
        self._known: set[str] = set()
        self._pid: int | None = None
        self._closed = False

    def reopen(self) -> None:
        """See `Reopenable`."""
        if self._closed:
            self._begin()

    def _check(self) -> None:
        if self._closed:
            raise Closed("the log is closed")
        pid = os.getpid()
        if self._pid != pid:
            if self._pid is not None:
                raise carried(self._file.path, self._pid)
            self._pid = pid
            logger.info("%s opens; it keeps %s", self._file.path, self._rules)
            if self._rules:
                self._reader.start()

    def __repr__(self) -> str:
        return f"<SqliteLog {self._file.path}{' (closed)' if self._closed else ''}>"

    # -- append

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[Position]:
        """See `Log.append`."""
        self._check()
        events = list(events)
        sizes = self._weigh(events)
        if not events:
            return []
        batch = Batch(events, sizes)
        await self._writer.append([batch])
        if isinstance(batch.outcome, LogError):
            raise batch.outcome
        return positions(self._file.epoch, batch.outcome or 0, len(events))

    async def append_guarded(self, batches: Sequence[Guarded]) -> list[Outcome]:
        """See `Ledger.append_guarded`."""
        stored: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.submit(batches, lambda outcomes: succeed(stored, outcomes))
        return await stored

    def submit(self, batches: Sequence[Guarded], settle: Settle) -> None:
        """See `Immediate.submit`."""
        self._check()
        sizes = iter(self._weigh([pair for batch in batches for pair in batch.events]))
        made = [
            Batch(batch.events, list(islice(sizes, len(batch.events))), (batch.channel, batch.newest))
            for batch in batches
        ]
        if made:
            self._writer.submit(made, lambda: settle([batch.outcome for batch in made]))
        else:
            settle([])

    def _weigh(self, events: Sequence[tuple[str, Event]]) -> list[int]:
        sizes = weigh_batch(events, self._known)
        if len(self._known) > _NAMES_KNOWN:
            self._known.clear()
        self._known.update([name for name, _ in events])
        return sizes

    # -- read

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        self._check()
        return await self._reader.search(self._pages.read(channels, after, limit))

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Ledger.newest`."""
        self._check()
        return await self._reader.query(lambda connection: newest_of(connection, channels))

    async def span(self) -> Span:
        """See `Log.span`."""
        self._check()
        found = await self._reader.query(span)
        return Span(found.epoch, found.earliest, found.latest, self._file.lives)

    # -- follow

    def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """See `Log.follow`."""
        return self._follow(after, None)

    def follow_at_once(self, after: int | None, take: Take) -> AsyncIterator[Sequence[Entry]]:
        """See `Immediate.follow_at_once`: for what this log object appends; all else comes out of the iterator."""
        return self._follow(after, take)

    async def _follow(self, after: int | None, take: Take | None) -> AsyncIterator[Sequence[Entry]]:
        self._check()
        tail = self._tail
        follower = Follower(0, take)
        tail.enter(follower)
        self._reader.watching = True
        try:
            tail.readable((await self._reader.query(span)).latest)
            follower.at = tail.newest if after is None else max(after, 0)
            while not self._closed:
                if tail.broken is not None:
                    raise type(tail.broken)(*tail.broken.args)
                if follower.at < tail.newest:
                    batch = tail.at_hand(follower.at) or await self._next(follower.at)
                    follower.at = batch[-1].offset
                    yield batch
                else:
                    await follower.wait()
        except Closed:
            pass
        finally:
            if tail.leave(follower):
                self._reader.watching = False

    async def _next(self, at: int) -> Sequence[Entry]:
        newest = self._tail.newest
        entries = await self._reader.query(lambda connection: next_entries(connection, at, BATCH))
        # Offsets have no holes but those that retention makes.
        if not entries or entries[0].offset != at + 1:
            raise TrimmedAway(entries[0].offset - 1 if entries else newest)
        if entries[-1].offset == at + len(entries):
            return entries
        return [entry for index, entry in enumerate(entries, at + 1) if entry.offset == index]

    # -- the rest

    async def trim(self) -> int:
        """See `Log.trim`."""
        self._check()
        planner = self._planner  # lives in the reader's thread
        now = self._clock()
        removed = 0
        over: list[int] = []
        await self._reader.run(lambda _: planner.look_again())
        while True:
            plan = await self._reader.query(partial(planner.plan, now=now, upto=None, over=over))
            if plan.offsets or plan.count:
                gone, over = await self._writer.run(partial(trim, plan=plan, least=planner.least))
                removed += gone
            elif not plan.more:
                return removed

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Ledger.drop`."""
        self._check()
        return await self._writer.run(partial(drop, cuts=dict(cuts))) if cuts else 0

    async def close(self) -> None:
        """See `Log.close`."""
        self._closed = True
        if self._pid != os.getpid():
            return  # never used, or a parent's: the child of a fork has no thread of it
        self._tail.wake()
        self._writer.flush()
        await self._writer.close()
        await self._reader.close()

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid() and not self._closed:
            warnings.warn(f"unclosed log {self._file.path}", ResourceWarning, stacklevel=2, source=self)
            self._writer.end()
            self._reader.end()
