"""Streams that stop when their server does, on every server: on a signal, and however else it stops.

Servers wait for open connections before they shut down, and most do so silently: an endless stream would hang every
deploy. So the first stream on an event loop chains itself before the handlers of SIGTERM and SIGINT (and the last one
puts them back). On a signal every stream ends; then the server's own handler runs.

Signals belong to the main thread: in another one, the application calls `await hub.shutdown()` itself. hypercorn's
workers get no signal at all, but an event of multiprocessing's that they look at ten times a second. gunicorn's workers
for WSGI get one in the main thread, and clear their `alive`. The drain looks at these ten times a second, there alone,
and while there are streams.

Servers stop in other ways too: a flag that another thread sets, a number of requests that is reached, an event in a
test. None of these reaches an application, and a server that waits for its open streams would wait for ever. So each
stream asks `on_server_stop` for a call when its own server begins to stop:

* uvicorn calls `shutdown()` on each connection. The stream puts itself before that call, on its own connection only.
* hypercorn and anycorn set an event in the context that their connections share. One task a context waits for it.
* granian's embedded server has a method `shutdown`, called on the server. The streams put themselves before it.
* A `StreamMiddleware` around the application sees the lifespan message `lifespan.shutdown`.

The way from a request to its server leads through what `receive` and `send` hold on to, past any middleware. Where it
leads nowhere, what the event loop's tasks are at may tell; else there are only signals.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType, FunctionType, MethodType
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


class Worker(Protocol):
    """What serves requests until it is no longer `alive`: one of gunicorn's workers."""

    alive: bool


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
        self._told = False
        self._workers: dict[Worker, None] = {}
        self._glance: asyncio.TimerHandle | None = None

    @property
    def own_seconds(self) -> float:
        """How long a stream that ends by itself may take for that, from the moment in which the server stops."""
        return _OWN_TIME * self.grace

    def enter(self, stream: Stoppable) -> None:
        """Stop `stream` when a signal comes (at once, if one has come). Leave when it has ended."""
        if not self._streams:
            self._loop = asyncio.get_running_loop()
            self._chain()
        self._streams[stream] = None
        if self._told:
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

    def follow(self, worker: Worker) -> None:
        """Stop also when this worker stops: its requests come from threads, in which no signal can be seen."""
        self._workers[worker] = None
        if self._streams and self._glance is None:
            self._look()

    def stop(self) -> None:
        """Tell every stream to end; drop those that have not when the grace time is over."""
        self._told = True
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
        if loop is None or loop.is_closed() or self._told:
            self._pass_on(previous, number, frame)
            return
        # Some servers drop everything the moment they hear of it, so streams hear first. A second signal goes
        # straight through: a loop that is stuck must not keep the process alive.
        self._told = True
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
        if self._told or (event is None and not self._workers):
            return
        if (event is not None and event.is_set()) or not all(worker.alive for worker in self._workers):
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


DIRECT: Final = "newswire.direct"  # the ASGI extension of newswire.delivery.uvicorn
STREAM: Final = "newswire.stream"  # the ASGI extension of newswire.delivery.middleware
_STEPS: Final = 200  # how far to look; a request behind ten middlewares takes some 40


class Ending(Protocol):
    """A stream that ends on request."""

    def end(self) -> None:
        """Its server stops. Called in the event loop; must not raise or block."""
        ...


class Hook(Protocol):
    """What `on_server_stop` put in place."""

    def undo(self) -> None:
        """Take it back: the stream has ended. Idempotent."""
        ...


def on_server_stop(scope: Any, receive: Any, send: Any, stream: Ending) -> Hook:
    """Call `stream.end()` once, when the server of this request begins to stop.

    Args:
        scope: the request's.
        receive: the request's, or what middlewares make of it.
        send: the same.
        stream: what is to end.
    """
    extensions = scope.get("extensions") or {}
    offer = extensions.get(DIRECT)
    if offer is not None:
        hook: Hook = offer.on_stop(stream)
        return hook
    server = _server_of(receive, send) or _hypercorn()
    if hasattr(server, "terminated"):
        return _OnTerminated(server, stream)
    if server is not None:
        return _OnShutdown(server, stream)
    embedded = _granian()
    if embedded is not None:
        return _Listed(embedded, stream)
    middleware = extensions.get(STREAM)
    return _Listed({} if middleware is None else middleware.streams, stream)


class _Listed:
    """A stream in a set of streams that a caller will end."""

    __slots__ = ("_streams", "_stream")

    def __init__(self, streams: dict[Ending, None], stream: Ending) -> None:
        self._streams = streams
        self._stream = stream
        streams[stream] = None

    def undo(self) -> None:
        self._streams.pop(self._stream, None)


class _OnShutdown:
    """Stands before `shutdown` of one of uvicorn's protocols; several do on a connection of HTTP/2."""

    __slots__ = ("_below", "_protocol", "_stream")

    def __init__(self, protocol: Any, stream: Ending) -> None:
        self._protocol = protocol
        self._stream: Ending | None = stream
        below = vars(protocol).get("shutdown")
        self._below: _OnShutdown | None = below if isinstance(below, _OnShutdown) else None
        protocol.shutdown = self

    def __call__(self) -> None:
        if self._below is None:
            type(self._protocol).shutdown(self._protocol)
        else:
            self._below()
        if self._stream is not None:
            self._stream.end()

    def undo(self) -> None:
        self._stream = None
        top = vars(self._protocol).get("shutdown")
        while isinstance(top, _OnShutdown) and top._stream is None:
            if top._below is None:
                del self._protocol.shutdown
            else:
                self._protocol.shutdown = top._below
            top = top._below


