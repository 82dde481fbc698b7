"""The hub for threads: code that runs in no event loop publishes through here.

Where the hub is open, calls are passed to its loop. Where it is not (a script, a WSGI application, a worker), a
background thread runs a loop for it, which ends with the hub or the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from newswire.errors import Closed
from newswire.log.position import Position

if TYPE_CHECKING:
    from newswire.hub.hub import Hub

T = TypeVar("T")


class SyncHub:
    """Blocking calls, for any thread but the event loop's own."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._background: asyncio.AbstractEventLoop | None = None

    def publish(self, channel: str, data: Any, *, event: str = "message", timeout: float | None = None) -> Position:
        """Publish one event; see `Hub.publish`.

        Args:
            timeout: seconds to wait; then the event may or may not be stored.

        Raises:
            TimeoutError: the time is over.
            RuntimeError: called in the hub's own event loop, which it would block.
        """
        return self.call(self._hub.publish(channel, data, event=event), timeout)

    def publish_many(self, events: Iterable[tuple[str, Any]], *, timeout: float | None = None) -> list[Position]:
        """Publish a batch; see `Hub.publish_many`."""
        return self.call(self._hub.publish_many(events), timeout)

    def close(self, timeout: float | None = None) -> None:
        """Close the hub, and the background thread if there is one. Idempotent."""
        if not self._hub.closed:
            self.call(self._hub.close(), timeout)
        with self._lock:
            loop, self._background = self._background, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def call(self, call: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the hub's event loop and wait for its result: for what is built upon the hub.

        Raises:
            TimeoutError, RuntimeError: see `publish`.
            Closed: the hub was closed; its event loop may not be there any more.
        """
        if self._hub.closed:
            call.close()
            raise Closed("the hub is closed")
        loop = self._hub.loop or self._start()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is loop:
            call.close()
            raise RuntimeError("hub.sync would block the hub's own event loop: await the hub's method instead")
        future = asyncio.run_coroutine_threadsafe(call, loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._background is None:
                self._background = loop = asyncio.new_event_loop()
                threading.Thread(target=_run_loop, args=(loop,), name="newswire hub", daemon=True).start()
            return self._background


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
