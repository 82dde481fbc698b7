"""Runs whose log, threads or producers get into trouble: each run still comes to its one end."""

from __future__ import annotations

import asyncio
import datetime
import random
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pydantic
import pytest
from tests.fixtures.engines import Valkey
from tests.runs.suite.base import Noted, answer, until, words

from newswire import Hub
from newswire.errors import InvalidEvent, LimitExceeded, LogCorrupt, LogError, LogUnavailable, RunNotFound, RunOver
from newswire.log.engine import Batch, Condition
from newswire.log.memory import MemoryLog
from newswire.runs import RunOptions, Runs, WorkerOptions
from newswire.runs.dialects import dialect_for
from newswire.runs.dialects.base import End
from newswire.runs.reading.run import Run
from newswire.runs.store.record import Record, out_channel, record_channel, worker_channel
from newswire.runs.worker.writer import RunWriter
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
LEASE = 1.0


class Poisoned(MemoryLog):
    """A log that fails as a whole where one batch is poisoned: it calls back, at once or later, or raises."""

    def __init__(self, error: Exception, *, raises: bool, later: bool) -> None:
        super().__init__()
        self.error = error
        self.later = later
        self.raises = raises

    def _bad(self, batches: Sequence[Batch]) -> bool:
        return any("poison" in event.data for batch in batches for _, event in batch.events)

    def submit(self, batches: Sequence[Batch], on_done: Any) -> None:
        if not self._bad(batches):
            super().submit(batches, on_done)
        elif self.raises or not isinstance(self.error, LogError):
            raise self.error
        elif self.later:
            asyncio.get_running_loop().call_soon(on_done, [self.error] * len(batches), "")
        else:
            on_done([self.error] * len(batches), "")


ERRORS = [
    LogError("no"),
    LogCorrupt("the file is damaged"),
    ValueError("no such table"),
    KeyError("x"),
    OSError(5, "Input/output error"),
    AssertionError(),
    LimitExceeded("event size", limit=1, actual=2),
]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_log_error_fails_the_run_that_it_is_about(error: Exception, raises: bool, later: bool) -> None:
    """Whatever a log raises at one run's batch, that run ends as failed, and those stored with it lose nothing."""
    log: Any = Poisoned(error, raises=raises, later=later)
    begin = asyncio.Event()

    async def produce(poison: bool) -> AsyncIterator[str]:
        await begin.wait()
        for number in range(20):
            yield "poison" if poison and number == 10 else f"{number} "
            await asyncio.sleep(0)

    async with asyncio.timeout(PATIENCE), Hub(log) as hub, Runs(hub, public=True) as runs:
        made = [await runs.start("job", produce(number == 3)) for number in range(8)]
        writer = (await runs._opened()).productions[made[3].id].writer
        begin.set()
        ends = [await run.wait() for run in made]
        assert [end.reason for end in ends] == ["failed" if number == 3 else "done" for number in range(8)]
        assert (ends[3].error or {})["type"] == "LogError"
        assert answer(10).startswith(await made[3].text())
        for number, run in enumerate(made):
            assert number == 3 or await run.text() == answer(20)
        assert runs.producing == 0
        with pytest.raises(RunOver):
            writer.put("more")


