"""Groups whose events wait a little, so that many small ones travel together.

A `Pace` says how long. With `conflate`, only the newest event of each channel that has a state is left when the time
comes: so a reader gets each key at most once in that time, which is what `max_rate` asks for, and all readers of the
same rate still share the same bytes. See `newswire.hub.group` for all else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from newswire.hub.frames import Chunk, Frame
from newswire.hub.group import Group, GroupMember
from newswire.hub.options import Pace


class CoalescingGroup(Group):
    """Writes what has come when `delay` seconds are over since the first of it, or when it fills a write."""

    __slots__ = ("_delay", "_timer")

    def __init__(self, pace: Pace, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._delay = pace.delay
        self._timer: Any = None

    def add(self, frame: Frame) -> None:
        pending = self._pending
        if pending is not None:
            pending.append(frame)
            self._pending_size += frame.size
            if self._pending_size > self._history.budget:
                self._pending = None
        if self._pending is None:
            self._fire()
        else:
            self._start()

    def begin_shared(self, chunk: Chunk, head: int) -> GroupMember | None:
        return None  # what has come waits

    def _start(self) -> None:
        if self._timer is None and not self.queued:
            self._timer = self._scheduler.later(self._delay, self._fire)

    def _fire(self) -> None:
        """The time is over."""
        self._stop()
        self._scheduler.enqueue(self)

    def lose_track(self) -> None:
        super().lose_track()
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _more(self) -> bool:
        more = super()._more()
        if more and self._pending is not None:  # what came since waits for its own time
            self._start()
            return False
        return more

    def close(self) -> None:
        """The last member has left."""
        self._stop()


class RatedGroup(CoalescingGroup):
    """Writes the newest event of each key once in `delay` seconds.

    What waits is found by key. When the time is over, what is there goes out, a write at a time, in the order of the
    log. An event that comes meanwhile takes the place of an older one of its key, and waits for the next time.
    """

    __slots__ = ("_keys", "_state", "_upto")

    def __init__(self, pace: Pace, state: Callable[[str], bool], *arguments: Any, **more: Any) -> None:
        super().__init__(pace, *arguments, **more)
        self._state = state
        self._keys: dict[str | int, Frame] = {}
        self._upto = 0  # what goes out now: offsets up to here

    def add(self, frame: Frame) -> None:
        key: str | int = frame.channel if self._state(frame.channel) else frame.offset
        self._keys.pop(key, None)
        self._keys[key] = frame
        self._start()

    def _fire(self) -> None:
        self._upto = self._history.window.head
        super()._fire()

    def lose_track(self) -> None:
        """Events may be missing here: each ready member looks for itself."""
        behind = self.head
        self._start_over()
        for member in list(self._ready):
            member.read_on(behind)

    def _start_over(self) -> None:
        super()._start_over()
        self._stop()
        self._keys.clear()
        self._upto = self.head

    def _nothing_new(self) -> bool:
        return not self._keys

    def _begin_next(self) -> list[GroupMember] | None:
        if not self._ready:
            self._start_over()  # each finds its own way here
            return None
        frames: list[Frame] = []
        budget, through = self._history.budget, max(self._upto, self.head)
        for frame in self._keys.values():
            if frame.offset > self._upto:
                break
            budget -= frame.size
            if budget < 0 and frames:
                through = frames[-1].offset
                break
            frames.append(frame)
        for frame in frames:
            del self._keys[frame.channel if frame.channel in self._keys else frame.offset]
        if not frames:
            return None
        self._quiet = False
        chunk: Chunk = self._chunks.join(frames, self.form)
        return self._begin(chunk, through)

    def _more(self) -> bool:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for member in waiting:
                member.wake()
        first = next(iter(self._keys.values()), None)
        if first is not None and first.offset <= self._upto:
            return True
        if first is not None:
            self._start()
        return False
