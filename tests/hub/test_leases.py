"""Heartbeats of processes on a log that removes the oldest events, whatever they are."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from newswire.hub import leases
from newswire.hub.leases import Leases
from newswire.log.engine import Entry
from newswire.log.log import Log
from newswire.log.memory import MemoryLog
from newswire.testing.log_base import opened
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio

LEASE = 8.0


class Counted(MemoryLog):
    """A log that fails a test that asks for ever."""

    asked = 0

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        self.asked += 1
        assert self.asked < 100
        return await super().newest(channels)


def of(log: Log, name: str) -> Leases:
    return Leases(log, "$nodes.", name, LEASE, taken=lambda *_: None)


async def fill(log: Log) -> None:
    """Have the log remove all that it had."""
    for _ in range(3):
        await log.append([("other", Event("x" * 40_000))])


async def test_a_process_goes_on_after_a_verdict_that_the_log_has_removed() -> None:
    """Its heartbeat is stored behind what was there."""
    async with opened(Counted(max_bytes=50_000)) as log:
        mine = of(log, "a")
        await mine.renew()
        await log.append([("$nodes.a", Event(json.dumps({"lease": LEASE, "gone": True}), "heartbeat"))])
        await fill(log)
        await mine.renew()
        [entry] = await log.newest(["$nodes.a"])
        assert entry is not None
        assert entry.offset == mine.own


async def test_a_dead_process_whose_heartbeats_the_log_has_removed_is_found_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a whole lease of attention, as any other."""
    now = 0.0
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    async with opened(Counted(max_bytes=50_000)) as log:
        await of(log, "dead").renew()
        await fill(log)
        judge = of(log, "judge")
        verdicts: list[str] = []
        for _ in range(16):
            verdicts += await judge.judge(["dead"])
            now += 1.0
        assert "dead" in verdicts
