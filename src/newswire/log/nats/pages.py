"""Pages of the log: the events of a set of channels after an offset, and what those channels may have lost.

One channel, or pattern, is one direct get; a few are as many, merged; many channels are read by a consumer with as many
filters. What was removed is looked at after the events: a reader sees either an event, or that it may be gone.

A stream with replicas answers from any of them, which may not have the newest messages yet: so before a page says that
there is no more, it asks the leader for what a replica does not have.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from newswire.errors import LogUnavailable
from newswire.log.channels import Channels
from newswire.log.engine import PAGE_BYTES, Entry, Page, Span
from newswire.log.nats.link import STATUS, Msg, NatsRefused
from newswire.log.nats.stream import NO_MESSAGE, NatsStream, State
from newswire.log.nats.subjects import COUNT, Subjects, entry, nanoseconds

_MOST: Final = 4096  # entries of a page
_FEW: Final = 8  # channels that are read by as many requests
_FILTERS: Final = 1000  # channels that one consumer has
_SCANNED: Final = 1000  # messages that are looked at for a page, where that is the way
_SUBJECTS: Final = 500  # whose newest messages one request may ask for; a server takes 1,024
_ATTEMPTS: Final = 4

# Entries in order, and up to where they are all; None: up to the end of the log.
_Found = tuple[list[Entry], int | None]


class NatsPages:
    """Reads."""

    def __init__(self, stream: NatsStream) -> None:
        self._stream = stream
        self._number = 0

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Engine.read`."""
        stream = self._stream
        after, limit = max(after, 0), min(limit, _MOST)
        names = sorted(channels.names)
        wanted = [*sorted(channels.patterns), *names]
        mark = stream.subjects.mark(wanted[0]) if len(wanted) == 1 else ""
        for _ in range(_ATTEMPTS):
            await stream.ready()
            subjects, epoch, seen = stream.subjects, stream.epoch, stream.seen
            entries, end = await self._find(channels, names, after, limit)
            mark = subjects.mark(wanted[0]) if len(wanted) == 1 else subjects.marks
            state = await stream.state(mark)
            if stream.epoch != epoch:
                continue
            if end is None:
                end = max(after, seen, entries[-1].offset if entries else 0)
                if end == after and state.last > after:
                    continue  # there is more than was known
            lost = await self._dropped(channels, subjects, state)
            doubt = await self.floor(state) if after < state.floor else 0
            if after < stream.doubt:
                doubt = max(doubt, stream.doubt)
            return Page(entries, end, lost, doubt, epoch=epoch)
        raise LogUnavailable(f"the log on {stream} changes all the time")

    async def scan(self, after: int, limit: int) -> Page:
        """See `Engine.scan`."""
        stream = self._stream
        for _ in range(_ATTEMPTS):
            await stream.ready()
            epoch, seen = stream.epoch, stream.seen
            entries, end = await self._scan(None, after, min(limit, _MOST))
            state = await stream.state()
            if stream.epoch == epoch and (end is not None or seen >= state.last):
                return Page(entries, max(after, state.last) if end is None else end, 0, epoch=epoch)
        raise LogUnavailable(f"the log on {stream} changes all the time")

    async def span(self) -> Span:
        """See `Engine.span`."""
        stream = self._stream
        await stream.ready()
        state = await stream.state()
        return Span(stream.epoch, min(state.floor, state.last), state.last, stream.lives)

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Engine.newest`."""
        await self._stream.ready()
        of = self._stream.subjects.of
        found: dict[str, Entry] = {}
        for begin in range(0, len(channels), _SUBJECTS):
            some = [of(name) for name in channels[begin : begin + _SUBJECTS]]
            found |= {each.channel: each for each in await self._newest(some)}
        return [found.get(name) for name in channels]

    async def floor(self, state: State) -> int:
        """Up to where retention may have removed events: not, where it was only drops that removed them."""
        if state.floor == 0:
            return 0
        record = await self.text(self._stream.subjects.floor)
        at, _, real = record.partition(" ")
        return int(real) if at == str(state.floor) else state.floor

    async def text(self, subject: str) -> str:
        """The text of the newest message of a subject; empty if there is none."""
        message = await self._leaders({"last_by_subj": subject})
        return "" if message is None else base64.b64decode(message.get("data", "")).decode()

    async def count(self, offset: int) -> int | None:
        """How many events were stored together with that of an offset, the first of them; None: it is not there."""
        message = await self._leaders({"seq": offset})
        return None if message is None else int(_headers(message).get(COUNT, 1))

    # -- entries

    async def _find(self, channels: Channels, names: Sequence[str], after: int, limit: int) -> _Found:
        stream = self._stream
        if not stream.single and len(names) > _FEW:
            return await self._scan(channels, after, limit)
        of = stream.subjects.of
        tasks = [self._by_subject(of(pattern), after, limit) for pattern in channels.patterns]
        if len(names) <= _FEW:
            tasks += [self._by_subject(of(name), after, limit) for name in names]
        else:
            for begin in range(0, len(names), _FILTERS):
                tasks.append(self._by_consumer([of(name) for name in names[begin : begin + _FILTERS]], after, limit))
        if len(tasks) == 1:
            return await tasks[0]
        found = await asyncio.gather(*tasks)
        merged = sorted({each.offset: each for entries, _ in found for each in entries}.items())
        ends = [end for _, end in found if end is not None]
        end = min(ends) if ends else None
        entries = [each for offset, each in merged if end is None or offset <= end]
        if len(entries) > limit:
            entries = entries[:limit]
            end = entries[-1].offset
        return entries, end

    async def _by_subject(self, subject: str, after: int, limit: int) -> _Found:
        body = {"seq": after + 1, "batch": limit, "max_bytes": PAGE_BYTES, "next_by_subj": subject}
        entries, status = await self._direct(body)
        if entries and status.get("Nats-Num-Pending", "0") != "0":
            return entries, entries[-1].offset
        if self._stream.single or len(entries) == limit:
            return entries, None if self._stream.single else entries[-1].offset
        at = entries[-1].offset if entries else after
        more = await self._leaders({"seq": at + 1, "next_by_subj": subject})
        if more is None:
            return entries, None
        entries.append(self._of_leader(more))
        return entries, entries[-1].offset

    async def _by_consumer(self, subjects: Sequence[str], after: int, limit: int) -> _Found:
        stream = self._stream
        self._number += 1
        name = f"newswire-{id(self):x}-{self._number}"
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 5 * 10**9,
            "filter_subjects": subjects,
        }
        path = f"{stream.name}.{name}"
        made = await stream.link.api(f"CONSUMER.CREATE.{path}", {"stream_name": stream.name, "config": config})
        pending = int(made["num_pending"])
        messages: list[Msg] = []
        if pending:
            ask = json.dumps({"batch": limit, "no_wait": True, "max_bytes": PAGE_BYTES}).encode()
            count = min(limit, pending)
            messages, _ = await stream.link.collect(f"$JS.API.CONSUMER.MSG.NEXT.{path}", ask, count)
        await stream.link.send(f"$JS.API.CONSUMER.DELETE.{path}")
        entries = [found for message in messages if (found := of_consumer(message, stream.subjects)) is not None]
        if len(messages) < pending:
            return entries, entries[-1].offset if entries else after
        return entries, None

    async def _scan(self, channels: Channels | None, after: int, limit: int) -> _Found:
        """Look at all messages: the last one tells how far the replica was that answered."""
        body = {"seq": after + 1, "batch": _SCANNED, "max_bytes": PAGE_BYTES, "next_by_subj": self._stream.subjects.all}
        messages, _ = await self._messages(body)
        entries: list[Entry] = []
        for message in messages:
            found = self._of_direct(message)
            if found is not None and (channels is None or found.channel in channels):
                entries.append(found)
                if len(entries) == limit:
                    return entries, found.offset
        if messages:
            return entries, int(messages[-1].headers["Nats-Sequence"])  # type: ignore[index]
        more = await self._leaders({"seq": after + 1, "next_by_subj": self._stream.subjects.all})
        if more is None:
            return entries, None
        found = self._of_leader(more) if self._stream.subjects.channel(more["subject"]) else None
        wanted = found is not None and (channels is None or found.channel in channels)
        return [found] if found is not None and wanted else [], int(more["seq"])

    async def _newest(self, subjects: Sequence[str]) -> list[Entry]:
        if not self._stream.single:
            asked = [self._leaders({"last_by_subj": subject}) for subject in subjects]
            return [self._of_leader(found) for found in await asyncio.gather(*asked) if found is not None]
        entries: list[Entry] = []
        left = set(subjects)
        while left:
            more, status = await self._direct({"multi_last": sorted(left), "max_bytes": PAGE_BYTES})
            entries += more
            left -= {self._stream.subjects.of(each.channel) for each in more}
            if not more or status.get("Nats-Num-Pending", "0") == "0":
                break
        return entries

    async def _direct(self, body: Mapping[str, Any]) -> tuple[list[Entry], Mapping[str, str]]:
        messages, status = await self._messages(body)
        return [found for message in messages if (found := self._of_direct(message)) is not None], status

    async def _messages(self, body: Mapping[str, Any]) -> tuple[list[Msg], Mapping[str, str]]:
        stream = self._stream
        messages, status = await stream.link.collect(f"$JS.API.DIRECT.GET.{stream.name}", json.dumps(body).encode())
        if status.get(STATUS) not in ("204", "404"):
            raise LogUnavailable(f"the stream {stream} does not answer as it should: {dict(status)}")
        return messages, status

    def _of_direct(self, message: Msg) -> Entry | None:
        headers = message.headers or {}
        channel = self._stream.subjects.channel(headers["Nats-Subject"])
        if channel is None:
            return None
        time = nanoseconds(headers["Nats-Time-Stamp"])
        return entry(int(headers["Nats-Sequence"]), channel, headers, message.data, time)

    async def _leaders(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the leader of the stream has."""
        try:
            found = await self._stream.link.api(f"STREAM.MSG.GET.{self._stream.name}", body)
        except NatsRefused as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        message: dict[str, Any] = found["message"]
        return message

    def _of_leader(self, message: Mapping[str, Any]) -> Entry:
        channel = self._stream.subjects.channel(message["subject"]) or ""
        data = base64.b64decode(message.get("data", ""))
        return entry(int(message["seq"]), channel, _headers(message), data, nanoseconds(message["time"]))

    # -- what was lost

    async def _dropped(self, channels: Channels, subjects: Subjects, state: State) -> int:
        marked = sorted(subject for subject in state.marks if subjects.marked(subject) in channels)
        lost = 0
        if not self._stream.single:
            cuts = await asyncio.gather(*[self.text(subject) for subject in marked])
            return max((int(cut) for cut in cuts if cut), default=0)
        for begin in range(0, len(marked), _SUBJECTS):
            messages, _ = await self._messages({"multi_last": marked[begin : begin + _SUBJECTS]})
            lost = max(lost, *(int(message.data) for message in messages), 0)
        return lost


def _headers(message: Mapping[str, Any]) -> dict[str, str]:
    lines = base64.b64decode(message.get("hdrs", "")).decode().split("\r\n")[1:]
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def of_consumer(message: Msg, subjects: Subjects) -> Entry | None:
    """The event that a consumer was given; None if it is none."""
    channel = subjects.channel(message.subject)
    if channel is None:
        return None
    offset, _, time = place(message.reply)
    return entry(offset, channel, message.headers, message.data, time)


def place(reply: str) -> tuple[int, int, int]:
    """A message's offset, its number for the consumer, and its time, of the subject for its acknowledgement."""
    parts = reply.split(".")
    at = 5 if len(parts) == 9 else 7  # with a domain and an account in front
    return int(parts[at]), int(parts[at + 1]), int(parts[at + 2])
