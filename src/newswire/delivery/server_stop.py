"""Streams that stop when their own server does, though no signal comes.

Servers stop by a flag that another thread sets, a number of requests that is reached, an event in a test. None of these
reaches an application, and a server that waits for its open streams would wait for ever. So each stream asks
`on_server_stop` for a call when its own server begins to stop:

* uvicorn calls `shutdown()` on each connection. The stream puts itself before that call, on its own connection only.
* hypercorn and anycorn set an event in the context that their connections share. One task a context waits for it.
* granian's embedded server has a method `shutdown`, called on the server. The streams put themselves before it.
* A WSGI server tells nothing. What draws for it looks for it; see `newswire.integrations.wsgi_stop`.
* A `StreamMiddleware` around the application sees the lifespan message `lifespan.shutdown`.

The way from a request to its server leads through what `receive` and `send` hold on to, past any middleware. Where it
leads nowhere, what the event loop's tasks are at may tell; else there are only signals (`newswire.delivery.drain`).
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

DIRECT: Final = "newswire.direct"  # the ASGI extension of newswire.delivery.uvicorn
STREAM: Final = "newswire.stream"  # the ASGI extension of newswire.delivery.middleware
SERVER: Final = "newswire.server"  # the ASGI extension of newswire.integrations.exchange
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
    drawn = extensions.get(SERVER)
    if drawn is not None:
        return _Listed(drawn.streams, stream)
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
