"""Streams that stop when their process has to: on a signal, or on what reaches a worker instead of one.

Servers wait for open connections before they shut down, and most do so silently: an endless stream would hang every
deploy. So the first stream on an event loop chains itself before the handlers of SIGTERM and SIGINT (and the last one
puts them back). On a signal every stream ends; then the server's own handler runs.

Signals belong to the main thread: in another one, the application calls `await hub.shutdown()` itself. hypercorn's
workers get no signal at all, but an event of multiprocessing's that they look at ten times a second. The drain looks at
it as often, there alone, and while there are streams.

A server may also stop while its process goes on: see `newswire.delivery.server_stop`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Literal, Protocol
from weakref import WeakKeyDictionary

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_HEAD_START: Final = 0.1  # seconds
_GLANCE: Final = 0.1  # seconds between two looks at hypercorn's event
_OWN_TIME: Final = 0.8  # how much of the grace time finite streams have for themselves, before they must end


class Stoppable(Protocol):
    """Something with streams that end on request.

    Attributes:
        finite: its streams end by themselves some time, so it may be worth waiting.
    """

    finite: bool

    def stop(self) -> None:
        """End, in order. Called in the event loop; must not block."""
        ...

    def cut(self) -> None:
        """Drop what has not ended. Called in the event loop; must not block."""
        ...


class Idle(Stoppable, Protocol):
    """A `Stoppable` that says when its last stream has ended."""

    on_empty: list[Callable[[], None]]


class Drain:
    """The open streams of one event loop, and what tells them to stop.

    Attributes:
        mode: what a signal does. `goodbye`: every stream ends now, and tells its client when to come back. `drain`:
            finite streams (iterables) may end by themselves first, for four fifths of `grace`.
        grace: seconds from the signal until streams that have not ended are cut: those of clients that read nothing.
            Keep it below the server's own limit.
    """

    def __init__(self) -> None:
        self.mode: Literal["goodbye", "drain"] = "goodbye"
        self.grace: float = 5.0
        self._loop: asyncio.AbstractEventLoop | None = None  # only while there are streams: it must not be kept
        self._streams: dict[Stoppable, None] = {}
        self._previous: dict[int, Any] = {}
        self._stopping = False
        self._stop_at = 0.0  # when the stop began, by the clock of the loop
        self._glance: asyncio.TimerHandle | None = None

    @property
    def stopping(self) -> bool:
        """Whether the server stops."""
        return self._stopping

    @property
    def own_seconds(self) -> float:
        """How long a stream that ends by itself may take for that, from the moment in which the server stops."""
        return _OWN_TIME * self.grace

    @property
    def seconds_left(self) -> float:
        """How long what ends by itself may still take: nothing, unless the server stops and the mode is `drain`."""
        if not self._stopping or self.mode != "drain":
            return 0.0
        return max(0.0, self._stop_at + self.own_seconds - asyncio.get_running_loop().time())

    def enter(self, stream: Stoppable) -> None:
        """Stop `stream` when a signal comes (at once, if one has come). Leave when it has ended."""
        if not self._streams:
            self._loop = asyncio.get_running_loop()
            self._chain()
        self._streams[stream] = None
        if self._stopping:
            asyncio.get_running_loop().call_soon(stream.stop)

    def leave(self, stream: Stoppable) -> None:
        """`stream` has ended."""
        self._streams.pop(stream, None)
        if not self._streams:
            self._unchain()
            self._loop = None

    def watch(self, streams: Idle) -> None:
        """`enter` until the last of `streams` has ended. Idempotent."""
        if streams not in self._streams:
            self.enter(streams)
            streams.on_empty.append(lambda: self.leave(streams))

    def stop(self) -> None:
        """Tell every stream to end; drop those that have not when the grace time is over."""
        self._stopping = True
        self._stop_at = asyncio.get_running_loop().time()
        self._end(list(self._streams))

    def end(self, stream: Stoppable) -> None:
        """The same for one stream."""
        self._end([stream])

    def _end(self, streams: list[Stoppable]) -> None:
        loop = asyncio.get_running_loop()
        for stream in streams:
            if self.mode == "drain" and stream.finite:
                loop.call_later(self.own_seconds, self._stop_late, stream)
            else:
                stream.stop()
        loop.call_later(self.grace, self._cut, streams)

    def _stop_late(self, stream: Stoppable) -> None:
        if stream in self._streams:
            stream.stop()

    def _cut(self, streams: list[Stoppable]) -> None:
        for stream in streams:
            if stream in self._streams:
                stream.cut()

    def forget(self) -> None:
        """The event loop is closed: whatever was open on it is gone."""
        if self._streams:
            self._streams.clear()
            self._unchain()
        self._loop = None

    def _chain(self) -> None:
        self._look()
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            if number in self._previous:  # somebody chained after us, and calls us still
                continue
            self._previous[number] = signal.getsignal(number)
            signal.signal(number, self._handle)

    def _unchain(self) -> None:
        if self._glance is not None:
            self._glance.cancel()
            self._glance = None
        if threading.current_thread() is not threading.main_thread():
            return
        for number, previous in list(self._previous.items()):
            # If somebody has chained after us, they go on to call us, and we what was there before.
            if signal.getsignal(number) == self._handle and previous is not None:
                signal.signal(number, previous)
                del self._previous[number]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number, signal.SIG_DFL)
        loop = self._loop
        if loop is None or loop.is_closed() or self._stopping:
            self._pass_on(previous, number, frame)
            return
        # Some servers drop everything the moment they hear of it, so streams hear first. A second signal goes
        # straight through: a loop that is stuck must not keep the process alive.
        self._stopping = True
        loop.call_soon_threadsafe(self.stop)
        loop.call_soon_threadsafe(loop.call_later, _HEAD_START, self._pass_on, previous, number, frame)

    def _pass_on(self, previous: Any, number: int, frame: FrameType | None) -> None:
        if callable(previous):
            previous(number, frame)
        elif previous is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _look(self) -> None:
        """Look at what says that the server stops, where that is no signal."""
        event = _hypercorns_event()
        if self._stopping or event is None:
            return
        if event.is_set():
            self.stop()
        else:
            self._glance = asyncio.get_running_loop().call_later(_GLANCE, self._look)


def _hypercorns_event() -> Any:
    """What hypercorn's main process tells its workers with; None in any other process."""
    worker: Any = multiprocessing.current_process()
    return getattr(worker, "_kwargs", {}).get("shutdown_event")


_drains: WeakKeyDictionary[asyncio.AbstractEventLoop, Drain] = WeakKeyDictionary()


def drain_of(loop: asyncio.AbstractEventLoop) -> Drain:
    """The drain of an event loop."""
    drain = _drains.get(loop)
    if drain is None:
        for other in [other for other in _drains if other.is_closed()]:
            _drains.pop(other).forget()
        drain = _drains[loop] = Drain()
    return drain
