"""The soak: how its figures are judged, and its short form."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` stands beside the package and is not installed

from benchmarks.report import DOCS, Size  # noqa: E402

from benchmarks import soak  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks use /proc and epoll")
INFINITY = float("inf")


def samples(count: int, rss: int, slow: int) -> list[soak.Sample]:
    """So many, five seconds apart, of a server that is late by up to 50 ms so often in ten looks."""
    looks = [{0.001: 10.0 - slow, 0.05: 10.0, INFINITY: 10.0} for _ in range(count)]
    return [
        soak.Sample(
            at=5.0 * index,
            rss=rss,
            fds=3000,
            tasks=10,
            looks={bound: seen * (index + 1) for bound, seen in found.items()},
            cpu=0.1 * index,
            delivered=index,
        )
        for index, found in enumerate(looks)
    ]


@pytest.mark.parametrize(
    ("part", "buckets", "value"),
    [
        (0.5, {0.01: 50.0, 0.02: 100.0, INFINITY: 100.0}, 0.01),
        (0.75, {0.01: 50.0, 0.02: 100.0, INFINITY: 100.0}, 0.015),
        (0.99, {0.01: 0.0, 0.02: 10.0, INFINITY: 1000.0}, 0.02),
        (0.99, {}, 0.0),
        (0.99, {0.01: 0.0, INFINITY: 0.0}, 0.0),
    ],
)
def test_a_quantile_of_buckets(part: float, buckets: dict[float, float], value: float) -> None:
    """As Prometheus counts it: evenly within a bucket, and of the last one its beginning."""
    assert soak.quantile(part, buckets) == pytest.approx(value)


def test_each_measure_knows_what_grows() -> None:
    """A server that stays as it was is flat in all of them; one that takes a tenth more memory, or is late, is not."""
    before = samples(20, 100_000_000, 0)
    verdicts = []
    for after in (before, samples(20, 110_000_000, 5)):
        flat = [each.of(after) <= each.of(before) * each.ratio + each.more for each in soak.MEASURES]
        verdicts.append(dict(zip([each.name.partition(",")[0] for each in soak.MEASURES], flat, strict=True)))
    assert verdicts[0] == {"memory": True, "file descriptors": True, "tasks": True, "loop lag": True}
    assert verdicts[1] == {"memory": False, "file descriptors": True, "tasks": True, "loop lag": False}


def test_the_charts_stand_beside_the_results_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each measure, in the folder of the page's images."""
    monkeypatch.setattr(soak, "_samples", samples(20, 100_000_000, 0))
    charts = soak.plots(Size.FULL)
    assert len(charts) == len(soak.MEASURES)
    assert {path.parent for path in charts} == {DOCS.parent / "images"}
    assert all("<polyline" in chart for chart in charts.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_third_of_a_minute() -> None:
    """3,000 readers that come and go, with faults: nothing is lost or doubled, and no one sees a 5xx."""
    command = [sys.executable, "-m", "benchmarks", "soak", "--quick", "--minutes", "0.35", "--rate", "30"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=880)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^published +[\d,]+ +(as asked|TOO FEW)$", done.stdout), done.stdout
    for name in ("lost", "doubled", "gaps", "answers of 5xx"):
        assert re.search(rf"(?m)^{name} +0 +none$", done.stdout), done.stdout
    for name in ("memory, MB", "file descriptors", "tasks", "loop lag, 99% below, ms"):
        assert re.search(rf"(?m)^{name} .* (flat|grows)$", done.stdout), done.stdout
