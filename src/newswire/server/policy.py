"""What a server allows: a new stream its options, a longer reconnection time or a refusal; a publisher its rate.

Two things show that a process is under pressure: most of its streams are taken, or its event loop is late. It then asks
new clients to wait longer before they come back (`retry:`), so that the next storm is spread wider. A stream that works
is never ended to make room: its client would come back at once, and push out the next.

Each publisher has a token bucket that may go into debt (`Rates`). A batch is let in while the bucket has one event, and
all of its events are taken out, so a large batch only makes the next request wait longer. The check comes before the
body is read.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from newswire.counted import counted
from newswire.delivery.problem import Problem, unavailable
from newswire.hub.options import StreamOptions
from newswire.server.auth.patterns import first_uncovered
from newswire.serving.option_types import SlowRule
from newswire.serving.stats import LoopLag

_KNOWN: Final = 10_000  # publishers; a bucket that is full again is as good as none
_ROUNDING: Final = 1e-6


class Rates:
    """The buckets of all publishers of a process.

    Args:
        rate: events a second; None: any number. A bucket holds those of one second.
        clock: gives seconds.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._full_at: dict[str, float] = {}  # when the bucket of each will be full

    def check(self, publisher: str) -> None:
        """Check that a publisher may publish now.

        Raises:
            Problem: it has been too fast.
        """
        if self._rate is None:
            return
        # It holds at least one event if one more would fill it within a second.
        wait = self._full_at.get(publisher, 0.0) + 1 / self._rate - self._clock() - 1.0
        if wait > _ROUNDING:
            detail = (
                f"a publisher may send {counted(self._rate, 'event')} a second here: wait, or send batches less often"
            )
            after = math.ceil(wait) + random.randint(1, 2)
            raise Problem(429, "too_fast", detail, headers={"retry-after": str(after)}, limit=self._rate)

    def took(self, publisher: str, events: int) -> None:
        """Count events that it has published."""
        if self._rate is None:
            return
        now = self._clock()
        if len(self._full_at) >= _KNOWN and publisher not in self._full_at:
            self._full_at = {name: full for name, full in self._full_at.items() if full > now}
        self._full_at[publisher] = max(self._full_at.get(publisher, 0.0), now) + events / self._rate


# How many times longer clients wait, from which part of the streams on, and from which lag of the loop on, in seconds.
_STEPS: Final = ((8, 0.95, 2.0), (4, 0.9, 1.0), (2, 0.8, 0.5))
_LONGEST: Final = 60_000  # milliseconds; a longer `retry:` of the settings stays as it is
_RETRY_AFTER: Final = (5, 20)  # seconds: longer than after other errors, because a stream has to end first


def times(part: float, lag: float) -> int:
    """By how much clients should wait longer.

    Args:
        part: of the streams that this process may have, those that are open.
        lag: how late its event loop is, in seconds.
    """
    return next((by for by, full, late in _STEPS if part >= full or lag >= late), 1)


def check_room(streams: int, limit: int, lag: LoopLag, most_lag: float | None) -> None:
    """Check that there is room for one more stream.

    Args:
        streams: those that are open.
        limit: the most.
        lag: of the event loop.
        most_lag: refuse new streams while the loop is later than this; None: however late it is.

    Raises:
        Problem: there is not.
    """
    if streams >= limit:
        raise _refused(f"this server has its {counted(limit, 'stream')} open: try again later", "too_many_streams")
    if most_lag is not None and lag.sustained > most_lag:
        raise _refused("this server has more to do than it can: try again later", "overloaded")


def _refused(detail: str, code: str) -> Problem:
    problem = unavailable(detail, code)
    problem.headers["retry-after"] = str(random.randint(*_RETRY_AFTER))
    return problem


@lru_cache(64)
def patient(options: StreamOptions, by: int) -> StreamOptions:
    """The same options with a reconnection time that is `by` times as long."""
    if options.retry is None or by == 1:
        return options
    return replace(options, retry=max(options.retry, min(by * options.retry, _LONGEST)))


def for_channels(options: StreamOptions, rules: Mapping[str, SlowRule], channels: Sequence[str]) -> StreamOptions:
    """The options of a stream, by the first rule whose pattern covers all of its channels.

    Args:
        options: those of streams without a rule.
        rules: by pattern.
        channels: names and patterns.
    """
    for pattern, rule in rules.items():
        if first_uncovered([pattern], channels) is None:
            return _with_rule(options, rule)
    return options


@lru_cache(256)
def _with_rule(options: StreamOptions, rule: SlowRule) -> StreamOptions:
    timeout = options.write_timeout if rule.timeout is None else rule.timeout
    return replace(options, write_timeout=timeout, max_behind=rule.max_behind)
