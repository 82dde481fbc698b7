"""One connection that follows the log, for all who follow it in this process.

It waits at the server (`XREAD BLOCK`) for what comes after its place. With each answer it learns the epoch, so that
what it was given belongs to the life that it knows. What this process itself stores comes from the writer, without a
way over the server: while the writer has answers all the time, there is no need to wait at the server at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from newswire.errors import LogCorrupt
from newswire.log.engine import PAGE_BYTES, Entry
from newswire.log.redis.link import RedisLink, RedisServer
from newswire.log.redis.writer import RedisWriter
from newswire.log.shared_tail import SharedTail

_BLOCK_MS: Final = 1000  # how often an idle log is looked at: a wiped one tells nothing by itself
_MOST: Final = 1000  # entries of one answer
_OWN_SECONDS: Final = 0.002  # how late others' entries may be while this process stores all the time


class RedisTail(SharedTail):
    """See `SharedTail`."""

    def __init__(self, server: RedisServer, writer: Callable[[], RedisWriter]) -> None:
        super().__init__(server)
        self._keys = server.keys
        self._writer = writer
        self._link = RedisLink(server)
        self._count = 1

    async def _disconnect(self) -> None:
        await self._link.close()

    async def _follow(self) -> None:
        server, writer = self._server, self._writer()
        loop = asyncio.get_running_loop()
        await self._link.enter()
        self.reached(server.seen)
        while True:
            pause = writer.last + _OWN_SECONDS - loop.time()
            if pause > 0:  # each answer of the writer tells whether others have stored something
                await asyncio.sleep(pause)
                continue
            own, epoch = loop.time() - writer.last < 1.0, server.epoch
            read = (
                "XREAD",
                "COUNT",
                1 if own else self._count,
                "BLOCK",
                _BLOCK_MS,
                "STREAMS",
                self._keys[1],
                self.at,
            )
            found, state = await self._link.exchange(
                read, ("HMGET", self._keys[0], "epoch", "latest"), patience=_BLOCK_MS / 1000
            )
            self._retry.reset()
            self._outage.ended()
            if epoch != server.epoch:
                continue  # another connection has found out
            if state[0] is None or state[0].decode() != epoch or int(state[1]) < self.at:
                await self._link.enter()
                continue
            if not found:
                self.reached(int(state[1]))
                continue
            if own:
                await writer.idle()
                if epoch != server.epoch:
                    continue
            entries = [entry for entry in map(as_entry, found[0][1]) if entry.offset > self.at]
            if entries:
                size = sum(len(entry.data) for entry in entries) // len(entries) + 1
                self._count = max(1, min(_MOST, PAGE_BYTES // size))
                if self.at + 1 == entries[0].offset:
                    self.give(entries)
                self.reached(int(state[1]))


def as_entry(row: Sequence[Any]) -> Entry:
    """What a stream's entry, or the scripts' pair of offset and row, is."""
    id, fields = row
    try:
        channel, event, data = fields[1].decode(), fields[3].decode(), fields[5].decode("utf-8", "replace")
        return Entry(int(id.partition(b"-")[0]), channel, event, data, int(fields[7]) / 1e6)
    except (IndexError, ValueError):
        raise LogCorrupt(f"entry {id.decode()} of the log's stream is something else's: XDEL it") from None
