"""When things run in a hub."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from newswire.hub import scheduler
from newswire.hub.scheduler import Deadlines


class Timers:
    """What an event loop is to `Deadlines`: the timers that were set, which a test lets fire."""

    def __init__(self) -> None:
        self.set: list[Any] = []

    def call_later(self, seconds: float, call: Any) -> asyncio.Handle:
        self.set.append(call)
        return asyncio.Handle(call, (), asyncio.get_running_loop())

    def fire(self) -> None:
        fired, self.set = self.set, []
        for call in fired:
            call()


@pytest.mark.anyio
async def test_a_hub_without_streams_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a timer only while a call waits; and nothing is left of calls that were cancelled."""
    now = 1000
    monkeypatch.setattr(scheduler, "_now", lambda: now)
    monkeypatch.setattr(scheduler, "monotonic", lambda: now * scheduler._TICK)
    timers = Timers()
    deadlines = Deadlines(timers)  # type: ignore[arg-type]
    called: list[int] = []

    def call() -> None:
        called.append(now)

    assert not timers.set
    for _ in range(3):
        deadlines.start(call, 1.0)
        deadlines.cancel(call)
        timers.fire()
        assert not timers.set
        assert not deadlines._ticks
        now += 1000
        deadlines.start(call, 1.0)
        while timers.set:
            now += 1
            timers.fire()
    assert called == [2004, 3009, 4014]
    deadlines.close()
    deadlines.start(call, 1.0)
    assert not timers.set
