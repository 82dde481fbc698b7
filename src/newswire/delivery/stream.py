"""The ASGI path: a subscription through `await send()`, on any server.

A server's `send()` that has room completes without waiting, and then no task has to be woken for it: the hub's write
begins the send itself, as the stream's own task would (that task counts as the current one, the context variables are
the stream's), and is done. Only what a send leaves undone, because the connection is full or a middleware hands it on,
is for the task: it goes on with the very coroutine that was begun. So cancel scopes and time-outs around a send hold,
whoever began it.

`newswire.delivery.fast.watch_uvicorn` tells of a disconnect: `send()` never raises, and on some servers never blocks.
"""

from __future__ import annotations

import asyncio
import logging
import types
from asyncio import _enter_task, _leave_task  # what asyncio's manual, "Extending", gives to drivers of coroutines
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

from newswire.delivery.asgi import Receive, Send
from newswire.delivery.fast.watch_uvicorn import watch
from newswire.delivery.stopping import Hook
from newswire.hub.frames import Chunk

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

logger = logging.getLogger("newswire.delivery")

# A send that was begun, and what it waits for.
_Begun: TypeAlias = tuple[Coroutine[Any, Any, None], Any]


class TaskSink:
    """A sink that sends one chunk at a time. Made in the context that its sends will have, whoever will `stream`.

    Args:
        send: the server's, or what a middleware makes of it; the response's head was sent.
        max_bytes: say goodbye after so many.
        abort: drops the connection; None where a server offers no such thing.

    Attributes:
        hook: undone when `stream` is over.
    """

    __slots__ = (
        "_abort",
        "_begun",
        "_chunk",
        "_context",
        "_cut",
        "_failure",
        "_last",
        "_loop",
        "_over",
        "_room",
        "_send",
        "_sending",
        "_task",
        "_waiter",
        "hook",
    )

    def __init__(self, send: Send, max_bytes: int | None, abort: Callable[[], None] | None = None) -> None:
        self._send = send
        self._abort = abort
        self.hook: Hook | None = None
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None  # from `stream` on
        self._context = copy_context()  # a task doesn't tell its own before Python 3.12
        self._room = max_bytes
        self._waiter: asyncio.Future[None] | None = None  # there only while the task has nothing to do
        self._chunk: Chunk | None = None
        self._begun: _Begun | None = None
        self._failure: BaseException | None = None
        self._last: Chunk | None = None
        self._over = False
        self._sending = False  # a send was begun that waits for something
        self._cut = False

    # -- called by the hub

    def write(self, chunk: Chunk) -> bool:
        if self._waiter is None:
            self._chunk = chunk
            return False
        loop, task = self._loop, self._task
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

    def end(self, last: Chunk | None) -> None:
        self._last = last
        self._over = True
        self._wake()

    def cut(self) -> None:
        self._chunk = self._last = None
        self._over = self._cut = True
        if self._abort is not None:
            self._abort()
        if self._sending and self._task is not None:
            self._task.cancel()  # the only way out of a send() that blocks; `stream` keeps it to itself
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- the task

    async def stream(self, subscription: Subscription, receive: Receive) -> None:
        """Send until the stream ends, then complete the response if it ended in order. Attach before."""
        self._task = asyncio.current_task()
        unwatch = watch(receive, subscription.close, self._context)
        try:
            while True:
                if self._failure is not None:
                    raise self._failure
                chunk, self._chunk = self._chunk, None
                if chunk is not None:
                    await self._deliver(chunk.raw)
                    subscription.resume()
                elif self._begun is not None:
                    await self._go_on()
                    subscription.resume()
                elif self._room is not None and self._room <= 0:
                    self._room = None
                    subscription.goodbye()
                elif self._over:
                    if self._last is not None:
                        await self._deliver(self._last.raw)
                    if not self._cut:
                        await self._deliver(b"", more=False)
                    return
                else:
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    except asyncio.CancelledError as error:
                        self._waiter = None
                        if not self._sending:
                            raise
                        await self._go_on(error)  # it was cancelled in the middle of a send, for all that one knows
                        subscription.resume()
        except asyncio.CancelledError:
            if not (self._cut and self._sending):
                await last_words(self._send, subscription.goodbye_bytes())
                raise
            if self._task is not None:
                self._task.uncancel()  # the peer takes nothing: that was `cut`
        finally:
            subscription.ended()
            unwatch()
            if self.hook is not None:
                self.hook.undo()

    async def _deliver(self, data: bytes, *, more: bool = True) -> None:
        if self._room is not None:
            self._room -= len(data)
        self._begun = self._context.run(_begin, self._send, data, more)
        await self._go_on()

    async def _go_on(self, thrown: BaseException | None = None) -> None:
        """Finish what was begun."""
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
        except BaseException as error:  # whatever the task is told is meant for the coroutine
            thrown = error
        try:
            if thrown is None:
                awaited = context.run(coroutine.send, None)
            else:
                told, thrown = thrown, None
                awaited = context.run(coroutine.throw, told)
        except StopIteration:
            return


async def last_words(send: Send, data: bytes) -> None:
    """Say goodbye from a task that its server has cancelled: some tell of their shutdown in no other way."""
    try:
        async with asyncio.timeout(0.5):
            await send({"type": "http.response.body", "body": data, "more_body": False})
    except Exception as error:  # whatever the server raises now, the cancellation goes on
        logger.debug("no goodbye could be sent: %r", error)
