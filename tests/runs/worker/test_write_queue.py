"""What producers write, on its way into the log and to the readers: what waits for what, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fixtures.asgi_request import Client

from newswire import Hub
from newswire.errors import LogUnavailable
from newswire.runs import Runs

pytestmark = pytest.mark.anyio


async def forever(run: Any) -> None:
    """A producer that leaves the writing to the test."""
    await asyncio.Event().wait()


async def test_an_event_in_memory_is_with_its_reader_when_put_returns() -> None:
    """Stored, then sent, with no pass of the event loop in between; by the stream's own task, on any server."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        run = await runs.attach((await runs.start("chat", forever)).id)
        other = await runs.attach((await runs.start("chat", forever)).id)
        client = Client()
        scope = {"type": "http", "method": "GET", "path": "/", "http_version": "1.1"}
        stream = asyncio.create_task(runs.response(None, run)(scope, client.receive, client.send))
        run.put("first")
        await client.until(lambda: "first" in client.text)
        for number in range(3):
            await asyncio.sleep(0.01)
            producer = asyncio.current_task()
            other.put("at once, …")
            other.put("… and later")  # what one run gathers holds no other's back
            run.put(f"<{number}>")
            assert f"<{number}>" in client.text
            assert asyncio.current_task() is producer
        assert set(client.tasks) == {stream}
        await run.stop()
        await stream


async def test_what_comes_in_a_burst_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first event of a pass goes at once; the rest of the burst is one batch, and one send to each reader."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        sizes: list[int] = []
        log: Any = hub.log
        submit = log.submit

        def counting(batches: Any, settle: Any) -> None:
            sizes.append(sum(len(batch.events) for batch in batches))
            submit(batches, settle)

        async def burst() -> AsyncIterator[str]:
            await begin.wait()
            for number in range(500):
                yield f"{number} "

        begin = asyncio.Event()
        run = await runs.start("chat", burst())
        other = await runs.attach((await runs.start("chat", forever)).id)
        other.put("before")
        await other.flush()
        monkeypatch.setattr(log, "submit", counting)
        begin.set()
        assert (await run.wait()).reason == "done"
        assert await run.text() == "".join(f"{number} " for number in range(500))
        assert sizes[0] == 1
        assert len(sizes) <= 500 * 130 / 2**16 + 4  # as often as a producer that is far ahead has to wait, and the end


async def test_a_run_that_was_ended_elsewhere_takes_no_more() -> None:
    """The producer hears of it in the very call that finds it out, and is cancelled."""
    async with Hub() as hub, Runs(hub, public=True) as runs, Runs(hub, public=True) as other:
        cancelled = asyncio.Event()

        async def produce(run: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        run = await runs.attach((await runs.start("chat", produce)).id)
        run.put("a")
        await run.flush()
        record = await other.store.find(run.id)
        assert record is not None
        assert await other.store.change(record, worker=None) is not None
        run.put("lost")
        async with asyncio.timeout(5):
            await cancelled.wait()
        assert await run.text() == "a"


async def test_a_run_that_is_lost_while_the_log_is_away_gives_it_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had written does not come again, not even as a batch without events, which a log refuses."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        log: Any = hub.log
        submit = log.submit

        def away(batches: Any, settle: Any) -> None:
            monkeypatch.setattr(log, "submit", submit)
            settle([LogUnavailable("the disk is full")] * len(batches), "")

        lost, other = [await runs.attach((await runs.start("chat", forever)).id) for _ in range(2)]
        monkeypatch.setattr(log, "submit", away)
        lost.put("lost")
        lost._claim.lost()
        other.put("stored")
        await other.flush()
    assert not [record for record in caplog.records if record.exc_info]


async def test_an_outage_of_the_log_is_written_about_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often storing is tried again meanwhile; what was written is stored in the end, once."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        log: Any = hub.log
        submit = log.submit
        attempts = 0

        def away(batches: Any, settle: Any) -> None:
            nonlocal attempts
            attempts += 1
            if attempts > 3:
                monkeypatch.setattr(log, "submit", submit)
            settle([LogUnavailable("the disk is full")] * len(batches), "")

        run = await runs.attach((await runs.start("chat", forever)).id)
        monkeypatch.setattr(log, "submit", away)
        run.put("stored in the end")
        await run.flush()
        assert attempts > 3
        await run.stop()
        assert await run.text() == "stored in the end"
    about = [record.getMessage() for record in caplog.records if "can't be stored now" in record.getMessage()]
    assert len(about) == 1
    assert "the disk is full" in about[0]
