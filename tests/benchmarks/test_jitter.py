"""The simulation of reconnect storms: the same at each run, everybody comes back, and jitter is what it shows."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` stands beside the package and is not installed

from benchmarks.jitter import IMAGES, RULES, Storm, plots, storm
from benchmarks.report import Size

STORM = Storm(clients=1000, rate=200, backlog=200)


@pytest.mark.parametrize("rule", RULES)
def test_everybody_comes_back(rule: str) -> None:
    """No faster than the server takes them, and never before it is there."""
    course = storm(RULES[rule], STORM)
    assert course.connected[-1] == 1
    assert sum(course.attempts) >= STORM.clients
    assert course.all >= STORM.clients / STORM.rate
    assert course.longest <= STORM.backlog + 1
    assert all(share == 0 for share in course.connected[: int(STORM.away / 0.25)])
    assert course == storm(RULES[rule], STORM)
    assert course != storm(RULES[rule], STORM, seed=2)


def test_jitter_spreads() -> None:
    """newswire's clients come in lower waves, and in vain more rarely, than those without jitter."""
    ours, fixed, doubling = (
        storm(RULES[name], STORM) for name in ("newswire's client", "each second", "doubling, no jitter")
    )
    assert max(ours.attempts) < max(fixed.attempts) / 2
    assert ours.refused < fixed.refused / 4
    assert ours.all < doubling.all / 2


def test_the_charts_are_those_of_the_page() -> None:
    """They are well-formed, and the page shows each of them."""
    page = (IMAGES.parent / "explain" / "scale.md").read_text("utf-8")
    for path, image in plots(Size.SMOKE).items():
        ElementTree.fromstring(image)
        assert path.name in page
        assert path.exists()
