"""Pages of the log: the events of a set of channels after an offset, and what those channels lost.

Some channels are read by their lists of offsets; a pattern that matches many, by looking at the log from the offset on,
a bounded part of it at a time. What was lost is read together with the rows, in one script: so a reader sees either an
event or that it was lost, also if it was removed since an earlier step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from newswire.errors import LogUnavailable
from newswire.log.channels import Channels
from newswire.log.engine import PAGE_BYTES, Entry, Page, Span
from newswire.log.forgotten import Forgotten
from newswire.log.redis.link import RedisLink, RedisServer
from newswire.log.redis.scripts import CHANNEL, KEYS, NEWEST, PAGE, SCAN, STATE, Script
from newswire.log.redis.tail import as_entry

_MOST: Final = 4096  # entries of a page
_FEW: Final = 200  # channels that one script looks at: less than a millisecond
_LOOKED_AT: Final = 2000  # events that one script looks at: some milliseconds …
_SCANS: Final = 8  # … and how often for one page
_SPECIAL: Final = re.compile(r"([^\w])", re.ASCII)


class RedisPages:
    """Reads.

    Args:
        link: for reading.
    """

    def __init__(self, server: RedisServer, link: RedisLink) -> None:
        self._server = server
        self._link = link
        self._forgotten = (b"", b""), Forgotten()  # and the epoch and number of what it is

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Engine.read`."""
        after, limit = max(after, 0), min(limit, _MOST)
        if not channels.patterns:
            return await self._by_name(sorted(channels.names), after, limit)
        return await self._by_scan(channels, after, limit)

    async def span(self) -> Span:
        """See `Engine.span`."""
        epoch, latest, earliest = await self._ask(STATE, ())
        return Span(epoch.decode(), int(earliest), int(latest), self._server.lives)

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Engine.newest`."""
        found: list[Entry | None] = []
        for begin in range(0, len(channels), _FEW):
            keys = [CHANNEL + name for name in channels[begin : begin + _FEW]]
            _, *answer = await self._ask(NEWEST, keys)
            found += [as_entry(pair) if pair[0] else None for pair in zip(answer[::2], answer[1::2], strict=True)]
        return found

    async def next(self, after: int) -> tuple[list[Entry], int]:
        """The next entries of all channels, and the newest offset."""
        arguments = (after, _MOST // 4, PAGE_BYTES, _LOOKED_AT, "*")
        answer = await self._ask(SCAN, (), *arguments)
        return _entries(answer), int(answer[2])

    async def scan(self, after: int, limit: int) -> Page:
        """See `Engine.scan`."""
        answer = await self._ask(SCAN, (), after, min(limit, _MOST // 4), PAGE_BYTES, _LOOKED_AT, "*")
        return Page(_entries(answer), int(answer[3]), 0, epoch=answer[0].decode())

    async def _by_name(self, names: Sequence[str], after: int, limit: int) -> Page:
        if len(names) <= _FEW:
            return await self._as_page(await self._page(names, after, limit, 0, "both"))
        upto, epoch = 0, b""
        offsets: list[int] = []
        for begin in range(0, len(names), _FEW):
            answer = await self._page(names[begin : begin + _FEW], after, limit, upto, "seek")
            upto, epoch = upto or int(answer[2]), epoch or answer[0]
            if upto <= after:
                break
            offsets = list(islice(merge(offsets, map(int, answer[6:])), limit))
        answer = await self._page(names, after, limit, upto, "rows", *offsets)
        if answer[0] != epoch:  # what was found belongs to another life
            return await self._by_name(names, after, limit)
        return await self._as_page(answer)

    async def _by_scan(self, channels: Channels, after: int, limit: int) -> Page:
        patterns = [_lua(pattern) for pattern in channels.patterns]
        at, lost, epoch = after, 0, b""
        for _ in range(_SCANS):
            answer = await self._ask(
                SCAN, (), at, limit, PAGE_BYTES, _LOOKED_AT, len(patterns), *patterns, *channels.names
            )
            if epoch and answer[0] != epoch:
                return await self._by_scan(channels, after, limit)
            epoch, latest, at, lost = answer[0], int(answer[2]), int(answer[3]), max(lost, int(answer[4]))
            if len(answer) > 6 or at >= latest:
                break
        page = await self._as_page(answer)
        lost = max(lost, page.lost)
        doubt = page.doubt
        if answer[1] != b"0":
            of_forgotten, doubtful = self._forgotten[1].of_patterns(channels)
            lost, doubt = max(lost, of_forgotten), max(doubt, doubtful)
        return Page(page.entries, page.through, lost, doubt, epoch=page.epoch)

    async def _as_page(self, answer: Sequence[Any]) -> Page:
        doubt = 0
        if answer[1] != b"0":
            key = answer[0], answer[1]
            if self._forgotten[0] != key:
                [shapes] = await self._link.exchange(("HGETALL", self._server.keys[KEYS.index("shapes")]))
                found = {shape.decode(): int(lost) for shape, lost in zip(shapes[::2], shapes[1::2], strict=True)}
                self._forgotten = key, Forgotten(found)
            for name, born in zip(answer[5][::2], answer[5][1::2], strict=True):
                lost = self._forgotten[1].doubt(name.decode())
                doubt = max(doubt, min(lost, int(born)) if born else lost)
        return Page(_entries(answer), int(answer[3]), int(answer[4]), doubt, epoch=answer[0].decode())

    async def _page(self, names: Sequence[str], after: int, limit: int, upto: int, mode: str, *offsets: int) -> Any:
        keys = [CHANNEL + name for name in names]
        return await self._ask(PAGE, keys, after, limit, upto, PAGE_BYTES, mode, *offsets)

    async def _ask(self, script: Script, keys: Sequence[str], *arguments: str | int) -> Any:
        """Read; and again if the log turns out to have another epoch."""
        for _ in range(3):
            answer = await self._link.call(script, keys, *arguments)
            if answer[0].decode() == self._server.epoch:
                return answer
            await self._link.enter()
        raise LogUnavailable(f"the log on {self._server.name} begins one life after the other")


def _entries(answer: Sequence[Any]) -> list[Entry]:
    return [as_entry(pair) for pair in zip(answer[6::2], answer[7::2], strict=True)]


def _lua(pattern: str) -> str:
    """A channel pattern as one of Lua's."""
    wild = {"*": "[^.]+", ">": ".+"}
    parts = [wild.get(token) or _SPECIAL.sub(_escaped, token) for token in pattern.split(".")]
    return "^" + "%.".join(parts) + "$"


def _escaped(found: re.Match[str]) -> str:
    return "%" + found[0] if found[0].isascii() else found[0]
