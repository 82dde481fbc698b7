"""Durations, counted by how long they were: what monitoring systems make quantiles of. The log measures itself so."""

from __future__ import annotations

from bisect import bisect_left
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
