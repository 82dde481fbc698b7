"""A hub that was closed, or whose event loop has gone, is opened again; one that is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.fixtures.engines import Valkey

from newswire import EventSourceResponse, Hub
from newswire.errors import Closed
from newswire.integrations import sse_starlette
from newswire.integrations.fastapi import events
from newswire.log import native
from newswire.log.memory import MemoryLog
from newswire.log.sqlite import SqliteLog
from newswire.runs import Runs


@pytest.fixture(params=["memory", "sqlite"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Hub:
    return Hub("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db")


async def data(hub: Hub) -> list[str]:
    page, _ = await hub.history("a")
    return [entry.data for entry in page.entries]


def close(hub: Hub) -> None:
    asyncio.run(hub.close())


def test_one_hub_of_a_module_and_several_event_loops(hub: Hub) -> None:
    """`asyncio.run` again and again, without a word to the hub in between; what was published stays."""
    for number in range(3):
        asyncio.run(hub.publish("a", f"{number}"))

    async def main() -> list[str]:
        events = aiter(hub.subscribe("a", start="earliest"))
        seen = [(await anext(events)).data for _ in range(3)]
        await hub.publish("a", "live")
        seen.append((await anext(events)).data)
        await events.aclose()
        return seen

    assert asyncio.run(main()) == ["0", "1", "2", "live"]
    close(hub)


@pytest.mark.parametrize("leaves_open", [True, False])
def test_threads_after_the_event_loop_has_gone(hub: Hub, leaves_open: bool) -> None:
    """As with `asyncio.run`, whether the hub was closed there or not; but `hub.sync.close` is the end."""

    async def main() -> None:
        await hub.publish("a", "in a loop")
        if not leaves_open:
            await hub.close()
            with ThreadPoolExecutor(1) as thread, pytest.raises(Closed):
                await asyncio.wrap_future(thread.submit(hub.sync.publish, "a", "late"))

    asyncio.run(main())
    hub.sync.publish("a", "in a thread", timeout=30)
    assert hub.sync.call(lambda: data(hub), 30) == ["in a loop", "in a thread"]
    hub.sync.close()
    with pytest.raises(Closed):
        hub.sync.publish("a", "late")
    asyncio.run(main())
    hub.sync.close()


def test_an_event_loop_takes_the_hub_over_from_threads(hub: Hub) -> None:
    """As when a module publishes while it is imported, then the application starts; no call of a thread fails."""

    def publish() -> None:
        for number in range(100):
            hub.sync.publish("a", f"{number}", timeout=30)

    async def main() -> list[str]:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(asyncio.to_thread(publish))
            events = aiter(hub.subscribe("a", start="earliest"))
            found = [(await anext(events)).data for _ in range(401)]
        await hub.close()
        return found

    hub.sync.publish("a", "first", timeout=30)
    first, *found = asyncio.run(main())
    assert (first, sorted(found)) == ("first", sorted(4 * [f"{number}" for number in range(100)]))
    hub.sync.close()


def test_an_event_loop_that_was_closed_under_readers(hub: Hub) -> None:
    """What was open in it is let go, and costs the next loop nothing."""

    async def read() -> None:
        events = aiter(hub.subscribe("a"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(read())
    loop.set_exception_handler(lambda *_: None)  # it says that tasks were destroyed
    loop.close()
    asyncio.run(hub.publish("a", "x"))
    assert asyncio.run(data(hub)) == ["x"]
    close(hub)


def application(hub: Hub, **lifespan: Callable[..., object]) -> Starlette:
    async def publish(request: Request) -> JSONResponse:
        await hub.publish("a", "x")
        return JSONResponse(await data(hub))

    return Starlette(routes=[Route("/", publish)], **lifespan)  # type: ignore[arg-type]


def test_a_test_client_for_each_test(hub: Hub) -> None:
    """Two lifespans, each of which opens and closes the hub; two that only close it; two requests without any."""
    app = application(hub, lifespan=hub.lifespan)
    for number in (1, 2):
        with TestClient(app) as client:
            assert client.get("/").json() == ["x"] * number
    bare = TestClient(application(hub))
    for number in (3, 4):
        assert bare.get("/").json() == ["x"] * number
    close(hub)


def test_closed_for_those_who_come_late_in_the_same_event_loop(hub: Hub) -> None:
    """A straggler does not open it again; `async with` does, and so does the next event loop."""

    async def main() -> None:
        await hub.publish("a", "1")
        await hub.close()
        with pytest.raises(Closed):
            await hub.publish("a", "late")
        async with hub:
            await hub.publish("a", "2")
        with pytest.raises(Closed):
            await hub.subscribe("a").open()

    asyncio.run(main())
    asyncio.run(hub.publish("a", "3"))
    assert asyncio.run(data(hub)) == ["1", "2", "3"]
    close(hub)


def test_runs_of_a_hub_that_was_opened_again(hub: Hub) -> None:
    """Runs go with their hub: closed with it, and there again with it."""
    runs = Runs(hub, public=True)

    async def main() -> str:
        async with hub:
            run = await runs.start("chat", words())
            await run.wait()
            return await run.text()

    async def words():  # type: ignore[no-untyped-def]
        yield "a"
        yield "b"

    assert [asyncio.run(main()) for _ in range(2)] == ["ab", "ab"]


FORK = """
import asyncio, os, sys
from newswire import EventSourceResponse, Hub
hub = Hub(sys.argv[1])
if sys.argv[2] == "sync":
    hub.sync.publish("a", "parent")
