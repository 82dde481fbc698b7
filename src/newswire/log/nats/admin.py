"""What `newswire log info` and `newswire log copy` need of a stream: above all, what of it survives.

A copy of another log has its events at the offsets that they have there; see `Engine.restore`. A stream gives its
sequence by itself, so offsets that belong to no event are taken by messages that are removed again; those before the
first event cost nothing. What the other log lost is one number here, up to which readers are in doubt.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final

from newswire.counted import counted
from newswire.errors import LogError
from newswire.log.engine import Copied, Entry, Info, Losses
from newswire.log.forgotten import UNKNOWN
from newswire.log.nats.link import refused
from newswire.log.nats.pages import NatsPages
from newswire.log.nats.stream import NS, NatsStream
from newswire.log.nats.subjects import EVENT, TIME, type_as_header


def _risks(config: Mapping[str, Any], replicas: int) -> list[str]:
    risks = []
    if config.get("storage") == "memory":
        risks.append("the stream is in memory: every event is gone when its servers end")
    most = config.get("max_msgs_per_subject", -1)
    if most > 0:
        risks.append(
            f"the stream keeps {counted(most, 'event')} of each channel, and readers that are behind don't hear what "
            "they missed: max_msgs_per_subject has to be -1, and the next process that publishes sets it so"
        )
    risks.append(
        "a power cut, or a crash of the machine, can take what was acknowledged in the last two minutes, unless the "
        "server has sync_interval: always in its jetstream block"
    )
    if replicas == 1:
        risks.append("one server has the events: with its disk they are gone. Use replicas=3 in a cluster")
    return risks


def _retention(config: Mapping[str, Any]) -> str:
    """The limits of the stream, in words."""
    limits = {
        "max_age": (config.get("max_age") or 0) / NS,
        "max_events": config.get("max_msgs", -1),
        "max_bytes": config.get("max_bytes", -1),
    }
    kept = ", ".join(f"{name}={value:g}" for name, value in limits.items() if value > 0)
    return f"of all channels together: {kept}" if kept else ""


_MESSAGES: Final = 1000  # of an atomic batch
_BYTES: Final = 4 * 2**20


class NatsAdmin:
    """Says what survives, and reads and writes what a copy needs."""

    def __init__(self, stream: NatsStream, pages: NatsPages) -> None:
        self._stream = stream
        self._pages = pages

    async def info(self) -> Info:
        """See `Engine.info`."""
        stream = self._stream
        found = await stream.look()
        config, state = found["config"], found["state"]
        replicas = int(config.get("num_replicas", 1))
        version = str((config.get("metadata") or {}).get("_nats.ver", ""))
        return Info(
            storage=f"NATS JetStream {stream.link.version or version}, stream {stream.name}",
            settings={
                "storage": str(config.get("storage", "file")),
                "replicas": str(replicas),
                "sync_interval": "unknown (a server tells it to its operators only); 2m unless it is set",
                "duplicate_window": f"{config.get('duplicate_window', 0) // NS} s",
            },
            risks=_risks(config, replicas),
            retention=_retention(config),
            events=int(state["messages"]),
            size=int(state["bytes"]),
        )

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        stream, pages = self._stream, self._pages
        await stream.ready()
        state = await stream.state(stream.subjects.marks)
        marked = sorted(state.marks)
        cuts = await asyncio.gather(*[pages.text(subject) for subject in marked])
        channels = {stream.subjects.marked(name): int(cut) for name, cut in zip(marked, cuts, strict=True) if cut}
        doubt = max(await pages.floor(state), stream.doubt)
        return Losses(channels, {UNKNOWN: doubt} if doubt else {})

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        stream = self._stream
        await stream.apply(copying=True)
        state = await stream.state()
        copied.check_end(stream, state.last)
        if not await stream.adopt(copied.lives, state.last):
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
