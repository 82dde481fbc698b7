"""The drain: signals reach the streams first, then whoever had them before; nothing of it stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from newswire import EventSourceResponse, Hub
from newswire.delivery.drain import Drain
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio


class Stream:
    """Remembers the calls that it got, in the list it shares with the signal handler under it."""

    def __init__(self, told: list[str], *, finite: bool = False) -> None:
        self.finite = finite
        self._told = told
        self.changed = asyncio.Event()

    def stop(self) -> None:
        self._told.append("stop")
        self.changed.set()

    def cut(self) -> None:
        self._told.append("cut")
        self.changed.set()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What happened; SIGTERM and SIGINT have handlers that add to it."""
    told: list[str] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda number, frame: told.append(signal.Signals(number).name))
    yield told
    for number, handler in before.items():
        signal.signal(number, handler)


async def turn_until(told: list[str], what: str) -> None:
    """Let the loop run until it happened."""
    async with asyncio.timeout(10):
        while what not in told:
            await asyncio.sleep(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_streams_hear_before_the_handler_of_the_server(told: list[str], number: signal.Signals) -> None:
    """A stream ends in order first; a second signal goes straight through."""
    drain = Drain()
    stream = Stream(told)
    drain.enter(stream)
    os.kill(os.getpid(), number)
    await turn_until(told, number.name)
    assert told == ["stop", number.name]
    os.kill(os.getpid(), number)
    assert told == ["stop", number.name, number.name]
    drain.leave(stream)


async def test_handlers_are_there_while_there_are_streams(told: list[str]) -> None:
    """The first stream chains, the last puts back what was there; one that someone chained after us stays."""
    before = signal.getsignal(signal.SIGTERM)
    drain = Drain()
    first, second = Stream(told), Stream(told)
    drain.enter(first)
    assert signal.getsignal(signal.SIGTERM) is not before
    drain.enter(second)
    drain.leave(first)
    assert signal.getsignal(signal.SIGTERM) is not before
    drain.leave(second)
    assert signal.getsignal(signal.SIGTERM) is before

    drain.enter(first)
    ours = signal.getsignal(signal.SIGTERM)

    def later(number: int, frame: object) -> None:
        told.append("later")
        assert callable(ours)
        ours(number, frame)  # type: ignore[arg-type]

    signal.signal(signal.SIGTERM, later)
    drain.leave(first)
    assert signal.getsignal(signal.SIGTERM) is later


async def test_responses_leave_the_handlers_as_they_were(told: list[str]) -> None:
    """A subscription's stream, an iterable's and a refused one all put the handlers back."""
    before = signal.getsignal(signal.SIGTERM)
    async with Hub() as hub:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            contents: dict[str, Any] = {"/hub": hub.subscribe("a"), "/items": ["one"]}
            await EventSourceResponse(contents[scope["path"]])(scope, receive, send)

        async with asgi_client(app) as client:
            async with client.stream("GET", "/hub") as answer:
                assert await anext(answer.aiter_raw())
                assert signal.getsignal(signal.SIGTERM) is not before
                await hub.shutdown()
            assert (await client.get("/items")).status_code == 200
            assert (await client.get("/hub")).status_code == 503
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_stream_that_begins_after_the_signal_ends_at_once(told: list[str]) -> None:
    """It may have been on its way when the signal came."""
    drain = Drain()
    first, late = Stream(told), Stream(told)
    drain.enter(first)
    os.kill(os.getpid(), signal.SIGTERM)
    await turn_until(told, "SIGTERM")
    drain.leave(first)
    drain.enter(late)
    await late.changed.wait()
    assert told == ["stop", "SIGTERM", "stop"]
    drain.leave(late)


@pytest.mark.slow
async def test_what_does_not_end_is_cut_after_the_grace_time(told: list[str]) -> None:
    """With `drain`, finite streams hear of the stop late, the others at once; streams that are left are cut."""
    drain = Drain()
    drain.mode, drain.grace = "drain", 0.5
    finite, endless, ends_by_itself = Stream(told, finite=True), Stream(told), Stream(told, finite=True)
    for stream in (finite, endless, ends_by_itself):
        drain.enter(stream)
    drain.stop()
    assert told == ["stop"]
    drain.leave(ends_by_itself)
    await turn_until(told, "cut")
    assert told == ["stop", "stop", "cut", "cut"]
    for stream in (finite, endless):
        drain.leave(stream)


async def test_other_threads_have_no_signals() -> None:
    """A loop in another thread serves streams, and touches no handler."""
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    async def elsewhere() -> None:
        drain = Drain()
        stream = Stream([])
        drain.enter(stream)
        seen.append(signal.getsignal(signal.SIGTERM))
        drain.leave(stream)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert seen == [before] == [signal.getsignal(signal.SIGTERM)]


async def test_whoever_chains_after_the_drain_goes_through_it_to_the_server(told: list[str]) -> None:
    """Handlers of others may stay above the drain's when its last stream has ended; the server still hears, once."""
    drain = Drain()
    for _ in range(2):  # the drain is beneath, and chains no second time
        stream = Stream(told)
        drain.enter(stream)
        below = signal.getsignal(signal.SIGTERM)
        assert callable(below)
        if "above" not in told:
            told.append("above")

            def above(number: int, frame: Any, below: Any = below) -> None:
                told.append("heard above")
                below(number, frame)

            signal.signal(signal.SIGTERM, above)
        drain.leave(stream)
    os.kill(os.getpid(), signal.SIGTERM)
    await turn_until(told, "SIGTERM")
    assert told == ["above", "heard above", "SIGTERM"]
    drain.enter(Stream(told))
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        while told.count("SIGTERM") < 2:
            await asyncio.sleep(0)
    assert told[3:] == ["heard above", "stop", "SIGTERM"]