class Fickle(MemoryLog):
    """A log that raises something, now and then, before or after it has done its work."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.calm = True

    def _maybe(self) -> None:
        if not self.calm and self.random.random() < 0.2:
            raise self.random.choice([LogUnavailable("away"), LogUnavailable("away"), OSError("disk"), KeyError("k")])

    def submit(self, batches: Sequence[Batch], on_done: Any) -> None:
        self._maybe()
        super().submit(batches, on_done)

    async def append_if(self, events: Any, condition: Condition, **options: Any) -> Any:
        self._maybe()
        stored = await super().append_if(events, condition, **options)
        self._maybe()
        return stored

    async def newest(self, channels: Sequence[str]) -> Any:
        self._maybe()
        return await super().newest(channels)

    async def drop(self, cuts: Any) -> int:
        self._maybe()
        return await super().drop(cuts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_every_run_gets_one_end_on_a_fickle_log(seed: int) -> None:
    """A random walk on a log that raises anything anywhere: each run that is in the log gets exactly one end."""
    log = Fickle(seed)
    options = WorkerOptions(lease=LEASE)
    async with asyncio.timeout(PATIENCE), Hub(log) as hub:
        async with Runs(hub, public=True, worker=options) as runs, Runs(hub, public=True, worker=options) as other:
            log.calm = False
            started: list[Run] = []
            for number in range(40):
                maker = log.random.choice([runs, other])
                try:
                    started.append(await maker.start("job", words(5, 0.001), key=str(number)))
                except (LogError, OSError, KeyError):
                    continue  # it may be in the log all the same
                if log.random.random() < 0.2:
                    try:
                        await log.random.choice([runs, other]).stop(started[-1].id)
                    except (LogError, OSError, KeyError):
                        pass
                await asyncio.sleep(0.002)
            log.calm = True
            await asyncio.gather(*(run.wait() for run in started))
            await until(lambda: not runs.producing and not other.producing)
            monitor = (await runs._opened()).monitor
            await until(lambda: not monitor.unfinished)
        out = [entry for entry in log.engine._kept.all.after(0, 10**6) if entry.channel.startswith(out_channel(""))]
        ids = {entry.channel for entry in out if log.engine._kept.has(entry)}
        assert len(ids) >= len(started)
        for name in ids:
            assert [entry.event for entry in log.engine._kept.after(name, 0, 10**6)].count("newswire.end") == 1


@pytest.mark.slow
async def test_threads_that_write_to_one_run_never_wait_for_each_other() -> None:
    """Many threads put at the same moment, again and again: everything is stored, each thread's parts in order."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads, rounds = 8, 400
    try:
        async with asyncio.timeout(PATIENCE), Hub() as hub, Runs(hub, public=True) as runs:

            def produce(run: RunWriter) -> None:
                def write(name: int) -> None:
                    for number in range(rounds):
                        barrier.wait(PATIENCE)
                        run.put(f"{name}:{number} ")

                barrier = threading.Barrier(threads)
                made = [threading.Thread(target=write, args=(name,)) for name in range(threads)]
                for thread in made:
                    thread.start()
                for thread in made:
                    thread.join()

            run = await runs.start("job", produce)
            assert (await run.wait()).reason == "done"
            parts = [part.split(":") for part in (await run.text()).split()]
            for name in range(threads):
                assert [int(number) for each, number in parts if each == str(name)] == list(range(rounds))
    finally:
        sys.setswitchinterval(before)


async def test_the_last_progress_is_never_lost() -> None:
    """Progress from several threads: readers get the last that each moment had, and the very last always."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        async with asyncio.timeout(PATIENCE), Hub() as hub, Runs(hub, public=True) as runs:

            def produce(run: RunWriter) -> None:
                for number in range(3000):
                    run.progress(number, 3000)

            for _ in range(5):
                run = await runs.start("job", produce)
                events = [event async for event in run.subscribe()]
                assert events[-1].json() == {"reason": "done"}
                assert events[-2].json()["done"] == 2999
    finally:
        sys.setswitchinterval(before)


async def test_a_thread_does_not_outwait_its_event_loop() -> None:
    """A thread that is ahead of an event loop that is gone gets `RunOver`, and does not wait for ever."""
    errors: list[BaseException] = []
    done = threading.Event()

    def produce() -> Iterator[str]:
        try:
            while True:
                yield "x" * 1000
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            done.set()

    async def main() -> None:
        hub = Hub()
        runs = Runs(hub, public=True)
        await runs.start("job", produce())
        await asyncio.sleep(0.05)

    await asyncio.to_thread(asyncio.run, main())
    assert await asyncio.to_thread(done.wait, PATIENCE)


async def test_limits_are_the_runs_own() -> None:
    """A time limit that a run was started with counts for a producer that claims the run later, in any process."""
    async with asyncio.timeout(PATIENCE), Hub() as hub, Runs(hub, public=True) as runs, Runs(hub, public=True) as other:
        for limit, said in ((RunOptions(timeout=0.1), "longer than 0.1"), (RunOptions(idle_timeout=0.1), "nothing")):
            run = await runs.start("job", options=limit)
            attached = await other.attach(run.id)
            attached.put("a")
            assert said in ((await run.wait()).error or {})["message"]
            with pytest.raises(RunOver):
                attached.put("b")


@pytest.mark.slow
async def test_limits_go_with_a_take_over() -> None:
    """Who takes a run over has its limits too."""
    async with asyncio.timeout(PATIENCE), Hub() as hub, Runs(hub, public=True) as other:
        runs = Runs(hub, public=True)
        for each in (runs, other):
            each.producer(forever)
        run = await runs.start("job", forever, options=RunOptions(takeover=True, timeout=1.0, idle_timeout=0.5))
        await runs.close()
        end = await (await other.get(run.id)).wait()
        assert (end.error or {})["type"] == "TimeoutError"
        assert other.stats.taken_over == 1


async def forever() -> None:
    """A job that never ends."""
    await asyncio.Event().wait()


class Unspeakable(Exception):
    """An exception that can't be printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.slow
