"""Drops: the events of channels up to an offset go, and readers of what is left hear of it.

The stream itself knows only its first message, the floor: what lies before may have been removed by retention, from any
channel, and a reader from before it is in doubt. A drop that removes the first messages moves the floor as well, and
that must put no one in doubt: then a message tells the floor as it was. It is stored only if nothing else can have
removed a message in between: the numbers of messages before and after agree.

A channel of which something is left gets a mark, a message with the offset up to which it was dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from newswire.log.nats.pages import NatsPages
from newswire.log.nats.stream import NatsStream

_AT_ONCE: Final = 50  # channels
_ROLLUP: Final = {"Nats-Rollup": "sub"}  # the messages of this subject that came before are removed


class Drops:
    """Removes what is dropped."""

    def __init__(self, stream: NatsStream, pages: NatsPages) -> None:
        self._stream = stream
        self._pages = pages

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Engine.drop`."""
        await self._stream.settle()
        names = [name for name, cut in cuts.items() if cut > 0]
        removed = 0
        for begin in range(0, len(names), _AT_ONCE):
            some = names[begin : begin + _AT_ONCE]
            removed += await self._drop(some, cuts)
        return removed

    async def _drop(self, names: Sequence[str], cuts: Mapping[str, int]) -> int:
        stream, pages = self._stream, self._pages
        found = await pages.newest(names)
        subjects = stream.subjects
        there = [(name, entry.offset) for name, entry in zip(names, found, strict=True) if entry is not None]
        marked = (await stream.state(subjects.marks)).marks
        for name, newest in there:
            if newest > cuts[name]:
                await self._mark(subjects.mark(name), cuts[name], subjects.mark(name) in marked)
        before = await stream.state()
        floor = await pages.floor(before)
        gone = await asyncio.gather(*[self._purge(subjects.of(name), cuts[name]) for name, _ in there])
        whole = [subjects.mark(name) for name, newest in there if newest <= cuts[name]]
        others = await asyncio.gather(*[self._purge(subject) for subject in whole if subject in marked])
        after = await stream.state()
        removed = sum(gone)
        expected = before.messages + after.last - before.last - removed - sum(others)
        if after.floor > before.floor and after.messages == expected and floor < after.floor:
            await self._store(subjects.floor, f"{after.floor} {floor}")
        return removed

    async def _mark(self, subject: str, cut: int, known: bool) -> None:
        if not known or int(await self._pages.text(subject) or 0) < cut:
            await self._store(subject, str(cut))

    async def _store(self, subject: str, text: str) -> None:
        await self._stream.link.ask(subject, text.encode(), _ROLLUP)

    async def _purge(self, subject: str, cut: int | None = None) -> int:
        body: dict[str, Any] = {"filter": subject}
        if cut is not None:
            body["seq"] = cut + 1
        answer = await self._stream.link.api(f"STREAM.PURGE.{self._stream.name}", body)
        return int(answer["purged"])
