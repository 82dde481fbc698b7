"""One connection that follows the log, for all who follow it in this process.

It listens for the one notification that each stored batch sends, and reads what is new. A notification is a reason to
look and never the data, so one that is lost costs a second and no event. What this process itself stores comes from its
writer, without a way over the database. Where nothing can be heard (behind a proxy that pools transactions) it looks
some times a second.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from newswire.errors import LogUnavailable
from newswire.log.postgres.link import Link, Server
from newswire.log.postgres.pages import Pages
from newswire.log.retry import Outage, Retry, end
from newswire.log.tail import Follower, Followers

logger = logging.getLogger("newswire.log")

_IDLE_SECONDS: Final = 1.0  # how often a log is looked at that is silent: one that was replaced tells nothing by itself


class Tail:
    """What all followers of an engine share.

    Args:
        link: the connection to read by.
        ears: the connection to listen with; None: look each `poll` seconds. The writer's own, if it can be: what it
            notifies comes back to it with the answer, and wakes nothing.
        writes: the writer's.

    Attributes:
        followers: those.
    """

    def __init__(self, server: Server, link: Link, ears: Link | None, poll: float, writes: Link) -> None:
        self.followers = Followers()
        self._server = server
        self._writes = writes
        self._link = link
        self._ears = ears
        self._seconds = poll if ears is None else _IDLE_SECONDS
        self._pages = Pages(server, link)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry = Retry(0.01, 2.0)
        self._outage = Outage(f"the log in {server.name} can't be followed", logger)
        if ears is not None:
            ears.on_open = self._listen

    def enter(self, follower: Follower) -> None:
        """Someone follows."""
        self.followers.add(follower)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire postgres tail")

    def leave(self, follower: Follower) -> None:
        """Someone follows no more."""
        self.followers.discard(follower)
        if not self.followers and self._task is not None:
            self._task.cancel()
            self._task = None

    def restart(self) -> None:
        """The log has another epoch."""
        self.followers.restart(self._server.seen)
        self._news.set()

    def look(self) -> None:
        """There may be news."""
        self._news.set()

    async def close(self) -> None:
        """End, and close the connections."""
        task, self._task = self._task, None
        await end(task)
        await self._close_links()

    async def _close_links(self) -> None:
        await self._link.close()
        if self._ears is not None and self._ears is not self._writes:
            await self._ears.close()

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        connection.add_termination_listener(lambda _: self._news.set())
        await connection.add_listener(self._server.schema.channel, self._heard)

    def _heard(self, _: Any, pid: int, channel: str, payload: object) -> None:
        """Look, unless it is of what this process stored itself, or knows."""
        if pid == self._writes.pid:
            return
        epoch, _, offset = str(payload).rpartition("-")
        if epoch == self._server.epoch and offset.isdecimal() and int(offset) <= self.followers.at:
            return
        self._news.set()

    async def _run(self) -> None:
        try:
            while True:
                try:
                    await self._follow()
                except LogUnavailable:
                    pass  # it was logged where the connection failed
                except Exception as error:  # the outermost frame of a task: those who follow depend on it
                    self._outage.failed(error)
                await asyncio.sleep(max(self._server.wait(), self._retry.next()))
        finally:
            await self._close_links()

    async def _follow(self) -> None:
        """See what is new, until a connection breaks."""
        server, followers = self._server, self.followers
        if self._ears is not None:
            await self._ears.enter()
        await self._link.enter()
        followers.reached(server.seen)
        while True:
            self._news.clear()
            at, epoch = followers.at, server.epoch
            entries, latest = await self._pages.next(at)
            self._retry.reset()
            self._outage.ended()
            if epoch != server.epoch:
                continue
            new = [entry for entry in entries if entry.offset > followers.at]
            if new and followers.at == at:
                followers.give(new)
            followers.reached(latest)
            if self._ears is not None and not self._ears.is_open:
                await self._ears.enter()
                continue
            try:
                async with asyncio.timeout(self._seconds):
                    await self._news.wait()
            except TimeoutError:
                pass