async def test_whatever_a_producer_does_its_run_ends() -> None:
    """Exceptions that can't be printed, exits, another run's error, results that are no JSON: the run fails."""
    async with asyncio.timeout(PATIENCE), Hub() as hub, Runs(hub, public=True) as runs:
        over = await runs.attach((await runs.start("job", forever)).id)
        await over.stop()
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]

        def unspeakable() -> None:
            raise Unspeakable

        def leaves() -> None:
            sys.exit(3)

        async def writes_to_another() -> None:
            await over.write("x")

        async def returns_deep() -> Any:
            return deep

        async def returns_nan() -> Any:
            return {"share": float("nan")}

        async def progresses(run: RunWriter) -> None:
            run.progress(float("nan"))

        for source in (unspeakable, leaves, writes_to_another, returns_deep, returns_nan, progresses):
            assert (await (await runs.start("job", source)).wait()).reason == "failed", source
        assert runs.producing == 0


class Stream:
    """What clients of AI APIs give: an iterator, whose iteration is another object, and which holds a connection."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[str]:
        while True:
            yield "word "

    def __next__(self) -> str:
        return "word "

    def close(self) -> None:
        """Let go of the connection."""
        self.closed.set()


class AsyncStream:
    """Its twin."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            yield "word "
            await asyncio.sleep(0)

    async def __anext__(self) -> str:
        return "word "

    async def close(self) -> None:
        """Let go of the connection."""
        self.closed.set()


@pytest.mark.parametrize("kind", [Stream, AsyncStream])
async def test_a_stop_closes_the_stream_of_an_api(kind: type[Stream | AsyncStream]) -> None:
    """It would go on, and cost tokens, until its memory is collected."""
    stream = kind()
    async with Hub() as hub, Runs(hub, public=True) as runs:
        run = await runs.start("chat", stream)  # type: ignore[arg-type]
        await anext(aiter(run.subscribe()))
        assert await run.stop()
        assert await asyncio.to_thread(stream.closed.wait, PATIENCE)


