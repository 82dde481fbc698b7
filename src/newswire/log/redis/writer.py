"""How a group of batches is stored: by one script call, which is atomic. See `GroupCommit`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from newswire.log.engine import TOKEN_SECONDS, Batch, Limits
from newswire.log.group_commit import Answer, GroupCommit, OnStored
from newswire.log.redis.link import Link, Server
from newswire.log.redis.scripts import APPEND, CHANNEL, KEYS, TOKEN, WRITER

_TOKEN_MS: Final = int(TOKEN_SECONDS * 1000)
_DONE, _OTHER_EPOCH, _BROKEN, _LATE = range(4)


class Writer(GroupCommit):
    """Stores batches."""

    _link: Link

    def __init__(self, server: Server, limits: Limits, clock: Callable[[], float], on_stored: OnStored) -> None:
        super().__init__(server, Link(server), limits, on_stored)
        self._clock = clock
        self._key = WRITER + secrets.token_hex(8)

    async def _call(self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool) -> Answer | None:
        keys, arguments = self._encode(batches, stale)
        status, *rest = await self._link.call(APPEND, keys, self._server.epoch, number, *arguments, on_sent=self.tell)
        if status == _LATE:
            raise self._corrupt()
        if status != _DONE:
            return None
        epoch, micros, before, *offsets = rest
        return Answer(epoch.decode(), int(micros), int(before), offsets)

    def _encode(self, batches: Sequence[Batch], stale: set[int]) -> tuple[list[str], list[str]]:
        first = len(KEYS) + 2
        places: dict[str, str] = {}
        keys = [self._key]

        def place(key: str) -> str:
            found = places[key] = str(first + len(keys) - 1)
            keys.append(key)
            return found

        arguments = [str(int(self._clock() * 1e6)), str(_TOKEN_MS), str(len(batches))]
        add = arguments.append
        for index, batch in enumerate(batches):
            condition, token = batch.condition, batch.token
            if condition is None:
                arguments += ("0", "0")
            else:
                key = CHANNEL + condition.channel
                arguments += (places.get(key) or place(key), "-1" if index in stale else str(condition.newest))
            if token is None:
                add("0")
            else:
                key = TOKEN + token
                add(places.get(key) or place(key))
            add(str(len(batch.events)))
            for channel, event in batch.events:
                key = CHANNEL + channel
                arguments += (places.get(key) or place(key), event.event, event.data)
        return keys, arguments
