"""Writing from elsewhere: other processes, threads, and progress."""

from __future__ import annotations

import asyncio

import pytest
from tests.runs.suite.base import Noted, RunTests, read, words

from newswire.errors import RunNotFound, RunOver
from newswire.runs import End, Runs
from newswire.runs.worker.writer import RunWriter
from newswire.testing.log_base import PATIENCE


class RunAttachTests(RunTests):
    """Workers that are not where the run was started."""

    async def test_attach_claims_a_run_that_waits(self, runs: Runs, other: Runs) -> None:
        """One process starts a run, another one produces it, and its block's end is the run's."""
        run = await runs.start("report.7", owner="alice")
        assert await run.state() == "waiting"
        with pytest.raises(RunNotFound):
            await other.attach(run.id)
        async with other.attach(run.id, owner="alice") as attached:
            await attached.write("from elsewhere")
        assert await run.wait() == End("done")
        assert await run.text() == "from elsewhere"
        with pytest.raises(RunOver):
            await other.attach(run.id, owner="alice")

    async def test_an_attached_block_that_raises_fails_its_run(self, runs: Runs, other: Runs) -> None:
        """The exception goes on in the worker, and the readers hear of it."""
        run = await runs.start("report.7")
        with pytest.raises(KeyError):
            async with other.attach(run.id):
                raise KeyError("missing")
        assert ((await run.wait()).error or {})["type"] == "KeyError"

    async def test_attach_adds_to_a_run_that_has_a_producer(self, runs: Runs, other: Runs) -> None:
        """Another process may write to a run too; it can't end it by leaving, only by stopping it."""
        source = Noted()
        run = await runs.start("job", source())
        async with other.attach(run.id) as attached:
            attached.progress(1, 2, "half")
            with pytest.raises(RunOver):
                await attached.finish()
        assert await run.state() == "running"
        await run.stop()
        assert any(event.event == "progress" for event in await read(run))

    async def test_sync_workers(self, runs: Runs) -> None:
        """Threads start, write to, follow and stop runs by blocking calls."""

        def work() -> tuple[End, str]:
            run = runs.sync.start("report.7")
            with runs.sync.attach(run.id) as attached:
                for item in attached.track(["a", "b"], "copying"):
                    attached.put(item)
            return runs.sync.wait(run, PATIENCE), runs.sync.text(run)

        end, text = await asyncio.to_thread(work)
        assert (end, text) == (End("done"), "ab")

    async def test_progress(self, runs: Runs) -> None:
        """Fast progress is stored now and then, the last one always, from the loop and from threads, before the end."""

        def count(run: RunWriter) -> None:
            for number in range(2001):
                run.progress(number, 2000)

        async def job(run: RunWriter) -> str:
            for _ in run.track(range(200), "hashing"):
                await asyncio.sleep(0.001)
            async for _ in run.track(words(3), "reading", total=3):
                pass
            await asyncio.to_thread(count, run)
            return "all"

        events = await read(await runs.start("job", job))
        told = [event.json() for event in events if event.event == "progress"]
        assert 3 <= len(told) < 100
        assert told[-1] == {"done": 2000, "total": 2000, "message": None}
        assert events[-1].json() == {"reason": "done", "result": "all"}
