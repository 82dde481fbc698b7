"""How long a source waits before it connects again.

The standard: "Wait a delay equal to the reconnection time of the event source. Optionally, wait some more. In
particular, if the previous attempt failed, then user agents might introduce an exponential backoff delay" (WHATWG
HTML 9.2.3). So the reconnection time, which a server sets by `retry:`, is the least. A random time is added, so that a
thousand clients that lost one server at once don't come back at once. This is pure arithmetic: the random number is an
argument. The protocol asks here before each attempt; nothing here waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from newswire.validate import check_not_negative

# Doubling is what servers that shed load count on. Other factors reach the same `cap` a few failures sooner or later.
_FACTOR: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Delays between connection attempts, in seconds.

    After a healthy connection: the reconnection time, and up to as much again. After `n` failures: the reconnection
    time, and a random part of `first * 2 ** (n - 1)` or of the reconnection time, whichever is more (full jitter). The
    part that is added is never more than `cap`.

    Args:
        retry: the reconnection time until the server sets one.
        first: the most that the first failure adds.
        cap: the most that is added.
        healthy: a connection that was open for this long sets the count of failures to 0. A server that accepts and
            breaks off at once is not healthy.
        longest: the longest wait that a server can ask for, by `retry:` or `Retry-After`.
        shortest: the least time between the beginnings of two attempts, after the first two. Without it, a server that
            says `retry: 0` and ends each stream would get a thousand requests a second.

    Raises:
        ValueError: a delay is negative.
    """

    retry: float = 1.0
    first: float = 1.0
    cap: float = 30.0
    healthy: float = 10.0
    longest: float = 3600.0
    shortest: float = 0.1

    def __post_init__(self) -> None:
        check_not_negative(self, "seconds", "retry", "first", "cap", "healthy", "longest", "shortest")

    def delay(self, failures: int, *, retry: float | None, chance: float) -> float:
        """How long to wait.

        Args:
            failures: how many attempts failed since the last healthy connection.
            retry: the reconnection time that the server set, in seconds; None if it set none.
            chance: a random number from 0 to 1.
        """
        floor = self.floor(retry)
        if failures == 0:
            return floor + chance * min(floor, self.cap)
        # After 64 doublings every cap is reached; a larger exponent would overflow a float. The reconnection time
        # counts here too, so that failures are spread no less than streams that ended in order: thousands of young
        # connections may have lost the same server.
        grown = max(floor, self.first * _FACTOR ** min(failures - 1, 64))
        return floor + chance * min(self.cap, grown)

    def floor(self, retry: float | None) -> float:
        """The reconnection time: the server's, up to `longest`, or else the user's."""
        return self.retry if retry is None else min(retry, self.longest)

    def asked(self, seconds: float, *, chance: float) -> float:
        """How long to wait if the server said when to come back (`Retry-After`): never earlier, and spread a little."""
        seconds = min(seconds, self.longest)
        return seconds + chance * min(seconds / 10, self.cap)


class AttemptHistory:
    """What the attempts so far mean for the next one.

    Args:
        backoff: see there.
        now: the time now.

    Attributes:
        retry: the reconnection time that the server set, in seconds; None if it set none.
        progress: whether this connection has brought an event, or another place to go on from.
        progress_at: when one last did.
        fruitless: attempts in a row without.
    """

    def __init__(self, backoff: Backoff, now: float) -> None:
        self.retry: float | None = None
        self.progress: bool = False
        self.progress_at: float = now
        self.fruitless: int = 0
        self._backoff = backoff
        self._failures = 0  # since the last healthy connection; the back-off grows with it
        self._opened_at = now
        self._begins_at = now  # the next attempt, or the last one
        self._hurried = False  # whether the last attempt followed the one before it at once

    def opened(self, now: float) -> None:
        """The stream is open."""
        self._opened_at = now
        self.progress = False

    def progressed(self, now: float) -> None:
        """The stream has brought something."""
        self.progress = True
        self.progress_at = now
        self.fruitless = 0

    def closed(self, now: float, *, failed: bool) -> None:
        """The stream was open, and has ended or broken."""
        if now - self._opened_at >= self._backoff.healthy:
            self._failures = 0
        elif failed:
            self._failures += 1

    def failed(self) -> None:
        """No stream came."""
        self._failures += 1

    def delay(self, chance: float) -> float:
        """How long to wait, after a failure."""
        return self._backoff.delay(self._failures, retry=self.retry, chance=chance)

    def spaced(self, now: float, delay: float, *, asked: bool = False) -> float:
        """Returns the delay, made longer if attempts would follow each other faster than any server can mean.

        Args:
            now: the time now.
            delay: the delay, counted from now.
            asked: whether the server asked for this delay in its answer. Else it may have asked by `retry:` before.
        """
        lacking = self._begins_at + self._backoff.shortest - (now + delay)
        hurried, self._hurried = self._hurried, lacking > 0
        return delay + lacking if hurried and lacking > 0 and (asked or self.retry is not None) else delay

    def begins(self, at: float) -> None:
        """The next attempt begins then."""
        self._begins_at = at


def retry_after(value: str, date: str) -> float | None:
    """The seconds that a `Retry-After` asks for, a number or a date (RFC 9110, section 10.2.3); None: it can't be read.

    A date is compared with the answer's own `Date`, not with our clock.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        return max(0.0, (_utc(parsedate_to_datetime(value)) - _utc(parsedate_to_datetime(date))).total_seconds())
    except (ValueError, TypeError):
        return None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
