"""What an open hub has done, counted where it happens. `Hub.stats` shows it to applications.

Counting costs some additions a round, whatever its number of readers, and nothing a delivery. Streams are those that go
to a connection. Iterators in process and the server's own sinks are no streams: no beginning, byte or end of theirs
counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

LOG_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(slots=True)
class Histogram:
    """Durations, counted by how long they were.

    Attributes:
        bounds: the upper bound of each bucket in seconds, ascending; one more bucket holds everything above.
        counts: durations by bucket.
        seconds: all durations together.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.bounds = tuple(self.bounds)
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds

    def copy(self) -> Histogram:
        """A histogram with the same numbers, which does not change."""
        return Histogram(self.bounds, list(self.counts), self.seconds)

    def add(self, other: Histogram) -> None:
        """Add another histogram with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds


@dataclass(slots=True)
class Counts:
    """The counts of one hub.

    Attributes:
        followed: events that came from the log.
        delivered: events given to subscribers, counted once for each.
        replayed: those of them that a subscriber was given while it caught up: after it came back, or was slow.
        stream_bytes: bytes of the event streams, before any transfer coding or compression.
        heartbeats: comments sent to silent streams.
        gaps: gap events by their reason: `trimmed`, `epoch`, `future`, `invalid`.
        resumes: streams by where they began: `new` (no cursor), `current` (a cursor that had missed nothing), `window`
            (the rest is in memory), `log` (the rest is read from the log), `gap` (the cursor can't be placed).
        ends: streams by how they ended: `client` (it left), `slow` (it took nothing), `failed` (writing to it raised),
            `goodbye` (the server stopped, or ended it and asked the client to come back), `max_age`, `expired` and
            `revoked` (its credential), `closed` (it was over), `cut` (the server dropped it).
        append, read: how long the log took to store a batch, and to read a page.
    """

    followed: int = 0
    delivered: int = 0
    replayed: int = 0
    stream_bytes: int = 0
    heartbeats: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    resumes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    append: Histogram = field(default_factory=lambda: Histogram(LOG_BOUNDS))
    read: Histogram = field(default_factory=lambda: Histogram(LOG_BOUNDS))
