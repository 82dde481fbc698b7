"""One connection that follows a log on a server, for all who follow it in this process."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from newswire.errors import LogUnavailable
from newswire.log.engine import Entry, TailCursor
from newswire.log.retry import Outage, Retry, end
from newswire.log.server import RemoteServer


class SharedTail(ABC):
    """What all followers of an engine share. Its task is there while anyone follows.

    Attributes:
        at: the offset up to which all is known to be there.
    """

    def __init__(self, server: RemoteServer) -> None:
        self.at: int = 0
        self._server = server
        self._followers: set[TailCursor] = set()
        self._task: asyncio.Task[None] | None = None
        self._retry = Retry(0.01, 2.0)
        self._outage = Outage(f"the log on {server.name} can't be followed", logging.getLogger("newswire.log"))

    @abstractmethod
    async def _follow(self) -> None:
        """Call `give` and `reached` with what is new, until a connection breaks."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close the connections."""

    def enter(self, follower: TailCursor) -> None:
        """Someone follows."""
        self._followers.add(follower)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire log tail")

    def leave(self, follower: TailCursor) -> None:
        """Someone follows no more."""
        self._followers.discard(follower)
        if not self._followers and self._task is not None:
            self._task.cancel()
            self._task = None

    def restart(self) -> None:
        """The log has another epoch."""
        self.at = self._server.seen
        self._wake()

    def reached(self, offset: int) -> None:
        """The log goes up to here."""
        if offset > self.at:
            self.at = offset
            self._wake()

    def give(self, entries: Sequence[Entry]) -> None:
        """These are entries in a row, unless retention left holes in them: a follower that waits for them gets them."""
        self.at = max(self.at, entries[-1].offset)
        whole = entries[-1].offset - entries[0].offset + 1 == len(entries)
        for follower in list(self._followers):
            if not whole or not follower.offer(entries):
                follower.wake()

    def stored(self, before: int, make: Callable[[], list[Entry]], latest: int) -> None:
        """This process has stored something after the offset `before`."""
        if not self._followers:
            self.at = max(self.at, latest)
        elif before <= self.at:  # the connection may have seen the log's new end already
            self.give(make())
        else:
            self.reached(latest)

    async def close(self) -> None:
        """End, and close the connections."""
        task, self._task = self._task, None
        await end(task)
        await self._disconnect()

    def _wake(self) -> None:
        for follower in self._followers:
            follower.wake()

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
            await self._disconnect()
