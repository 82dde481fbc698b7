"""The numbers that a hub and its streams live by, each with the reason for its default."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from newswire.log.channels import Channels, check_pattern, covers
from newswire.validate import OFF, check_flags, check_kind, check_not_negative, check_positive, is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceOptions:
    """How a hub knows who is on its channels. Times are in seconds.

    Attributes:
        heartbeat: a node that dies is known to be dead after at most this long, and its members leave. It renews its
            lease four times in it, while it has members. All nodes should have the same.
        grace: a member whose last stream has ended leaves after this long, unless it comes back. It covers the
            `retry:` of a stream (3 s) and a page that is loaded again.
        max_state: the most bytes of a member's state, as JSON. Every reader of the channel gets it.
        forget_after: how long the log and the hubs remember that a member has left. A stream that comes back later gets
            a gap event, and then everybody who is there.
        tick: changes of this long travel together, and a member's state changes at most once in it.
    """

    heartbeat: float = 10.0
    grace: float = 5.0
    forget_after: float = 600.0
    max_state: int = 1024
    tick: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, "heartbeat", "forget_after", "tick")
        check_positive(self, "max_state", whole=True)
        check_not_negative(self, "seconds", "grace")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """What a hub keeps in memory, and how much it writes at once.

    Attributes:
        window_bytes: the newest events kept in memory, in bytes of memory, roughly. Subscribers that are behind by
            less are served without reading the log. 16 MiB is some 15,000 small events.
        write_budget: the most bytes in one write to a subscriber, so a subscriber that stalls holds no more than that
            (a larger event is written alone). 64 KiB fills a connection of 5 Mbit/s for 100 ms.
        presence: how it knows who is on its channels.
    """

    window_bytes: int = 16 * 2**20
    write_budget: int = 64 * 2**10
    presence: PresenceOptions = PresenceOptions()

    def __post_init__(self) -> None:
        check_positive(self, "window_bytes", "write_budget", whole=True)
        check_kind("presence", self.presence, PresenceOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How one stream to a client behaves. Times are in seconds; None switches a limit off.

    Attributes:
        heartbeat: a stream that was silent for at most this long (and at least half of it) gets a comment, so that
            proxies keep it and a vanished client is noticed. 15 s is under every common proxy's idle limit.
        heartbeat_padding: bytes by which a heartbeat is longer. Some proxies hold back what is smaller than a buffer of
            theirs, so that a quiet stream brings no sign of life.
        retry: the reconnection time that the client gets at the start, in milliseconds (`retry:`).
        opening: begin with a block of its own that carries `retry:` and, on a hub's stream, the cursor as `id:`. The
            standard has it so, and a client then has a cursor before its first event. Some readers choke on a block
            without data: openai's `Stream` raises; httpx-sse, httpx2, aiosseclient, anthropic's decoder and
            fetch-event-source make an empty event of it. With False the fields stand inside the first event.
        write_timeout: a client that takes nothing for this long, though there is something for it, is cut.
        max_behind: a client that reads on after it was slow, and is behind by more events of the log than this, goes on
            with what is newest, behind a gap event. It is for channels whose old events are worth nothing. None: it
            gets all that the log keeps. A client that comes back with a cursor gets all, until it has caught up.
        max_age: end the stream after so long, give or take a tenth, with a goodbye; the client comes back and goes on.
            Spreads connections over a fleet again and bounds how long a stale permission lasts.
        max_bytes: end the stream in the same way after so many bytes. A bound on memory with servers whose `send()`
            never blocks; for streams that can be resumed only.
        compress: send gzip to clients that take it. Events are compressed once for all readers, each write by itself,
            and nothing is held back. What is under 128 bytes is sent as it is.
    """

    heartbeat: float | None = 15.0
    heartbeat_padding: int = 0
    retry: int | None = 3000
    opening: bool = True
    write_timeout: float | None = 30.0
    max_behind: int | None = None
    max_age: float | None = None
    max_bytes: int | None = None
    compress: bool = False

    def __post_init__(self) -> None:
        check_positive(self, "heartbeat", "write_timeout", "max_age", none=OFF)
        check_positive(self, "max_behind", "max_bytes", none=OFF, whole=True)
        check_not_negative(self, "bytes", "heartbeat_padding", whole=True)
        check_not_negative(self, "milliseconds", "retry", none=True, whole=True)
        check_flags(self, "opening", "compress")

    def draw_max_age(self) -> float | None:
        """Seconds until one stream ends by `max_age`, give or take a tenth, so that not all come back at once."""
        return None if self.max_age is None else self.max_age * random.uniform(0.9, 1.1)


IN_PROCESS: Final = StreamOptions(heartbeat=None, retry=None, write_timeout=None)
"""Of a subscription whose events go to no connection."""

# The longest wait: past it a stream looks dead.
_LONGEST: Final = 60.0


class Pace(NamedTuple):
    """How a subscription's events are held back.

    Attributes:
        delay: seconds from an event to its write, at most.
        conflate: write only the newest event of each channel that has a state.
    """

    delay: float
    conflate: bool = False


def pace_of(coalesce: float | None, max_rate: float | None) -> Pace | None:
    """The pace that a subscription asks for; None for none.

    Raises:
        ValueError: a number is out of its range.
    """
    if coalesce is not None and not (is_number(coalesce) and 0 <= coalesce <= _LONGEST):
        raise ValueError(f"coalesce is a time of 0 to {_LONGEST:g} seconds, not {coalesce!r:.60}")
    if max_rate is not None and not (is_number(max_rate) and 1 / _LONGEST <= max_rate <= 1000):
        raise ValueError(f"max_rate is a number of events a second, from 1/{_LONGEST:g} to 1000, not {max_rate!r:.60}")
    delay = max(coalesce or 0.0, 0.0 if max_rate is None else 1 / max_rate)
    return Pace(delay, max_rate is not None) if delay else None


class CoalesceRules:
    """How long the events of channels may wait, by pattern of channels: the first that matches counts.

    Args:
        rules: seconds for all channels, or for each pattern.

    Raises:
        InvalidChannel: a pattern breaks the rules.
        ValueError: a time is out of its range.
    """

    def __init__(self, rules: float | Mapping[str, float]) -> None:
        if not isinstance(rules, Mapping):
            rules = {">": rules}
        self._rules = [(check_pattern(pattern), seconds) for pattern, seconds in rules.items()]
        for _, seconds in self._rules:
            pace_of(seconds, None)

    def of(self, channels: Channels) -> float:
        """How long the events of a subscription may wait: as long as the most urgent of its channels."""
        return min(self._of(each) for each in (*channels.names, *channels.patterns))

    def _of(self, pattern: str) -> float:
        return next((seconds for rule, seconds in self._rules if covers(rule, pattern)), 0.0)