class _OnTerminated(_Listed):
    """Ends with the event that hypercorn's connections share; one task waits for it, while there are streams."""

    __slots__ = ("_context",)

    _all: WeakKeyDictionary[Any, dict[Ending, None]] = WeakKeyDictionary()
    _tasks: WeakKeyDictionary[Any, asyncio.Task[None]] = WeakKeyDictionary()

    def __init__(self, context: Any, stream: Ending) -> None:
        streams = self._all.setdefault(context, {})
        super().__init__(streams, stream)
        self._context = context
        if len(streams) == 1:
            waiting = _end_when(context.terminated, streams)
            self._tasks[context] = asyncio.get_running_loop().create_task(waiting, name="newswire stop")

    def undo(self) -> None:
        super().undo()
        if not self._streams:
            task = self._tasks.pop(self._context, None)
            if task is not None:
                task.cancel()


async def _end_when(event: Any, streams: dict[Ending, None]) -> None:
    await event.wait()
    for stream in list(streams):
        stream.end()


# By event loop, the streams that end with the embedded server of granian's that runs on it; None: there is none.
_embedded: WeakKeyDictionary[Any, dict[Ending, None] | None] = WeakKeyDictionary()
# By event loop, the context of hypercorn's connections, where there is only one; see `_server_of`.
_contexts: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _granian() -> dict[Ending, None] | None:
    """The streams that end with granian's embedded server, if one runs on this event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _embedded:
        _embedded[loop] = None
        for server in _locals(loop, "self", "granian.server.embed"):
            if hasattr(server, "shutdown"):
                streams = _embedded[loop] = {}
                server.shutdown = partial(_shut_down, server, streams)
                break
    return _embedded[loop]


def _hypercorn() -> Any:
    """The context of hypercorn's connections. Starlette 1.0's `BaseHTTPMiddleware` hides the way to it."""
    loop = asyncio.get_running_loop()
    if loop not in _contexts:
        found = {id(each): each for each in _locals(loop, "context", "hypercorn", "anycorn") if _is_context(each)}
        _contexts[loop] = next(iter(found.values())) if len(found) == 1 else None
    return _contexts[loop]


def _is_context(found: Any) -> bool:
    return hasattr(getattr(found, "terminated", None), "wait")


async def _shut_down(server: Any, streams: dict[Ending, None], *args: Any) -> None:
    for stream in list(streams):
        stream.end()
    await type(server).shutdown(server, *args)


def _locals(loop: asyncio.AbstractEventLoop, name: str, *packages: str) -> Iterator[Any]:
    """What functions of some packages have under a name, where the tasks of the loop are in them."""
    if not any(package in sys.modules for package in packages):
        return
    for task in asyncio.all_tasks(loop):
        waiting: Any = task.get_coro()
        while waiting is not None:
            frame = getattr(waiting, "cr_frame", None)
            if frame is not None and name in frame.f_locals and frame.f_globals["__name__"].startswith(packages):
                yield frame.f_locals[name]
            waiting = getattr(waiting, "cr_await", None)


def _server_of(receive: Any, send: Any) -> Any:
    """uvicorn's protocol of a request, or the context of hypercorn's connections; None if there is neither."""
    for found in _reachable(receive, send):
        modules = [kind.__module__ for kind in type(found).__mro__]
        if any(module.startswith("uvicorn.") for module in modules):  # newswire's protocol subclasses uvicorn's
            for value in _attributes(found):  # among them a method of the protocol's, for the end of the response
                protocol = getattr(value, "__self__", None)
                if hasattr(protocol, "shutdown") and hasattr(protocol, "__dict__"):
                    return protocol
        elif modules[0].startswith(("hypercorn.", "anycorn.")):
            context = getattr(found, "context", None)
            if _is_context(context):
                return context
    return None


def _reachable(*roots: Any) -> Iterator[Any]:
    """The objects whose methods some callables come to, nearest first."""
    seen: set[int] = set()
    ahead = deque(roots)
    for _ in range(_STEPS):
        if not ahead:
            return
        found = ahead.popleft()
        if id(found) in seen or isinstance(found, type):
            continue
        seen.add(id(found))
        if isinstance(found, MethodType):
            ahead.append(found.__self__)
        elif isinstance(found, FunctionType):
            for cell in found.__closure__ or ():
                try:
                    ahead.append(cell.cell_contents)
                except ValueError:  # not set yet
                    pass
        elif isinstance(found, partial):
            ahead.extend((found.func, *found.args, *found.keywords.values()))
        elif isinstance(found, dict):
            ahead.extend(value for value in found.values() if callable(value))
        elif isinstance(found, (list, tuple)):
            ahead.extend(value for value in found if callable(value))
        else:
            yield found
            ahead.extend(value for value in _attributes(found) if callable(value))


def _attributes(found: Any) -> Iterator[Any]:
    """What an object refers to by name, in its dictionary and in slots."""
    yield from getattr(found, "__dict__", {}).values()
    for kind in type(found).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(found, name, None)
