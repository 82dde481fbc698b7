"""How runs end, and what is no end: stops, dead workers and those that only seemed so, and taking over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest
from tests.runs.suite.base import LEASE, Noted, RunTests, answer, kill, read, until, words

from newswire.errors import Closed
from newswire.runs import End, RunOptions, Runs
from newswire.runs.reading.run import Run
from newswire.runs.worker.writer import RunWriter
from newswire.testing.log_base import PATIENCE


class RunEndTests(RunTests):
    """Ends, and take-over."""

    async def test_stop_ends_the_producer_wherever_it_is(self, runs: Runs, other: Runs) -> None:
        """A stop from another process: every reader gets `stopped`, the producer is closed; a second stop is none."""
        source = Noted()
        run = await runs.start("chat.1", source())
        reading = [asyncio.create_task(read(each)) for each in (run, await other.get(run.id))]
        await until(lambda: source.begun)
        assert await other.stop(run.id)
        for events in await asyncio.gather(*reading):
            assert events[-1].json() == {"reason": "stopped"}
        await until(lambda: source.closed)
        assert not await other.stop(run.id)
        assert not await run.stop()

    async def test_a_reader_that_leaves_stops_nothing(self, runs: Runs) -> None:
        """The end of a connection is never the end of a run."""
        run = await runs.start("chat.1", words(20, 0.005))
        async for _ in run.subscribe():
            break
        assert await run.wait() == End("done")
        assert await run.text() == answer(20)

    async def test_a_dead_worker_leaves_interrupted(self, runs: Runs, other: Runs) -> None:
        """When the worker dies, readers get `interrupted` within the lease; what it still writes counts no more."""
        source = Noted()
        run = await runs.start("chat.1", source())
        reading = asyncio.create_task(read(await other.get(run.id)))
        await until(lambda: source.begun)
        await kill(runs)
        events = await reading
        assert events[-1].json() == {"reason": "interrupted"}
        assert await (await other.get(run.id)).text() == "".join(event.data for event in events[:-1])

    async def test_who_was_taken_for_dead_can_not_write(self, runs: Runs, other: Runs) -> None:
        """A worker that comes back after its lease, to find its runs ended, hears so at its next part."""

        async def slow(run: RunWriter) -> str:
            await run.write("before")
            await run.flush()
            await (await runs._opened()).monitor.stop("heartbeat")
            await asyncio.sleep(2 * LEASE)
            for _ in range(100):
                await run.write("after")
                await run.flush()
            return "was not told"

        run = await runs.start("chat.1", slow)
        assert (await (await other.get(run.id)).wait()).reason == "interrupted"
        await until(lambda: not runs.producing)
        assert await (await other.get(run.id)).text() == "before"

    async def test_take_over_goes_on_from_the_last_position(self, runs: Runs, other: Runs) -> None:
        """A registered producer is started again by another process that has it; readers see one whole answer."""
        begun = asyncio.Event()

        async def count(run: RunWriter, upto: int) -> AsyncIterator[str]:
            have = len((await run.text()).split())
            for number in range(have, upto):
                yield f"{number} "
                if number == 5 and not run.taken_over:
                    begun.set()
                    await asyncio.sleep(PATIENCE)

        for each in (runs, other):
            each.producer(count)
        run = await runs.start("chat.1", count, args={"upto": 12}, options=RunOptions(takeover=True))
        reading = asyncio.create_task(read(await other.get(run.id)))
        await begun.wait()
        await (await runs._opened()).productions[run.id].claim.flushed()
        await kill(runs)
        events = await reading
        assert "".join(event.data for event in events[:-1]) == answer(12)
        assert events[-1].json() == {"reason": "done"}
        assert other.stats.taken_over == 1

    async def test_take_over_by_key(self, runs: Runs, other: Runs) -> None:
        """Without a registered producer, whoever starts the run with the same key again goes on with it."""
        options = RunOptions(takeover=True)
        run = await runs.start("chat.1", Noted()(), key="k", options=options)
        await until(lambda: runs.stats.started)
        await asyncio.sleep(0.05)
        await kill(runs)

        async def rest(run: RunWriter) -> AsyncIterator[str]:
            yield "rest"

        async def again() -> Run:
            while True:
                found = await other.start("chat.1", rest, key="k", options=options)
                if found.taken_over:
                    return found
                await asyncio.sleep(0.02)

        with anyio.fail_after(PATIENCE):
            assert (await again()).id == run.id
        assert (await (await other.get(run.id)).wait()).reason == "done"
        assert (await (await other.get(run.id)).text()).endswith("tick rest")

    async def test_nobody_takes_over(self, runs: Runs, other: Runs) -> None:
        """A run that could be taken over, and is not, ends as interrupted all the same."""
        run = await runs.start("chat.1", Noted()(), key="k", options=RunOptions(takeover=True))
        reading = asyncio.create_task(read(await other.get(run.id)))
        await kill(runs)
        assert (await reading)[-1].json() == {"reason": "interrupted"}

    async def test_a_worker_that_closes_lets_go(self, runs: Runs, other: Runs) -> None:
        """Closing interrupts what no worker can go on with, at once; its source is closed."""
        source = Noted()
        run = await runs.start("chat.1", source())
        reading = asyncio.create_task(read(await other.get(run.id)))
        await until(lambda: source.begun)
        await runs.close()
        assert (await reading)[-1].json() == {"reason": "interrupted"}
        assert source.closed == 1
        with pytest.raises(Closed):
            await runs.start("chat.2", words(1))
