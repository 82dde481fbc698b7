"""What produces: sources of all kinds, one for a key, and what a log makes of them that is away for a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from tests.runs.suite.base import Noted, RunTests, answer, until, words

from newswire.errors import InvalidChannel, LogUnavailable, RunFailed, RunNotFound
from newswire.runs import End, RunOptions, Runs
from newswire.runs.worker.writer import RunWriter
from newswire.testing.log_base import PATIENCE, MakeLog
from newswire.wire.event import Event


class RunProduceTests(RunTests):
    """Sources, and what becomes of what they give."""

    @pytest.mark.parametrize("kind", ["async", "sync", "function", "job", "thread", "awaitable", "list"])
    async def test_producers(self, runs: Runs, kind: str) -> None:
        """Async and sync iterables, callables of all kinds, and what can be awaited: each produces, and may return."""

        def sync() -> Iterator[str]:
            yield from ("a", "b")

        async def job(run: RunWriter, suffix: str) -> dict[str, str]:
            await run.write("a")
            run.put("b")
            return {"suffix": suffix}

        def thread(run: RunWriter) -> int:
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
        """What a producer raises, before its first part or later, ends the run; readers get a text meant for them."""

        async def broken() -> AsyncIterator[str]:
            async for word in words(after):
                yield word
            raise error

        error: Exception = RunFailed("no such model")
        run = await runs.start("chat.1", broken())
        assert await run.wait() == End("failed", {"type": "RunFailed", "message": "no such model"})
        assert await run.text() == answer(after)
        error = ConnectionError("postgresql://app:hunter2@db/chat is away")
        run = await runs.start("chat.1", broken())
        assert await run.wait() == End(
            "failed", {"type": "ConnectionError", "message": "the producer failed (ConnectionError)"}
        )

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

    async def test_whatever_a_producer_raises_its_run_ends(self, runs: Runs) -> None:
        """No class of exception leaves a run without an end: groups, those that end tasks, and those of threads too."""

        class OfNoKnownKind(BaseException):
            pass

        async def raises(error: BaseException) -> AsyncIterator[str]:
            yield "a"
            raise error

        def raises_in_thread(error: BaseException) -> Iterator[str]:
            yield "a"
            raise error

        for error in (
            OfNoKnownKind(),
            BaseExceptionGroup("two", [OfNoKnownKind(), ValueError()]),
            BaseExceptionGroup("one", [asyncio.CancelledError()]),
            GeneratorExit(),
        ):
            for source in (raises, raises_in_thread):
                run = await runs.start("job", source(error))
                end = await run.wait()
                assert end.reason == "failed"
                assert await run.text() == "a"
        run = await runs.start("job", raises_in_thread(KeyboardInterrupt()))
        assert (await run.wait()).reason == "failed"
        assert (await runs._opened()).producing == 0

    async def test_an_error_that_utf_8_cannot_write_is_told(self, runs: Runs) -> None:
        """Half of a surrogate pair in an error's text is escaped; the error keeps its type and the rest of its text."""

        async def fails(run: RunWriter, error: str | Exception) -> None:
            await run.fail(error)

        for error, kind in ((RunFailed("\ud83d is half"), "RunFailed"), ("\ud83d is half", "Error")):
            run = await runs.start("job", partial(fails, error=error))
            assert (await run.wait()).error == {"type": kind, "message": "\\ud83d is half"}

    async def test_a_time_to_keep_that_is_none_is_refused(self, runs: Runs) -> None:
        """A `keep_for` that can't be stored is the caller's error, and the run can still be ended."""

        async def fails(run: RunWriter) -> None:
            for keep_for in (float("nan"), float("inf"), 0, -1):
                with pytest.raises(ValueError, match="keep_for must be"):
                    await run.fail("it broke", keep_for=keep_for)
            await run.fail("it broke", keep_for=60)

        run = await runs.start("job", fails)
        assert (await run.wait()).error == {"type": "Error", "message": "it broke"}

    async def test_a_fast_producer_waits_for_the_log(self, runs: Runs) -> None:
        """What a producer may be ahead of the log is bounded, in the loop and in threads; nothing is lost."""
        ahead = []

        async def fast(run: RunWriter) -> None:
            for _ in range(300):
                await run.write("x" * 1000)
                ahead.append(run._claim._queue.ahead)

        run = await runs.start("job", fast)
        await run.wait()
        assert len(await run.text()) == 300_000
        assert max(ahead) < 100_000
        many = [await runs.start("job", fast) for _ in range(10)]  # the bound is one for all
        for run in many:
            await run.wait()
            assert len(await run.text()) == 300_000
        assert max(ahead) < 100_000
        in_thread = await runs.start("job", ("x" * 1000 for _ in range(300)))
        assert len([event async for event in in_thread.subscribe()]) == 301

    async def test_one_key_one_producer(self, make_log: MakeLog) -> None:
        """However many start at once with one key, in both processes, one source is used and the others are closed."""
        sources = [Noted() for _ in range(100)]
        async with self.two_workers(make_log, lease=30) as pair:  # a busy machine takes long for so many
            starts = [
                pair[index % 2].start("chat.1", source(), key="request 1", options=RunOptions(keep_for=60))
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

    async def test_a_log_that_is_away_loses_nothing(self, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the log is away a producer goes on as far as it may; all is stored once, in order, when it is back."""
        log = runs.store.log
        append_if, submit = log.append_if, log.submit
        calls = 0

        async def flaky_append_if(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls % 3:
                raise LogUnavailable("away")
            return await append_if(*args)

        def flaky_submit(batches: Any, on_done: Any) -> None:
            nonlocal calls
            calls += 1
            if calls % 3:
                on_done([LogUnavailable("away") for _ in batches], "")
            else:
                submit(batches, on_done)

        monkeypatch.setattr(log, "append_if", flaky_append_if)
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    run = await runs.start("chat.1", words(20, 0.01))
                    break
                except LogUnavailable:
                    pass
        monkeypatch.setattr(log, "append_if", append_if)
        calls = 0
        monkeypatch.setattr(log, "submit", flaky_submit)
        assert (await run.wait()).reason == "done"
        assert await run.text() == answer(20)
        assert calls >= 3

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
        with pytest.raises(ValueError, match="timeout must be a number greater than 0"):
            RunOptions(timeout=0)
        with pytest.raises(ValueError, match="no dialect"):
            runs.response(None, "chat.1", dialect="esperanto")
        for unknown in ("chat.1", "", "a b", "*", "\0", "x" * 1000, "../..", "\ud800"):
            with pytest.raises(RunNotFound):
                await runs.get(unknown)
