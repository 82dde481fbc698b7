"""What a log is: the few methods that every backend has, and the values they pass.

A log is an ordered, durable sequence of events over all channels. It gives each event an offset that grows over the
whole log; it keeps events as `Retention` says; it tells whoever follows what was appended, by whomever. It knows
nothing of subscribers, encodings or connections.

`newswire.testing.LogSuite` proves any implementation of `Log` the same way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from newswire.log.channels import Channels
from newswire.log.lives import Lives
from newswire.log.position import Position
from newswire.wire.event import Event

# A page ends early past so many bytes of data, so that large events can't make a page of gigabytes.
PAGE_BYTES: Final = 4 * 2**20


class Entry(NamedTuple):
    """One stored event.

    Attributes:
        offset: its place in the log; with the log's epoch, its `Position`.
        channel: the channel it was published to.
        event: its type, `message` unless the publisher named one.
        data: its data.
        time: when the log took it, in seconds since the Unix epoch (by the clock of the machine that appended it;
            for people and for retention by age, never for order).
    """

    offset: int
    channel: str
    event: str
    data: str
    time: float


@dataclass(frozen=True, slots=True)
class Page:
    """What `read` found.

    Attributes:
        entries: in log order.
        through: the offset up to which this page is complete: there is no kept event of these channels in
            `(after, through]` other than `entries`. A reader goes on from here, also when `entries` is empty.
        lost: the offset of the newest event of these channels that retention removed, 0 if none. A reader whose
            position is before it has missed something: a gap. Taken in the same snapshot as `entries`, and exact as
            far as it is after `after`.
        doubt: up to here these channels may have lost something that the log doesn't know any more: it forgot names
            of channels that had nothing left. 0 if there is no doubt. See docs/explain/gaps.md.
    """

    entries: Sequence[Entry]
    through: int
    lost: int
    doubt: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """What a log holds.

    Attributes:
        epoch: the log's lifetime; see `Position`.
        earliest: the offset just before the earliest kept event (equal to `latest` in an empty log).
        latest: the offset of the newest event ever appended, 0 if none.
        past: all epochs that the log has had, and up to where their positions are places in it. None: it has had one.
    """

    epoch: str
    earliest: int
    latest: int
    past: Lives | None = field(default=None, compare=False, repr=False)

    @property
    def lives(self) -> Lives:
        """`past`, also of a log that has had one epoch."""
        return self.past or Lives.single(self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a channel's events are kept. Each limit counts for each channel on its own; None is no limit.

    Attributes:
        max_age: seconds.
        max_events: the newest so many.
        max_bytes: the newest events whose data has together at most so many UTF-8 bytes.
    """

    max_age: float | None = None
    max_events: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_age", "max_events", "max_bytes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be greater than 0 (or None for no limit), not {value!r}")


# One Retention for every channel, or a mapping from channel pattern to Retention: the first that matches counts.
RetentionRules: TypeAlias = Retention | Mapping[str, Retention] | None


@runtime_checkable
class Log(Protocol):
    """An ordered, durable sequence of events. Every method may be called from one event loop at a time.

    A log opens itself at the first call that needs it. All methods raise `LogUnavailable` when the storage can't be
    used now, `LogCorrupt` when it is damaged, `Closed` after `close`.
    """

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[Position]:
        """Store a batch of (channel, event): all of it, in this order, with no other event in between, or nothing.

        Returns when the batch is stored under the log's durability. If the caller is cancelled while waiting, the
        batch may or may not be stored.

        Raises:
            InvalidChannel: a channel's name breaks the rules.
            InvalidEvent: an event has an `id` (the log gives ids) or a `retry` (a stream's setting, not stored).
            LimitExceeded: an event is larger than any log may store (64 MiB).
        """
        ...

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """Read the kept events of these channels after offset `after`: the earliest of them.

        Args:
            channels: whose events.
            after: an offset; 0 for the beginning.
            limit: how many at most (at least 1). A page may end earlier: past `PAGE_BYTES` of data, or when the log
                has looked at many events of other channels. Its `through` says how far it got, and is past `after`
                as long as the log's end is.
        """
        ...

    def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        """Iterate over everything appended after `after` (None: after now), by whomever, in order, without holes.

        The iterator waits when it has caught up. "Now" is the call of its first `__anext__`. It ends when the log is
        closed; closing it (`aclose`) frees what it holds. An offset that is left out belongs to no event.

        Raises:
            TrimmedAway: retention removed an event before the follower came to it. A log removes nothing by itself in
                its first second, so only who starts or falls far behind meets this. Follow anew, from its `through`
                or later, and let readers find what is left with `read`.
        """
        ...

    async def span(self) -> Span:
        """What the log holds now."""
        ...

    async def trim(self) -> int:
        """Remove what retention no longer keeps; logs also do so by themselves.

        Returns:
            how many events were removed.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun (appends that were accepted are stored), then free everything. Idempotent."""
        ...


@runtime_checkable
class Reopenable(Protocol):
    """A log that can be used again after `close`, as a hub needs it that is opened again."""

    def reopen(self) -> None:
        """Make a closed log usable again, in any event loop. It has what it kept when it was closed. Idempotent."""
        ...
