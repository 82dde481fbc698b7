"""`RunSuite`: runs keep their promises on any log that is a `Ledger`. Subclass it like `LogSuite`:

    class TestRunsOnMyLog(RunSuite):
        @pytest.fixture
        def make_log(self, tmp_path):
            return lambda retention=None: MyLog(tmp_path / "my.log", retention=retention)

Where the log is durable, two hubs on one storage stand for two processes; else two `Runs` share one hub.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from newswire.errors import Closed, InvalidChannel, LogUnavailable, RunNotFound, RunOver
from newswire.hub.frames import Chunk
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.runs import End, Progress, Reasoning, RunOptions, Runs, ToolCall, WorkerOptions
from newswire.runs.dialects import dialect_for
from newswire.runs.dialects.base import END
from newswire.runs.fold import FOLDED
from newswire.runs.record import out_channel, record_channel
from newswire.runs.run import Run
from newswire.testing.log_base import PATIENCE, LogTests, MakeLog
from newswire.wire.decoder import Decoder
from newswire.wire.event import Event

LEASE = 0.6  # seconds; a machine that is so busy that it gives no sign of life for three quarters of it is too busy


async def words(count: int, pause: float = 0.0) -> AsyncIterator[str]:
    """An answer."""
    for number in range(count):
        await asyncio.sleep(pause)
        yield f"{number} "


def answer(count: int) -> str:
    """What `words` say."""
    return "".join(f"{number} " for number in range(count))


async def read(run: Run, after: str | None = None) -> list[Event]:
    """All events of a run, up to and with its end."""
    with anyio.fail_after(PATIENCE):
        return [event async for event in run.subscribe(after)]


async def until(call: Callable[[], Any]) -> None:
    """Wait until `call()` is true."""
    with anyio.fail_after(PATIENCE):
        while not call():  # noqa: ASYNC110  # of other processes' doing
            await asyncio.sleep(0.005)


class Noted:
    """An endless source that notes what becomes of it."""

    def __init__(self) -> None:
        self.begun = 0
        self.closed = 0

    async def __call__(self) -> AsyncIterator[str]:
        self.begun += 1
        try:
            while True:
                yield "tick "
                await asyncio.sleep(0.005)
        finally:
            self.closed += 1


class Taken:
    """A sink that keeps what it is given."""

    def __init__(self, reader: Subscription) -> None:
        self.chunks: list[bytes] = []
        self.over = asyncio.Event()
        self._reader = reader

    def write(self, chunk: Chunk) -> bool:
        self.chunks.append(chunk.raw)
        return True

    def end(self, last: Chunk | None) -> None:
        self._reader.ended()
        self.over.set()

    def cut(self) -> None:
        self.over.set()


async def kill(runs: Runs) -> None:
    """Stop all that a worker does, without a word to anybody, as kill -9 does."""
    worker = await runs.open()
    for task in worker.watch._tasks:
        task.cancel()
    for production in list(worker.productions.values()):
        production.claim.over = True
        if production._task is not None:
            production._task.cancel()


class RunSuite(LogTests):
    """Subclass it, with a fixture `make_log`; see the module."""

    @pytest.fixture
    async def pair(self, make_log: MakeLog) -> AsyncGenerator[tuple[Runs, Runs]]:
        """Two workers on one log."""
        options = WorkerOptions(lease=LEASE)
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(Hub(make_log()))
            second = await stack.enter_async_context(Hub(make_log())) if self.durable else first
            yield (
                await stack.enter_async_context(Runs(first, worker=options)),
                await stack.enter_async_context(Runs(second, worker=options)),
            )

    @pytest.fixture
    async def runs(self, pair: tuple[Runs, Runs]) -> Runs:
        """One worker."""
        return pair[0]

    @pytest.fixture
    async def other(self, pair: tuple[Runs, Runs]) -> Runs:
        """The other one."""
        return pair[1]

    # -- what readers get

    async def test_readers_get_every_part_once_in_order_and_the_end(self, runs: Runs, other: Runs) -> None:
        """Whoever comes, early or late, in this process or another, reads the same events with the same ids."""
        run = await runs.start("chat.1", words(30, 0.001))
        early = asyncio.create_task(read(run))
        events = await read(await other.get(run.id))
        assert [event.data for event in events[:-1]] == [f"{number} " for number in range(30)]
        assert (events[-1].event, events[-1].json()) == (END, {"reason": "done"})
        assert await early == events == await read(run)
        assert await run.text() == answer(30) == await (await other.get(run.id)).text()
        assert await run.end() == End("done")

    async def test_resume_at_every_cut(self, runs: Runs, other: Runs) -> None:
        """From whichever event a reader comes back, it gets each later one exactly once, live or finished."""
        run = await runs.start("chat.1", words(12, 0.002))
        live: list[Event] = []
        later: list[asyncio.Task[list[Event]]] = []
        async for event in run.subscribe():
            live.append(event)
            later.append(asyncio.create_task(read(await other.get(run.id), event.id)))
            if event.event == END:
                break
        for number, task in enumerate(later[:-1], 1):
            assert await task == live[number:]
            assert await read(run, live[number - 1].id) == live[number:]
        later[-1].cancel()

    async def test_cursors_are_untrusted(self, runs: Runs) -> None:
        """Any text for a cursor gives the run from its beginning, behind a gap that says so."""
        before = await runs.start("chat.0", words(3))
        await before.wait()
        run = await runs.start("chat.1", words(3))
        whole = await read(run)
        for cursor in ("garbage", "zzzzzzzz-1", f"{runs.hub.epoch}-999999999", "😀", "\0", "x" * 2**20):
            gap, *rest = await read(run, cursor)
            assert gap.event == "newswire.gap"
            assert rest == whole
        of_another = (await read(before))[0].id
        assert await read(run, of_another) == whole  # its own run's alone, and all of it

    # -- producers

    @pytest.mark.parametrize("kind", ["async", "sync", "function", "job", "thread", "awaitable", "list"])
    async def test_producers(self, runs: Runs, kind: str) -> None:
        """Async and sync iterables, callables of all kinds, and what can be awaited: each produces, and may return."""

        def sync() -> Iterator[str]:
            yield from ("a", "b")

        async def job(run: Run, suffix: str) -> dict[str, str]:
            await run.write("a")
            run.put("b")
            return {"suffix": suffix}

        def thread(run: Run) -> int:
            assert threading.current_thread() is not threading.main_thread()
            run.put("a")
            run.put("b")
            return 2

        async def awaitable() -> Iterator[str]:
            return sync()

        async def parts() -> AsyncIterator[str]:
            for part in sync():
                yield part

        sources: dict[str, Any] = {
            "async": parts(),
            "sync": sync(),
            "function": parts,
            "job": job,
            "thread": thread,
            "awaitable": awaitable(),
            "list": ["a", "b"],
        }
        source = sources.pop(kind)
        for unused in ("async", "awaitable"):
            if unused in sources:
                close = getattr(sources[unused], "aclose", None)
                await close() if close is not None else sources[unused].close()
        run = await runs.start("job", source, args={"suffix": "c"} if kind == "job" else None)
        end = await run.wait()
        assert end == End("done", result={"job": {"suffix": "c"}, "thread": 2}.get(kind))
        assert await run.text() == "ab"

    @pytest.mark.parametrize("after", [0, 3])
    async def test_an_exception_is_a_typed_end(self, runs: Runs, after: int) -> None:
        """What a producer raises, before its first part or later, is told to the readers and ends the run."""

        async def broken() -> AsyncIterator[str]:
            async for word in words(after):
                yield word
            raise ValueError("no such model")

        run = await runs.start("chat.1", broken())
        assert await run.wait() == End("failed", {"type": "ValueError", "message": "no such model"})
        assert await run.text() == answer(after)

    async def test_what_cannot_be_stored_fails_the_run(self, runs: Runs) -> None:
        """A part or a result that is no JSON, and a part that brings an id, are the producer's failure, in words."""

        async def returns() -> object:
            return object()

        async def yields(item: object) -> AsyncIterator[object]:
            yield "a"
            yield item

        end = await (await runs.start("job", returns())).wait()
        assert end.reason == "failed"
        assert "JSON" in (end.error or {})["message"]
        for item in (object(), Event("x", id="1"), Event("x", "error"), b"\xff"):
            run = await runs.start("job", yields(item))
            end = await run.wait()
            assert (end.reason, (end.error or {})["type"]) == ("failed", "InvalidEvent")
            assert await run.text() == "a"

    async def test_a_fast_producer_waits_for_the_log(self, runs: Runs) -> None:
        """What a producer may be ahead of the log is bounded, in the loop and in threads; nothing is lost."""
        ahead = []

        async def fast(run: Run) -> None:
            for _ in range(300):
                await run.write("x" * 1000)
                ahead.append(run._writable()._ahead)

        run = await runs.start("job", fast)
        await run.wait()
        assert len(await run.text()) == 300_000
        assert max(ahead) < 100_000
        in_thread = await runs.start("job", ("x" * 1000 for _ in range(300)))
        assert len([event async for event in in_thread.subscribe()]) == 301

    # -- one producer

    async def test_one_key_one_producer(self, runs: Runs, other: Runs) -> None:
        """However many start at once with one key, in both processes, one source is used and the others are closed."""
        sources = [Noted() for _ in range(100)]
        starts = [
            (runs, other)[index % 2].start("chat.1", source(), key="request 1", options=RunOptions(keep_for=60))
            for index, source in enumerate(sources)
        ]
        started = await asyncio.gather(*starts)
        assert len({run.id for run in started}) == 1
        await until(lambda: sum(source.begun for source in sources) == 1)
        assert await started[0].stop()
        await until(lambda: sum(source.closed for source in sources) == 1)

    async def test_a_key_belongs_to_its_name_and_owner(self, runs: Runs) -> None:
        """Another owner's same key is another run; so is the same key under another name, and no key at all."""
        asked = [("a", "k", None), ("a", "k", "alice"), ("a", "k", "bob"), ("b", "k", None), *[("a", None, None)] * 2]
        ids = [(await runs.start(name, words(1), key=key, owner=owner)).id for name, key, owner in asked]
        assert len(set(ids)) == 6

    # -- the four ends, and what is none

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
        """A worker that comes back after its lease, to find its runs ended, is told so at its next part."""

        async def slow(run: Run) -> str:
            await run.write("before")
            await run.flush()
            (await runs.open()).watch._tasks[1].cancel()  # no signs of life any more
            await asyncio.sleep(2 * LEASE)
            for _ in range(100):
                await run.write("after")
                await run.flush()
            return "was not told"

        run = await runs.start("chat.1", slow)
        assert (await (await other.get(run.id)).wait()).reason == "interrupted"
        production = (await runs.open()).productions.get(run.id)
        if production is not None:  # it has not heard of it yet
            await production.gone()
        assert await (await other.get(run.id)).text() == "before"

    async def test_take_over_goes_on_from_the_last_position(self, runs: Runs, other: Runs) -> None:
        """A registered producer is started again by another process that has it; readers see one whole answer."""
        begun = asyncio.Event()

        async def count(run: Run, upto: int) -> AsyncIterator[str]:
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
        await (await runs.open()).productions[run.id].claim.flushed()
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

        async def rest(run: Run) -> AsyncIterator[str]:
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
        """Closing interrupts what nobody can go on with, at once; its source is closed."""
        source = Noted()
        run = await runs.start("chat.1", source())
        reading = asyncio.create_task(read(await other.get(run.id)))
        await until(lambda: source.begun)
        await runs.close()
        assert (await reading)[-1].json() == {"reason": "interrupted"}
        assert source.closed == 1
        with pytest.raises(Closed):
            await runs.start("chat.2", words(1))

    # -- time

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
        await asyncio.sleep(4 * LEASE)
        assert await run.state() == "running"
        reader.cancel()
        await until(lambda: runs.stats.ended["stopped"])
        assert await run.end() == End("stopped")
        await until(lambda: source.closed)

    async def test_a_run_is_forgotten_when_its_time_is_over(self, runs: Runs) -> None:
        """After `keep_for` it is as if it had never been: no run, no events, no name, and its key is free."""
        run = await runs.start("chat.1", words(3), key="k", options=RunOptions(keep_for=0.05))
        await run.wait()
        worker = await runs.open()
        await until(lambda: worker.watch._kept)
        await asyncio.sleep(0.1)
        with anyio.fail_after(PATIENCE):
            while True:
                await worker.watch._drop_old()
                try:
                    await runs.get(run.id)
                except RunNotFound:
                    break
                await asyncio.sleep(0.02)
        with pytest.raises(RunNotFound):
            await runs.get("chat.1")
        [first, second] = await runs.books.ledger.newest([out_channel(run.id), record_channel(run.id)])
        assert first is second is None
        again = await runs.start("chat.1", words(2), key="k")
        assert (await again.wait()).reason == "done"
        assert await again.text() == answer(2)

    async def test_a_folded_run_is_the_same_run(self, runs: Runs, other: Runs) -> None:
        """Folded, a run is one event of the log; readers get the same events with the same ids, from any cut on."""

        async def parts() -> AsyncIterator[Any]:
            yield Reasoning("thinking …")
            async for word in words(10):
                yield word
            yield {"json": 1}
            yield {"json": 2}
            yield Progress(1, 2)
            yield "\n\n😀 \u2028"
            yield ToolCall("1", "look")

        run = await runs.start("chat.1", parts(), options=RunOptions(compact_after=3600))
        whole = await read(run)
        text = await run.text()
        assert await runs.books.fold(run.id)
        assert not await other.books.fold(run.id)
        page = await runs.hub.log.read(Channels([out_channel(run.id)]), 0, 1000)
        assert [entry.event for entry in page.entries] == [FOLDED]
        for each in (runs, other):
            folded = await each.get(run.id)
            assert await read(folded) == whole
            assert await folded.text() == text
            assert await folded.end() == End("done")
            for number, event in enumerate(whole[:-1], 1):
                assert await read(folded, event.id) == whole[number:]

    async def test_runs_are_folded_in_time(self, runs: Runs) -> None:
        """It happens by itself, when an ended run has been kept as it was for long enough."""
        run = await runs.start("chat.1", words(10), options=RunOptions(compact_after=0.05))
        await run.wait()
        channel = Channels([out_channel(run.id)])
        with anyio.fail_after(PATIENCE):
            while len((await runs.hub.log.read(channel, 0, 1000)).entries) > 1:  # noqa: ASYNC110  # the log's doing
                await asyncio.sleep(0.02)
        assert await run.text() == answer(10)

    async def test_a_late_reader_of_the_native_dialect_gets_one_text(self, runs: Runs) -> None:
        """What a reader is behind with comes as one event, with the id of the last; the rest as it comes."""
        run = await runs.start("chat.1", words(50))
        whole = await read(run)
        for after, event in [(None, None), (whole[20].id, whole[20])]:
            reader = runs.reader(run.record, after, dialect_for("native", run.record.head))
            sink = Taken(reader)
            await reader.open()
            reader.attach(sink, StreamOptions())
            await sink.over.wait()
            events = Decoder().feed(b"".join(sink.chunks))
            assert [each.event for each in events] == ["message", END]
            begin = 0 if event is None else whole.index(event) + 1
            assert events[0].data == "".join(each.data for each in whole[begin:-1])
            assert (events[0].id, events[1].id) == (whole[-2].id, whole[-1].id)

    # -- writing from elsewhere

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
        """The exception goes on in the worker, and the readers are told of it."""
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

    async def test_a_run_that_nobody_claims(self, runs: Runs) -> None:
        """A run that waits for a producer too long is interrupted."""
        run = await runs.start("report.7", options=RunOptions(claim_within=0.1))
        assert (await run.wait()).reason == "interrupted"

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

    # -- progress

    async def test_progress(self, runs: Runs) -> None:
        """Fast progress is told now and then, the last one always, from the loop and from threads, before the end."""

        def count(run: Run) -> None:
            for number in range(2001):
                run.progress(number, 2000)

        async def job(run: Run) -> str:
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

    # -- faults

    async def test_a_log_that_is_away_loses_nothing(self, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the log is away a producer goes on as far as it may; all is stored once, in order, when it is back."""
        ledger = runs.books.ledger
        store = ledger.append_guarded
        calls = 0

        async def flaky(batches: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls % 3:
                return [LogUnavailable("away") for _ in batches]
            return await store(batches)

        monkeypatch.setattr(ledger, "append_guarded", flaky)
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    run = await runs.start("chat.1", words(20, 0.01))
                    break
                except LogUnavailable:
                    pass
        assert (await run.wait()).reason == "done"
        assert await run.text() == answer(20)

    async def test_bad_input_is_refused(self, runs: Runs) -> None:
        """What can't be started says why, and leaves nothing behind; the source that came with it is closed."""
        with pytest.raises(InvalidChannel):
            await runs.start("chat.*", words(1))
        with pytest.raises(InvalidChannel):
            await runs.start("x" * 300, words(1))
        with pytest.raises(ValueError, match="JSON"):
            await runs.start("chat.1", words(1), meta={"model": object()})
        with pytest.raises(ValueError, match="take this run over"):
            await runs.start("chat.1", words(1), options=RunOptions(takeover=True))
        with pytest.raises(ValueError, match="timeout must be greater than 0"):
            RunOptions(timeout=0)
        with pytest.raises(ValueError, match="no dialect"):
            runs.response(None, "chat.1", dialect="esperanto")
        for unknown in ("chat.1", "", "a b", "*", "\0", "x" * 1000, "../..", "\ud800"):
            with pytest.raises(RunNotFound):
                await runs.get(unknown)

    async def test_a_name_means_its_newest_run(self, runs: Runs, other: Runs) -> None:
        """Who knows what a run belongs to, and not its id, gets the one that was started last."""
        await (await runs.start("chat.1", words(1))).wait()
        newest = await runs.start("chat.1", words(2))
        await runs.start("chat.2", words(3))
        assert (await other.get("chat.1")).id == newest.id

    async def test_positions_are_the_logs(self, runs: Runs) -> None:
        """A run's ids are positions of the log like all others, so one cursor serves runs and channels."""
        run = await runs.start("chat.1", words(2))
        events = await read(run)
        after = await runs.hub.publish("news", "x")
        assert all(Position.parse(event.id or "") < after for event in events)
