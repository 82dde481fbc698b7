"""What depends on a log goes on, whatever the log raises: one rule for the waits, one task that nothing ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.errors import LogCorrupt, LogUnavailable, LogUncertain
from newswire.log.retry import Outage, Retry, SupervisedTask, keep_trying

pytestmark = pytest.mark.anyio

logger = logging.getLogger("newswire.test")


class Odd(BaseException):
    """An exception that is no `Exception`, as gevent's timeouts are."""


@given(first=st.floats(0.001, 1), factor=st.floats(1, 100), failures=st.integers(1, 30))
def test_waits_double_up_to_a_longest(first: float, factor: float, failures: int) -> None:
    """Each wait is drawn from the upper half of its bound; the bound doubles, and `reset` begins again."""
    longest = first * factor
    retry = Retry(first, longest)
    for failure in range(failures):
        bound = min(first * 2**failure, longest)
        assert bound / 2 <= retry.next() <= bound
    retry.reset()
    assert retry.next() <= first


def supervised(call: Callable[[], Awaitable[None]]) -> SupervisedTask:
    task = SupervisedTask(call, Outage("it can't be followed", logger), retry=Retry(0.001, 0.002))
    task.start()
    return task


@pytest.mark.parametrize(
    "error",
    [LogUnavailable("away"), ValueError("bug"), Odd("odd"), asyncio.CancelledError(), GeneratorExit(), MemoryError()],
    ids=repr,
)
async def test_whatever_ends_an_attempt_begins_the_next(error: BaseException) -> None:
    """Errors of any class, also a cancellation that comes from within."""
    attempts = 0
    works = asyncio.Event()

    async def call() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise error
        task.succeeded()
        works.set()
        await asyncio.Event().wait()

    task = supervised(call)
    await works.wait()
    assert attempts == 4
    assert task.failure is None
    await task.close()


async def test_an_outage_is_logged_once_with_its_traceback_if_it_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """The same error again is no news; another one is; the end of the outage is written too."""
    errors = [LogUnavailable("away"), LogUnavailable("away"), ValueError("bug"), ValueError("bug"), None]
    seen: list[BaseException] = []
    works = asyncio.Event()

    async def call() -> None:
        error = errors.pop(0)
        if error is not None:
            raise error
        task.succeeded()
        works.set()

    caplog.set_level(logging.INFO, "newswire.test")
    outage = Outage("it can't be followed", logger)
    task = SupervisedTask(call, outage, retry=Retry(0.001, 0.001), on_failure=seen.append)
    task.start()
    await works.wait()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "INFO"]
    assert caplog.records[1].exc_info is not None
    assert len(seen) == 4
    await task.close()


async def test_a_call_that_returns_is_over() -> None:
    """There is no more to do, so nothing is tried again."""
    done = asyncio.Event()

    async def call() -> None:
        done.set()

    task = supervised(call)
    await done.wait()
    while not task.over:
        await asyncio.sleep(0)
    await task.close()


def test_all_tasks_of_the_loop_are_cancelled_and_it_runs_on(caplog: pytest.LogCaptureFixture) -> None:
    """A cancellation from outside ends an attempt in silence, and the next begins if the loop is still there."""

    async def main() -> None:
        attempts: asyncio.Queue[int] = asyncio.Queue()

        async def call() -> None:
            attempts.put_nowait(1)
            await asyncio.Event().wait()

        task = supervised(call)
        await attempts.get()
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()
        await attempts.get()
        await task.close()

    asyncio.run(main())
    assert not caplog.records


async def test_a_callback_ends_the_attempt_on_whose_behalf_it_failed() -> None:
    """`restart` is a failure like those that an attempt raises."""
    attempts: asyncio.Queue[int] = asyncio.Queue()
    seen: list[BaseException] = []

    async def call() -> None:
        attempts.put_nowait(1)
        await asyncio.Event().wait()

    task = SupervisedTask(call, Outage("it fails", logger), retry=Retry(0.001), on_failure=seen.append)
    task.start()
    await attempts.get()
    error = ValueError("in a callback")
    task.restart(error)
    assert task.failure is error
    await attempts.get()
    assert seen == [error]
    await task.close()


@pytest.mark.slow
async def test_a_task_that_swallows_its_cancellation_is_closed_too() -> None:
    """`close` waits until the task has ended, and lets nothing begin again."""
    begun = asyncio.Event()
    swallowed = 0

    async def call() -> None:
        nonlocal swallowed
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise

    task = supervised(call)
    await begun.wait()
    await task.close()
    assert swallowed == 2
    assert task.over


def test_what_a_task_holds_is_freed_when_its_loop_has_gone() -> None:
    """The `finally` clauses of a task whose loop was closed under it run in `abandon`."""
    freed: list[bool] = []

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            freed.append(True)

    async def start() -> SupervisedTask:
        task = supervised(call)
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(start())
    loop.set_exception_handler(lambda *_: None)  # it says that a task was destroyed
    loop.close()
    task.abandon()
    assert freed == [True]


def test_all_that_suffer_one_outage_share_its_lines(caplog: pytest.LogCaptureFixture) -> None:
    """One line when the first fails, whatever words the log has for being away, and one when the last goes on."""
    caplog.set_level(logging.INFO)
    outage = Outage("it is away", logger)
    for round in (1, 2):
        outage.failed(LogUnavailable("refused"), "a")
        outage.failed(LogUncertain("no answer"), "b")
        outage.failed(LogUnavailable("refused again"), "a")
        assert outage.is_on
        outage.ended("a")
        outage.ended("a")
        assert outage.is_on
        outage.ended("b")
        assert not outage.is_on
        assert len(caplog.records) == 2 * round
        assert (outage.count, outage.failures) == (round, 3 * round)
    outage.failed(LogUnavailable("refused"), "a")
    outage.failed(LogCorrupt("damaged"), "a")  # another state
    outage.left("a")  # no one knows whether it works now
    assert [record.levelname for record in caplog.records] == [*["WARNING", "INFO"] * 2, "WARNING", "WARNING"]
    assert not outage.is_on


async def test_keeping_on_trying() -> None:
    """Until it works, or the time is over; the error says what may have been served, whatever comes after it."""
    left = [LogUnavailable("away"), LogUncertain("no answer"), LogUnavailable("away")]

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    assert await keep_trying(call, 30) == "done"
    left = [LogUncertain("no answer"), *[LogUnavailable("away")] * 100]
    with pytest.raises(LogUncertain):
        await keep_trying(call, 0.3)
    left = [LogUnavailable("away")] * 100
    with pytest.raises(LogUnavailable):
        await keep_trying(call, 0)
    assert len(left) == 99
    left = [ValueError("a bug")]  # type: ignore[list-item]
    with pytest.raises(ValueError, match="a bug"):
        await keep_trying(call, 30)
