"""How late the event loop is."""

from __future__ import annotations

import asyncio
import time

import pytest

from newswire.serving.stats import LoopLag

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_a_loop_that_was_held_up_is_late() -> None:
    """What blocks the loop is measured; nothing is after the end."""
    lag = LoopLag()
    lag.start()
    loop = asyncio.get_running_loop()
    loop.call_later(0.2, time.sleep, 0.3)  # over the moment when the first call is due
    while not sum(lag.seconds.counts):
        await asyncio.sleep(0.01)
    assert lag.seconds.seconds > 0.2
    lag.stop()
    before = sum(lag.seconds.counts)
    await asyncio.sleep(0.3)
    assert sum(lag.seconds.counts) == before
