"""What the pages hold while events come: a short look, which shows a node or a listener kept for each event."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` stands beside the package and is not installed

from benchmarks.heap import PLACES, watch

pytestmark = [pytest.mark.browser, pytest.mark.slow]
RATE = 1000
SECONDS = 5
ROWS = 400  # that the console's tail shows at most


def test_pages_keep_nothing_for_each_event() -> None:
    """Thousands of events leave no listener behind, fewer nodes than events, and little of the heap."""
    for one in watch(["console", "chat"], SECONDS, RATE, lambda _: None, samples=6):
        first, last = one.samples[0], one.samples[-1]
        events = last.events - first.events
        assert events > 500, one.name
        assert last.listeners - first.listeners < 5, one.name
        assert last.nodes - first.nodes < 9 * ROWS, one.name
        assert one.growth < 500, one.name  # bytes an event: the text alone of each would be as much


def test_places_are_the_pages_that_are_there() -> None:
    """The full measurement looks at each kind of page."""
    assert {"console", "demo", "cluster", "dashboard", "chat"} <= set(PLACES)
