"""How a group of batches is stored: by one script call, which is atomic. See `GroupCommit`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

from newswire.log.engine import Batch, EngineLimits
from newswire.log.group_commit import CallAnswer, GroupCommit, OnStored
from newswire.log.redis.link import RedisLink, RedisServer
from newswire.log.redis.scripts import APPEND, CHANNEL, KEYS, KNOWN_MS, TOKEN, WRITER
from newswire.log.server import LinkLost
from newswire.wire.event import Event

_FIRST: Final = len(KEYS) + 1  # the number of the writer's key
_DONE, _OTHER_EPOCH, _BROKEN, _LATE = range(4)


class RedisWriter(GroupCommit):
    """Stores batches."""

    def __init__(
        self, server: RedisServer, limits: EngineLimits, clock: Callable[[], float], on_stored: OnStored
    ) -> None:
        self._link = RedisLink(server)
        super().__init__(server, [self._link], limits, on_stored, depth=2)
        self._clock = clock
        self._keys = [WRITER + secrets.token_hex(8) for _ in range(self.depth)]

    async def _call(
        self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool, after: int | None
    ) -> CallAnswer | None:
        link, pipeline = self._link, self._link.pipeline
        await link.settle()
        if after is not None and (pipeline is None or link.pipeline is not pipeline):
            raise LinkLost(f"the connection to {self._server.name} broke")  # what was sent before goes first
        encoded = self._encode(batches, stale)
        keys = [self._keys[number % self.depth], *encoded.keys]
        now = int(self._clock() * 1e6)
        status, *rest = await link.call(
            APPEND, keys, self._server.epoch, number, now, KNOWN_MS, *encoded.arguments, on_sent=self.acknowledge
        )
        if status == _LATE:
            raise self._corrupt()
        if status != _DONE:
            return None
        epoch, micros, before, *offsets = rest
        return CallAnswer(epoch.decode(), int(micros), int(before), offsets or None)

    def _encode(self, batches: Sequence[Batch], stale: set[int]) -> _Encoded:
        encoded = _Encoded()
        if all(batch.condition is None and batch.token is None for batch in batches):
            encoded.arguments.append("0")
            encoded.add_runs(chain.from_iterable([batch.events for batch in batches]))
            return encoded
        arguments, place = encoded.arguments, encoded.place
        arguments.append(str(len(batches)))
        for index, batch in enumerate(batches):
            condition, token = batch.condition, batch.token
            if condition is None:
                arguments += ("0", "0")
            else:
                newest = "-1" if index in stale else str(condition.newest)
                arguments += (place(CHANNEL + condition.channel), newest)
            arguments += ("0" if token is None else place(TOKEN + token), str(len(batch.events)), "")
            begin = len(arguments)
            encoded.add_runs(batch.events)
            arguments[begin - 1] = str(len(arguments) - begin)
        return encoded


class _Encoded:
    """Arguments of a call.

    Attributes:
        keys: those that follow the writer's.
        arguments: those that say what to store; see `append.lua`.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.arguments: list[str] = []
        self._places: dict[str, str] = {}

    def place(self, key: str) -> str:
        """The number of a key."""
        found = self._places.get(key)
        if found is None:
            self.keys.append(key)
            found = self._places[key] = str(_FIRST + len(self.keys))
        return found

    def add_runs(self, events: Iterable[tuple[str, Event]]) -> None:
        """Events, those one after the other of one channel and type together."""
        arguments = self.arguments
        begin, last, kind = -1, "", ""  # no channel has this name
        for channel, event in events:
            if channel != last or event.event != kind:
                if begin >= 0:
                    arguments[begin] = str(len(arguments) - begin - 3)
                begin, last, kind = len(arguments), channel, event.event
                arguments += ("", self.place(CHANNEL + channel), kind)
            arguments.append(event.data)
        if begin >= 0:
            arguments[begin] = str(len(arguments) - begin - 3)
