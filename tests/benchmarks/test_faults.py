"""Two servers on one log under faults: readers lose nothing and get nothing twice. The long form is a benchmark."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` stands beside the package and is not installed

from benchmarks.faults.cluster import KINDS
from benchmarks.faults.publishers import Publisher
from benchmarks.faults.readers import Reader, total
from benchmarks.faults.trial import SHORT, run_trial

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it stops processes by signals")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_or_doubled(kind: str) -> None:
    """A server killed, the log away, a server that stands still, connections cut: every event, once, in order."""
    result = asyncio.run(run_trial(kind, SHORT, print))
    assert not result.wrong
    assert result.delivered > result.published > 0
    assert len(result.faults) == 4
    assert sum(fault.gaps for fault in result.faults) == 0
    killed, away, frozen, cut = result.faults
    assert killed.reconnects > 0
    assert away.reconnects == frozen.reconnects == 0  # streams stay open
    assert cut.reconnects > 0


def test_the_judge_sees_what_is_wrong() -> None:
    """A hole, an event that comes again, two orders, an end that does not come; a gap excuses what follows it."""
    publisher = Publisher("p", "a", [1], 1.0)
    positions: dict[str, tuple[str, int]] = {}

    def judged(*events: tuple[str, int] | None) -> Reader:
        reader = Reader("http://unused", [publisher], positions)
        for event in events:
            if event is None:
                reader.take_gap()
            else:
                reader.take(event[0], f"p {event[1]} 0.5 xxx")
        return reader

    publisher.acknowledged = 3
    good = judged(("e-1", 0), ("e-2", 1), ("e-3", 2))
    assert (good.verdict, good.missing()) == (total([]), 0)
    assert judged(("e-1", 0), ("e-3", 2)).verdict.lost == 1
    assert judged(("e-1", 0), ("e-2", 1), ("e-4", 1)).verdict.doubled == 1
    assert judged(("e-2", 0)).verdict.disordered == 1  # others had another event there
    assert judged(("e-9", 0), ("e-8", 1)).verdict.disordered == 1
    assert judged(("e-1", 0)).missing() == 2
    told = judged(("e-1", 0), None, ("e-3", 2))
    assert (told.verdict, told.missing(), told.gaps) == (total([]), 0, 1)
