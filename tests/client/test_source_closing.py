"""Closing: from another thread or task, at once, with nothing left behind."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from tests.fixtures.tasks import only

from newswire.client import AsyncEventSource, Backoff, EventSource, Hooks, Options, ReadyState, Resume
from newswire.errors import BadStatus, Closed, ConnectionLost
from newswire.testing import Answer, BadServer, FakeClock
from newswire.testing.bad_server import Seen

A = b"id: 1\ndata: a\n\n"
B = b"id: 2\ndata: b\n\n"
SILENT = Answer(A, end="hang")


def descriptors() -> set[str]:
    """The sockets that this process has open."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass  # the listing's own
    return {link for link in links if link.startswith("socket:")}


def run_until_blocked(source: EventSource, seen: threading.Event) -> list[str]:
    found = []
    for event in source:
        found.append(event.data)
        seen.set()
    return found


def test_blocked_reader_leaves_when_another_thread_closes() -> None:
    """A thread that waits for the next event leaves its loop when another one closes, and nothing is left."""
    with BadServer([SILENT]) as server, ThreadPoolExecutor(1) as pool:
        threads, sockets = set(threading.enumerate()), descriptors()
        source, seen = EventSource(server.url), threading.Event()
        reading = pool.submit(run_until_blocked, source, seen)
        assert seen.wait(5)
        source.close()
        assert reading.result(5) == ["a"]
        assert source.ready_state is ReadyState.CLOSED
        new = {thread.name for thread in set(threading.enumerate()) - threads}
        assert {name for name in new if not name.startswith(("newswire BadServer", "ThreadPool"))} == set()
    gc.collect()
    assert descriptors() <= sockets


FORKS = """
import os, sys
from newswire import EventSource

def say(text):
    os.write(1, f"{text}\\n".encode())  # whole, whatever the other process writes

def read(source):
    try:
        say(next(source).data)
    except RuntimeError as error:
        say(str(error).partition(" of which ")[2].partition(" ")[2])

source = EventSource(sys.argv[1])
say(next(source).data)
child = os.fork()
if child == 0:
    read(source)
    source.close()
    os._exit(0)
os.waitpid(child, 0)
read(source)
source.close()
"""


@pytest.mark.parametrize("body", [A + B, [A, B]], ids=["both had come", "one was on its way"])
def test_a_fork_takes_nothing_from_its_parent(body: bytes | list[bytes]) -> None:
    """A process that was forked with an open source can't read from it, not even what had come before the fork. If it
    closes the source, its parent goes on and misses no event."""
    with BadServer([Answer(body, pace=0.1, end="hang")]) as server:
        found = subprocess.run(
            [sys.executable, "-c", FORKS, server.url], capture_output=True, text=True, timeout=30, check=True
        ).stdout.splitlines()
    assert found == ["a", "is a fork: open sources after the fork, one in each process", "b"]


def test_two_threads_at_once() -> None:
    """A thread that asks for an event while another one waits for one gets an error, and takes nothing from it."""
    with BadServer([Answer(A + B, end="hang")]) as server, ThreadPoolExecutor(1) as pool:
        source, seen = EventSource(server.url), threading.Event()
        reading = pool.submit(run_until_blocked, source, seen)
        assert seen.wait(5)
        while not source._reading.locked() or source._session._events:
            time.sleep(0.001)  # polls: until it waits for the third event
        with pytest.raises(RuntimeError, match="another thread reads from this EventSource now"):
            next(source)
        source.close()
        assert reading.result(5) == ["a", "b"]


def test_threads_that_open_what_another_one_reads() -> None:
    """They wait for the same attempts as the reader, take nothing from it, and go on when the stream is open."""
    options = Options(backoff=Backoff(retry=0, first=0, shortest=0))
    answers = [*[Answer(status=503)] * 3, SILENT]
    with BadServer(answers) as server, ThreadPoolExecutor(4) as pool:
        source, seen = EventSource(server.url, options=options), threading.Event()
        try:
            opening = [pool.submit(source.open) for _ in range(3)]
            reading = pool.submit(run_until_blocked, source, seen)
            for each in opening:
                each.result(5)
            assert seen.wait(5)
            assert len(server.requests) == source.stats.attempts == 4
        finally:
            source.close()  # else the pool waits for its threads, which try again for ever
        assert reading.result(5) == ["a"]


