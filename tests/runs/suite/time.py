"""What time does to runs: limits, waiting for a reader or a producer, and being forgotten."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from tests.runs.suite.base import LEASE, Noted, RunTests, answer, read, until, words

from newswire.errors import RunNotFound
from newswire.runs import End, RunOptions, Runs
from newswire.runs.store.record import out_channel, record_channel
from newswire.testing.log_base import PATIENCE


class RunTimeTests(RunTests):
    """Options that are in seconds."""

    async def test_time_limits(self, runs: Runs) -> None:
        """A run that takes too long, or says nothing for too long, fails and says which; its source is closed."""
        source = Noted()
        run = await runs.start("job", source(), options=RunOptions(timeout=0.1))
        end = await run.wait()
        assert (end.reason, (end.error or {})["type"]) == ("failed", "TimeoutError")
        assert "longer than 0.1" in (end.error or {})["message"]
        await until(lambda: source.closed)
        quiet = await runs.start("job", words(2, 30), options=RunOptions(idle_timeout=0.1))
        assert "wrote nothing for 0.1" in ((await quiet.wait()).error or {})["message"]
        patient = await runs.start("job", words(4, 0.06), options=RunOptions(idle_timeout=0.5, timeout=PATIENCE))
        assert (await patient.wait()).reason == "done"

    async def test_a_lazy_run_waits_for_its_first_reader(self, runs: Runs, other: Runs) -> None:
        """The producer starts when a reader comes, in whichever process, and not before."""
        source = Noted()
        run = await runs.start("chat.1", source(), options=RunOptions(lazy=True))
        assert await run.state() == "waiting"
        assert source.begun == 0
        async for event in (await other.get(run.id)).subscribe():
            assert event.data == "tick "
            break
        assert source.begun == 1
        assert await run.stop()

    async def test_an_abandoned_run_is_stopped(self, runs: Runs, other: Runs) -> None:
        """Without readers for long enough, counted over all processes, a run that asks for it is stopped."""
        options = RunOptions(abandon_after=2 * LEASE)
        source = Noted()
        run = await runs.start("chat.1", source(), options=options)
        reader = asyncio.create_task(read(await other.get(run.id)))
        await asyncio.sleep(3 * LEASE)
        assert await run.state() == "running"
        reader.cancel()
        await until(lambda: runs.stats.ended["stopped"])
        assert await run.end() == End("stopped")
        await until(lambda: source.closed)

    async def test_a_run_that_nobody_claims(self, runs: Runs) -> None:
        """A run that waits for a producer too long is interrupted."""
        run = await runs.start("report.7", options=RunOptions(claim_within=0.1))
        assert (await run.wait()).reason == "interrupted"

    async def test_a_run_is_forgotten_when_its_time_is_over(self, runs: Runs) -> None:
        """After `keep_for` it is as if it had never been: no run, no events, no name, and its key is free."""
        run = await runs.start("chat.1", words(3), key="k", options=RunOptions(keep_for=0.05))
        await run.wait()
        worker = await runs._opened()
        await until(lambda: worker.monitor.expiry._drop)
        await asyncio.sleep(0.1)
        with anyio.fail_after(PATIENCE):
            while True:
                await worker.monitor.expiry.drop_old()
                try:
                    await runs.get(run.id)
                except RunNotFound:
                    break
                await asyncio.sleep(0.02)
        with pytest.raises(RunNotFound):
            await runs.get(name="chat.1")
        [first, second] = await runs.store.log.newest([out_channel(run.id), record_channel(run.id)])
        assert first is second is None
        again = await runs.start("chat.1", words(2), key="k")
        assert (await again.wait()).reason == "done"
        assert await again.text() == answer(2)
