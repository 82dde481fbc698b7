"""A secret that all processes with the same log share, kept in a channel of its own.

Runs make their ids with one, and tickets are signed with another. The first process that needs it makes it. If the log
loses it (it was wiped under processes that are running) the first one that needs it stores it again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.position import Lives, Position
from newswire.wire.event import Event


class SharedSecret:
    """The secret in an internal channel, as 64 ASCII characters.

    Args:
        log: where it is.
        channel: the channel.
        lives: gives the log's lives, as far as this process knows them. One without a name: it knows nothing.
    """

    def __init__(self, log: Log, channel: str, lives: Callable[[], Lives]) -> None:
        self._log = log
        self._channel = channel
        self._lives = lives
        self._found: tuple[bytes, Position] | None = None  # and the place of its event

    @property
    def known(self) -> bytes | None:
        """The secret, if this process has read it, and does not know that the log has lost it."""
        if self._found is None:
            return None
        value, place = self._found
        lives = self._lives()
        return None if lives.epoch and lives.lost(place.epoch, place.offset) else value

    async def get(self) -> bytes:
        """The secret.

        Raises:
            LogError: the log can't be read, or can't store it.
        """
        known = self.known
        return await self._find() if known is None else known

    async def _find(self) -> bytes:
        log, channel = self._log, self._channel
        while True:
            epoch = (await log.span()).epoch  # first: if it is another one by then, the secret is looked for again
            [entry] = await log.newest([channel])
            if entry is not None:
                value = entry.data.encode()
                self._found = value, Position(epoch, entry.offset)
                return value
            # Nothing was stored there, or it is lost, or a retention rule of the application's own has removed it.
            lost = await log.lost(channel)
            text = secrets.token_hex(32) if self._found is None else self._found[0].decode()
            await log.append_if([(channel, Event(text, "secret"))], Condition(channel, lost))
