"""Whether the process, or the server of one stream, is stopping; streams of this package then end.

A signal, the stop of the stream's own server (`newswire.delivery.server_stop`) and `AppStatus.should_exit` all come to
the stream's `Stopping`. Nothing polls, and no server is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar
from weakref import WeakSet

from newswire.delivery.asgi import Receive, Scope, Send, running_loop
from newswire.delivery.drain import drain_of
from newswire.delivery.server_stop import on_server_stop


class Stopping:
    """The stop of one stream's server, which ends the stream. A stream of the drain; see `newswire.delivery.drain`."""

    finite = False  # its iterator is stopped at once; `shutdown_grace_period` is its own time

    def __init__(self) -> None:
        self._loop = running_loop()
        self._event = asyncio.Event()

    def stop(self) -> None:
        """A signal has come."""
        AppStatus.handle_exit()

    def end(self) -> None:
        """The stream's own server is stopping, and others in this process go on."""
        if AppStatus.enable_automatic_graceful_drain:
            self._event.set()

    def cut(self) -> None:
        """The drain's time is over; a stream of this kind has its own."""

    def exit(self) -> None:
        """`AppStatus.should_exit` was set, in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Wait for one of these."""
        await self._event.wait()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear of the process's stop while the block lasts."""
        drain = drain_of(self._loop)
        drain.enter(self)
        _waiting.add(self)
        if AppStatus.should_exit:
            self._event.set()
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            _waiting.discard(self)
            drain.leave(self)

    @classmethod
    @contextmanager
    def of(cls, scope: Scope, receive: Receive, send: Send) -> Iterator[None]:
        """Hear of the process's stop, and of that of the server that a request came from, while the block lasts."""
        stopping = cls()
        hook = on_server_stop(scope, receive, send, stopping)
        try:
            with stopping.listening():
                yield
        finally:
            hook.undo()


async def until_stop() -> None:
    """Wait for the stop of the server whose stream this task belongs to; outside a stream, for that of the process."""
    stopping = _current.get()
    if stopping is not None:
        await stopping.wait()
        return
    stopping = Stopping()
    with stopping.listening():
        await stopping.wait()


_current: ContextVar[Stopping | None] = ContextVar("newswire_stopping", default=None)
_waiting: WeakSet[Stopping] = WeakSet()


class _StatusType(type):
    """Has `should_exit`, which ends the streams as soon as it is set."""

    _should_exit = False

    @property
    def should_exit(cls) -> bool:
        return cls._should_exit

    @should_exit.setter
    def should_exit(cls, value: bool) -> None:
        cls._should_exit = bool(value)
        if value:
            for stopping in list(_waiting):
                stopping.exit()

    @should_exit.deleter
    def should_exit(cls) -> None:
        cls._should_exit = False


class AppStatus(metaclass=_StatusType):
    """Whether this process is stopping.

    Attributes:
        should_exit: set by a signal; setting it ends all streams of this module in the process. It stays set.
        enable_automatic_graceful_drain: whether a signal, or the stop of a stream's server, ends streams. Without it
            the application has to set `should_exit`, or the server waits for its streams.
        original_handler: called by `handle_exit`, with its arguments; None: nothing is.
    """

    enable_automatic_graceful_drain: ClassVar[bool] = True
    original_handler: ClassVar[Callable[..., Any] | None] = None

    @staticmethod
    def disable_automatic_graceful_drain() -> None:
        """Let streams go on when the server stops, until `should_exit` is set."""
        AppStatus.enable_automatic_graceful_drain = False

    @staticmethod
    def enable_automatic_graceful_drain_mode() -> None:
        """End streams when the server stops: the default."""
        AppStatus.enable_automatic_graceful_drain = True

    @staticmethod
    def handle_exit(*args: Any, **kwargs: Any) -> None:
        """A signal has come."""
        if AppStatus.enable_automatic_graceful_drain:
            AppStatus.should_exit = True
        if AppStatus.original_handler is not None:
            AppStatus.original_handler(*args, **kwargs)
