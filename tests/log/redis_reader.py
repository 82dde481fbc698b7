"""A reader of a log that may be in trouble: it goes on as a hub does, and keeps the events and gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from newswire.errors import EpochChanged, LogError, TrimmedAway
from newswire.log.engine import Entry
from newswire.log.log import Log

PATIENCE = 30.0


class Reader:
    """Follows a log from where it is now, whatever happens.

    Attributes:
        seen: the data of the events, in order, with None in place of a gap.
        epochs: that it has followed.
    """

    def __init__(self, log: Log) -> None:
        self.seen: list[str | None] = []
        self.epochs: list[str] = []
        self._log = log
        self._at = -1
        self._epoch = ""
        self._ready = asyncio.Event()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        await asyncio.wait_for(self._ready.wait(), PATIENCE)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def saw(self, data: str) -> None:
        """Wait until it has seen an event."""
        async with asyncio.timeout(PATIENCE):
            while data not in self.seen:
                self._news.clear()
                await self._news.wait()

    async def told(self) -> None:
        """Wait until it has seen a gap."""
        async with asyncio.timeout(PATIENCE):
            while None not in self.seen:
                self._news.clear()
                await self._news.wait()

    def _take(self, entries: Sequence[Entry], last: bool) -> None:
        self.seen += [entry.data for entry in entries]
        self._at = entries[-1].offset
        self._news.set()

    async def _run(self) -> None:
        while True:
            try:
                span = await self._log.span()
                if self._at < 0:
                    self._at = span.latest
                elif span.epoch != self._epoch or self._at > span.latest:
                    place = span.lives.resume(self._epoch, self._at)
                    if place is None or place.lost or place.offset > span.latest:
                        self._gap()
                        self._at = span.earliest if place is None else min(place.offset, span.latest)
                if span.epoch != self._epoch:
                    self.epochs.append(span.epoch)
                self._epoch = span.epoch
                self._ready.set()
                await self._log.tail(self._at, self._epoch, self._take)
                return
            except TrimmedAway as error:
                self._gap()
                self._at = error.through
            except EpochChanged:
                pass
            except LogError:
                await asyncio.sleep(0.02)

    def _gap(self) -> None:
        self.seen.append(None)
        self._news.set()
