"""Real threads, locks and event loops, also in a process where gevent has replaced Python's own.

After `gevent.monkey.patch_all()` a `threading.Thread` is a greenlet of the thread that starts it, and `select` gives
way to the other greenlets. An event loop in such a thread would hold up all of them, and they it. So the hub's
background thread and the SQLite log's threads are started here: they are threads of the operating system. A greenlet
that waits for one of them (`ThreadCall`) lets the others go on.

Where gevent is not used, each of these is Python's own. gevent is never imported here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def is_patched() -> bool:
    """Whether gevent has replaced this process's threads or its `select`."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, ("threading", "thread", "_thread", "select")))


def _original(module: str, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(import_module(module), name) if monkey is None else monkey.get_original(module, name)


def lock() -> Any:
    """A lock between threads. A greenlet must not give way while it holds one."""
    return _original("_thread", "allocate_lock")()


def simple_queue() -> queue.SimpleQueue[Any]:
    """A queue between threads."""
    made: queue.SimpleQueue[Any] = _original("_queue", "SimpleQueue")() if is_patched() else queue.SimpleQueue()
    return made


def poll() -> Any:
    """What waits for descriptors, without giving way to greenlets, where the system has `select.poll`."""
    return _original("select", "poll")()


class Thread:
    """A thread of the operating system, which does not keep the process alive: what `threading.Thread` is elsewhere.

    Args:
        target: what it runs.
        name: its name.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        self._target = target
        self._thread = threading.Thread(target=target, name=name, daemon=True)
        self._running: Any = None  # where gevent has replaced threads: held while it runs

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: there can't be more threads.
        """
        if not is_patched():
            self._thread.start()
            return
        self._running = lock()
        self._running.acquire()
        _original("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._running.release()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, not longer than `timeout` seconds."""
        if self._running is None:
            self._thread.join(timeout)
        elif self._running.acquire(timeout=-1 if timeout is None else timeout):
            self._running.release()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop for a `Thread`."""
    if not is_patched():
        return asyncio.new_event_loop()
    loop = asyncio.SelectorEventLoop(_selector())
    loop.set_default_executor(_Executor())
    return loop


class ThreadCall(Generic[T]):
    """A coroutine that runs in the event loop of a `Thread`, for a thread that waits for its result.

    The future of `asyncio.run_coroutine_threadsafe` has a lock that both threads take. What the handler of a signal
    raises in the one that waits (the time of a task is over) could leave it locked, and the event loop would wait for
    it for ever. Here the event loop waits for nothing.

    Args:
        call: makes the coroutine, in the event loop.
        loop: the event loop.

    Raises:
        RuntimeError: the event loop is closed.
    """

    def __init__(self, call: Callable[[], Coroutine[Any, Any, T]], loop: asyncio.AbstractEventLoop) -> None:
        self._call = call
        self._loop = loop
        self._running = lock()  # held until there is a result
        self._running.acquire()
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False
        self._wake: Callable[[], object] | None = None  # a greenlet that waits
        loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        if not self._cancelled:
            self._task = self._loop.create_task(self._call())
            self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # if no one waits any more, it is not logged
        self._running.release()
        if (wake := self._wake) is not None:
            wake()

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def result(self, timeout: float | None) -> T:
        """Wait for the result.

        Raises:
            TimeoutError: it is not there in time; the coroutine is cancelled.
            concurrent.futures.CancelledError: the coroutine was cancelled.
        """
        waited = self._give_way if is_patched() else self._acquire
        if not waited(timeout):
            self._loop.call_soon_threadsafe(self._cancel)
            raise TimeoutError
        assert self._task is not None
        try:
            return self._task.result()
        except asyncio.CancelledError:
            raise concurrent.futures.CancelledError from None

    def _acquire(self, timeout: float | None) -> bool:
        return bool(self._running.acquire(timeout=-1 if timeout is None else timeout))

    def _give_way(self, timeout: float | None) -> bool:
        """Wait as a greenlet."""
        gevent: Any = sys.modules["gevent"]
        watcher = gevent.get_hub().loop.async_()  # its `send` may be called in any thread
        done = gevent.event.Event()
        watcher.start(done.set)
        try:
            self._wake = watcher.send
            return (self._task is not None and self._task.done()) or bool(done.wait(timeout))
        finally:
            self._wake = None
            watcher.stop()
            watcher.close()


def _selector() -> selectors.BaseSelector:
    """What waits for sockets, without giving way to greenlets."""
    poll = _original("select", "poll")

    class Selector(selectors._PollLikeSelector):  # the classes of other names are gone
        _selector_cls = poll
        _EVENT_READ = 0x001  # POLLIN
        _EVENT_WRITE = 0x004  # POLLOUT

    made: selectors.BaseSelector = Selector()
    return made


class _Executor(ThreadPoolExecutor):
    """Runs each call in a `Thread` of its own: an event loop needs one now and then, to look up a host's name."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # the outermost frame of its thread
                future.set_exception(error)

        Thread(run, "newswire executor").start()
        return future