async def test_progress_is_refused_where_it_is_made() -> None:
    """A number that JSON has no word for is refused at the call."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        source = Noted()
        await runs.start("job", source())
        other = await runs.attach((await runs.start("report")).id)
        with pytest.raises(InvalidEvent):
            other.progress(1, float("inf"))
        await other.finish()


async def test_what_a_producer_returns_is_said_as_what_it_yields() -> None:
    """A model, a dataclass or a datetime may be a run's result, and of its meta: everybody reads it as JSON says it."""

    class Summary(pydantic.BaseModel):
        words: int
        at: datetime.datetime

    summary = Summary(words=3, at=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
    plain = {"words": 3, "at": "2026-01-02T00:00:00Z"}

    async def answer() -> dict[str, Any]:
        return {"of": [summary]}

    async with Hub() as hub, Runs(hub, public=True) as runs:
        run = await runs.start("job", answer, meta={"last": summary})
        assert await run.wait() == End("done", result={"of": [plain]})
        assert (await runs.get(run.id)).record.end == End("done", result={"of": [plain]})
        assert (await runs.get(run.id)).record.meta == {"last": plain}


async def test_an_exception_keeps_its_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """Readers get the type of an exception; the log gets its text, without passwords; an option sends it to them."""
    secret = "could not connect to postgresql://app:hunter2@db/chat"

    async def broken() -> AsyncIterator[str]:
        yield "a"
        raise ConnectionError(secret)

    for tell in (False, True):
        async with Hub() as hub, Runs(hub, public=True, worker=WorkerOptions(tell_errors=tell)) as runs:
            run = await runs.start("job", broken())
            error = (await run.wait()).error or {}
            assert error["type"] == "ConnectionError"
            assert ("could not connect" in error["message"]) is tell
            attached = await runs.attach((await runs.start("report")).id)
            await attached.fail(ValueError(secret))
            assert ("could not connect" in ((await attached.end()).error or {})["message"]) is tell  # type: ignore[union-attr]
            said = await runs.attach((await runs.start("report")).id)
            await said.fail(secret)
            assert await said.end() == End("failed", {"type": "Error", "message": secret.replace("app:hunter2@", "")})
            events = [event.data async for event in run.subscribe()]
            assert "hunter2" not in str(events)
    assert "could not connect to postgresql://db/chat" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_record_that_can_not_be_read_harms_no_other_run() -> None:
    """Damaged records and heartbeats are passed over: other runs are watched, ended, dropped and read."""
    async with asyncio.timeout(PATIENCE), Hub() as hub:
        await hub.log.append(
            [
                (record_channel("a.aaaaaaaaaaaaaaaaaaaa"), Event("{", "record")),
                (record_channel("a.bbbbbbbbbbbbbbbbbbbb"), Event('{"id": 1}', "record")),
                (worker_channel("x"), Event("[]", "sign")),
            ]
        )
        async with Runs(hub, public=True, worker=WorkerOptions(lease=0.4)) as runs:
            with pytest.raises(LogCorrupt):
                await runs.get("a.aaaaaaaaaaaaaaaaaaaa")
            run = await runs.start("job", words(2), options=RunOptions(keep_for=0.05))
            assert (await run.wait()).reason == "done"
            monitor = (await runs._opened()).monitor
            await until(lambda: monitor.expiry._drop)
            bad = Record(id="a.aaaaaaaaaaaaaaaaaaaa", name="a", state="ended", created=1.0, ended_at=1.0, keep_for=0.01)
            monitor.expiry.add(bad, seen_live=True)
            while monitor.expiry._drop:  # of time's doing
                await asyncio.sleep(0.02)
                await monitor.expiry.drop_old()
            with pytest.raises(RunNotFound):
                await run.state()
            assert (await (await runs.start("job", words(2))).wait()).reason == "done"


async def test_waiting_for_an_event_of_a_run_can_be_cancelled() -> None:
    """A wait for a run's next event that is cancelled, again and again, loses nothing: the next call goes on."""
    async with asyncio.timeout(PATIENCE), Hub() as hub, Runs(hub, public=True) as runs:
        run = await runs.start("job", words(20, 0.01))
        events = aiter(run.subscribe())
        got: list[str] = []
        while True:
            try:
                async with asyncio.timeout(0.003):
                    event = await anext(events)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
            got.append(event.data)
        assert got == [*(f"{number} " for number in range(20)), '{"reason":"done"}']


async def test_opening_a_reader_twice_tells_its_dialect_nothing_twice() -> None:
    """A server opens a stream before its response does, so that what fails is still a status code."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        run = await runs.start("chat", iter("abc"))
        await run.wait()
        first = await anext(aiter(run.subscribe()))
        record = (await runs.get(run.id)).record
        for times in (1, 2):
            dialect = dialect_for("openai-chat", record.head)
            reader = runs._readers.read(record, first.id, dialect=dialect)
            for _ in range(times):
                await reader.open()
            before = [event.json()["choices"][0]["delta"].get("content") for event in dialect.prelude()]
            assert [text for text in before if text] == ["a"]
            reader.close()


async def test_the_key_of_a_run_that_the_log_has_removed_starts_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is full removes the oldest, whatever it is: the key leads nowhere then, and is good again."""
    async with Hub(MemoryLog(max_bytes=50_000)) as hub, Runs(hub, public=True) as runs:
        first = await runs.start("job", words(1), key="k")
        await first.wait()
        for _ in range(3):
            await hub.publish("other", "x" * 40_000)
        with pytest.raises(RunNotFound):
            await runs.get(first.id)
        tries: list[str] = []
        find = runs.store.find

        async def counted(run_id: str) -> Record | None:
            tries.append(run_id)
            assert len(tries) < 10  # else it goes on for ever
            return await find(run_id)

        monkeypatch.setattr(runs.store, "find", counted)
        again = await runs.start("job", words(2), key="k")
        assert again.started
        assert (await again.wait()).reason == "done"
        assert not (await runs.start("job", words(2), key="k")).started


async def test_a_key_is_one_run_after_the_log_was_wiped() -> None:
    """Also for a process that was there before, and one that came later."""
    with Valkey() as server:
        async with Hub(server.url) as old, Runs(old, public=True) as before:
            await (await before.start("job", words(1), key="first")).wait()
            server.ask("FLUSHALL")
            async with Hub(server.url) as new, Runs(new, public=True) as after:
                run = await after.start("job", words(2), key="second")
                async with asyncio.timeout(PATIENCE):
                    while old.epoch != new.epoch:
                        await asyncio.sleep(0.01)
                assert (await before.start("job", words(3), key="second")).id == run.id


async def one_word_and_no_more() -> AsyncIterator[str]:
    """An answer that never ends."""
    yield "word"
    await asyncio.Event().wait()


async def test_each_reader_gets_an_end_when_the_log_is_wiped() -> None:
    """No reader waits for the end of a run that is in no log any more, and new runs go on as before."""
    with Valkey() as server:
        async with (
            asyncio.timeout(PATIENCE),
            Hub(server.url) as hub,
            Runs(hub, public=True, worker=WorkerOptions(lease=LEASE)) as runs,
        ):
            run = await runs.start("chat", one_word_and_no_more, key="k")
            reader = aiter(run.subscribe())
            await anext(reader)
            waiting = asyncio.create_task(run.wait())
            server.ask("FLUSHALL")
            *_, last = [event async for event in reader]
            assert last.json()["error"]["type"] == "EventsLost"
            with pytest.raises(RunNotFound):
                await waiting
            again = await runs.start("chat", words(3), key="k")
            assert again.started
            assert (await again.wait()).reason == "done"
