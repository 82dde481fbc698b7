"""Which channels have how many events, for the console: counted by channel and by second, by a subscriber of all.

It takes chunks like any connection does but only counts, some microseconds an event. What the log has kept from before
is counted page by page, while the server serves already; and again now and then while somebody looks, because retention
takes events away. Channels that begin with `$` are not counted: they belong to what is built upon the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from newswire.errors import Closed, NewswireError
from newswire.hub.frames import Chunk, Frame
from newswire.hub.hub import Hub
from newswire.hub.options import IN_PROCESS
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels, Pattern

logger: logging.Logger = logging.getLogger("newswire.server")

_KEPT: Final = 5_000  # channels; past this the half that was silent the longest is forgotten
_AT_ONCE: Final = 1_000  # the newest kept events, counted before the server serves; also a page of the others
_MOST: Final = 100_000  # kept events that are counted at most, the newest
_REST: Final = 5.0  # seconds between two counts at least …
_SHARE: Final = 50  # … and so many times what the last one took
_SECONDS: Final = 130  # how long the number of events in each second is kept
_EVERYTHING: Final = Pattern(">")


@dataclass(slots=True)
class Activity:
    """What came to a channel.

    Attributes:
        events: how many the log kept when it was last counted, and those that came since.
        removed: how many of those counted before are no longer kept; with `events`, a number that only grows.
        last: when the newest was published, in seconds since the Unix epoch.
    """

    events: int = 0
    removed: int = 0
    last: float = 0.0


class ActivityCounter:
    """Counts events by channel and by second. A sink of the hub's.

    Attributes:
        subscribers: 1 while it counts: what it adds to the hub's own number.
        delivered: events that it was given: what it adds to the hub's own number.
        complete: whether every event that the log keeps has been counted.
    """

    wire = False

    def __init__(self, hub: Hub) -> None:
        self.delivered: int = 0
        self.complete: bool = False
        self._hub = hub
        self._channels: dict[str, Activity] = {}
        self._seconds: deque[list[int]] = deque(maxlen=_SECONDS)  # [second, events] in order, no empty ones
        self._newest = [0, 0]  # the last of them
        self._epoch = ""  # of the log that was counted
        self._offset = 0  # of the newest event that was counted
        self._subscription: Subscription | None = None
        self._counting: asyncio.Task[None] | None = None
        self._before: int | None = None  # kept events that were not delivered to this; None before they were counted
        self._due = 0.0  # when to count again, by the monotonic clock

    @property
    def subscribers(self) -> int:
        return 0 if self._subscription is None else 1

    async def start(self) -> None:
        """Count the newest events of the log, then what comes, and beside it what is older.

        Where the log can't be read it counts nothing: the console is no reason not to serve.
        """
        subscription = self._hub.subscribe(_EVERYTHING)
        try:
            position = await subscription.open()
            self._epoch, self._offset = position.epoch, position.offset
            self._channels, seconds = await self._count(max(0, self._offset - _AT_ONCE), self._offset)
        except (NewswireError, Closed) as error:
            logger.warning("the console will not show channels: %s", error)
            return
        self._remember(seconds)
        self._subscription = subscription
        subscription.attach(self, IN_PROCESS)
        self.look_again()

    async def close(self) -> None:
        """Stop counting what is kept."""
        if self._counting is not None:
            self._counting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._counting

    def look_again(self) -> None:
        """Count what the log keeps, beside everything else, if it is time to."""
        if self._subscription is not None and time.monotonic() >= self._due:
            self._due = math.inf
            self._counting = asyncio.create_task(self._count_kept(), name="newswire counts what is kept")

    async def _count_kept(self) -> None:
        began, epoch = time.monotonic(), self._epoch
        try:
            through, delivered = self._offset, self.delivered
            before = {name: activity.events for name, activity in self._channels.items()}
            earliest = (await self._hub.log.span()).earliest
            after = max(earliest, through - _MOST)
            found, seconds = await self._count(after, through)
            if epoch != self._epoch:
                return  # of a log that is no more
            self._before = sum(kept.events for kept in found.values()) - delivered
            self._settle(found, before)
            if not self.complete:  # the first time: from now on the seconds are known
                for second, events in self._seconds:
                    seconds[second] = max(events, seconds.get(second, 0))
                self._remember(seconds)
            self.complete = after == earliest
        except (NewswireError, Closed) as error:
            logger.warning("the console can't count what the log keeps: %s", error)
        finally:
            if epoch == self._epoch:
                spent = time.monotonic() - began
                self._due = time.monotonic() + max(_REST, _SHARE * spent)

    def _start_over(self, gap: Frame) -> None:
        """Begin from nothing: another log, or a copy of an earlier time, has taken the place of the hub's log."""
        self._epoch, self._offset = gap.epoch, gap.offset
        self._channels = {}
        self._before, self.complete, self._due = None, False, 0.0
        if self._counting is not None:
            self._counting.cancel()
        self.look_again()

    def _settle(self, found: dict[str, Activity], before: dict[str, int]) -> None:
        """Take what was found in the log, and what came while it was counted."""
        for name in islice(reversed(found), _KEPT // 2):
            if name not in self._channels:
                before.pop(name, None)
            activity = self._activity(name)
            activity.last = max(activity.last, found[name].last)
        for name, activity in list(self._channels.items()):
            known = before.get(name, 0)
            kept_now = found[name].events if name in found else 0
            activity.removed += max(0, known - kept_now)
            activity.events += kept_now - known
            if not activity.events:
                del self._channels[name]

    async def _count(self, after: int, through: int) -> tuple[dict[str, Activity], dict[int, int]]:
        """The kept events of (after, through], by channel (the newest channel last) and by second."""
        channels: dict[str, Activity] = {}
        seconds: dict[int, int] = {}
        everything = Channels([_EVERYTHING])
        while after < through:
            page = await self._hub.log.read(everything, after, _AT_ONCE, epoch=self._epoch)
            for entry in page.entries:
                if entry.offset <= through:
                    activity = channels.pop(entry.channel, None)
                    if activity is None:
                        activity = Activity()
                    channels[entry.channel] = activity
                    activity.events += 1
                    activity.last = max(activity.last, entry.time)
                    second = int(entry.time)
                    seconds[second] = seconds.get(second, 0) + 1
            after = page.through
            await asyncio.sleep(0)
        return channels, seconds

    def _remember(self, seconds: dict[int, int]) -> None:
        self._seconds = deque(([second, events] for second, events in sorted(seconds.items())), maxlen=_SECONDS)
        self._newest = self._seconds[-1] if self._seconds else [0, 0]

    def _activity(self, name: str) -> Activity:
        activity = self._channels.get(name)
        if activity is None:
            if len(self._channels) >= _KEPT:
                self._channels = self.busiest(_KEPT // 2)
            activity = self._channels[name] = Activity()
        return activity

    def busiest(self, limit: int) -> dict[str, Activity]:
        """The channels that had an event most recently, newest first."""
        newest = heapq.nlargest(limit, self._channels.items(), key=lambda item: item[1].last)
        return dict(newest)

    def names(self) -> list[str]:
        """The channels that it knows."""
        return list(self._channels)

    def of(self, names: Iterable[str]) -> dict[str, Activity]:
        """What came to these channels, as far as it knows them."""
        return {name: self._channels[name] for name in names if name in self._channels}

    @property
    def kept(self) -> int | None:
        """How many events the log keeps; None if that was not counted, or there are too many to."""
        return None if self._before is None or not self.complete else self._before + self.delivered

    def recent(self) -> list[list[int]]:
        """Pairs of a second (since the Unix epoch) and the number of its events, for the last two minutes."""
        since = time.time() - _SECONDS
        return [pair for pair in self._seconds if pair[0] >= since]

    def __len__(self) -> int:
        return len(self._channels)

    # -- the sink

    def write(self, chunk: Chunk) -> bool:
        frames = chunk.frames
        channels = self._channels
        self.delivered += len(frames)
        events = 0
        published = 0.0
        for frame in frames:
            name = frame.channel
            if not name:  # a gap: the hub's, not a channel's
                if frame.epoch != self._epoch:
                    self._start_over(frame)
                    channels = self._channels
                continue
            activity = channels.get(name)
            if activity is None:
                activity = self._activity(name)
                channels = self._channels
            activity.events += 1
            activity.last = published = frame.time
            events += 1
        if events:
            newest = self._newest
            self._offset = frames[-1].offset
            if published < newest[0] + 1:
                newest[1] += events
            else:
                self._newest = [int(published), events]
                self._seconds.append(self._newest)
        return True

    def end(self, last: Chunk | None) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.ended()

    def cut(self) -> None:
        self._subscription = None
