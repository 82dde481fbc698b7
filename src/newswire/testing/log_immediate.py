"""`ImmediateSuite`: what a log with the powers of `Immediate` keeps to. Subclass it like `LogSuite`, beside it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import pytest

from newswire.errors import Closed, InvalidChannel, LimitExceeded
from newswire.log.base import Entry, Log
from newswire.log.batch import MAX_EVENT_BYTES
from newswire.log.immediate import Immediate, Take
from newswire.log.ledger import Guarded, Outcome
from newswire.testing.log_base import PATIENCE, LogTests, MakeLog, offsets, opened, publish, read_all
from newswire.wire.event import Event


class ImmediateSuite(LogTests):
    """Subclass it, with a fixture `make_log`; see `newswire.testing.LogSuite`."""

    @pytest.fixture
    def immediate(self, log: Log) -> Immediate:
        """The same log, as what it can do beside."""
        assert isinstance(log, Immediate)
        return log

    # -- submit

    async def test_what_is_submitted_is_settled(self, log: Log, immediate: Immediate) -> None:
        """With the outcomes that awaiting it gives: the first offset, or None where something came in between."""
        mine = Guarded([("a", Event("1")), ("a", Event("2"))], "a", 0)
        [first, refused, other] = await settled(
            immediate, mine, Guarded([("a", Event("x"))], "a", 0), Guarded([("b", Event("3"))], "b", 0)
        )
        assert isinstance(first, int)
        assert (refused, other) == (None, first + 2)
        assert [entry.data for entry in await read_all(log, "a", "b")] == ["1", "2", "3"]
        assert await settled(immediate) == []

    async def test_submissions_are_settled_in_order(self, log: Log, immediate: Immediate) -> None:
        """Many without waiting: each is stored behind the one before, and settled after it."""
        found: list[tuple[int, Outcome]] = []
        for number in range(200):
            batch = Guarded([("a", Event(str(number)))], "none", 0)
            immediate.submit([batch], partial(lambda number, outcomes: found.append((number, outcomes[0])), number))
        [last] = await settled(immediate, Guarded([("a", Event("last"))], "none", 0))
        assert [number for number, _ in found] == list(range(200))
        assert [offset for _, offset in found] + [last] == [entry.offset for entry in await read_all(log, "a")]

    async def test_it_leaves_nothing_to_the_collector(self, immediate: Immediate) -> None:
        """No call leaves references in a circle: thousands a second would keep the garbage collector busy."""
        await settled(immediate, Guarded([("a", Event("x"))], "none", 0))
        gc.collect()
        gc.disable()
        try:
            for number in range(300):
                await settled(immediate, Guarded([("a", Event(str(number)))], "none", 0))
            assert gc.collect() < 300
        finally:
            gc.enable()

    @pytest.mark.parametrize("bad", [("no good", "x"), ("good", "x" * (MAX_EVENT_BYTES + 1))])
    async def test_a_bad_event_refuses_all(self, log: Log, immediate: Immediate, bad: tuple[str, str]) -> None:
        """It raises at once, nothing is stored, and nobody is called back."""
        called: list[object] = []
        batches = [Guarded([("good", Event("x"))], "good", 0), Guarded([(bad[0], Event(bad[1]))], "other", 0)]
        with pytest.raises((InvalidChannel, LimitExceeded)):
            immediate.submit(batches, called.append)
        await publish(log, "else", "x")
        assert called == []
        assert await read_all(log, "good") == []

    async def test_a_closed_log_takes_nothing(self, make_log: MakeLog) -> None:
        """It says so, to who submits and to who follows."""
        async with opened(make_log()) as log:
            assert isinstance(log, Immediate)
            await log.close()
            with pytest.raises(Closed):
                log.submit([Guarded([("a", Event("x"))], "a", 0)], print)
            with pytest.raises(Closed):
                await anext(log.follow_at_once(0, print))

    # -- follow_at_once

    async def test_what_is_appended_while_it_waits_is_taken(self, log: Log, immediate: Immediate) -> None:
        """What was there before comes out of the iterator; the rest is taken before its append returns."""
        before = await publish(log, "a", "1", "2")
        taken: list[Entry] = []
        async with anyio.create_task_group() as tasks:
            came = await self._follow(immediate, tasks, taken, 0)
            assert offsets(came) == before
            for number in range(20):
                [offset] = await publish(log, f"c.{number}", str(number))
                assert taken[-1] == (offset, f"c.{number}", "message", str(number), taken[-1].time)
            assert len(taken) == 20
            tasks.cancel_scope.cancel()
        await publish(log, "a", "after it was closed")
        assert len(taken) == 20

    async def test_it_is_taken_before_it_is_settled(self, immediate: Immediate) -> None:
        """And whole, as far as it was submitted together."""
        seen: list[object] = []

        def take(entries: Sequence[Entry], whole: bool) -> None:
            seen.append(([entry.data for entry in entries], whole))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, immediate, 0, [], take)
            await _waits(immediate, seen)
            seen.clear()
            batches = [Guarded([("a", Event("1")), ("a", Event("2"))], "x", 0), Guarded([("a", Event("3"))], "y", 0)]
            immediate.submit(batches, lambda outcomes: seen.append(len(outcomes)))
            await _until(lambda: len(seen) > 1)
            assert seen == [(["1", "2", "3"], True), 2]
            tasks.cancel_scope.cancel()

    async def test_each_comes_once_one_way_or_the_other(self, make_log: MakeLog, log: Log) -> None:
        """However appends, of several logs on one storage, and a slow iteration fall together."""
        assert isinstance(log, Immediate)
        found: list[Entry] = []
        channels = [f"c.{index}" for index in range(6)]

        async def follow() -> None:
            async for entries in log.follow_at_once(0, lambda entries, whole: found.extend(entries)):
                found.extend(entries)
                await anyio.sleep(0.003)

        async def append(log: Log, name: str) -> None:
            for number in range(150):
                await log.append([(name, Event(str(number)))] * (1 + number % 3))
                if number % 7 == 0:
                    await anyio.sleep(0.002)

        async with opened(make_log() if self.durable else log) as another:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                async with anyio.create_task_group() as appending:
                    for index, channel in enumerate(channels):
                        appending.start_soon(append, another if index % 2 else log, channel)
                await _until(lambda: len(found) >= 6 * 300)
                tasks.cancel_scope.cancel()
            assert found == await read_all(log, *channels)

    async def test_what_is_taken_may_append(self, log: Log, immediate: Immediate) -> None:
        """Taking is a call in the middle of an append, and may lead to another one."""
        taken: list[str] = []

        def take(entries: Sequence[Entry], whole: bool) -> None:
            taken.extend(entry.data for entry in entries)
            if len(taken) < 50:
                immediate.submit([Guarded([("a", Event(str(len(taken))))], "none", 0)], lambda outcomes: None)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, immediate, None, [], take)
            await _waits(immediate, taken)
            await _until(lambda: len(taken) >= 50)
            tasks.cancel_scope.cancel()
        data = [entry.data for entry in await read_all(log, "a")]
        assert data[-49:] == taken[1:] == [str(number) for number in range(1, 50)]

    @staticmethod
    async def _follow(log: Immediate, tasks: anyio.abc.TaskGroup, taken: list[Entry], after: int | None) -> list[Entry]:
        """Begin to follow; returns what came out of the iterator until it waits."""
        came: list[Entry] = []
        tasks.start_soon(_drain, log, after, came, lambda entries, whole: taken.extend(entries))
        await _waits(log, taken)
        taken.clear()
        return [entry for entry in came if entry.channel != "probe"]


async def settled(log: Immediate, *batches: Guarded) -> list[Outcome]:
    """Submit, and wait for the outcomes."""
    found: list[list[Outcome]] = []
    done = anyio.Event()

    def settle(outcomes: list[Outcome]) -> None:
        found.append(outcomes)
        done.set()

    log.submit(batches, settle)
    with anyio.fail_after(PATIENCE):
        await done.wait()
    [outcomes] = found
    return outcomes


async def _drain(log: Immediate, after: int | None, came: list[Entry], take: Take) -> None:
    async for entries in log.follow_at_once(after, take):
        came.extend(entries)


async def _waits(log: Immediate, taken: Sequence[object]) -> None:
    """Append until it is taken."""
    with anyio.fail_after(PATIENCE):
        while not taken:
            await settled(log, Guarded([("probe", Event("probe"))], "none", 0))
            await anyio.sleep(0.001)


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await anyio.sleep(0.001)