else:
    asyncio.run(hub.publish("a", "parent"))
child = os.fork()
if child == 0:
    calls = [lambda: hub.sync.publish("a", "x"), lambda: asyncio.run(hub.publish("a", "x"))]
    said = []
    for call in calls:
        try:
            call()
        except RuntimeError as error:
            said.append("is a fork: open hubs after the fork" in str(error))
    os._exit(0 if said == [True, True] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
hub.sync.publish("a", "goes on") if sys.argv[2] == "sync" else asyncio.run(hub.publish("a", "goes on"))
hub.sync.close() if sys.argv[2] == "sync" else asyncio.run(hub.close())
"""


FORK_INSIDE = """
import asyncio, os, sys
from newswire import Hub
hub = Hub(sys.argv[1])

async def main():
    async with hub:
        await hub.publish("a", "parent")
        child = os.fork()
        if child == 0:  # with a copy of the event loop, which says that it runs
            try:
                hub.publish("a", "x").send(None)
            except RuntimeError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        await hub.publish("a", "goes on")
        page, _ = await hub.history("a")
        assert [entry.data for entry in page.entries] == ["parent", "goes on"]

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/log.db"])
def test_a_fork_inside_the_event_loop_publishes_nothing(url: str, tmp_path: Path) -> None:
    """Its copy of the hub looks open, and what it would store there would be lost."""
    arguments = [sys.executable, "-c", FORK_INSIDE, url.format(folder=tmp_path)]
    subprocess.run(arguments, check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/log.db"])
def test_a_fork_of_an_open_hub_says_what_to_do(url: str, way: str, tmp_path: Path) -> None:
    """At once, instead of waiting for a thread that is not there."""
    arguments = [sys.executable, "-c", FORK, url.format(folder=tmp_path), way]
    subprocess.run(arguments, check=True, timeout=60)


def test_a_hub_that_was_only_made_before_the_fork_works() -> None:
    """As with gunicorn's --preload. Each process has a log of its own then, and the positions show it."""
    code = """
import os
from newswire import EventSourceResponse, Hub
hub = Hub()
child = os.fork()
position = hub.sync.publish("a", "x")
assert position.offset == 1
hub.sync.close()
os.write(1, f"{position}\\n".encode())  # in one piece: both processes write
if child == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.PIPE, text=True)
    assert len(set(run.stdout.split())) == 2


@pytest.mark.parametrize("started", [False, True])
def test_a_signal_while_the_background_thread_starts(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its handler raises, as at the end of a task's time, does not leave a hub that waits for ever."""
    start = native.Thread.start

    def interrupted(thread: native.Thread) -> None:
        monkeypatch.undo()
        if started:
            start(thread)
        raise TimeoutError("the task's time is over")

    monkeypatch.setattr(native.Thread, "start", interrupted)
    hub = Hub()
    with pytest.raises(TimeoutError, match="the task's time"):
        hub.sync.publish("a", "x")
    assert hub.sync.publish("a", "y", timeout=30).offset == 1
    hub.sync.close()


def test_a_signal_while_a_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its handler raises, at whatever place, leaves no lock that the hub's event loop waits for."""
    enter = threading.Condition.__enter__

    def interrupted(condition: threading.Condition) -> bool:
        entered = enter(condition)
        if threading.current_thread() is threading.main_thread():
            raise InterruptedError
        return entered

    hub = Hub()
    hub.sync.open()
    with monkeypatch.context() as patch, suppress(InterruptedError):
        patch.setattr(threading.Condition, "__enter__", interrupted)
        hub.sync.publish("a", "x")
    assert hub.sync.publish("a", "y", timeout=10).offset == 2
    hub.sync.close()


def test_a_hub_that_was_closed_before_the_fork_works(tmp_path: Path) -> None:
    """Its threads have closed it for their own process only, in which it stays closed."""
    code = """
import os, sys
from newswire import Hub
from newswire.errors import Closed
hub = Hub(sys.argv[1])
hub.sync.publish("a", "parent")
hub.sync.close()
child = os.fork()
if child == 0:
    os._exit(hub.sync.publish("a", "child").offset)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
try:
    hub.sync.publish("a", "late")
except Closed:
    print("closed")
"""
    arguments = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/log.db"]
    run = subprocess.run(arguments, check=True, timeout=60, stdout=subprocess.PIPE, text=True)
    assert run.stdout == "closed\n"


@pytest.mark.slow
@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/log.db"])
def test_a_script_need_not_close_its_hub(url: str, tmp_path: Path) -> None:
    """It ends without a word, not even a ResourceWarning, though the background thread has a hub open."""
    code = "import sys, newswire; hub = newswire.Hub(sys.argv[1]); hub.sync.publish('a', 'x'); print('done')"
    arguments = [sys.executable, "-X", "dev", "-c", code, url.format(folder=tmp_path)]
    run = subprocess.run(arguments, check=True, timeout=60, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("done\n", "")


GEVENT = """
import sys
import gevent
from gevent import monkey, spawn
patches = {
    "all": monkey.patch_all,
    "no threads": lambda: monkey.patch_all(thread=False),
    "sockets": monkey.patch_socket,
    "late": lambda: None,
}
patches[sys.argv[1]]()
from newswire import EventSourceResponse, Hub
from newswire.integrations.wsgi import WsgiStream
hub = Hub(sys.argv[2])
hub.sync.publish("a", "x", timeout=30)
if sys.argv[1] == "late":
    monkey.patch_all()

def publish(number):
    for _ in range(10):
        hub.sync.publish("a", str(number), timeout=30)
    return 10

greenlets = [spawn(publish, number) for number in range(4)]
print("greenlets published", sum(greenlet.get() for greenlet in greenlets))

async def slow():
    import asyncio
    await asyncio.sleep(0.2)

seen = []
other = spawn(lambda: [seen.append(gevent.sleep(0.01)) for _ in range(3)])
hub.sync.call(slow)
if sys.argv[1] == "sockets":  # this waits for real
    other.join()
print("others went on" if len(seen) == 3 else seen)

stream = WsgiStream(hub, hub.subscribe("b"))({"REQUEST_METHOD": "GET"}, lambda *head: None)
chunks = iter(stream)
next(chunks)
spawn(hub.sync.publish, "b", "hello")
if sys.argv[1] == "sockets":
    gevent.sleep(0)
text = b""
while b"hello" not in text:
    text += next(chunks)
stream.close()
print("a stream:", "hello")

async def forever():
    import asyncio
    await asyncio.Event().wait()

try:
    hub.sync.call(forever, 0.05)
except TimeoutError:
    print("too late")
hub.sync.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("patch", ["all", "no threads", "sockets", "late"])
@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/log.db"])
def test_gevent(url: str, patch: str, tmp_path: Path) -> None:
    """Whatever it has replaced: greenlets publish and read, and others go on while one of them waits."""
    arguments = [sys.executable, "-c", GEVENT, patch, url.format(folder=tmp_path)]
    run = subprocess.run(arguments, check=True, timeout=60, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["greenlets published 40", "others went on", "a stream: hello", "too late"], run


@pytest.mark.slow
def test_gevent_with_a_log_on_a_server(valkey: Valkey) -> None:
    """Its host's name is looked up in a real thread too."""
    url = f"{valkey.url.replace('127.0.0.1', 'localhost')}?namespace=gevent"
    arguments = [sys.executable, "-c", GEVENT, "all", url]
    run = subprocess.run(arguments, check=True, timeout=60, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["greenlets published 40", "others went on", "a stream: hello", "too late"], run


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("call", ["publish", "open", "enter", "iterate"])
def test_without_asyncio(call: str, is_open: bool, hub: Hub) -> None:
    """As under trio, which runs coroutines without asyncio's event loop: one sentence says what to do."""
    calls = {
        "publish": lambda: hub.publish("a", "x"),
        "open": hub.open,
        "enter": hub.__aenter__,
        "iterate": lambda: anext(aiter(hub.subscribe("a"))),
    }
    if is_open:
        hub.sync.open()
    with pytest.raises(RuntimeError, match=r"under trio, call hub\.sync in a thread"):
        calls[call]().__await__().send(None)  # type: ignore[no-untyped-call]
    hub.sync.close()


@pytest.mark.parametrize("kind", ["a subscription", "an iterable", "sse-starlette's", "FastAPI's"])
def test_streams_without_asyncio(kind: str, hub: Hub) -> None:
    """So do responses, under a server that runs trio."""
    scope = {"type": "http", "method": "GET", "headers": []}

    async def never(*message: object) -> dict[str, object]:
        raise AssertionError("nothing is sent")

    calls: dict[str, Callable[[], Any]] = {
        "a subscription": lambda: EventSourceResponse(hub.subscribe("a"))(scope, never, never),
        "an iterable": lambda: EventSourceResponse(["x"])(scope, never, never),
        "sse-starlette's": lambda: sse_starlette.EventSourceResponse(["x"])(scope, never, never),
        "FastAPI's": lambda: anext(events(hub.subscribe("a"))),
    }
    with pytest.raises(RuntimeError, match="streams need asyncio's event loop"):
        calls[kind]().__await__().send(None)
    hub.sync.close()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_hub_is_not_copied(copied: Callable[[object], object], hub: Hub) -> None:
    """As `multiprocessing` does with the arguments of a process it spawns: the error says what to send instead."""
    with pytest.raises(TypeError, match="send the URL of its log"):
        copied(hub)
    with pytest.raises(TypeError, match="send the URL of its log"):
        pickle.dumps(hub.sync.publish)
    hub.sync.close()


def test_an_event_loop_that_does_not_run_now(hub: Hub) -> None:
    """As one that a test suite keeps for a module: who would wait for it hears so, and its hub is left alone."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(hub.publish("a", "1"))

    async def enter() -> None:
        async with hub:
            pass

    with pytest.raises(RuntimeError, match=r"open in another event loop: use hub\.sync"):
        asyncio.run(enter())
    with pytest.raises(RuntimeError, match=r"of this thread that does not run now, so hub\.sync would wait"):
        hub.sync.publish("a", "2")

    async def elsewhere() -> None:
        await hub.close()

    with pytest.raises(RuntimeError, match="which does not run now: close it there"):
        asyncio.run(elsewhere())
    assert loop.run_until_complete(hub.publish("a", "2")).offset == 2
    loop.run_until_complete(hub.close())
    loop.close()


def test_an_event_loop_closes_the_hub_of_threads(hub: Hub) -> None:
    """It is closed where it is open, in the background, and late calls of the event loop don't open it again."""
    hub.sync.publish("a", "1")

    async def main() -> None:
        await hub.close()
        with pytest.raises(Closed):
            await hub.publish("a", "2")

    asyncio.run(main())
    assert hub.sync.publish("a", "2")
    hub.sync.close()


def test_sync_calls_in_another_event_loop_than_the_hubs(hub: Hub) -> None:
    """As in an async view of Flask's: neither error sends to the other call, and what both say works."""
    hub.sync.publish("a", "x")

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"function that is not async, or by asyncio\.to_thread$"):
            hub.sync.publish("a", "y")
        await asyncio.to_thread(hub.sync.publish, "a", "z")

    async def reading() -> None:
        await hub.subscribe("a").open()

    hub.sync.call(reading)  # so that the hub does not go over to the other loop
    asyncio.run(main())
    assert hub.sync.call(lambda: data(hub)) == ["x", "z"]
    hub.sync.close()


def test_sync_calls_in_an_event_loop_are_refused(hub: Hub) -> None:
    """In whatever loop, the hub's own or one that the hub does not know yet: it would stand still."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="would block the event loop"):
            hub.sync.publish("a", "x")
        await hub.publish("a", "y")
        with pytest.raises(RuntimeError, match="would block the event loop"):
            hub.sync.publish("a", "x")
        await asyncio.to_thread(hub.sync.publish, "a", "z")
        assert await data(hub) == ["y", "z"]
        await hub.close()

    asyncio.run(main())


async def cancelled_at(step: int, call: Callable[[], Awaitable[object]]) -> bool:
    """Cancel a call at its nth step; whether it had one."""
    task = asyncio.ensure_future(call())
    for _ in range(step):
        await asyncio.sleep(0)
    if task.done():
        await task
        return False
    task.cancel()
    await asyncio.wait([task])
    return True


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_cancelled_anywhere_nothing_is_left(kind: str, tmp_path: Path) -> None:
    """`async with hub`, cancelled at each of its steps: no task, no thread, and the hub may be opened again."""

    async def main() -> None:
        before = asyncio.all_tasks()
        log = MemoryLog() if kind == "memory" else SqliteLog(tmp_path / "log.db")
        hub = Hub(log)

        async def use() -> None:
            async with hub:
                await hub.publish("a", "x")
                async for _ in hub.subscribe("a", start="earliest"):
                    break

        step = 0
        while await cancelled_at(step, use):
            assert asyncio.all_tasks() == before, step
            assert not [
                thread for thread in threading.enumerate() if thread.name.startswith(("newswire hub", "newswire log"))
            ]
            step += 1
            if kind == "sqlite" and step > 60:  # its steps wait for threads: however long that takes
                break
        async with hub:
            await hub.publish("a", "x")

    asyncio.run(main())
