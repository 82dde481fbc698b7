"""Single events that come together are one batch, where the engine stores all or nothing of what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.fixtures.paused import pause, run
from tests.log.jsonl import JsonLines

from newswire import Hub
from newswire.errors import Closed, LimitExceeded, LogError, LogUnavailable, LogUncertain
from newswire.log.engine import Batch, EngineLimits, OnDone, Outcome, Span
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.testing.log_base import read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


class Telling(JsonLines):
    """Tells what it was given: for each call of `submit`, the number of events in each batch. May refuse all."""

    part_events = 4096

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.given: list[list[int]] = []
        self.refusal: Outcome = 0

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        assert all(batch.size == sum(batch.sizes) and len(batch.sizes) == len(batch.events) for batch in batches)
        self.given.append([len(batch.events) for batch in batches])
        if self.refusal != 0:
            on_done([self.refusal] * len(batches), "")
        else:
            super().submit(batches, on_done)


@pytest.fixture
def engine(tmp_path: Path) -> Telling:
    return Telling(tmp_path / "log.jsonl")


@pytest.fixture
async def log(engine: Telling) -> AsyncIterator[Log]:
    """Its log."""
    log = Log(engine)
    yield log
    await log.close()


async def test_they_are_one_batch(engine: Telling, log: Log) -> None:
    """Of many channels, too. A caller's batch stays whole, and in its place."""
    await asyncio.gather(*(log.append_one(f"c{number}", Event("x")) for number in range(10)))
    assert engine.given == [[10]]
    engine.given.clear()

    async def one(text: str) -> None:
        await log.append_one("a", Event(text))

    many = log.append([("a", Event("2")), ("a", Event("3"))])
    await asyncio.gather(one("0"), one("1"), many, one("4"))
    assert engine.given == [[2, 2, 1]]
    assert [entry.data for entry in await read_all(log, "a")] == list("01234")


async def test_a_batch_has_its_limits(engine: Telling, log: Log) -> None:
    """No more events than a part of what is submitted, and none beside a large one."""
    large = Event("x" * 100_000)
    engine.part_events = 16
    await asyncio.gather(*(log.append_one("a", Event("x")) for _ in range(40)))
    assert engine.given == [[16], [16], [8]]
    engine.given.clear()
    engine.part_events = 4096
    await asyncio.gather(*(log.append_one("a", event) for event in (Event("1"), large, large, Event("2"))))
    assert engine.given == [[1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"batch_events": 3, "event_bytes": 1_000_000}, 3),
        ({"batch_bytes": 60_000}, 1),
        ({"batch_bytes": 4 * 65_536, "event_bytes": 1_000_000}, 4),
    ],
)
async def test_a_batch_can_be_stored(limits: dict[str, int], most: int, tmp_path: Path) -> None:
    """It stays below the engine's limits of batches, as a batch of a caller's has to."""
    engine = Telling(tmp_path / "log.jsonl")
    engine.limits = EngineLimits(**limits)
    log = Log(engine)
    await asyncio.gather(*(log.append_one("a", Event("x" * 60_000)) for _ in range(12)))
    assert [events for given in engine.given for events in given] == [most] * (12 // most)
    with pytest.raises(LimitExceeded):
        await log.append_one("a", Event("x" * 2_000_000))
    await log.close()


async def test_an_error_is_everybodys_own(engine: Telling, log: Log) -> None:
    """Each publisher gets it, as an exception of its own."""
    for refusal in (LogUnavailable("away"), LogUncertain("perhaps"), None):
        engine.refusal = refusal
        calls = (log.append_one("a", Event("x")) for _ in range(3))
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert len({id(error) for error in failed}) == 3
        assert {str(error) for error in failed} == {str(refusal or "the log refused a batch that has no condition")}


async def test_one_that_is_cancelled_keeps_the_others(log: Log) -> None:
    """Its own event may be stored all the same."""
    tasks = [asyncio.ensure_future(log.append_one("a", Event(str(number)))) for number in range(3)]
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [Position, asyncio.CancelledError, Position]
    assert [entry.data for entry in await read_all(log, "a")] in (["0", "2"], ["0", "1", "2"])


async def test_after_the_end(log: Log) -> None:
    """What was begun is stored; what comes later is refused."""
    stored = asyncio.ensure_future(log.append_one("a", Event("x")))
    await log.close()
    assert isinstance(await stored, Position)
    with pytest.raises(Closed):
        await log.append_one("a", Event("x"))


def test_an_event_loop_that_ended_in_between(engine: Telling) -> None:
    """What was gathered in it was never begun; the next one goes on."""
    hub = Hub(Log(engine))

    async def leave() -> None:
        await hub.publish("a", "1")
        asyncio.get_running_loop().stop()
        await hub.publish("a", "never")

    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(leave())
    loop.close()

    async def go_on() -> None:
        async with hub:
            await hub.publish("a", "2")
            page, _ = await hub.history("a")
            assert [entry.data for entry in page.entries] == ["1", "2"]

    asyncio.run(go_on())


class Immediate(Telling):
    """It answers before `submit` returns."""

    immediate = True


@pytest.mark.parametrize("kind", [Telling, Immediate])
@pytest.mark.parametrize("given", [OSError("disk"), "yes", None, 1.5], ids=["another error", "text", "none", "number"])
async def test_an_outcome_that_is_none_is_an_error(kind: type[Telling], given: object, tmp_path: Path) -> None:
    """Whatever an engine says that stores nothing: its publishers hear of it, and no one gets a position, or waits."""
    engine = kind(tmp_path / "log.jsonl")
    log = Log(engine)
    engine.refusal = given  # type: ignore[assignment]
    for call in (log.append([("a", Event("x"))]), log.append_one("a", Event("x"))):
        with pytest.raises(LogError) as caught:
            await call
        assert caught.value.__cause__ is (given if isinstance(given, OSError) else None)
    seen: list[Outcome] = []
    log.submit([Batch([("a", Event("x"))])] * 2, lambda outcomes, epoch: seen.extend(outcomes))
    assert [type(each) for each in seen] == [type(None) if given is None else LogError] * 2
    engine.refusal = 0
    assert (await log.append_one("a", Event("x"))).offset == 1
    await log.close()


class Far(JsonLines):
    """Its answers are read some passes of the event loop after they came, as a server's are."""

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        def read(passes: int) -> None:
            if passes:
                asyncio.get_running_loop().call_soon(read, passes - 1)
            else:
                super(Far, self).submit(batches, on_done)

        read(4)

    async def span(self) -> Span:
        for _ in range(4):
            await asyncio.sleep(0)
        return await super().span()


def test_answers_that_came_in_a_pause_count(tmp_path: Path) -> None:
    """A process that was stopped for longer than a log may take to answer has missed nothing."""

    async def main() -> None:
        log = Log(Far(tmp_path / "log.jsonl"))
        calls = [asyncio.create_task(call) for call in (log.append([("a", Event("x"))]), log.span())]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        pause(60)
        [[position], span] = await asyncio.gather(*calls)
        assert position.offset == 1
        assert span.epoch == position.epoch
        await log.close()

    run(main())
