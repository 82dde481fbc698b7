"""One connection that follows the log, for all who follow it in this process.

It listens for the one notification that each stored batch sends, and reads what is new. A notification is a reason to
look and never the data, so one that is lost costs a second and no event. What this process itself stores comes from its
writer, without a way over the database. Where nothing can be heard (behind a proxy that pools transactions, or on a
standby) it looks some times a second.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from asyncpg import exceptions as errors

from newswire.log.postgres.link import PostgresLink, PostgresServer
from newswire.log.postgres.pages import PostgresPages
from newswire.log.shared_tail import SharedTail

_IDLE_SECONDS: Final = 1.0  # how often a log is looked at that is silent: one that was replaced tells nothing by itself


class PostgresTail(SharedTail):
    """See `SharedTail`.

    Args:
        link: the connection to read by.
        ears: the connection to listen with; None: look each `poll` seconds. The writer's own, if it can be: what it
            notifies comes back to it with the answer, and wakes nothing.
        writes: the writer's.
    """

    def __init__(
        self, server: PostgresServer, link: PostgresLink, ears: PostgresLink | None, poll: float, writes: PostgresLink
    ) -> None:
        super().__init__(server)
        self._channel = server.schema.channel
        self._writes = writes
        self._link = link
        self._ears = ears
        self._poll = poll
        self._listens = ears is not None
        self._pages = PostgresPages(server, link)
        self._news = asyncio.Event()
        if ears is not None:
            ears.on_open = self._listen

    def restart(self) -> None:
        """See `SharedTail.restart`."""
        super().restart()
        self._news.set()

    def look(self) -> None:
        """There may be news."""
        self._news.set()

    async def _disconnect(self) -> None:
        await self._link.close()
        if self._ears is not None and self._ears is not self._writes:
            await self._ears.close()

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        connection.add_termination_listener(lambda _: self._news.set())
        try:
            await connection.add_listener(self._channel, self._heard)
            self._listens = True
        except errors.ReadOnlySQLTransactionError:  # a standby
            self._listens = False

    def _heard(self, _: Any, pid: int, channel: str, payload: object) -> None:
        """Look, unless it is of what this process stored itself, or knows."""
        if pid == self._writes.pid:
            return
        epoch, _, offset = str(payload).rpartition("-")
        if epoch == self._server.epoch and offset.isdecimal() and int(offset) <= self.at:
            return
        self._news.set()

    async def _follow(self) -> None:
        server = self._server
        if self._ears is not None:
            await self._ears.enter()
        await self._link.enter()
        self.reached(server.seen)
        while True:
            self._news.clear()
            at, epoch = self.at, server.epoch
            entries, latest = await self._pages.next(at)
            self._retry.reset()
            self._outage.ended()
            if epoch != server.epoch:
                continue
            new = [entry for entry in entries if entry.offset > self.at]
            if new and self.at == at:
                self.give(new)
            self.reached(latest)
            if self._ears is not None and not self._ears.is_open:
                await self._ears.enter()
                continue
            try:
                async with asyncio.timeout(_IDLE_SECONDS if self._listens else self._poll):
                    await self._news.wait()
            except TimeoutError:
                pass
