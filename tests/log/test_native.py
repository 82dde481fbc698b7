"""Real threads, also where gevent has replaced Python's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from newswire.log import native

PATIENCE = 20.0
PATCHED = """
import asyncio, gevent, gevent.monkey
gevent.monkey.patch_all()
import threading, time
from newswire.log import native

assert native.is_patched()
idents = []

def work():
    idents.append(native._original("_thread", "get_ident")())

thread = native.Thread(work, "one")
thread.start()
thread.join(20)
assert idents[0] != native._original("_thread", "get_ident")()

queue, lock = native.simple_queue(), native.lock()
lock.acquire()
waiting = native.Thread(lambda: (lock.acquire(), queue.put("released")), "two")
waiting.start()
waiting.join(0.01)
lock.release()
assert queue.get(timeout=20) == "released"

loop = native.new_event_loop()
running = native.Thread(loop.run_forever, "loop")
running.start()

async def main():
    def fail():
        raise KeyError("in the executor")

    try:
        await loop.run_in_executor(None, fail)
    except KeyError as error:
        return await loop.run_in_executor(None, lambda: str(error))

print(native.ThreadCall(main, loop).result(20))
loop.call_soon_threadsafe(loop.stop)
running.join(20)
loop.close()
"""


def test_a_thread() -> None:
    """It runs what it is given, and can be waited for; not longer than asked."""
    goes_on = threading.Event()
    names: list[str] = []

    def run() -> None:
        names.append(threading.current_thread().name)
        goes_on.wait(PATIENCE)

    thread = native.Thread(run, "newswire test")
    thread.start()
    thread.join(0.01)
    goes_on.set()
    thread.join(PATIENCE)
    assert names == ["newswire test"]


def test_a_result() -> None:
    """Of a coroutine in another thread's event loop; or it is too late, and the coroutine is cancelled."""
    loop = native.new_event_loop()
    thread = native.Thread(loop.run_forever, "newswire test")
    thread.start()
    try:
        assert native.ThreadCall(lambda: asyncio.sleep(0, "done"), loop).result(PATIENCE) == "done"
        with pytest.raises(TimeoutError):
            native.ThreadCall(lambda: asyncio.sleep(1000), loop).result(0.01)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@pytest.mark.slow
def test_where_gevent_has_replaced_everything() -> None:
    """Threads, locks, queues, an event loop and its executor are real."""
    done = subprocess.run([sys.executable, "-c", PATCHED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("'in the executor'\n", 0), done.stderr
