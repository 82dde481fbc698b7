"""A copy of another log in a stream: its events have the offsets that they have there. See `Engine.restore`.

A stream gives its sequence by itself, so offsets that belong to no event are taken by messages that are removed again;
those before the first event cost nothing. What the other log lost is one number here, up to which readers are in doubt.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Final

from newswire.errors import LogError
from newswire.log.engine import Copied, Entry
from newswire.log.nats.link import refused
from newswire.log.nats.stream import Stream
from newswire.log.nats.subjects import EVENT, TIME, type_as_header

_MESSAGES: Final = 1000  # of an atomic batch
_BYTES: Final = 4 * 2**20


class Copies:
    """Writes what a copy needs."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        stream = self._stream
        await stream.apply()
        state = await stream.state()
        if not await stream.adopt(copied.lives, empty=state.last == 0):
            raise LogError(f"the log on {stream} has events of its own: copy into another namespace")
        last = state.last
        entries = [entry for entry in copied.entries if entry.offset > last]
        if last == 0:
            first = entries[0].offset if entries else copied.through + 1
            if first > 1:
                await stream.link.api(f"STREAM.PURGE.{stream.name}", {"seq": first})
                last = first - 1
        filled = False
        batch: list[Entry | None] = []
        size = 0
        for entry in _without_holes(entries, last, copied.through):
            if batch and (len(batch) == _MESSAGES or size > _BYTES):
                last = await self._store(batch, last)
                batch, size = [], 0
            batch.append(entry)
            filled = filled or entry is None
            size += 0 if entry is None else len(entry.data)
        if batch:
            await self._store(batch, last)
        if filled:
            await stream.link.api(f"STREAM.PURGE.{stream.name}", {"filter": stream.subjects.hole})
        if copied.losses is not None:
            lost = [*copied.losses.channels.values(), *copied.losses.shapes.values()]
            await stream.note(doubt=max(lost, default=0))

    async def _store(self, batch: list[Entry | None], last: int) -> int:
        """Store entries, None for a hole, behind an offset. Returns the offset of the last."""
        stream = self._stream
        id = secrets.token_hex(16)
        for number, entry in enumerate(batch, 1):
            headers = {"Nats-Batch-Id": id, "Nats-Batch-Sequence": str(number)} if len(batch) > 1 else {}
            if number == 1:
                headers["Nats-Expected-Last-Sequence"] = str(last)
            if entry is not None:
                headers[TIME] = repr(entry.time)
                if entry.event != "message":
                    headers[EVENT] = type_as_header(entry.event)
            subject = stream.subjects.hole if entry is None else stream.subjects.of(entry.channel)
            data = b"" if entry is None else entry.data.encode()
            if number < len(batch):
                await stream.link.send(subject, data, "", headers)
        if len(batch) > 1:
            headers["Nats-Batch-Commit"] = "1"
        answer = json.loads((await stream.link.ask(subject, data, headers)).data)
        refused(answer)
        return int(answer["seq"])


def _without_holes(entries: list[Entry], last: int, through: int) -> Iterator[Entry | None]:
    for entry in entries:
        for _ in range(last + 1, entry.offset):
            yield None
        last = entry.offset
        yield entry
    for _ in range(last, through):
        yield None
