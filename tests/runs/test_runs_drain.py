"""Runs of a process that stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from newswire import Hub
from newswire.delivery.drain import drain_of
from newswire.runs import Runs

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("mode", "end"), [("drain", "done"), ("goodbye", "interrupted")])
async def test_a_live_run_when_the_server_stops(mode: Literal["drain", "goodbye"], end: str) -> None:
    """Where finite streams may end by themselves, it may too; else it is interrupted at once."""
    drain = drain_of(asyncio.get_running_loop())
    drain.mode, drain.grace = mode, 600.0
    hub = Hub()
    runs = Runs(hub, public=True)
    stopped = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        yield "one"
        await stopped.wait()
        yield "two"

    run = await runs.start("answer", words())
    await run.first_event()
    ended = asyncio.create_task(run.wait())
    drain.stop()
    closing = asyncio.create_task(hub.close())
    await asyncio.sleep(0)
    if mode == "drain":
        stopped.set()
    await closing
    assert (await ended).reason == end
