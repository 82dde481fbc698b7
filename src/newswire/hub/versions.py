"""Versioned publish: what is older than what is there already is dropped.

An application that publishes the state of something from several processes can't know which of two publishes comes
first. So it gives each state a version: a number of a row, a sequence, a time. The newest version of a channel is
stored in a channel of its own, `$version.CHANNEL`, in one batch with the event and under the condition that it was not
changed meanwhile. This holds on every log and over all processes, and costs readers nothing.

The records before the newest have no use; every so often they are removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

from newswire.errors import Closed, LogError, LogUnavailable
from newswire.log.channels import MAX_CHANNEL_BYTES
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.position import MAX_OFFSET, KnownPosition, Position
from newswire.wire.event import Event

logger: logging.Logger = logging.getLogger("newswire.hub")

_KNOWN: Final = 10_000  # channels whose newest version is remembered
_CUT: Final = 200  # records that may be left over before they are removed
_TRIES: Final = 1000  # others that are faster; each of them has stored a version
_NEVER: Final = MAX_OFFSET  # a condition that does not hold

Batch: TypeAlias = Sequence[tuple[str, Event]]
Append: TypeAlias = Callable[[Batch, Condition, str | None], Awaitable[list[Position] | None]]


class Newest(NamedTuple):
    """The newest record of a channel.

    Attributes:
        offset: its place; of the newest that there was, if there is none.
        version: None: there is none.
        epoch: the life of the log that `offset` is a place in.
    """

    offset: int
    version: int | None
    epoch: str


class Versions:
    """The versions of a hub's channels.

    Args:
        log: the hub's.
        append: appends a batch under a condition, with a token if there is one.
    """

    def __init__(self, log: Log, append: Append) -> None:
        self._log = log
        self._append = append
        self._known: OrderedDict[str, Newest] = OrderedDict()
        self._cuts: dict[str, Position] = {}  # up to where old records can go
        self._left = 0  # records that have no use any more
        self._cutting: asyncio.Task[None] | None = None

    async def publish(self, pair: tuple[str, Event], version: int, token: str | None = None) -> Position:
        """Store an event, unless its channel has a version that is as new.

        Args:
            pair: channel and event.
            version: the event's.
            token: one that a former attempt may have stored the event with.

        Returns:
            its position; or the one of the version that is there, with `stored` False.
        """
        name = _record_of(pair[0])
        batch = [(name, Event(str(version))), pair]
        newest = self._known.get(name)
        for _ in range(_TRIES):
            if newest is None or (newest.version is not None and newest.version >= version):
                newest = await self._read(name)
            if newest.version is not None and newest.version >= version:
                stored = None if token is None else await self._append(batch, Condition(name, _NEVER), token)
                self._remember(name, newest)
                return stored[1] if stored is not None else KnownPosition(newest.epoch, newest.offset + 1)
            stored = await self._append(batch, Condition(name, newest.offset, newest.epoch), token)
            if stored is not None:
                epoch, offset = stored[0].epoch, stored[0].offset
                self._remember(name, Newest(offset, version, epoch))
                self._cut(name, Position(epoch, offset - 1))
                return stored[1]
            newest = None
        raise LogUnavailable(f"others publish to {pair[0]} all the time, and faster than this process: try again")

    async def _read(self, name: str) -> Newest:
        epoch = (await self._log.span()).epoch  # first: if it is another one by then, the condition does not hold
        [entry] = await self._log.newest([name])
        if entry is not None:
            with suppress(ValueError):
                return Newest(entry.offset, int(entry.data), epoch)
            return Newest(entry.offset, None, epoch)
        return Newest(await self._log.lost(name), None, epoch)

    def _remember(self, name: str, newest: Newest) -> None:
        self._known[name] = newest
        self._known.move_to_end(name)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    # -- old records

    def _cut(self, name: str, upto: Position) -> None:
        self._cuts[name] = upto
        self._left += 1
        if self._left >= _CUT and (self._cutting is None or self._cutting.get_loop().is_closed()):
            self._cutting = asyncio.create_task(self._remove(), name="newswire removes old versions")

    async def _remove(self) -> None:
        cuts, self._cuts, self._left = self._cuts, {}, 0
        try:
            lives = (await self._log.span()).lives  # a place that the log has lost is another record's now
            await self._log.drop(
                {name: upto.offset for name, upto in cuts.items() if not lives.lost(upto.epoch, upto.offset)}
            )
        except (LogError, Closed) as error:  # they go with the next ones
            self._cuts = cuts | self._cuts
            logger.debug("old versions could not be removed: %s", error)
        finally:
            self._cutting = None

    async def close(self) -> None:
        """Remove what is left over."""
        if self._cutting is not None and self._cutting.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([self._cutting])
        if self._cuts:
            await self._remove()


def _record_of(channel: str) -> str:
    """The channel of a channel's versions."""
    name = f"$version.{channel}"
    if len(name.encode()) <= MAX_CHANNEL_BYTES:
        return name
    return f"$versions.{blake2b(channel.encode(), digest_size=16).hexdigest()}"
