"""Durations, counted."""

from __future__ import annotations

from newswire.log.histogram import Histogram


def test_a_copy_of_a_histogram_stays_as_it_is() -> None:
    """Stats are those of one moment."""
    histogram = Histogram((1.0,))
    histogram.observe(0.5)
    copy = histogram.copy()
    histogram.observe(2.0)
    assert (copy.counts, copy.seconds) == ([1, 0], 0.5)
