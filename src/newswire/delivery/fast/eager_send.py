"""Sends that begin in the hub's write, without waking the stream's task.

Saves: a wake-up for each event and stream, which takes 1.6 µs of CPU instead of 5.3, beside the server's own `send`.
Relies on: asyncio's `_enter_task` and `_leave_task` (asyncio's manual, "Extending", gives them to drivers of
coroutines).
Without them: streams are `PlainSink`, with a line in the log.

A server's `send()` that has room completes without waiting, so the hub's write begins the send itself, as the stream's
own task would: that task counts as the current one, the context variables are the stream's. Only what a send leaves
undone, because the connection is full or a middleware hands it on, is for the task: it goes on with the very coroutine
that was begun. So cancel scopes and time-outs around a send hold, whoever began it.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

from newswire.delivery.asgi import Receive, Send
from newswire.delivery.fast import ENABLED
from newswire.delivery.fast.watch_uvicorn import watch
from newswire.delivery.stream import PlainSink
from newswire.hub.frames import Chunk

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

logger: logging.Logger = logging.getLogger("newswire.delivery")

try:
    from asyncio import _enter_task, _leave_task

    _POSSIBLE = True
except ImportError:
    _POSSIBLE = False
    logger.warning("This Python's asyncio has no _enter_task: each event of a stream wakes the stream's task.")

# A send that was begun, and what it waits for.
_Begun: TypeAlias = tuple[Coroutine[Any, Any, None], Any]


def new_sink(send: Send, max_bytes: int | None, abort: Callable[[], None] | None = None) -> PlainSink:
    """The cheapest sink that there is; see `PlainSink`. Call it in the context that the sends will have."""
    return EagerSink(send, max_bytes, abort) if ENABLED and _POSSIBLE else PlainSink(send, max_bytes, abort)


class EagerSink(PlainSink):
    """A sink whose `write` sends, if the server takes it at once."""

    __slots__ = ("_begun", "_context", "_failure")

    def __init__(self, send: Send, max_bytes: int | None, abort: Callable[[], None] | None = None) -> None:
        super().__init__(send, max_bytes, abort)
        self._context = copy_context()  # a task doesn't tell its own before Python 3.12
        self._begun: _Begun | None = None
        self._failure: BaseException | None = None

    def write(self, chunk: Chunk) -> bool:
        if self._waiter is None:
            self._chunk = chunk
            return False
        loop, task = asyncio.get_running_loop(), self._task
        current = asyncio.current_task(loop)
        if current is not None:
            _leave_task(loop, current)
        _enter_task(loop, task)  # type: ignore[arg-type]  # granian can do without tasks: None is entered then
        try:
            begun = self._context.run(_begin, self._send, chunk.raw)
        except BaseException as error:  # what the server raised is the task's: it is the outermost frame here
            self._failure = error
            self._wake()
            return False
        finally:
            _leave_task(loop, task)  # type: ignore[arg-type]
            if current is not None:
                _enter_task(loop, current)
        if self._room is not None:
            self._room -= len(chunk.raw)
        if begun is None and (self._room is None or self._room > 0):
            return True
        self._begun = begun
        self._sending = begun is not None
        self._wake()
        return False

    def _watch(self, receive: Receive, gone: Callable[[], object]) -> Callable[[], object]:
        return watch(receive, gone, self._context)

    def _work(self, subscription: Subscription) -> Awaitable[None] | None:
        if self._failure is not None:
            raise self._failure
        if self._begun is not None and self._chunk is None:
            return self._go_on(subscription)
        return super()._work(subscription)

    async def _cancelled(self, error: asyncio.CancelledError, subscription: Subscription) -> None:
        if not self._sending:
            raise error
        await self._go_on(subscription, error)  # it was cancelled in the middle of a send, for all that one knows

    async def _go_on(self, subscription: Subscription, thrown: BaseException | None = None) -> None:
        """Finish what `write` has begun."""
        await self._end_send(thrown)
        subscription.resume()

    async def _deliver(self, data: bytes, *, more: bool = True) -> None:
        if self._room is not None:
            self._room -= len(data)
        self._begun = self._context.run(_begin, self._send, data, more)
        await self._end_send()

    async def _end_send(self, thrown: BaseException | None = None) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            self._sending = True
            await _rest(*begun, self._context, thrown)
            self._sending = False


def _begin(send: Send, data: bytes, more: bool = True) -> _Begun | None:
    """Send as far as it goes without waiting. Returns what is left to do."""
    awaitable = send({"type": "http.response.body", "body": data, "more_body": more})
    coroutine = awaitable if type(awaitable) is types.CoroutineType else _coroutine(awaitable)
    try:
        return coroutine, coroutine.send(None)
    except StopIteration:
        return None


async def _coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


@types.coroutine
def _rest(
    coroutine: Coroutine[Any, Any, None], awaited: Any, context: Context, thrown: BaseException | None
) -> Generator[Any, Any, None]:
    """Go on with `coroutine`, which waits for `awaited`, in its context; `thrown` is what it is woken by."""
    while True:
        try:
            if thrown is None:
                yield awaited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # whatever comes into the task is meant for the coroutine
            thrown = error
        try:
            if thrown is None:
                awaited = context.run(coroutine.send, None)
            else:
                exception, thrown = thrown, None
                awaited = context.run(coroutine.throw, exception)
        except StopIteration:
            return
