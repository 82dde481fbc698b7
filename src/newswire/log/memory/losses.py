"""What the channels of a memory log lost: by name, and for a pattern without looking at all of them each time.

Channels stand in the order in which they lost something last, so a pattern that was looked up before looks only at
those that lost something since. The first time it looks at all, in slices, between which the event loop goes on. Of
channels without events a bounded number is remembered; of the others, their shapes are (`newswire.log.forgotten`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from newswire.log.channels import Channels
from newswire.log.forgotten import Forgotten

# Channels without events that are remembered for what they lost; of others, their shapes are (`Forgotten`).
_EMPTY_KEPT: Final = 10_000
_FORGOTTEN_AT_ONCE: Final = 16  # one part in so many of them
_MATCHES_KEPT: Final = 32  # channel sets with patterns whose losses are remembered
_SLICE: Final = 2000  # names looked at in one go: some milliseconds


class _Match:
    """The newest loss of the channels that a set with patterns matches.

    Attributes:
        lost: its offset.
        channel: whose it is.
        seen: how many losses, of any channels, were looked at.
    """

    __slots__ = ("channel", "lost", "seen")

    def __init__(self) -> None:
        self.lost = 0
        self.channel = ""
        self.seen = 0


class LostChannels:
    """The newest offset that each channel lost.

    Attributes:
        lost: channels with events that lost some, and the newest of those; in the order of the last losses.
        empty: channels without events that lost some, and the newest; in the order in which they lost their last.
        forgotten: what is known of channels in no order any more.
    """

    def __init__(self) -> None:
        self.forgotten: Forgotten = Forgotten()
        self._since: int | None = None  # the offset of the newest event when the first was forgotten
        self.lost: dict[str, int] = {}  # a channel stands in one of the two
        self.empty: dict[str, int] = {}
        self._count = 0  # of losses so far
        self._last = ""  # the channel that was added to `lost` last
        self._matches: OrderedDict[Channels, _Match] = OrderedDict()

    def of(self, channel: str) -> int:
        """The newest offset that a channel lost; 0 if none, or if it was forgotten."""
        return self.lost.get(channel) or self.empty.get(channel, 0)

    def add(self, channel: str, offset: int) -> None:
        """A channel has lost an event, and has others."""
        self._count += 1
        lost = self.lost
        before = lost.get(channel, 0) if channel == self._last else lost.pop(channel, 0)  # the last has its place
        lost[channel] = max(before, offset)
        self._last = channel

    def add_last(self, channels: Iterable[tuple[str, int]], latest: int) -> None:
        """Channels have lost their last events, at these offsets; `latest` is that of the log's newest event."""
        lost, empty = self.lost, self.empty
        before = len(empty)
        for channel, offset in channels:
            empty[channel] = max(lost.pop(channel), offset) if channel in lost else offset
        self._count += len(empty) - before
        if len(empty) > _EMPTY_KEPT + _EMPTY_KEPT // _FORGOTTEN_AT_ONCE:
            oldest = list(islice(empty.items(), len(empty) - _EMPTY_KEPT))
            self.forgotten.add(oldest)
            for channel, _ in oldest:
                del empty[channel]
            if self._since is None:
                self._since = latest

    def filled(self, channel: str) -> None:
        """A channel in `empty` has an event again."""
        self.add(channel, self.empty.pop(channel))  # to the end of the other order

    def drop(self, channel: str) -> None:
        """A channel is as if it had never been."""
        if self.empty.pop(channel, 0) or self.lost.pop(channel, 0):
            for channels in [each for each, match in self._matches.items() if match.channel == channel]:
                del self._matches[channels]

    def restore(self, shapes: Mapping[str, int]) -> None:
        """What was forgotten in a log that this one is a copy of."""
        if shapes:
            own = self.forgotten.shapes
            self.forgotten = Forgotten(own | {name: max(lost, own.get(name, 0)) for name, lost in shapes.items()})
            self._since = 0  # which channels were there before is not known here

    def doubt(self, channel: str, born: int | None) -> int:
        """`Page.doubt` of a channel: one whose first event came after offset `born`, or one without events (None)."""
        if self._since is None or self.of(channel) or (born is not None and born < self._since):
            return 0  # none was forgotten, or what this one lost last is known, or it was there before
        doubt = self.forgotten.doubt(channel)
        return doubt if born is None else min(doubt, born)

    async def of_patterns(self, channels: Channels) -> tuple[int, int]:
        """`Page.lost` and `Page.doubt` of a set with patterns, as they are when this returns."""
        while True:
            match = self._matches.setdefault(channels, _Match())
            self._matches.move_to_end(channels)
            if len(self._matches) > _MATCHES_KEPT:
                self._matches.popitem(last=False)
            fresh = self._recent(match.seen)
            count = self._count
            for begin in range(0, len(fresh), _SLICE):
                if begin:
                    await asyncio.sleep(0)
                for name in fresh[begin : begin + _SLICE]:
                    lost = self.of(name)
                    if lost > match.lost and name in channels:
                        match.lost, match.channel = lost, name
            match.seen = max(match.seen, count)
            if self._matches.get(channels) is match and count == self._count:
                lost, doubt = self.forgotten.of_patterns(channels)
                return max(lost, match.lost), doubt

    def _recent(self, seen: int) -> list[str]:
        """The channels that lost something after the first `seen` losses, or more than those."""
        count = self._count - seen
        if count > _SLICE:
            return [*self.lost, *self.empty]
        return [*islice(reversed(self.lost), count), *islice(reversed(self.empty), count)]
