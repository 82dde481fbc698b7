"""The part of `LogSuite` about what calls back (`submit` and `tail`), and about tokens."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import anyio
import pytest

from newswire.errors import Closed, EpochChanged, InvalidChannel, InvalidEvent, LimitExceeded, TokenReused
from newswire.log.engine import Batch, Condition, Entry, OnEntries, Outcome
from newswire.log.log import Log
from newswire.testing.log_base import PATIENCE, LogTests, MakeLog, offsets, opened, publish, read_all, submit
from newswire.wire.event import Event


class SubmitTests(LogTests):
    """What calls back promises.

    Attributes:
        tailed_first: whether a tail gets what this log object stores before its publisher goes on (default True).
            An engine that learns of its own events from a server has False.
    """

    tailed_first: ClassVar[bool] = True

    # -- submit

    async def test_what_is_submitted_is_answered(self, log: Log) -> None:
        """With the outcomes that awaiting it gives: the first offset, or None where the condition does not hold."""
        mine = Batch([("a", Event("1")), ("a", Event("2"))], Condition("a", 0))
        late = Batch([("a", Event("x"))], Condition("a", 0))
        [first, refused, other] = await submit(log, mine, late, Batch([("b", Event("3"))]))
        assert isinstance(first, int)
        assert (refused, other) == (None, first + 2)
        assert [entry.data for entry in await read_all(log, "a", "b")] == ["1", "2", "3"]
        assert await submit(log) == []

    async def test_submissions_are_answered_in_order(self, log: Log) -> None:
        """Many without waiting: each is stored behind the one before, and answered after it."""
        found: list[tuple[int, Outcome]] = []
        epochs: set[str] = set()

        def on_done(number: int, outcomes: Sequence[Outcome], epoch: str) -> None:
            found.append((number, outcomes[0]))
            epochs.add(epoch)

        for number in range(200):
            log.submit([Batch([("a", Event(str(number)))])], partial(on_done, number))
        [last] = await submit(log, Batch([("a", Event("last"))]))
        assert [number for number, _ in found] == list(range(200))
        assert [offset for _, offset in found] + [last] == [entry.offset for entry in await read_all(log, "a")]
        assert epochs == {(await log.span()).epoch}

    async def test_more_than_the_engine_takes_at_once(self, log: Log) -> None:
        """However much is submitted together is stored in order, and answered together."""
        batches = [Batch([("a", Event(f"{number}"))] * 30) for number in range(400)]
        outcomes = await submit(log, *batches)
        first = outcomes[0]
        assert isinstance(first, int)
        assert outcomes == [first + 30 * number for number in range(400)]
        assert len(await read_all(log, "a", limit=1000)) == 12_000

    async def test_it_leaves_nothing_to_the_collector(self, log: Log) -> None:
        """No call leaves references in a circle: thousands a second would keep the garbage collector busy."""
        await submit(log, Batch([("a", Event("x"))]))
        gc.collect()
        gc.disable()
        try:
            for number in range(300):
                await submit(log, Batch([("a", Event(str(number)))], Condition("none", 0)))
            assert gc.collect() < 300
        finally:
            gc.enable()

    async def test_a_bad_event_refuses_the_call(self, log: Log) -> None:
        """It raises at once, nothing is stored, and nothing calls back."""
        called: list[object] = []
        for bad in (("no good", "x"), ("good", "x" * (log.limits.event_bytes + 1))):
            batches = [Batch([("good", Event("x"))]), Batch([(bad[0], Event(bad[1]))])]
            with pytest.raises((InvalidChannel, LimitExceeded)):
                log.submit(batches, lambda outcomes, epoch: called.append(outcomes))
        await publish(log, "else", "x")
        assert called == []
        assert await read_all(log, "good") == []

    async def test_limits_are_the_engines(self, log: Log) -> None:
        """What the engine can't store is refused before it sees any of it."""
        limits = log.limits
        if not limits.nul:
            with pytest.raises(InvalidEvent):
                await log.append([("a", Event("a\0b"))])
        if limits.batch_events is not None:
            with pytest.raises(LimitExceeded):
                await log.append([("a", Event("x"))] * (limits.batch_events + 1))
        if limits.batch_bytes is not None:
            with pytest.raises(LimitExceeded):
                await log.append([("a", Event("x" * (limits.batch_bytes // 4)))] * 5)
        assert (await log.span()).latest == 0

    async def test_a_closed_log_takes_nothing(self, make_log: MakeLog) -> None:
        """It raises `Closed`, to publishers and to tails; opened again, it has what it had."""
        async with opened(make_log()) as log:
            numbers = await publish(log, "a", "1")
            span = await log.span()
            await log.close()
            with pytest.raises(Closed):
                log.submit([Batch([("a", Event("x"))])], print)
            with pytest.raises(Closed):
                await log.tail(0, span.epoch, print)
            log.reopen()
            log.reopen()
            assert offsets(await read_all(log, "a")) == numbers
            assert (await log.span()).epoch == span.epoch
            assert (await publish(log, "a", "2"))[0] > numbers[-1]

    # -- tokens

    async def test_a_token_stores_once(self, make_log: MakeLog, log: Log) -> None:
        """A batch that is appended again under its token is there once, and has the positions that it had; also when
        its condition does not hold any more, and in another log object on the storage."""
        batch = [("a", Event("1")), ("b", Event("2"))]
        first = await log.append(batch, token="one")
        assert await log.append(batch, token="one") == first
        for condition in (Condition("a", 0), Condition("a", 7, "another life")):
            assert await log.append_if(batch, condition, token="one") == first
        other = await log.append(batch, token="two")
        assert other[0] > first[-1]
        if self.durable:
            async with opened(make_log()) as another:
                assert await another.append(batch, token="one") == first
        assert all(position.stored for position in first + other)
        assert not any(position.stored for position in await log.append(batch, token="one"))
        assert [entry.data for entry in await read_all(log, "a", "b")] == ["1", "2"] * 2

    async def test_a_token_is_kept_with_the_events(self, make_log: MakeLog) -> None:
        """A log that was closed and opened again knows the tokens that it knew."""
        async with opened(make_log()) as log:
            first = await log.append([("a", Event("1"))], token="one")
            await log.close()
            log.reopen()
            assert await log.append([("a", Event("1"))], token="one") == first

    async def test_the_same_token_at_the_same_time(self, log: Log) -> None:
        """Batches with one token that are submitted together, or one after the other without waiting, are one."""
        batches = [Batch([("a", Event("x"))], None, "one") for _ in range(3)]
        appends = [asyncio.ensure_future(log.append([("a", Event("x"))], token="one")) for _ in range(3)]
        outcomes = await submit(log, *batches)
        found = {position.offset for stored in await asyncio.gather(*appends) for position in stored} | {*outcomes}
        assert len(found) == 1
        assert len(await read_all(log, "a")) == 1

    async def test_a_token_of_another_batch(self, log: Log) -> None:
        """A token that is used for a batch of another length stores nothing, and is an error."""
        await log.append([("a", Event("1")), ("a", Event("2"))], token="one")
        for data in (["1"], ["1", "2", "3"]):
            with pytest.raises(TokenReused, match="another number of events"):
                await log.append([("a", Event(each)) for each in data], token="one")
        assert [entry.data for entry in await read_all(log, "a")] == ["1", "2"]

    async def test_a_refused_token_is_free(self, log: Log) -> None:
        """A batch whose condition did not hold has stored nothing: its token can be used again."""
        await publish(log, "a", "1")
        assert await log.append_if([("a", Event("2"))], Condition("a", 0), token="one") is None
        assert await log.append([("a", Event("2"))], token="one")
        assert [entry.data for entry in await read_all(log, "a")] == ["1", "2"]

    async def test_a_bad_token(self, log: Log) -> None:
        """A token is a text of 1 to 256 characters."""
        for token in ("", "x" * 257):
            with pytest.raises(ValueError, match="token"):
                await log.append([("a", Event("1"))], token=token)

    # -- tail

    async def test_a_tail_gets_all_of_it(self, log: Log) -> None:
        """First what was there before, then what is appended, in order."""
        before = await publish(log, "a", "1", "2")
        taken: list[Entry] = []
        async with _tailing(log, 0, lambda entries, last: taken.extend(entries)):
            await _until(taken, 2)
            for number in range(20):
                [offset] = await publish(log, f"c.{number}", str(number))
                await _until(taken, 3 + number)  # also of a log that gives it first: the tail may not wait yet
                assert taken[-1] == (offset, f"c.{number}", "message", str(number), taken[-1].time)
            assert offsets(taken[:2]) == before
            assert len(taken) == 22
        await publish(log, "a", "after it was cancelled")
        assert len(taken) == 22

    async def test_what_is_stored_together_is_taken_together(self, log: Log) -> None:
        """What was submitted in one call reaches a tail that waits in one call, before its publisher goes on. A log
        that learns of its own events later gives them in order, and calls back once."""
        seen: list[Any] = []

        def take(entries: Sequence[Entry], last: bool) -> None:
            seen.append(([entry.data for entry in entries], last))

        async with _tailing(log, 0, take):
            await publish(log, "a", "0")
            await _until(seen, 1)
            await anyio.sleep(0.01)
            seen.clear()
            batches = [Batch([("a", Event("1")), ("a", Event("2"))]), Batch([("a", Event("3"))])]
            log.submit(batches, lambda outcomes, epoch: seen.append(len(outcomes)))
            if self.tailed_first:
                await _until(seen, 2)
                assert seen == [(["1", "2", "3"], True), 2]
                return
            while 2 not in seen or sum(len(each[0]) for each in seen if each != 2) < 3:
                await _until(seen, len(seen) + 1)
            assert [data for each in seen if each != 2 for data in each[0]] == ["1", "2", "3"]
            assert seen.count(2) == 1

    async def test_each_comes_once(self, make_log: MakeLog, log: Log) -> None:
        """However appends of several logs on one storage fall together, and tails that begin meanwhile."""
        channels = [f"c.{index}" for index in range(6)]

        async def append(log: Log, name: str) -> None:
            for number in range(150):
                await log.append([(name, Event(str(number)))] * (1 + number % 3))
                if number % 7 == 0:
                    await anyio.sleep(0.002)

        found: list[Entry] = []
        late: list[Entry] = []
        async with (
            opened(make_log() if self.durable else log) as another,
            _tailing(log, 0, lambda entries, last: found.extend(entries)),
        ):
            async with anyio.create_task_group() as appending:
                for index, channel in enumerate(channels):
                    appending.start_soon(append, another if index % 2 else log, channel)
                await _until(found, 300)
                async with _tailing(log, 0, lambda entries, last: late.extend(entries)):
                    await _until(late, 6 * 300)
            await _until(found, 6 * 300)
            assert found == late == await read_all(log, *channels)

    async def test_what_is_taken_may_append(self, log: Log) -> None:
        """A tail's callback may store more."""
        taken: list[str] = []

        def take(entries: Sequence[Entry], last: bool) -> None:
            taken.extend(entry.data for entry in entries)
            if len(taken) < 50:
                log.submit([Batch([("a", Event(str(len(taken))))])], lambda outcomes, epoch: None)

        async with _tailing(log, 0, take):
            await publish(log, "a", "0")
            await _until(taken, 50)
        data = [entry.data for entry in await read_all(log, "a")]
        assert data == taken == [str(number) for number in range(50)]

    async def test_a_callback_that_fails(self, log: Log) -> None:
        """What a tail's callback raises ends that tail, which raises it; publishers and other tails go on."""
        taken: list[Entry] = []

        def fail(entries: Sequence[Entry], last: bool) -> None:
            raise KeyError("a bug")

        async with _tailing(log, 0, lambda entries, last: taken.extend(entries)):
            failing = asyncio.ensure_future(log.tail(0, (await log.span()).epoch, fail))
            await publish(log, "a", "1", "2")
            with anyio.fail_after(PATIENCE), pytest.raises(KeyError):
                await failing
            await _until(taken, 2)

    async def test_a_tail_ends_with_the_log(self, make_log: MakeLog) -> None:
        """It returns when the log is closed."""
        async with opened(make_log()) as log:
            tail = asyncio.ensure_future(log.tail(0, (await log.span()).epoch, print))
            await asyncio.sleep(0)
            await log.close()
            with anyio.fail_after(PATIENCE):
                await tail

    async def test_a_tail_of_another_life(self, log: Log) -> None:
        """A tail after a place in another life of the log ends with `EpochChanged`."""
        await publish(log, "a", "1")
        with anyio.fail_after(PATIENCE), pytest.raises(EpochChanged) as caught:
            await log.tail(0, "another0", print)
        assert caught.value.epoch == (await log.span()).epoch


@asynccontextmanager
async def _tailing(log: Log, after: int, take: OnEntries) -> AsyncGenerator[None]:
    """Tail within the block."""
    tail = asyncio.ensure_future(log.tail(after, (await log.span()).epoch, take))
    try:
        yield
    finally:
        tail.cancel()
        await asyncio.wait([tail])
        if not tail.cancelled():
            tail.result()


async def _until(found: Sequence[object], count: int) -> None:
    """Wait until so many things are there."""
    with anyio.fail_after(PATIENCE):
        while len(found) < count:  # noqa: ASYNC110  # what it waits for has no callback
            await anyio.sleep(0.001)
