"""One connection that follows the log, for all who follow it in this process.

It waits at the server (`XREAD BLOCK`) for what comes after its place. With each answer it learns the epoch, so that
what it was given belongs to the life that it knows. What this process itself stores comes from the writer, without a
way over the server: while the writer has answers all the time, there is no need to wait at the server at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from newswire.errors import LogUnavailable
from newswire.log.engine import PAGE_BYTES, Entry
from newswire.log.redis.link import Link, Server
from newswire.log.redis.writer import Writer
from newswire.log.retry import Outage, Retry, end
from newswire.log.tail import Follower, Followers

logger = logging.getLogger("newswire.log")

_BLOCK_MS: Final = 1000  # how often an idle log is looked at: a wiped one tells nothing by itself
_MOST: Final = 1000  # entries of one answer
_OWN_SECONDS: Final = 0.002  # how late others' entries may be while this process stores all the time


class Tail:
    """What all followers of an engine share.

    Attributes:
        followers: those.
    """

    def __init__(self, server: Server, writer: Callable[[], Writer]) -> None:
        self.followers = Followers()
        self._server = server
        self._writer = writer
        self._link = Link(server)
        self._task: asyncio.Task[None] | None = None
        self._count = 1
        self._retry = Retry(0.01, 2.0)
        self._outage = Outage(f"the log on {server.name} can't be followed", logger)

    def enter(self, follower: Follower) -> None:
        """Someone follows."""
        self.followers.add(follower)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire redis tail")

    def leave(self, follower: Follower) -> None:
        """Someone follows no more."""
        self.followers.discard(follower)
        if not self.followers and self._task is not None:
            self._task.cancel()
            self._task = None

    def restart(self) -> None:
        """The log has another epoch."""
        self.followers.restart(self._server.seen)

    async def close(self) -> None:
        """End, and close the connection."""
        task, self._task = self._task, None
        await end(task)
        await self._link.close()

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
            await self._link.close()

    async def _follow(self) -> None:
        server, writer, followers = self._server, self._writer(), self.followers
        loop = asyncio.get_running_loop()
        await self._link.enter()
        followers.reached(server.seen)
        while True:
            own, epoch = loop.time() - writer.last < 1.0, server.epoch
            read = (
                "XREAD",
                "COUNT",
                1 if own else self._count,
                "BLOCK",
                _BLOCK_MS,
                "STREAMS",
                server.keys[1],
                followers.at,
            )
            found, state = await self._link.exchange(
                read, ("HMGET", server.keys[0], "epoch", "latest"), patience=_BLOCK_MS / 1000
            )
            self._retry.reset()
            if epoch != server.epoch:
                continue  # another connection has found out
            if state[0] is None or state[0].decode() != epoch or int(state[1]) < followers.at:
                await self._link.enter()
                continue
            if not found:
                followers.reached(int(state[1]))
                continue
            if own:
                await writer.idle()
                if epoch != server.epoch:
                    continue
            entries = [entry for entry in map(as_entry, found[0][1]) if entry.offset > followers.at]
            if entries:
                size = sum(len(entry.data) for entry in entries) // len(entries) + 1
                self._count = max(1, min(_MOST, PAGE_BYTES // size))
                if followers.at + 1 == entries[0].offset:
                    followers.give(entries)
                followers.reached(int(state[1]))
            elif own:
                await asyncio.sleep(_OWN_SECONDS)


def as_entry(row: Sequence[Any]) -> Entry:
    """What a stream's entry, or the scripts' pair of offset and row, is."""
    id, fields = row
    return Entry(
        int(id.partition(b"-")[0]), fields[1].decode(), fields[3].decode(), fields[5].decode(), int(fields[7]) / 1e6
    )
