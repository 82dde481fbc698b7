"""Which channels have how many events, for the console: counted by channel and by second, by a subscriber of all.

It takes chunks like any connection does but only counts, some microseconds an event. What the log has kept from before
is counted once, page by page, while the server serves already. Channels that begin with `$` are not counted: they
belong to what is built upon the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from newswire.errors import Closed, NewswireError
from newswire.hub.frames import Chunk
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.log.base import Entry
from newswire.log.channels import Channels, Pattern

logger = logging.getLogger("newswire.server")

_KEPT: Final = 5_000  # channels; past this the half that was silent the longest is forgotten
_AT_ONCE: Final = 1_000  # the newest kept events, counted before the server serves; also a page of the others
_OLDER: Final = 200_000  # kept events that are counted at most: half a second of the log's reader, a page at a time
_SECONDS: Final = 130  # of which the number of events is remembered
_EVERYTHING: Final = Pattern(">")
_COUNTING: Final = StreamOptions(heartbeat=None, retry=None, write_timeout=None)


@dataclass(slots=True)
class Traffic:
    """What came to a channel.

    Attributes:
        events: how many: those that the log kept when the server started, and those since.
        last: when the newest was published, in seconds since the Unix epoch.
    """

    events: int
    last: float


class TrafficCounter:
    """Counts events by channel and by second. A sink of the hub's.

    Attributes:
        subscribers: 1 while it counts: what it adds to the hub's own number.
        delivered: events that it was given: what it adds to the hub's own number.
        complete: whether every event that the log kept has been counted.
    """

    def __init__(self, hub: Hub) -> None:
        self.delivered = 0
        self.complete = False
        self._hub = hub
        self._channels: dict[str, Traffic] = {}
        self._seconds: deque[list[int]] = deque(maxlen=_SECONDS)  # [second, events] in order, no empty ones
        self._subscription: Subscription | None = None
        self._older: asyncio.Task[None] | None = None

    @property
    def subscribers(self) -> int:
        return 0 if self._subscription is None else 1

    async def start(self) -> None:
        """Count the newest events of the log, then what comes, and beside it what is older."""
        subscription = self._hub.subscribe(_EVERYTHING)
        position = await subscription.open()
        newest = max(0, position.offset - _AT_ONCE)
        seconds: dict[int, int] = {}
        await self._count(newest, position.offset, seconds)
        self._seconds.extend([second, events] for second, events in sorted(seconds.items()))
        self._subscription = subscription
        subscription.attach(self, _COUNTING)
        self._older = asyncio.create_task(self._count_older(newest), name="newswire counts what is kept")

    async def close(self) -> None:
        """Stop counting what is older."""
        if self._older is not None:
            self._older.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._older

    async def _count_older(self, through: int) -> None:
        try:
            earliest = (await self._hub.log.span()).earliest
            after = max(earliest, through - _OLDER)
            seconds: dict[int, int] = {}
            await self._count(after, through, seconds)
            known = {pair[0]: pair[1] for pair in self._seconds}
            for second, events in seconds.items():
                known[second] = known.get(second, 0) + events
            self._seconds = deque(([second, known[second]] for second in sorted(known)), maxlen=_SECONDS)
            self.complete = after == earliest
        except (NewswireError, Closed) as error:
            logger.warning("the console will not show how many events the channels had before: %s", error)

    async def _count(self, after: int, through: int, seconds: dict[int, int]) -> None:
        """Count the kept events of (after, through]."""
        everything = Channels([_EVERYTHING])
        while after < through:
            page = await self._hub.log.read(everything, after, limit=_AT_ONCE)
            for entry in page.entries:
                if entry.offset <= through:
                    self._kept(entry, seconds)
            after = page.through
            await asyncio.sleep(0)

    def _kept(self, entry: Entry, seconds: dict[int, int]) -> None:
        traffic = self._traffic(entry.channel)
        traffic.events += 1
        traffic.last = max(traffic.last, entry.time)
        second = int(entry.time)
        seconds[second] = seconds.get(second, 0) + 1

    def _traffic(self, name: str) -> Traffic:
        traffic = self._channels.get(name)
        if traffic is None:
            if len(self._channels) >= _KEPT:
                self._channels = self.busiest(_KEPT // 2)
            traffic = self._channels[name] = Traffic(0, 0.0)
        return traffic

    def busiest(self, limit: int) -> dict[str, Traffic]:
        """The channels that had an event most recently, newest first."""
        newest = heapq.nlargest(limit, self._channels.items(), key=lambda item: item[1].last)
        return dict(newest)

    def recent(self) -> list[list[int]]:
        """Pairs of a second (since the Unix epoch) and the number of its events, for the last two minutes."""
        since = time.time() - _SECONDS
        return [pair for pair in self._seconds if pair[0] >= since]

    def __len__(self) -> int:
        return len(self._channels)

    # -- the sink

    def write(self, chunk: Chunk) -> bool:
        self.delivered += len(chunk.frames)
        second = int(time.time())
        events = 0
        for frame in chunk.frames:
            if not frame.channel:
                continue  # a gap: the hub's, not a channel's
            events += 1
            traffic = self._channels.get(frame.channel) or self._traffic(frame.channel)
            traffic.events += 1
            traffic.last = frame.time
        if events:
            if self._seconds and self._seconds[-1][0] == second:
                self._seconds[-1][1] += events
            else:
                self._seconds.append([second, events])
        return True

    def end(self, last: Chunk | None) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.ended()

    def cut(self) -> None:
        self._subscription = None


async def count_traffic(hub: Hub) -> TrafficCounter:
    """Start a counter. Where the log can't be read now it counts nothing: the console is no reason not to serve."""
    counter = TrafficCounter(hub)
    try:
        await counter.start()
    except (NewswireError, Closed) as error:
        logger.warning("the console will not show channels: %s", error)
    return counter