@pytest.mark.anyio
async def test_two_tasks_at_once() -> None:
    """A task that asks for an event while another one waits for one gets an error, and takes nothing from it. When the
    other one waits no more, it may."""
    with BadServer([SILENT]) as server:
        async with AsyncEventSource(server.url) as source:
            await anext(source)
            waiting = asyncio.create_task(anext(source))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task reads from this AsyncEventSource now"):
                await anext(source)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(source), 0.01)


@pytest.mark.anyio
async def test_two_tasks_that_open() -> None:
    """Several tasks may open one source at once: each waits for the same attempts."""
    options = Options(backoff=Backoff(retry=0, first=0, shortest=0))
    with BadServer([*[Answer(status=503)] * 3, SILENT]) as server:
        async with AsyncEventSource(server.url, options=options) as source:
            await asyncio.gather(source.open(), source.open(), source.open())
            assert source.ready_state is ReadyState.OPEN
            assert (await anext(source)).data == "a"
            assert len(server.requests) == source.stats.attempts == 4


def test_another_event_loop() -> None:
    """A source that one event loop has opened can't be read in another, and says so."""
    with BadServer([SILENT]) as server, asyncio.Runner() as first, asyncio.Runner() as second:
        source = AsyncEventSource(server.url)
        first.run(source.open())
        assert first.run(next_of(source)) == "a"
        with pytest.raises(RuntimeError, match="opened in another event loop: make one in each"):
            second.run(next_of(source))
        first.run(source.aclose())


async def next_of(source: AsyncEventSource) -> str:
    return (await anext(source)).data


def test_reader_that_waits_for_the_head_leaves() -> None:
    """A thread that waits for an answer's head leaves when another one closes."""
    with BadServer([Answer(status=0, end="hang")]) as server, ThreadPoolExecutor(1) as pool:
        source = EventSource(server.url)
        reading = pool.submit(list, source)
        while not server.requests:
            time.sleep(0.001)  # polls: the server has no event to wait for
        source.close()
        assert reading.result(5) == []


def test_reader_that_backs_off_leaves() -> None:
    """A thread that waits before the next attempt leaves when another one closes."""
    waiting = threading.Event()
    hooks = Hooks(error=lambda error, seconds: waiting.set())
    options = Options(backoff=Backoff(retry=3600), hooks=hooks)
    with BadServer([Answer(status=503)]) as server, ThreadPoolExecutor(1) as pool:
        source = EventSource(server.url, options=options)
        reading = pool.submit(list, source)
        assert waiting.wait(5)
        source.close()
        assert reading.result(5) == []


def test_users_client_stays_open() -> None:
    """Closing a source leaves the user's client alone."""
    with BadServer([SILENT]) as server, httpx2.Client() as client:
        with EventSource(server.url, client=client) as source:
            assert next(iter(source)).data == "a"
        assert not client.is_closed


def test_closed_source_can_not_be_iterated() -> None:
    """Iterating a closed source is an error that says what to do; its old iterators just end."""
    source = EventSource("http://127.0.0.1:9/")
    source.close()
    source.close()
    with pytest.raises(Closed, match="make a new one"):
        iter(source)
    with pytest.raises(StopIteration):
        next(source)


def test_unclosed_source_warns() -> None:
    """A source that is forgotten open warns, as files do."""
    source = EventSource("http://127.0.0.1:9/")
    with pytest.warns(ResourceWarning, match="was not closed"):
        del source


@pytest.mark.anyio
async def test_waiting_task_leaves_when_another_closes() -> None:
    """A task that waits for the next event leaves its loop when another one closes, and no task or socket is left."""
    sockets = descriptors()
    with BadServer([SILENT]) as server:
        tasks = asyncio.all_tasks()
        source, seen = AsyncEventSource(server.url), asyncio.Event()

        async def read() -> list[str]:
            found = []
            async for event in source:
                found.append(event.data)
                seen.set()
            return found

        reading = asyncio.create_task(read())
        await seen.wait()
        await source.aclose()
        assert await reading == ["a"]
        await only(tasks)
    gc.collect()
    assert descriptors() <= sockets


@pytest.mark.anyio
async def test_async_source_is_closed_from_a_thread() -> None:
    """`close` of an async source works from any thread; the waiting task leaves, and nothing is left."""
    with BadServer([SILENT]) as server:
        tasks = asyncio.all_tasks()
        async with AsyncEventSource(server.url) as source:
            found = []
            async for event in source:
                found.append(event.data)
                await asyncio.to_thread(source.close)
            assert found == ["a"]
        await only(tasks)


