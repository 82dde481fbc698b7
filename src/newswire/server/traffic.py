"""Which channels have had events, for the console: counted by a subscriber of everything, in process.

It takes chunks like any connection does but only counts, some microseconds an event. A hub counts events as a whole and
subscribers by channel; events by channel are nobody's business but this one's.
"""

from __future__ import annotations

import heapq
import logging
import time
from dataclasses import dataclass
from typing import Final

from newswire.errors import Closed, NewswireError
from newswire.hub.frames import Chunk
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels, Pattern

logger = logging.getLogger("newswire.server")

_KEPT: Final = 5_000  # channels; past this the half that was silent the longest is forgotten
_REMEMBERED: Final = 1_000  # events of the log that are looked at when the server starts, for their channels' names
_EVERYTHING: Final = Pattern(">")
_COUNTING: Final = StreamOptions(heartbeat=None, retry=None, write_timeout=None)


@dataclass(slots=True)
class Traffic:
    """A channel's events since the server started.

    Attributes:
        events: how many.
        last: when the newest came, in seconds since the Unix epoch; perhaps before the server started.
    """

    events: int
    last: float


class TrafficCounter:
    """Counts events by channel. A sink of the hub's.

    Attributes:
        subscribers: 1 while it counts: what it adds to the hub's own number.
        delivered: events that it was given: what it adds to the hub's own number.
    """

    def __init__(self, hub: Hub) -> None:
        self.delivered = 0
        self._hub = hub
        self._channels: dict[str, Traffic] = {}
        self._subscription: Subscription | None = None

    @property
    def subscribers(self) -> int:
        return 0 if self._subscription is None else 1

    async def start(self) -> None:
        """Look at the newest events of the log, then count what comes."""
        subscription = self._hub.subscribe(_EVERYTHING)
        position = await subscription.open()
        page = await self._hub.log.read(
            Channels([_EVERYTHING]), max(0, position.offset - _REMEMBERED), limit=_REMEMBERED
        )
        for entry in page.entries:
            self._channels[entry.channel] = Traffic(0, entry.time)
        self._subscription = subscription
        subscription.attach(self, _COUNTING)

    def busiest(self, limit: int) -> dict[str, Traffic]:
        """The channels that had an event most recently, newest first."""
        newest = heapq.nlargest(limit, self._channels.items(), key=lambda item: item[1].last)
        return dict(newest)

    def __len__(self) -> int:
        return len(self._channels)

    # -- the sink

    def write(self, chunk: Chunk) -> bool:
        channels = self._channels
        now = time.time()
        self.delivered += len(chunk.frames)
        for frame in chunk.frames:
            name = frame.channel
            if not name:
                continue  # a gap: the hub's, not a channel's
            traffic = channels.get(name)
            if traffic is None:
                if len(channels) >= _KEPT:
                    self._channels = channels = self.busiest(_KEPT // 2)
                channels[name] = Traffic(1, now)
            else:
                traffic.events += 1
                traffic.last = now
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
