"""Which positions of a log's past lives are places in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.log.position import Life, Lives, Resumed

LIVES = Lives([Life("a", 0), Life("b", 100), Life("c", 150)])


@pytest.mark.parametrize(
    ("epoch", "offset", "resumed"),
    [
        ("a", 0, Resumed(0, False)),
        ("a", 100, Resumed(100, False)),
        ("a", 101, Resumed(100, True)),
        ("b", 101, Resumed(101, False)),
        ("b", 50, Resumed(50, False)),
        ("b", 10**6, Resumed(150, True)),
        ("c", 10**6, Resumed(10**6, False)),
        ("d", 1, None),
    ],
)
def test_resume(epoch: str, offset: int, resumed: Resumed | None) -> None:
    """Up to where its life ended, a position goes on; beyond, it has lost something."""
    assert LIVES.resume(epoch, offset) == resumed


def test_a_life_that_goes_back_behind_the_one_before() -> None:
    """What two lives lost is lost for both."""
    lives = Lives([Life("a", 0), Life("b", 100), Life("c", 80)])
    assert lives.resume("a", 90) == Resumed(80, True)
    assert lives.resume("b", 90) == Resumed(80, True)
    assert lives.resume("a", 80) == Resumed(80, False)


def test_one_life() -> None:
    """Its epoch is the only one."""
    lives = Lives.single("a")
    assert (lives.epoch, lives.resume("a", 7), lives.resume("b", 7)) == ("a", Resumed(7, False), None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_as_a_log_would(steps: list[tuple[int, int]]) -> None:
    """Of a log that publishes, loses its newest events and lives on: a position resumes if its events are there."""
    events: list[tuple[str, int]] = []  # each as the position that it was given out with
    lives = [Life("e0", 0)]
    given_out: list[list[tuple[str, int]]] = [[]]  # the events before each position
    for number, (published, lost) in enumerate(steps, 1):
        for _ in range(published):
            events.append((lives[-1].epoch, len(events) + 1))
            given_out.append(list(events))
        events = events[: max(len(events) - lost, 0)]
        lives.append(Life(f"e{number}", len(events)))
    known = Lives(lives)
    assert [known.epoch_at(offset) for _, offset in events] == [epoch for epoch, _ in events]
    for seen in given_out[1:]:
        resumed = known.resume(*seen[-1])
        common = 0
        while common < min(len(seen), len(events)) and seen[common] == events[common]:
            common += 1
        assert resumed == Resumed(common, common < len(seen))