@pytest.mark.anyio
async def test_cancelled_wait_loses_nothing() -> None:
    """Giving up waiting for an event keeps the connection: the event comes at the next call."""
    with BadServer([Answer([A, b"id: 2\ndata: b\n\n"], pace=0.3, end="hang")]) as server:
        async with AsyncEventSource(server.url) as source:
            assert (await anext(source)).data == "a"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(source), 0.01)
            assert (await anext(source)).data == "b"
            assert source.stats.opened == 1


@pytest.mark.anyio
async def test_cancelled_task_leaves_nothing() -> None:
    """Cancelling the task that reads closes everything through `async with`."""
    with BadServer([SILENT]) as server:
        tasks, seen = asyncio.all_tasks(), asyncio.Event()

        async def read() -> None:
            async with AsyncEventSource(server.url) as source:
                async for _ in source:
                    seen.set()

        reading = asyncio.create_task(read())
        await seen.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await only(tasks)


def test_leaving_the_loop_keeps_the_source() -> None:
    """`break` leaves the loop, not the source: another loop goes on with the next event."""
    with BadServer([Answer(A + B, end="hang")]) as server, EventSource(server.url) as source:
        assert next(iter(source)).data == "a"
        assert source.last_event_id == "1"
        assert next(iter(source)).data == "b"


def test_open_connects_before_the_first_event(face) -> None:
    """`open` returns once the stream is open, before there is any event."""
    with BadServer([Answer(b"", end="hang")]) as server:
        if face.name == "sync":
            with EventSource(server.url) as source:
                source.open()
                assert source.ready_state is ReadyState.OPEN
        else:

            async def main() -> None:
                async with AsyncEventSource(server.url) as source:
                    await source.open()
                    assert source.ready_state is ReadyState.OPEN

            asyncio.run(main())


# -- interrupted


class Interrupted(Exception):
    """What a signal's handler raises, as Ctrl-C does, or a job queue's limit of time."""


@pytest.fixture
def interrupts() -> Iterator[Callable[[], None]]:
    """Interrupts the main thread, from another one."""

    def handler(number: int, frame: object) -> None:
        raise Interrupted

    main = threading.main_thread().ident
    assert main == threading.get_ident()
    before = signal.signal(signal.SIGUSR1, handler)
    yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(A, end="hang"), ConnectionLost),
        (Answer(status=0, end="hang"), ConnectionLost),
        (Answer(b"no", 404, headers={"content-length": "9"}, end="hang"), BadStatus),
    ],
    ids=["stream", "head", "error"],
)
def test_an_interrupted_wait_is_no_end(answer: Answer, error: type[Exception], interrupts: Callable[[], None]) -> None:
    """Who goes on afterwards hears that the connection broke; a POST does not go out again."""

    def answer_and_interrupt(seen: Seen) -> Answer:
        threading.Timer(0.05, interrupts).start()
        return answer

    once = Options(resume=Resume(reconnect=False))
    with BadServer(answer_and_interrupt) as server, EventSource(server.url, body="x", options=once) as source:
        with pytest.raises(Interrupted):
            list(source)
        with pytest.raises(error):
            next(source)
        assert list(source) == []
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_a_hook_that_raises_loses_nothing() -> None:
    """What had come is read again, on another connection."""

    def raw(data: bytes) -> None:
        if source.stats.opened == 1:
            raise Interrupted

    options = Options(hooks=Hooks(raw=raw), clock=FakeClock())
    with BadServer([Answer([A, B], pace=0.05), Answer(A + B), Answer(status=204)]) as server:
        async with AsyncEventSource(server.url, options=options) as source:
            with pytest.raises(Interrupted):
                await anext(source)
            assert [event.data async for event in source] == ["a", "b"]


@pytest.mark.parametrize("kind", [EventSource, AsyncEventSource])
def test_a_source_that_was_never_made(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers without their name are a TypeError, and nothing else is reported."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with pytest.raises(TypeError):
        kind("http://localhost/", {})
    assert not seen


@pytest.mark.parametrize("kind", [EventSource, AsyncEventSource])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_source_is_not_copied(kind: Any, copied: Any) -> None:
    """What would copy it, or send it to another process, says what to do."""
    source = kind("http://localhost/")
    with pytest.raises(TypeError, match=f"{kind.__name__} can't be copied, pickled or sent to another process: make"):
        copied(source)
    source.close()


def test_a_source_whose_loop_is_gone_is_closed_by_close() -> None:
    """Nothing of it is left to wait for."""
    stream = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=A)
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: stream))
    source = AsyncEventSource("http://localhost/", client=client)
    asyncio.run(source.open())
    assert source.ready_state is ReadyState.OPEN
    source.close()
    assert source.ready_state is ReadyState.CLOSED
