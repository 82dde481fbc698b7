"""Following the log: a consumer of the whole stream, which starts again at the last good message whenever it has to.

The server sends what is there and then what comes, and numbers it; a number that is left out is one that was lost on
the way. It sends heartbeats when nothing comes; where they stop, the stream is looked at: it may be gone. Messages that
are left out of the stream itself were removed, by a drop or by retention; only the latter is a loss.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from newswire.errors import EpochChanged, LogError, LogUnavailable, TrimmedAway
from newswire.log.engine import PAGE_BYTES, Entry, OnEntries
from newswire.log.nats.link import STATUS, Msg
from newswire.log.nats.pages import place
from newswire.log.nats.stream import NatsStream
from newswire.log.nats.subjects import entry
from newswire.log.retry import Outage, Retry

logger: logging.Logger = logging.getLogger("newswire.log")

_HEARTBEAT: Final = 0.3  # seconds
_SILENCE: Final = 3 * _HEARTBEAT  # then the stream is looked at
_MOST: Final = 1000  # entries that are given together


class _Again(Exception):
    """The consumer has to start again."""


class NatsTail:
    """One call of `Engine.tail`."""

    def __init__(self, stream: NatsStream, after: int, epoch: str, on_entries: OnEntries) -> None:
        self._stream = stream
        self._epoch = epoch
        self._at = max(after, 0)  # up to here all was given …
        self._next = self._at + 1  # … and the next message has this offset, unless it was removed
        self._on_entries = on_entries
        self._queue: deque[Msg | None] = deque()
        self._news = asyncio.Event()
        self._given = 0  # by the present consumer
        self._retry = Retry(0.01, 2.0)
        self._outage = Outage(f"the log on {stream} can't be followed", logger)

    async def run(self) -> None:
        """See `Engine.tail`."""
        stream = self._stream
        await stream.ready()
        stream.on_epoch.append(self._news.set)
        try:
            while True:
                try:
                    await stream.ready()
                    self._check_epoch()
                    await self._follow()
                except _Again:
                    pass
                except (EpochChanged, TrimmedAway):
                    raise
                except LogError as error:
                    if not isinstance(error, LogUnavailable):
                        self._outage.failed(error)
                    await asyncio.sleep(max(stream.wait(), self._retry.next()))
        finally:
            stream.on_epoch.remove(self._news.set)

    def _check_epoch(self) -> None:
        if self._stream.epoch != self._epoch:
            raise EpochChanged(self._stream.epoch)

    async def _follow(self) -> None:
        stream, link = self._stream, self._stream.link
        state = await stream.state()
        self._check_epoch()
        if self._at > state.last:
            self._next = state.last + 1  # what comes first is not for this tail
        elif state.floor >= self._next:
            raise TrimmedAway(state.floor)
        queue = self._queue = deque()
        self._given = 0
        news = self._news

        def take(message: Msg | None) -> None:
            queue.append(message)
            news.set()

        listener = await link.listen(take)
        path = ""
        try:
            made = await link.api(f"CONSUMER.CREATE.{stream.name}", self._consumer(listener.reply))
            path = f"{stream.name}.{made['name']}"
            await self._check_floor(self._next)
            self._outage.ended()
            self._retry.reset()
            await self._give()
        finally:
            await listener.close()
            if path and link.is_open:
                await link.send(f"$JS.API.CONSUMER.DELETE.{path}")

    def _consumer(self, deliver: str) -> dict[str, object]:
        return {
            "stream_name": self._stream.name,
            "config": {
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._next,
                "deliver_subject": deliver,
                "ack_policy": "none",
                "max_deliver": 1,
                "flow_control": True,
                "idle_heartbeat": int(_HEARTBEAT * 10**9),
                "mem_storage": True,
                "num_replicas": 1,
            },
        }

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        queue, news = self._queue, self._news
        heard = loop.time()
        timer: asyncio.TimerHandle | None = None

        def watch() -> None:
            nonlocal timer
            if loop.time() - heard > _SILENCE:
                queue.append(None)
                news.set()
            timer = loop.call_later(_HEARTBEAT, watch)

        watch()
        try:
            while True:
                await news.wait()
                news.clear()
                self._check_epoch()
                heard = loop.time()
                while queue:
                    await self._give_some(queue)
                    if queue:
                        await asyncio.sleep(0)
        finally:
            if timer is not None:
                timer.cancel()

    async def _give_some(self, queue: deque[Msg | None]) -> None:
        entries: list[Entry] = []
        size = 0

        def give() -> None:
            self._hand_over(entries)

        try:
            while queue and len(entries) < _MOST and size < PAGE_BYTES:
                message = queue.popleft()
                if message is None:
                    give()
                    await self._stream.look_again()
                    raise _Again
                if message.headers and STATUS in message.headers and not message.data:
                    await self._control(message)
                    continue
                offset, number, time = place(message.reply)
                if number != self._given + 1:
                    raise _Again  # something was lost on the way
                if offset != self._next:
                    give()
                    await self._check_floor(self._next, offset)
                self._given, self._next = number, offset + 1
                channel = self._stream.subjects.channel(message.subject)
                if channel is not None:
                    if offset > self._at:
                        entries.append(entry(offset, channel, message.headers, message.data, time))
                        size += len(message.data)
                elif message.subject == self._stream.subjects.life and not self._stream.found_life(message.data):
                    give()
                    await self._stream.look_again()
                    raise _Again
        finally:
            give()

    def _hand_over(self, entries: list[Entry]) -> None:
        if entries:
            given, entries[:] = list(entries), []
            self._at = given[-1].offset
            self._on_entries(given, True)

    async def _control(self, message: Msg) -> None:
        headers = message.headers or {}
        if message.reply:
            await self._stream.link.send(message.reply)  # flow control: all before it was taken
            return
        stalled = headers.get("Nats-Consumer-Stalled")
        if stalled:
            await self._stream.link.send(stalled)
        last = headers.get("Nats-Last-Consumer")
        if headers.get(STATUS) == "100" and (last is None or int(last) == self._given):
            return
        raise _Again

    async def _check_floor(self, wanted: int, found: int | None = None) -> None:
        """See whether retention removed what was wanted."""
        state = await self._stream.state()
        self._check_epoch()
        lost = state.floor if found is None else min(state.floor, found - 1)
        if lost >= wanted:
            raise TrimmedAway(lost)
