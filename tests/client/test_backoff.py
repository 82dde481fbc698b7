"""The arithmetic of waiting."""

from __future__ import annotations

import threading
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.client import Backoff
from newswire.client.options import SystemClock
from newswire.wire.event import MAX_RETRY


@given(
    failures=st.integers(0, 10**6),
    retry=st.none() | st.floats(0, 10**9),
    chance=st.floats(0, 1),
)
def test_delay_is_between_its_floor_and_its_cap(failures: int, retry: float | None, chance: float) -> None:
    """A delay is never below the reconnection time, nor more than the cap above it, however often it failed."""
    backoff = Backoff(retry=2, first=1, cap=30, longest=600)
    floor = 2 if retry is None else min(retry, 600)
    assert floor <= backoff.delay(failures, retry=retry, chance=chance) <= floor + 30


def test_full_jitter_doubles() -> None:
    """What can be added doubles with each failure, up to the cap, and starts at nothing."""
    backoff = Backoff(retry=0, first=1, cap=10)
    assert [backoff.delay(n, retry=None, chance=1.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert [backoff.delay(n, retry=None, chance=0.0) for n in range(1, 7)] == [0] * 6


def test_first_reconnect_is_spread() -> None:
    """After a healthy connection a source waits the reconnection time, and up to as much again."""
    assert Backoff().delay(0, retry=3.0, chance=0.0) == 3
    assert Backoff().delay(0, retry=3.0, chance=1.0) == 6
    assert Backoff().delay(0, retry=0.0, chance=1.0) == 0


@pytest.mark.parametrize("setting", [{"retry": -1}, {"cap": float("nan")}])
def test_nonsense_is_refused(setting: dict[str, float]) -> None:
    """Delays that are negative or no numbers are refused where they are made."""
    with pytest.raises(ValueError, match=next(iter(setting))):
        Backoff(**setting)


def test_a_wait_that_no_thread_can_wait() -> None:
    """A server may ask for 292 million years, and `Backoff(longest=inf)` allow it: a thread waits as long as it can."""
    asked: list[float | None] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            asked.append(timeout)
            return True

    SystemClock().wait(Backoff(longest=inf).floor(MAX_RETRY / 1000), Stop())
    assert asked == [threading.TIMEOUT_MAX]
