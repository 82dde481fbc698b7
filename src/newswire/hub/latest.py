"""The newest event of each channel, for channels whose readers want a state: prices, positions, who is there.

A hub's `latest` rules say which channels these are. Each is one key: its newest event is all that counts of it. The
table here has these events in the order of the log, for all readers of the process. A reader is a cursor, as anywhere:
what it is due is every event in the table after its cursor. That is each key that has changed since, once, whatever
happened between. A reader that has taken a part of it may go on after that part, since a key that changes meanwhile
only moves towards the end. See docs/explain/latest.md. `newswire.hub.view` gives it to one subscription.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, Protocol

from newswire.errors import LogUnavailable
from newswire.hub.frames import Frame
from newswire.hub.window import SCAN_LIMIT, Due
from newswire.log.channels import Channels, Pattern, compile_pattern, covers
from newswire.log.engine import Page, Span
from newswire.log.log import Log
from newswire.log.position import Lives
from newswire.log.retention import DEFAULT_RETENTION, Retention, RetentionRules
from newswire.log.retry import Outage, SupervisedTask
from newswire.validate import shown

NEWEST: Final = Retention(max_events=1)

# The newest event here says which channels were taken out of the log although they had an event (presence does it with
# members who left long ago), and the newest of these events that a reader may have missed. Data: channels and their
# offsets, and `upto`.
FORGOTTEN: Final = "$presence.forgotten"

_REMEMBERED: Final = 65_536  # channels whose answer is remembered
_PAGE: Final = 4096
# Logs whose retention has no patterns: NATS has limits for a whole stream, and another server decides for itself.
_NO_PATTERNS: Final = frozenset({"nats", "tls", "http", "https"})


class LatestRules:
    """Which channels have a state.

    Args:
        rules: names and patterns of channels.
        name: what the caller's argument is called.
        also: further ones, of newswire's own.

    Attributes:
        channels: the same, as a set.
    """

    def __init__(self, rules: Iterable[str], name: str = "latest", *, also: Iterable[str] = ()) -> None:
        if isinstance(rules, str):
            raise TypeError(f"{name} is a list of names and patterns of channels, such as [{rules!r}]")
        if not isinstance(rules, Iterable):
            raise TypeError(f"{name} is a list of names and patterns of channels, not {shown(rules)}")
        self._patterns = [Pattern(rule) for rule in (*rules, *also)]
        self._regex = [compile_pattern(pattern) for pattern in self._patterns]
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    @property
    def channels(self) -> Channels:
        """All channels that have a state."""
        return Channels(self._patterns)

    def __contains__(self, channel: str) -> bool:
        known = self._known.get(channel)
        if known is None:
            known = any(regex.fullmatch(channel) for regex in self._regex)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[channel] = known
        return known

    def split(self, channels: Channels) -> tuple[Channels | None, Channels | None]:
        """What of a subscription's channels has a state, and what has not.

        A pattern has one if every channel that it matches has: `prices.eu.*` where `prices.>` has one. A reader of `>`
        reads all events of all channels.
        """
        state = {name for name in channels.names if name in self}
        states = {each for each in channels.patterns if any(covers(rule, each) for rule in self._patterns)}
        if not state and not states:
            return None, channels
        names, patterns = channels.names - state, channels.patterns - states
        rest = Channels([*names, *map(Pattern, patterns)]) if names or patterns else None
        return Channels([*state, *map(Pattern, states)]), rest

    def kept(self, retention: RetentionRules, url: str) -> RetentionRules:
        """Retention by these rules, then by others: of a channel with a state the log needs its newest event.

        Args:
            retention: the others; None: what a log keeps by itself.
            url: of the log.
        """
        scheme = url.partition("://")[0].lower()
        if not self or scheme in _NO_PATTERNS:
            return retention
        others: Mapping[str, Retention]
        if isinstance(retention, Mapping):
            others = retention
        elif retention is None and scheme == "memory":  # which has a bound of its own
            others = {}
        else:
            others = {">": retention or DEFAULT_RETENTION}
        own: dict[str, Retention] = {pattern: NEWEST for pattern in self._patterns if pattern not in others}
        return {**own, **others}


class Waiting(Protocol):
    """A subscription that waits for the table."""

    def wake(self) -> None:
        """Ask again now."""
        ...


class LatestTable:
    """The newest event of each channel that has a state, in the order of the log.

    Args:
        rules: which channels.
        log, span: where they are read from, at first and when the log is another one.
        head: gives the offset of the newest event that has come.
        outage: gets what goes wrong.

    Attributes:
        rules: see above.
        complete: whether it has every such channel of the log. Until then readers wait.
        forgotten: a reader with a cursor before this offset may have missed that a key was removed; see `FORGOTTEN`.
    """

    def __init__(self, rules: LatestRules, log: Log, span: Span, outage: Outage, *, head: Callable[[], int]) -> None:
        self.rules = rules
        self.complete: bool = span.latest == 0
        self.forgotten: int = 0
        self._log = log
        self._lives = span.lives
        self._outage = outage
        self._head = head
        self._waiting: dict[Waiting, None] = {}
        self._task: SupervisedTask | None = None  # what reads the log, from the first reader on
        self._given_up: list[SupervisedTask] = []
        self._clear()

    def _clear(self) -> None:
        # In log order. An event that is not the newest of its channel any more leaves None; now and then these go.
        self._frames: list[Frame | None] = []
        self._offsets: list[int] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    # -- what comes

    def put(self, frame: Frame) -> None:
        """Take the next event of the log, whose channel has a state."""
        place = self._places.get(frame.channel)
        if place is not None:
            self._frames[place] = None
        self._places[frame.channel] = len(self._frames)
        self._frames.append(frame)
        self._offsets.append(frame.offset)
        if frame.channel == FORGOTTEN:
            self._forget(frame)
        if len(self._frames) > 2 * len(self._places) + 64:
            self._settle(frame for frame in self._frames if frame is not None)

    def _forget(self, frame: Frame) -> None:
        channels, self.forgotten = read_forgotten(frame.data)
        for channel, offset in channels.items():
            place = self._places.get(channel)
            if place is not None and self._offsets[place] <= offset:
                self._frames[place] = None
                del self._places[channel]

    def _settle(self, frames: Iterable[Frame]) -> None:
        kept = list(frames)
        self._frames = [*kept]
        self._offsets = [frame.offset for frame in kept]
        self._places = {frame.channel: place for place, frame in enumerate(kept)}

    # -- what the log has from before

    def wait(self, member: Waiting) -> None:
        """Wake `member` when the table is complete."""
        self._waiting[member] = None
        if self._task is None:
            self._task = SupervisedTask(partial(self._load, self._lives), self._outage)
            self._task.start()

    def forget(self, member: Waiting) -> None:
        """`member` has left."""
        self._waiting.pop(member, None)

    def begin_again(self, lives: Lives | None = None) -> None:
        """The log is another one, or events of it never came here: read it again."""
        if lives is not None:
            self._lives = lives
            self._clear()
        self.complete = False
        self.forgotten = 0
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._given_up = [*(each for each in self._given_up if not each.ended), task]
        for member in list(self._waiting):
            self.wait(member)

    async def _load(self, lives: Lives) -> None:
        """Read what there is. Events that come meanwhile are put into the table as they come."""
        wanted = self.rules.channels
        found: dict[str, Frame] = {}
        after, upto = 0, self._head()
        while after < upto:
            page: Page = await self._log.read(wanted, after, _PAGE, epoch=lives.epoch)
            for entry in page.entries:
                found[entry.channel] = Frame(lives.epoch_at(entry.offset), entry)
            if page.through <= after:
                raise LogUnavailable(f"the log ends at {after}, before a known event ({upto})")
            after = page.through
        if self._lives is not lives or self.complete:
            return
        if self._task is not None:
            self._task.succeeded()
        for frame in self._frames:
            if frame is not None and (frame.channel not in found or found[frame.channel].offset < frame.offset):
                found[frame.channel] = frame
        self._settle(sorted(found.values(), key=lambda frame: frame.offset))
        if FORGOTTEN in found:
            self._forget(found[FORGOTTEN])
        self.complete = True
        waiting, self._waiting = self._waiting, {}
        for member in waiting:
            member.wake()

    # -- what a cursor is due

    def due(self, channels: Channels, but: Channels | None, after: int, *, upto: int, budget: int) -> Due:
        """The newest event of each channel that has changed, in the order of the log.

        Args:
            channels: whose.
            but: channels that are left out: their reader gets all of their events.
            after, upto: offsets; what has changed after the first, up to the second.
            budget: how many bytes, roughly. One event is given if there is one, however large.
        """
        single = channels.single
        if single is not None:
            place = self._places.get(single)
            frame = None if place is None else self._frames[place]
            return Due([frame] if frame is not None and after < frame.offset <= upto else [], upto)
        frames: list[Frame] = []
        first = bisect_right(self._offsets, after)
        stop = min(len(self._frames), first + SCAN_LIMIT)
        wanted = _Wanted(channels, but, self.rules)
        for place in range(first, stop):
            frame = self._frames[place]
            if self._offsets[place] > upto:
                return Due(frames, upto)
            if frame is None or not wanted.has(frame.channel):
                continue
            budget -= frame.size
            if budget < 0 and frames:
                return Due(frames, frames[-1].offset)
            frames.append(frame)
        return Due(frames, upto if stop == len(self._frames) else self._offsets[stop - 1])

    # -- the end

    async def close(self) -> None:
        """Stop reading."""
        for task in self._tasks():
            await task.close()

    def abandon(self) -> None:
        """The event loop is closed."""
        for task in self._tasks():
            task.abandon()

    def _tasks(self) -> list[SupervisedTask]:
        return [*self._given_up, *([] if self._task is None else [self._task])]


def read_forgotten(data: str) -> tuple[Mapping[str, int], int]:
    """What an event of `FORGOTTEN` says: channels and offsets, and `upto`. Nothing, if it can't be read."""
    try:
        found = json.loads(data)
        return {str(channel): int(offset) for channel, offset in found["channels"].items()}, int(found["upto"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}, 0


class _Wanted:
    """Whether a reader wants a channel of the table."""

    __slots__ = ("_all", "_but", "_channels")

    def __init__(self, channels: Channels, but: Channels | None, rules: LatestRules) -> None:
        self._channels = channels
        self._but = but
        self._all = but is None and channels == rules.channels  # the common case: no look at each name

    def has(self, channel: str) -> bool:
        return self._all or (channel in self._channels and (self._but is None or channel not in self._but))
