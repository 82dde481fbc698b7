"""The state of a log as its hub knows it: down, behind or up, and what it says of it."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest
from tests.hub.troubled import TroubledLog

from newswire import Hub
from newswire.errors import LogError, LogUnavailable
from newswire.hub import follower
from newswire.log.memory import MemoryLog
from newswire.testing import next_event

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_MONITOR_SECONDS", 0.01)
    monkeypatch.setattr(follower, "_PUBLISH_SECONDS", 0.05)


async def until_state(hub: Hub, state: str) -> None:
    """Wait until the hub knows the log in this state."""
    async with asyncio.timeout(10):
        while hub.stats().log != state:
            await asyncio.sleep(0.002)


async def test_an_engine_that_waits_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """An idle hub knows that its log has gone, and that it is back; each is one line."""
    caplog.set_level(logging.INFO)

    class Away(MemoryLog):
        away = False

        async def span(self):  # type: ignore[no-untyped-def]
            if self.away:
                raise LogUnavailable("the server can't be reached")
            return await super().span()

    log = Away()
    async with Hub(log) as hub:
        events = aiter(hub.subscribe("a"))
        waiting = asyncio.ensure_future(next_event(events, timeout=20))
        await until_state(hub, "up")
        for count in (1, 2):
            log.away = True
            await until_state(hub, "down")
            log.away = False
            await until_state(hub, "up")
            assert hub.stats().outages == count
        assert hub.stats().retries >= 2
        await hub.publish("a", "x")
        assert (await waiting).data == "x"
        await events.aclose()
    own = [record for record in caplog.records if record.name == "newswire.hub"]
    assert [record.levelname for record in own] == ["WARNING", "INFO"] * 2


async def test_a_publish_that_waits(caplog: pytest.LogCaptureFixture) -> None:
    """With `wait` the event is there once, however often it was tried; without, the first failure is raised."""
    log = TroubledLog(MemoryLog(), random.Random(7))
    async with Hub(log) as hub:
        fails = True
        store = log.engine.submit

        def submit(batches, on_done):  # type: ignore[no-untyped-def]
            if fails:
                on_done([LogUnavailable("away")] * len(batches), "")
            else:
                store(batches, on_done)

        log.engine.submit = submit  # type: ignore[method-assign]
        with pytest.raises(LogUnavailable):
            await hub.publish("a", "never")
        await until_state(hub, "down")
        await until_state(hub, "up")  # no one publishes, and it answers
        publishing = asyncio.ensure_future(hub.publish("a", "1", wait=30))
        many = asyncio.ensure_future(hub.publish_many([("a", "2"), ("a", "3")], wait=30))
        await until_state(hub, "down")
        fails = False
        await asyncio.gather(publishing, many)
        await until_state(hub, "up")
        page, _ = await hub.history("a")
        assert sorted(entry.data for entry in page.entries) == ["1", "2", "3"]
        with pytest.raises(LogError):
            fails = True
            await hub.publish("a", "4", wait=0.05)
    assert hub.closed


async def test_hubs_of_one_log_hear_of_it_together() -> None:
    """Each, whichever publishes; and one goes on when the other is closed."""
    log = MemoryLog()
    store = log.engine.submit
    async with Hub(log) as hub:
        other = Hub(log)
        await other.open()

        def refuse(batches, on_done):  # type: ignore[no-untyped-def]
            on_done([LogUnavailable("away")] * len(batches), "")

        log.engine.submit = refuse  # type: ignore[method-assign]
        with pytest.raises(LogUnavailable):
            await other.publish("a", "x")
        assert [hub.stats().log, other.stats().log] == ["down", "down"]
        log.engine.submit = store  # type: ignore[method-assign]
        await hub.publish("a", "x")
        assert [hub.stats().log, other.stats().log] == ["up", "up"]
        runtime = await other.runtime()
        await runtime.monitor.close()  # as at its end, but for the log, which they share
        log.engine.submit = refuse  # type: ignore[method-assign]
        with pytest.raises(LogUnavailable):
            await hub.publish("a", "x")
        assert [hub.stats().log, other.stats().log] == ["down", "up"]
        log.engine.submit = store  # type: ignore[method-assign]
        await other.close()


async def test_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the log has and this process has not got is its lag."""
    log = MemoryLog()
    async with Hub(log) as hub:
        await hub.publish("a", "1")
        runtime = await hub.runtime()
        monkeypatch.setattr(type(runtime), "head", property(lambda self: 0))
        await until_state(hub, "behind")
        assert hub.stats().lag == 1
