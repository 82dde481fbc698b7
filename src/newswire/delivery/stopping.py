"""The stop of the server that one request came from, however it stops.

Signals are the drain's affair (`newswire.delivery.drain`). But servers stop in other ways too: a flag that another
thread sets, a number of requests that is reached, an event in a test. None of these reaches an application, and a
server that waits for its open streams would wait for ever. So each stream asks here for a call when its own server
begins to stop:

* uvicorn calls `shutdown()` on each connection. The stream puts itself before that call, on its own connection only.
* hypercorn and anycorn set an event in the context that their connections share. One task a context waits for it.
* A `StreamMiddleware` around the application sees the lifespan message `lifespan.shutdown`.

The way from a request to its server leads through what `receive` and `send` hold on to, past any middleware. Where it
leads nowhere, as with granian, there are only signals.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Final
from weakref import WeakKeyDictionary

DIRECT: Final = "newswire.direct"  # the ASGI extension of newswire.delivery.uvicorn
STREAM: Final = "newswire.stream"  # the ASGI extension of newswire.delivery.middleware
_STEPS: Final = 200  # how far to look; a request behind ten middlewares takes some 40

Undo = Callable[[], None]


def on_server_stop(scope: Any, receive: Any, send: Any, call: Callable[[], None]) -> Undo:
    """Call `call` once, in the event loop, when the server of this request begins to stop.

    Args:
        scope: the request's.
        receive: the request's, or what middlewares make of it.
        send: the same.
        call: must not raise or block.

    Returns:
        what takes it back; to be called when the stream has ended. Idempotent.
    """
    extensions = scope.get("extensions") or {}
    undo = []
    middleware = extensions.get(STREAM)
    if middleware is not None:
        undo.append(middleware.on_stop(call))
    offer = extensions.get(DIRECT)
    found = None if offer is not None else _server_of(receive, send)
    if offer is not None:
        undo.append(offer.on_stop(call))
    elif hasattr(found, "terminated"):
        undo.append(_Terminated.of(found).add(call))
    elif found is not None:
        undo.append(_Shutdown.of(found).add(call))
    return undo[0] if len(undo) == 1 else partial(_all, undo)


def _all(calls: list[Undo]) -> None:
    for call in calls:
        call()


class _Shutdown:
    """Stands before `shutdown` of one of uvicorn's protocols, while there are streams on its connection."""

    __slots__ = ("_calls", "_protocol")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._calls: list[Callable[[], None]] = []

    @staticmethod
    def of(protocol: Any) -> _Shutdown:
        found = vars(protocol).get("shutdown")
        if not isinstance(found, _Shutdown):
            found = protocol.shutdown = _Shutdown(protocol)
        return found

    def add(self, call: Callable[[], None]) -> Undo:
        self._calls.append(call)
        return partial(self._remove, call)

    def _remove(self, call: Callable[[], None]) -> None:
        if call in self._calls:
            self._calls.remove(call)
        if not self._calls and vars(self._protocol).get("shutdown") is self:
            del self._protocol.shutdown

    def __call__(self) -> None:
        type(self._protocol).shutdown(self._protocol)
        for call in list(self._calls):
            call()


class _Terminated:
    """Waits for the event that hypercorn's connections share, while there are streams on them."""

    _all: WeakKeyDictionary[Any, _Terminated] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._calls: dict[Callable[[], None], None] = {}
        self._task: asyncio.Task[None] | None = None
        self._event: Any = None

    @classmethod
    def of(cls, context: Any) -> _Terminated:
        found = cls._all.get(context)
        if found is None:
            found = cls._all[context] = cls()
            found._event = context.terminated
        return found

    def add(self, call: Callable[[], None]) -> Undo:
        self._calls[call] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._wait(), name="newswire stop")
        return partial(self._remove, call)

    def _remove(self, call: Callable[[], None]) -> None:
        self._calls.pop(call, None)
        if not self._calls and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _wait(self) -> None:
        await self._event.wait()
        for call in list(self._calls):
            call()


def _server_of(receive: Any, send: Any) -> Any:
    """uvicorn's protocol of a request, or the context of hypercorn's connections; None if there is neither."""
    for found in _reachable(receive, send):
        module = type(found).__module__
        if module.startswith("uvicorn."):
            protocol = getattr(getattr(found, "on_response", None), "__self__", None)
            if hasattr(protocol, "shutdown") and hasattr(protocol, "__dict__"):
                return protocol
        elif module.startswith(("hypercorn.", "anycorn.")):
            context = getattr(found, "context", None)
            if hasattr(getattr(context, "terminated", None), "wait"):
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
        elif hasattr(found, "__dict__"):
            yield found
            ahead.extend(value for value in vars(found).values() if callable(value))
