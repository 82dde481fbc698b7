"""Requests that wait when the server stops."""

from __future__ import annotations

import asyncio

import pytest
from tests.fixtures.relay import World

from newswire.delivery.drain import Drain, drain_of
from newswire.errors import Closed
from newswire.relay.stopping import until_stopped

pytestmark = pytest.mark.anyio


@pytest.fixture
async def drain(monkeypatch: pytest.MonkeyPatch) -> Drain:
    """That of this event loop, whose grace time leaves nothing to wait for."""
    found = drain_of(asyncio.get_running_loop())
    monkeypatch.setattr(found, "grace", 1.0)
    monkeypatch.setattr(found, "_stopping", False)  # afterwards it is as before
    return found


async def test_a_request_without_a_head_is_told(world: World, drain: Drain) -> None:
    """A problem with the time to come back, and no cut connection; the key then leads to the run that goes on."""
    asking = await world.ask_in_vain()
    drain.stop()
    async with asyncio.timeout(20):
        answer = await asking
    assert answer.status == 503
    assert "retry-after" in answer.response.headers
    assert (await answer.json())["code"] == "stopping"


async def test_what_ends_in_time_is_left_alone(drain: Drain) -> None:
    """Also what it raises itself."""
    drain.grace = 60.0
    async with until_stopped():
        drain.stop()
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with until_stopped():
            raise TimeoutError
    drain.grace = 0.0
    with pytest.raises(Closed):
        async with until_stopped():
            await asyncio.Event().wait()
