"""A fork: what was open is refused in the child, what was not works there, and no acknowledged event is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from newswire.log.sqlite import SqliteLog
from newswire.log.sqlite.fork import kept_closed
from newswire.testing.log_base import opened, read_all

pytestmark = pytest.mark.anyio

FORKER = Path(__file__).with_name("forker.py")

# What the programs below have in common.
BEGIN = """
import asyncio, multiprocessing, os, selectors, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from newswire import Event, Hub
from newswire.errors import LogUnavailable
from newswire.log.sqlite import SqliteLog
from newswire.log.sqlite.fork import kept_closed

path = Path(sys.argv[1])

async def publish(name, *data):
    async with Hub(f"sqlite:///{name}") as hub:
        return [(await hub.publish("a", each)).offset for each in data]

def attempt(name):
    try:
        return asyncio.run(publish(name, "child"))
    except LogUnavailable as error:
        return str(error)

def refused(end):
    return "can't share it over a fork: fork first" in end

def in_child(call):
    child = os.fork()
    if child == 0:
        os._exit(0 if call() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def run(program: str, path: Path, **environment: str) -> str:
    """Run a program with a path; return its output."""
    command = [sys.executable, "-c", BEGIN + program, str(path)]
    done = subprocess.run(
        command, check=False, timeout=30, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def stored(path: Path) -> list[str]:
    """The data of all events; their offsets have no hole."""
    async with opened(SqliteLog(path)) as log:
        entries = await read_all(log, ">")
    assert [entry.offset for entry in entries] == list(range(1, len(entries) + 1))
    return [entry.data for entry in entries]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["same", "symlink", "hard link"])
async def test_a_new_hub_on_a_file_that_was_open(name: str, tmp_path: Path) -> None:
    """The child and its child are refused, by whatever name; the parent goes on, closes, and has lost nothing."""
    path = tmp_path / "log.db"
    other = {"same": path, "symlink": tmp_path / "link.db", "hard link": tmp_path / "hard.db"}[name]
    program = """
other = Path(os.environ["OTHER"])
async def main():
    async with Hub(f"sqlite:///{path}") as hub:
        await hub.publish("a", "1")
        if other.name == "link.db":
            other.symlink_to(path)
        elif other.name == "hard.db":
            other.hardlink_to(path)
        child = os.fork()
        if child == 0:
            os._exit(0 if grandchild() else 1)
        await hub.publish("a", "2")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        await hub.publish("a", "3")

def grandchild():
    asyncio.events._set_running_loop(None)
    in_child(lambda: refused(attempt(other)))
    return refused(attempt(other))

asyncio.run(main())
"""
    run(program, path, OTHER=str(other))
    assert await stored(path) == ["1", "2", "3"]


async def test_the_parents_log_in_the_child(tmp_path: Path) -> None:
    """Each call of a log that was opened before the fork is refused, closing it does nothing, and the child can end."""
    path = tmp_path / "log.db"
    program = """
loop = asyncio.SelectorEventLoop(selectors.PollSelector())  # shares no epoll with the child
log = SqliteLog(path)
loop.run_until_complete(log.append([("a", Event("1"))]))
child = os.fork()
if child == 0:
    loop = asyncio.new_event_loop()
    async def follow():
        return await anext(log.follow(0))
    for call in (lambda: log.append([("a", Event("2"))]), log.span, log.trim, follow):
        try:
            loop.run_until_complete(call())
        except LogUnavailable as error:
            assert refused(str(error))
        else:
            raise AssertionError
    loop.run_until_complete(asyncio.wait_for(log.close(), 30))
    sys.exit(7)  # the interpreter ends in order, and closes what it still has
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
loop.run_until_complete(log.append([("a", Event("2"))]))
loop.run_until_complete(log.close())
"""
    run(program, path)
    assert await stored(path) == ["1", "2"]


async def test_what_is_closed_before_the_fork(tmp_path: Path) -> None:
    """It is free for the child, and then for the parent again."""
    path = tmp_path / "log.db"
    program = """
asyncio.run(publish(path, "1"))
in_child(lambda: attempt(path) == [2])
assert asyncio.run(publish(path, "3")) == [3]
"""
    run(program, path)
    assert await stored(path) == ["1", "child", "3"]


@pytest.mark.slow
async def test_a_hub_made_before_the_fork_and_opened_after_it(tmp_path: Path) -> None:
    """As under `gunicorn --preload`: an application makes its hub at import, and each worker opens it."""
    path = tmp_path / "log.db"
    program = """
hub = Hub(f"sqlite:///{path}")

async def work(worker):
    async with hub:
        for number in range(50):
            await hub.publish("a", f"{worker} {number}")

children = []
for worker in range(4):
    children.append(os.fork())
    if children[-1] == 0:
        asyncio.run(work(worker))
        sys.exit(0)
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    run(program, path)
    assert sorted(await stored(path)) == sorted(f"{worker} {number}" for worker in range(4) for number in range(50))


@pytest.mark.slow
@pytest.mark.parametrize("first", ["fork", "open"])
async def test_a_daemon(first: str, tmp_path: Path) -> None:
    """It works if the process becomes a daemon first and opens the log then; else it is refused, without a loss."""
    path = tmp_path / "log.db"
    program = """
async def main():
    hub = Hub(f"sqlite:///{path}")
    if os.environ["FIRST"] == "open":
        await hub.publish("a", "1")
    if os.fork():
        os._exit(0)  # the first process ends at once, as daemons' do
    asyncio.events._set_running_loop(None)
    print(attempt(path), flush=True)
    os._exit(0)

asyncio.run(main())
"""
    out = run(program, path, FIRST=first)
    if first == "open":
        assert "can't share it over a fork: fork first" in out
        assert await stored(path) == ["1"]
    else:
        assert out == "[1]\n"
        assert await stored(path) == ["child"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_a_pool_of_processes(method: str, tmp_path: Path) -> None:
    """A pool's processes publish beside an open hub if they were not forked from it; else they say what to do."""
    script = tmp_path / "program.py"
    program = """
async def main():
    async with Hub(f"sqlite:///{path}") as hub:
        await hub.publish("a", "1")
        context = multiprocessing.get_context(sys.argv[2])
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            ends = await asyncio.gather(*(asyncio.wrap_future(pool.submit(attempt, path)) for _ in range(4)))
        if sys.argv[2] == "fork":
            assert all(refused(end) for end in ends), ends
        else:
            assert sorted(offset for [offset] in ends) == [2, 3, 4, 5], ends
        await hub.publish("a", "last")

if __name__ == "__main__":
    asyncio.run(main())
"""
    script.write_text(BEGIN + program)
    path = tmp_path / "log.db"
    subprocess.run([sys.executable, str(script), str(path), method], check=True, timeout=30)
    assert await stored(path) == ["1", *["child"] * (0 if method == "fork" else 4), "last"]


@pytest.mark.slow
async def test_another_file_in_the_child(tmp_path: Path) -> None:
    """However busy the parent's threads are at the moment of the fork, the child can use a log of its own."""
    path = tmp_path / "log.db"
    program = """
async def main():
    log = SqliteLog(path, synchronous="NORMAL")
    busy = True

    async def publisher(name):
        while busy:
            await log.append([(f"c.{name}", Event("x"))])

    async def reader():
        while busy:
            await log.span()

    tasks = [asyncio.ensure_future(publisher(name)) for name in range(20)] + [asyncio.ensure_future(reader())]
    for number in range(25):
        for _ in range(number):
            await asyncio.sleep(0)
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # kills a child that waits for what nobody will release
            asyncio.events._set_running_loop(None)
            os._exit(0 if attempt(path.with_name(f"{number}.db")) == [1] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    busy = False
    await asyncio.gather(*tasks)
    await log.close()

asyncio.run(main())
"""
    run(program, path)
    assert set(await stored(path)) == {"x"}


async def test_a_fork_that_python_is_not_told_of(tmp_path: Path) -> None:
    """As uWSGI's: the child is refused the file, and another file works in it."""
    path = tmp_path / "log.db"
    program = """
import ctypes
loop = asyncio.SelectorEventLoop(selectors.PollSelector())  # shares no epoll with the child
log = SqliteLog(path)
loop.run_until_complete(log.append([("a", Event("1"))]))
time.sleep(0.2)  # a thread that wants Python's lock at the fork would have the child wait for it for ever
child = ctypes.PyDLL(None).fork()
if child == 0:
    signal.alarm(60)  # kills a child that waits for what nobody will release
    assert refused(attempt(path))
    assert attempt(path.with_name("other.db")) == [1]
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
loop.run_until_complete(log.append([("a", Event("2"))]))
loop.run_until_complete(log.close())
"""
    run(program, path)
    assert await stored(path) == ["1", "2"]


def test_children_that_use_what_their_parent_has_made(tmp_path: Path) -> None:
    """A log that was made before the forks has one keeper of its retention among all children, not one in each."""
    program = """
hub = Hub(f"sqlite:///{path}")

async def keeper():
    async with hub:
        await hub.publish("a", "x")
        return hub.log.engine._reader._retention._name

names = []
for _ in range(2):
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, asyncio.run(keeper()).encode())
        os._exit(0)
    os.wait()
    names.append(os.read(ours, 100))
assert names[0] != names[1], names
"""
    run(program, tmp_path / "log.db")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_random_walk(seed: int, tmp_path: Path) -> None:
    """Processes that open, append, close, fork and die in any order: each acknowledged event is at its offset."""
    path = tmp_path / "log.db"
    (tmp_path / "link.db").symlink_to(path)
    done = subprocess.run(
        [sys.executable, str(FORKER), str(path), str(seed)], check=False, timeout=30, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    acknowledged = [line.split() for line in done.stdout.splitlines()]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    stored = dict(connection.execute("SELECT offset, data FROM newswire_events").fetchall() if acknowledged else ())
    connection.close()
    assert len({offset for offset, _ in acknowledged}) == len(acknowledged), "an offset was used twice"
    for offset, data in acknowledged:
        assert stored.get(int(offset)) == data
    assert sorted(stored) == list(range(1, len(stored) + 1))


async def test_a_connection_of_the_application(tmp_path: Path) -> None:
    """While the application has the file open, nothing but SQLite opens it: that would drop SQLite's locks."""
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE orders (id)")
    with kept_closed(str(path)) as closed:
        assert not closed
    other.close()
    with kept_closed(str(path)) as closed:
        assert closed
