"""What engines on servers have in common, whose connections belong to one process and to one event loop.

After a fork, or in another event loop, an engine begins with parts of its own, also if it was not used before. The
connections of before are left alone: closing a parent's would take them out of what the parent's event loop waits for.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from newswire.errors import EpochChanged, TrimmedAway
from newswire.log.channels import Channels
from newswire.log.engine import (
    Batch,
    Copied,
    Engine,
    Entry,
    Info,
    Losses,
    OnDone,
    OnEntries,
    Page,
    Span,
    TailCursor,
)
from newswire.log.group_commit import GroupCommit
from newswire.log.server import RemoteServer
from newswire.log.shared_tail import SharedTail

_abandoned: list[object] = []  # what a fork, or an event loop that was closed, left in use


class Part(Protocol):
    """Something of an engine that uses connections."""

    async def close(self) -> None: ...


class RemoteEngine(Engine):
    """An engine on a server. Its subclasses call `_enter` first in each call."""

    def __init__(self) -> None:
        self._pid: int | None = None  # the process that uses it
        self._loop: asyncio.AbstractEventLoop | None = None  # and its event loop
        self._made_in = os.getpid()  # the process that made the parts
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Make all parts; nothing connects yet."""

    @abstractmethod
    def _parts(self) -> Sequence[Part]:
        """The parts, in the order in which they are closed."""

    def _started(self) -> None:
        """The engine is used for the first time since `_begin`."""

    def _enter(self) -> None:
        """The engine is going to be used."""
        pid, loop = os.getpid(), asyncio.get_running_loop()
        if self._pid != pid or self._loop is not loop:
            if self._pid is not None:
                _abandoned.append(self._parts())
            if self._pid is not None or self._made_in != pid:
                # Parts have names by which the server knows what it has done: no two processes may have the same.
                self._made_in = pid
                self._begin()
            self._pid, self._loop = pid, loop
            self._started()

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._pid != os.getpid():
            return
        self._pid = None
        parts = self._parts()
        self._begin()
        for part in parts:
            await part.close()

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid():
            warnings.warn(f"unclosed log {self}", ResourceWarning, stacklevel=2, source=self)


class Submits(Part, Protocol):
    """What stores."""

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        ...


class Reads(Protocol):
    """What reads: methods of `Engine` of the same names."""

    async def read(self, channels: Channels, after: int, limit: int) -> Page: ...

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]: ...

    async def span(self) -> Span: ...

    async def scan(self, after: int, limit: int) -> Page: ...


class ReadsOn(Reads, Protocol):
    """Where a follower that is behind reads on, too."""

    async def next(self, after: int, /) -> tuple[Sequence[Entry], int]:
        """The first entries of all channels after an offset, and the log's newest offset."""
        ...


class Administers(Protocol):
    """What operators need: methods of `Engine` of the same names."""

    async def info(self) -> Info: ...

    async def losses(self) -> Losses: ...

    async def restore(self, copied: Copied) -> None: ...


class Removes(Protocol):
    """What enforces retention."""

    async def trim(self) -> int:
        """See `Engine.trim`."""
        ...


class PagedEngine(RemoteEngine):
    """An engine with a part that stores, one that reads and one for operators. A subclass makes them in `_begin`."""

    _writer: Submits
    _pages: Reads
    _admin: Administers

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        self._enter()
        self._writer.submit(batches, on_done)

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Engine.read`."""
        self._enter()
        return await self._pages.read(channels, after, limit)

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Engine.newest`."""
        self._enter()
        return await self._pages.newest(channels)

    async def span(self) -> Span:
        """See `Engine.span`."""
        self._enter()
        return await self._pages.span()

    async def scan(self, after: int, limit: int) -> Page:
        """See `Engine.scan`."""
        self._enter()
        return await self._pages.scan(max(after, 0), max(limit, 1))

    async def info(self) -> Info:
        """See `Engine.info`."""
        self._enter()
        return await self._admin.info()

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        self._enter()
        return await self._admin.losses()

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        self._enter()
        await self._admin.restore(copied)


class TailedEngine(PagedEngine):
    """One with a tail that all its followers share, for a process has one connection that follows."""

    _server: RemoteServer
    _writer: GroupCommit
    _tail: SharedTail
    _pages: ReadsOn
    _retention: Removes

    def __repr__(self) -> str:
        return self._server.name

    @property
    def part_events(self) -> int:
        """See `Engine`."""
        return self._writer.part_events

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        """See `Engine.tail`. What this process stores is given before its publisher goes on. A follower that has not
        caught up reads pages."""
        self._enter()
        server, tail, pages = self._server, self._tail, self._pages
        follower = TailCursor(max(after, 0), on_entries)
        tail.enter(follower)
        try:
            found = await pages.span()
            if found.epoch != epoch:
                raise EpochChanged(found.epoch)
            tail.reached(found.latest)
            while True:
                if server.epoch != epoch:
                    raise EpochChanged(server.epoch)
                if follower.at < tail.at:
                    page = await pages.next(follower.at)
                    if server.epoch != epoch:
                        continue  # it is of another life
                    entries = _in_a_row(*page, follower.at)
                    if entries:
                        follower.give(entries, False)
                else:
                    await follower.wait()
        finally:
            tail.leave(follower)

    async def trim(self) -> int:
        """See `Engine.trim`."""
        self._enter()
        return await self._retention.trim()


def _in_a_row(entries: Sequence[Entry], latest: int, at: int) -> Sequence[Entry]:
    """The entries that follow `at` without a hole: offsets have none but those that retention makes.

    Raises:
        TrimmedAway: the next one is gone.
    """
    if not entries:
        if latest > at:
            raise TrimmedAway(latest)
        return ()
    if entries[0].offset != at + 1:
        raise TrimmedAway(entries[0].offset - 1)
    if entries[-1].offset == at + len(entries):
        return entries
    return [entry for index, entry in enumerate(entries, at + 1) if entry.offset == index]
