"""A copy of another log on the server: what was lost is read out of one, and events at given offsets go into one.

See `Engine.restore`.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from newswire.errors import LogError
from newswire.log.engine import Copied, Losses
from newswire.log.position import lives_text
from newswire.log.redis.link import Link, Server
from newswire.log.redis.scripts import CHANNEL, KEYS, LOSE, RESTORE

_AT_ONCE: Final = 2000  # channels with losses in one call
_LIVES_BYTES: Final = 4000  # as in enter.lua


class Copies:
    """Reads and writes what a copy needs beside events.

    Args:
        link: for it.
    """

    def __init__(self, server: Server, link: Link) -> None:
        self._server = server
        self._link = link

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        lost, shapes = (self._server.keys[KEYS.index(name)] for name in ("lost", "shapes"))
        channels, forgotten = await self._link.exchange(("ZRANGE", lost, 0, -1, "WITHSCORES"), ("HGETALL", shapes))
        return Losses(
            {name.decode(): int(offset) for name, offset in zip(channels[::2], channels[1::2], strict=True)},
            {shape.decode(): int(offset) for shape, offset in zip(forgotten[::2], forgotten[1::2], strict=True)},
        )

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        places: dict[str, int] = {}
        arguments: list[str | int] = []
        for entry in copied.entries:
            place = places.setdefault(entry.channel, len(KEYS) + 1 + len(places))
            arguments += (place, entry.offset, entry.event, entry.data, round(entry.time * 1e6))
        keys = [CHANNEL + name for name in places]
        lives = lives_text(copied.lives.all, _LIVES_BYTES)
        head = (copied.lives.epoch, lives, copied.through, len(copied.entries))
        stored, latest = await self._link.call(RESTORE, keys, *head, *arguments)
        if not stored:
            raise LogError(f"the log on {self._server.name} has events of its own: copy into another namespace")
        if copied.losses is not None:
            await self._lose(copied.losses)
        self._server.adopt(copied.lives.epoch, int(latest), lives)

    async def _lose(self, losses: Losses) -> None:
        channels = iter(losses.channels.items())
        shapes = [part for item in losses.shapes.items() for part in item]
        while True:
            some = list(islice(channels, _AT_ONCE))
            names = [part for item in some for part in item]
            await self._link.call(LOSE, (), len(some), *names, *shapes)
            shapes = []
            if len(some) < _AT_ONCE:
                return
