"""Retention: each second, one of the processes that share a log removes what the rules don't keep.

The server knows which channels have something new, and when the first event of each is too old; rules are patterns, and
known here. Where the rules are others than before, all channels are looked at once. Nothing is removed in its first
second, so that those who follow see it. Also removed, by each process and without rules too: calls and tokens that need
not be known any more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from newswire.errors import LogUnavailable
from newswire.log.forgotten import EMPTY_KEPT, Forgotten
from newswire.log.redis.link import RedisLink, RedisServer
from newswire.log.redis.scripts import CHANNEL, DUE, FORGET, KEYS, KNOWN_MS, LOOK, SWEEP, TRIM
from newswire.log.retention import Rules
from newswire.log.retry import Outage, end
from newswire.log.server import LinkLost

logger: logging.Logger = logging.getLogger("newswire.log")


_SECONDS: Final = 1.0
_LEASE_MS: Final = 3000
_CHANNELS: Final = 100  # looked at in one call
_LOOKED_AT: Final = 1000  # channels that are let due in one call
_REMOVED: Final = 500  # events removed in one call: some milliseconds
_WALK_SECONDS: Final = 60.0  # how often channels are looked at whose events are not in the order of time
_ALL: Final = 2**53
_FORGOTTEN: Final = 500  # in one call
_SWEEP_SECONDS: Final = 10.0  # how often calls and tokens are removed
_SWEPT: Final = 500  # in one call


class RedisRetentionJob:
    """Removes what the rules don't keep, each second."""

    def __init__(self, server: RedisServer, link: RedisLink, rules: Rules, clock: Callable[[], float]) -> None:
        self._server = server
        self._link = link
        self._rules = rules
        self._clock = clock
        self._id = secrets.token_hex(8)
        self._named = blake2b(str(rules).encode(), digest_size=16).hexdigest()  # what names the rules
        self._outage = Outage(f"what is too old in {server.name} can't be removed", logger)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if it has not begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire redis retention")

    async def close(self) -> None:
        """End, and close the connection."""
        task, self._task = self._task, None
        await end(task)
        await self._link.close()

    async def trim(self) -> int:
        """Remove what the rules don't keep now, of all channels.

        When these are due stays as it is, for the keeper may have other rules.
        """
        removed = cursor = 0
        size = self._server.keys[KEYS.index("bytes")]
        while True:
            [(after, pairs)] = await self._link.exchange(("HSCAN", size, cursor, "COUNT", _CHANNELS))
            names = [name.decode() for name in pairs[::2]]
            for begin in range(0, len(names), _CHANNELS):
                more = True
                while more:
                    now = int(self._clock() * 1e6)
                    some = names[begin : begin + _CHANNELS]
                    gone, more = await self._trim(some, now, _ALL, walk=True, note=False)
                    removed += gone
            cursor = int(after)
            if not cursor:
                return removed

    async def _enforce(self, upto: int, walk: bool) -> int:
        """Remove what the rules don't keep of the channels that are due, if this process is the keeper.

        Args:
            upto: an offset.
            walk: whether to look at each event of channels whose events are not in the order of time.

        Returns:
            how many events were removed.
        """
        removed = skip = 0
        seen: set[str] = set()
        looked = False
        while True:
            now = int(self._clock() * 1e6)
            found = await self._link.call(DUE, (), self._id, _LEASE_MS, now, skip, _CHANNELS, self._named)
            if found and found[0]:
                if looked:  # the log was wiped just now
                    return removed
                await self._look_again()
                looked = True
                continue
            names = [name.decode() for name in found[1:]]
            if not names or (len(names) < _CHANNELS and seen.issuperset(names)):
                return removed
            gone, more = await self._trim(names, now, upto, walk, note=True)
            removed += gone
            if not more:
                skip += len(seen.intersection(names))
                seen.update(names)

    async def _look_again(self) -> None:
        """Let all channels be due: they were looked at by other rules."""
        cursor: int | None = None
        while cursor != 0:
            cursor = await self._link.call(LOOK, (), cursor or 0, _LOOKED_AT, self._named)

    async def _trim(self, names: Sequence[str], now: int, upto: int, walk: bool, note: bool) -> tuple[int, bool]:
        arguments: list[str | int] = []
        for name in names:
            rule = self._rules.of(name)
            age = None if rule.max_age is None else int(rule.max_age * 1e6)
            cutoff = None if age is None else now - age
            arguments += ["" if each is None else each for each in (rule.max_events, rule.max_bytes, cutoff, age)]
        keys = [CHANNEL + name for name in names]
        _, removed, more = await self._link.call(TRIM, keys, _REMOVED, upto, int(walk), int(note), *arguments)
        return removed, bool(more)

    async def forget(self, most: int = EMPTY_KEPT) -> int:
        """Forget channels that have nothing left, beyond so many: those first that lost their last event first.

        Returns:
            how many were forgotten.
        """
        empty, shapes, meta = (self._server.keys[KEYS.index(name)] for name in ("empty", "shapes", "meta"))
        forgotten = 0
        while True:
            count, found, known, forgets = await self._link.exchange(
                ("ZCARD", empty),
                ("ZRANGE", empty, 0, _FORGOTTEN - 1, "WITHSCORES"),
                ("HGETALL", shapes),
                ("HGET", meta, "forgets"),
            )
            over = min(count - most, _FORGOTTEN)
            if over <= 0:
                return forgotten
            channels = list(zip(found[: 2 * over : 2], found[1 : 2 * over : 2], strict=True))
            before = {shape.decode(): int(lost) for shape, lost in zip(known[::2], known[1::2], strict=True)}
            after = Forgotten(before)
            after.add((name.decode(), int(lost)) for name, lost in channels)
            changed = [part for item in after.shapes.items() if item not in before.items() for part in item]
            names = [part for channel in channels for part in channel]
            arguments = ((forgets or b"0").decode(), len(channels), *names, *changed)
            forgotten += await self._link.call(FORGET, (), *arguments)

    async def sweep(self, known_ms: int = KNOWN_MS) -> None:
        """Remove calls and tokens that are older than so many milliseconds."""
        while await self._link.call(SWEEP, (), known_ms, _SWEPT):
            pass

    async def _run(self) -> None:
        upto, epoch, walked = -1, "", 0.0
        loop = asyncio.get_running_loop()
        swept = loop.time()
        while True:
            try:
                if loop.time() - swept >= _SWEEP_SECONDS:
                    swept = loop.time()
                    await self.sweep()
                if not self._rules:
                    await asyncio.sleep(_SWEEP_SECONDS)
                    continue
                if upto >= 0 and epoch == self._server.epoch:
                    walk = loop.time() - walked >= _WALK_SECONDS
                    walked = loop.time() if walk else walked
                    if await self._enforce(upto, walk):
                        await self.forget()
                [state] = await self._link.exchange(("HMGET", self._server.keys[0], "epoch", "latest"))
                epoch, upto = (state[0] or b"").decode(), int(state[1] or 0)
            except LogUnavailable as error:
                upto = -1
                if not self._server.away and not isinstance(error, LinkLost):  # else it was logged there
                    self._outage.failed(error)
            except Exception as error:  # the outermost frame of a task: retention goes on
                upto = -1
                self._outage.failed(error)
            else:
                self._outage.ended()
            await asyncio.sleep(_SECONDS)
