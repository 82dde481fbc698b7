"""How streams in WSGI applications learn that their server stops.

WSGI tells an application nothing of its server, and signals belong to the main thread, which is not the one of a
request. So each stream looks for its server among the variables of the functions that have called it; else among those
of the functions that other threads are in, or behind the handler of SIGTERM. The server is then looked at ten times a
second, while it has streams. Once it stops, they end in order. A worker of gunicorn whose parent was killed stops too,
and gets no signal.

A server that drops its threads when the process ends (Werkzeug's, `flask run`) leaves no time for that. So at the exit
of the process each open stream says goodbye too, and has a second to be written.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import FrameType, FunctionType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from newswire.delivery.server_stop import Ending

_GLANCE: Final = 0.1  # seconds between two looks at a server
_EXIT_SECONDS: Final = 1.0  # for what is open when the process ends


class Kind(NamedTuple):
    """A kind of server.

    Attributes:
        package: of its functions.
        variable: the name of a variable of these functions.
        teller: the object that knows whether the server runs, by that variable.
        runs: asks it.
    """

    package: str
    variable: str
    teller: Callable[[Any], Any]
    runs: Callable[[Any], bool]


def _itself(value: Any) -> Any:
    return value


_CALLERS: Final = (
    Kind("gunicorn.workers", "self", _itself, lambda worker: worker.alive and worker.ppid == os.getppid()),
    Kind("socketserver", "self", lambda server: server._BaseServer__is_shut_down, lambda event: not event.is_set()),
    Kind("cheroot", "self", lambda thread: thread.server, lambda server: bool(server.ready)),
    Kind("waitress", "self", _itself, lambda dispatcher: bool(dispatcher.stop_count <= 0)),
)
_ELSEWHERE: Final = (
    Kind("uvicorn.server", "self", _itself, lambda server: not server.should_exit),  # its applications' threads
)
_PACKAGES: Final = tuple(kind.package for kind in (*_CALLERS, *_ELSEWHERE))


class Teller(NamedTuple):
    """What knows whether a server runs.

    Attributes:
        found: the object.
        runs: asks it.
    """

    found: Any
    runs: Callable[[Any], bool]


def teller() -> Teller:
    """What knows of the server that calls us; where it is of no known kind, it never stops."""
    found = _search(_variables(sys._getframe()), _CALLERS) or _granian()
    if found is None and "uvicorn" in sys.modules:
        frames = sys._current_frames().values()
        found = _search((each for frame in frames for each in _variables(frame)), _ELSEWHERE)
    return found or Teller(None, lambda none: True)


class _Signal:
    """Stands before the object that granian's worker reports a signal to; it has no way to ask.

    Attributes:
        is_set: whether one came.
    """

    def __init__(self, below: Any) -> None:
        self.is_set = False
        self._below = below

    def set(self) -> None:
        """Called by the signal handler of granian's worker."""
        self.is_set = True
        self._below.set()


def _granian() -> Teller | None:
    """The signals of granian's worker, if this process is one."""
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(handler, FunctionType) and handler.__module__ == "granian._signals":
        for name, cell in zip(handler.__code__.co_freevars, handler.__closure__ or (), strict=True):
            if name == "signal_event":
                if not isinstance(cell.cell_contents, _Signal):
                    cell.cell_contents = _Signal(cell.cell_contents)
                return Teller(cell.cell_contents, lambda signals: not signals.is_set)
    return None


def _search(variables: Iterable[tuple[str, str, Any]], kinds: Iterable[Kind]) -> Teller | None:
    for module, name, value in variables:
        for kind in kinds:
            if name == kind.variable and f"{module}.".startswith(f"{kind.package}."):
                with suppress(AttributeError):
                    found = kind.teller(value)
                    kind.runs(found)
                    return Teller(found, kind.runs)
    return None


def _variables(frame: FrameType | None) -> Iterator[tuple[str, str, Any]]:
    """The module, name and value of servers' variables, from a function to the outermost that calls it."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_PACKAGES):
            for name, value in frame.f_locals.items():
                yield module, name, value
        frame = frame.f_back


class WsgiServer:
    """A server that may stop, and its streams in one event loop.

    Args:
        teller: what knows whether it runs.

    Attributes:
        streams: the open ones; see `newswire.delivery.server_stop`.
    """

    _all: WeakKeyDictionary[Any, dict[int, WsgiServer]] = WeakKeyDictionary()  # by event loop and the id of the teller

    def __init__(self, teller: Teller) -> None:
        self.streams: dict[Ending, None] = {}
        self._teller = teller
        self._loop = asyncio.get_running_loop()
        self._watched = False

    @classmethod
    def of(cls, teller: Teller) -> WsgiServer:
        """The one of this event loop."""
        servers = cls._all.setdefault(asyncio.get_running_loop(), {})
        return servers.setdefault(id(teller.found), cls(teller))

    def watch(self) -> None:
        """Look at it from now on, while it has streams. Called in the event loop. Idempotent."""
        if not self._watched:
            self._watched = True
            self._loop.call_later(_GLANCE, self._look)

    def _look(self) -> None:
        self._watched = False
        if not self._teller.runs(self._teller.found):
            self.end()
        if self.streams:
            self.watch()
        else:
            self._all.get(self._loop, {}).pop(id(self._teller.found), None)

    def end(self) -> None:
        """End the streams. Called in the event loop."""
        for stream in list(self.streams):
            stream.end()

    def end_from_thread(self) -> None:
        """The same from another thread; the event loop may be closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.end)


class OpenBodies:
    """The WSGI streams of this process that their servers have not closed."""

    def __init__(self) -> None:
        self._servers: dict[object, WsgiServer] = {}  # of each open body
        self._lock = threading.Lock()

    def add(self, body: object, server: WsgiServer) -> None:
        """A server draws from it now."""
        with self._lock:
            if not self._servers:
                atexit.unregister(self._end)
                atexit.register(self._end)  # the last that is registered runs first: before the hub's thread ends
            self._servers[body] = server

    def remove(self, body: object) -> None:
        """The server has closed it. Idempotent."""
        with self._lock:
            self._servers.pop(body, None)

    def _end(self) -> None:
        """The process ends: let each say goodbye, and its server's thread write that."""
        with self._lock:
            servers = set(self._servers.values())
        for server in servers:
            server.end_from_thread()
        deadline = time.monotonic() + _EXIT_SECONDS
        while self._servers and time.monotonic() < deadline:
            time.sleep(0.005)


OPEN: Final = OpenBodies()
