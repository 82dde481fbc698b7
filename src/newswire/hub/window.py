"""The window: the newest frames of the log, in memory, bounded in bytes.

A cursor inside the window is served from it; an older one reads pages from the log until it gets here. The hub's one
follower appends; everyone else only reads. Frames are found by channel too, so that finding what a subscriber is due
costs what it gets, not what the window holds: a channel of several frames has a ring of its own. A channel of one frame
has that alone, since each of a million users may have one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from newswire.hub.frames import Frame
from newswire.log.channels import Channels

# What a frame costs beyond its data: the entry, its two strings' headers, list slots and one encoded copy.
_FRAME_OVERHEAD: Final = 500
# A scan for patterns looks at so many frames at once, then lets others have their turn.
SCAN_LIMIT: Final = 2048
# Room is made for so many bytes at once, one or two usual frames: more would be a long wait for one publish in a
# hundred. In a small window, for one part of so many.
_ROOM: Final = 1024
_ROOM_PART: Final = 256
_offset = attrgetter("offset")


class Due(NamedTuple):
    """What a cursor is due.

    Attributes:
        frames: in log order; may be empty.
        through: where the cursor is after taking them.
        lost: the offset of the newest event after the cursor that is missing; 0 if none is.
        certain: False: the log can't know whether something is missing.
    """

    frames: list[Frame]
    through: int
    lost: int = 0
    certain: bool = True


class _Ring:
    """Frames in log order; cheap to append to, to drop from the front and to search."""

    __slots__ = ("frames", "start")

    def __init__(self, *frames: Frame) -> None:
        self.frames = list(frames)
        self.start = 0

    def drop_first(self) -> bool:
        """Drop the first frame. Returns whether it was the last."""
        start, frames = self.start, self.frames
        frames[start] = None  # type: ignore[call-overload]  # freed now, cut off below
        self.start = start + 1
        is_last = start + 1 == len(frames)
        if start > 64:
            self.cut_off()
        return is_last

    def cut_off(self) -> None:
        """Let go of the places of what was dropped. Moving half at a time keeps this O(1)."""
        if self.start > 64 and self.start * 2 > len(self.frames):
            del self.frames[: self.start]
            self.start = 0

    def __len__(self) -> int:
        return len(self.frames) - self.start

    def after(self, offset: int) -> int:
        """The index of the first frame after `offset`."""
        return bisect_right(self.frames, offset, self.start, key=_offset)


class Window:
    """The newest frames.

    Attributes:
        floor: the offset after which the window has everything.
        head: the offset of the newest event known, `floor` if the window is empty.
        bytes: what the frames cost, roughly.
    """

    __slots__ = ("_all", "_channels", "_limit", "bytes", "floor", "head")

    def __init__(self, max_bytes: int, *, start: int) -> None:
        self._limit = max_bytes
        self._all = _Ring()
        self._channels: dict[str, Frame | _Ring] = {}
        self.floor: int = start
        self.head: int = start
        self.bytes: int = 0

    def append(self, frame: Frame) -> None:
        """Take the next frame of the log; the oldest make room."""
        self._all.frames.append(frame)
        channel = frame.channel
        found = self._channels.get(channel)
        if found is None:
            self._channels[channel] = frame
        elif isinstance(found, _Ring):
            found.frames.append(frame)
        else:
            self._channels[channel] = _Ring(found, frame)
        self.head = frame.offset
        self.bytes += 2 * frame.size + _FRAME_OVERHEAD
        if self.bytes > self._limit:
            self._make_room()

    def _make_room(self) -> None:
        """Drop the oldest frames, and a few more than need be: one after the other, each costs half."""
        ring, channels, size = self._all, self._channels, self.bytes
        frames, start = ring.frames, ring.start
        enough = self._limit - min(_ROOM, self._limit // _ROOM_PART)
        while size > enough:
            frame = frames[start]
            frames[start] = None  # type: ignore[call-overload]  # freed now, cut off below
            start += 1
            size -= 2 * frame.size + _FRAME_OVERHEAD
            channel = frame.channel
            found = channels[channel]
            if not isinstance(found, _Ring) or found.drop_first():
                del channels[channel]
        ring.start = start
        ring.cut_off()
        self.floor = frame.offset
        self.bytes = size

    def restart(self, start: int) -> None:
        """Begin again after offset `start`, empty."""
        self._all = _Ring()
        self._channels = {}
        self.floor = self.head = start
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._all)

    def due(self, channels: Channels, after: int, *, upto: int, budget: int) -> Due:
        """What a cursor at `after` (at or past the floor) is due, up to offset `upto`, in about `budget` bytes.

        At least one frame is taken if there is one, however large.
        """
        if channels.patterns:
            return self._scan(channels, after, upto, budget)
        single = channels.single
        if single is not None:
            return self._of(single, after, upto, budget)
        return self._merge(channels.names, after, upto, budget)

    def _of(self, name: str, after: int, upto: int, budget: int) -> Due:
        found = self._channels.get(name)
        if found is None:
            return Due([], upto)
        if isinstance(found, _Ring):
            return _take(found.frames, found.after(after), upto, budget)
        return Due([found] if after < found.offset <= upto else [], upto)

    def _merge(self, names: frozenset[str], after: int, upto: int, budget: int) -> Due:
        frames: list[Frame] = []
        channels = self._channels
        for name in names if len(names) <= len(channels) else channels.keys() & names:
            due = self._of(name, after, upto, budget)
            frames += due.frames
            upto = due.through  # another ring that was cut short bounds what is complete
        frames.sort(key=_offset)
        return _take(frames, 0, upto, budget)

    def _scan(self, channels: Channels, after: int, upto: int, budget: int) -> Due:
        frames: list[Frame] = []
        wanted: dict[str, bool] = {}  # for this scan only: names that come once are not worth remembering
        ring = self._all
        index = ring.after(after)
        stop = min(len(ring.frames), index + SCAN_LIMIT)
        for frame in ring.frames[index:stop]:
            if frame.offset > upto:
                return Due(frames, upto)
            channel = frame.channel
            matches = wanted.get(channel)
            if matches is None:
                matches = wanted[channel] = channel in channels
            if matches:
                budget -= frame.size
                if budget < 0 and frames:
                    return Due(frames, frames[-1].offset)
                frames.append(frame)
        return Due(frames, upto if stop == len(ring.frames) else ring.frames[stop - 1].offset)


def _take(source: Sequence[Frame], start: int, upto: int, budget: int) -> Due:
    frames: list[Frame] = []
    for index in range(start, len(source)):
        frame = source[index]
        if frame.offset > upto:
            break
        budget -= frame.size
        if budget < 0 and frames:
            return Due(frames, frames[-1].offset)
        frames.append(frame)
    return Due(frames, upto)


def due_of_page(page: Sequence[Frame], after: int, through: int, budget: int) -> Due:
    """What a cursor at `after` is due of a page's frames, the page being complete up to `through`."""
    return _take(page, bisect_right(page, after, key=_offset), through, budget)
