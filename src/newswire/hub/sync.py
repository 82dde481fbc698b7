"""The hub for threads: code that runs in no event loop publishes through here.

Where the hub is open, calls are passed to its loop. Where it is not (a script, a WSGI application, a worker, after
`asyncio.run`), a background thread runs a loop for it, which ends with the hub or the process. An event loop that opens
the hub later takes it over.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from newswire.errors import Closed
from newswire.log.position import Position

if TYPE_CHECKING:
    from newswire.hub.hub import Hub

T = TypeVar("T")


class SyncHub:
    """Blocking calls, for any thread but the event loop's own.

    Attributes:
        background: the event loop of the background thread, if there is one; for newswire itself.
        lock: held where a call is given to an event loop, and where that changes; for newswire itself.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.lock = threading.Lock()
        self._closed = False  # by `close`: threads that come late don't open the hub again
        self.background: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread
        self._pid = 0  # the process that the thread belongs to

    def publish(self, channel: str, data: Any, *, event: str = "message", timeout: float | None = None) -> Position:
        """Publish one event; see `Hub.publish`.

        Args:
            timeout: seconds to wait; then the event may or may not be stored.

        Raises:
            TimeoutError: the time is over.
            RuntimeError: called in an event loop, which it would block; in a fork of the process that opened the hub;
                or where gevent has replaced the threads.
        """
        return self.call(lambda: self._hub.publish(channel, data, event=event), timeout)

    def publish_many(self, events: Iterable[tuple[str, Any]], *, timeout: float | None = None) -> list[Position]:
        """Publish a batch; see `Hub.publish_many`."""
        return self.call(lambda: self._hub.publish_many(events), timeout)

    def close(self, timeout: float | None = None) -> None:
        """Close the hub, and the background thread if there is one. Idempotent."""
        if not self._hub.closed:
            self.call(self._hub.close, timeout)
        self._closed = True
        self._end()

    def _end(self) -> None:
        """End the background thread. At the end of the process too: its tasks would be destroyed, with tracebacks."""
        if self.background is None or self._pid != os.getpid():
            return  # in a fork, the thread and perhaps the lock are the parent's
        with self.lock:
            loop, self.background = self.background, None
        if loop is not None:
            atexit.unregister(self._end)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(1.0)

    def call(self, call: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = None) -> T:
        """Await `call()` in the hub's event loop and wait for its result: for what is built upon the hub.

        Raises:
            TimeoutError, RuntimeError: see `publish`.
            Closed: the hub was closed, by `close` or in an event loop that is still there.
        """
        self._check()
        with self.lock:
            loop = self._hub.loop
            if loop is None or loop.is_closed():
                loop = self._start()
            future = asyncio.run_coroutine_threadsafe(self._call(call), loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    async def _call(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        loop = self._hub.loop
        if loop is None or loop.is_closed() or loop is asyncio.get_running_loop():
            return await call()
        # The hub went over to another event loop while this was on its way to the one before.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop))

    def _check(self) -> None:
        self._hub.check_process()
        if self._hub.closed and (self._closed or not self._hub.loop_is_gone):
            raise Closed("the hub is closed")
        self._closed = False
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and any(map(monkey.is_module_patched, ("threading", "select"))):
            raise RuntimeError(
                "gevent has replaced this process's threads or its select, and hub.sync needs real ones for its event "
                "loop: publish to a server (`newswire serve`) over HTTP, or run without monkey patching"
            )
        if _in_event_loop():
            raise RuntimeError(
                "hub.sync would block the event loop that runs in this thread: await the hub's own method instead"
            )

    def _start(self) -> asyncio.AbstractEventLoop:
        if self.background is None:
            self.background = loop = asyncio.new_event_loop()
            self._pid = os.getpid()
            self._thread = threading.Thread(target=_run_loop, args=(loop,), name="newswire hub", daemon=True)
            self._thread.start()
            atexit.register(self._end)
        return self.background


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_cancel_all())
    finally:
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
