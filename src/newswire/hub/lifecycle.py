"""Which event loop an open hub belongs to, from opening to closing, and how threads get there.

A hub belongs to no event loop until it is opened (by its first awaited call, or `async with`), and to that one until it
is closed, or the event loop is. Then it may be opened again, in another event loop too. Threads pass their calls to the
hub's loop. Where the hub is not open (a script, a WSGI application, a worker, after `asyncio.run`), a background thread
runs a loop for it, which ends with the hub or the process; an event loop that opens the hub later takes it over.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import TIMEOUT_MAX, get_ident
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar, get_args
from weakref import WeakSet

from newswire import posix
from newswire.errors import Closed
from newswire.hub.latest import LatestRules
from newswire.hub.options import HubOptions
from newswire.hub.runtime import HubRuntime
from newswire.hub.tracing import HubTracer
from newswire.log import native
from newswire.log.log import Log
from newswire.log.retry import retrieved
from newswire.log.workers import refuse_if_not_shared
from newswire.validate import check_seconds

if TYPE_CHECKING:
    from newswire.hub.contracts import Contracts

_opened: WeakSet[Lifecycle] = WeakSet()

T = TypeVar("T")
_EXIT_SECONDS: Final = 2.0  # for closing a hub when the process ends
Mode: TypeAlias = Literal["goodbye", "drain", "cut"]


class Lifecycle:
    """What a hub does to be open in one event loop at a time.

    Args:
        log: the log.
        options: the hub's.

    Attributes:
        log, options: see above.
        loop: the event loop that the hub is open in; None before it is opened.
        closed: whether the hub was closed.
        contracts: those of its channels, if there are any.
        latest_rules: which of its channels have a state, if any has.
        tracer: what traces it, if anything does.
    """

    contracts: Contracts[Any] | None = None
    latest_rules: LatestRules | None = None
    tracer: HubTracer | None = None

    def __init__(self, log: Log, options: HubOptions) -> None:
        self.log = log
        self.options = options
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed: bool = False
        self._runtime: HubRuntime | None = None
        self._pid: int | None = None  # the process that opened the hub
        self._opened_by = 0  # the thread that did; 0 in a fork
        self._opening: asyncio.Task[HubRuntime] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed_in: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._closing: list[Callable[[], Awaitable[None]]] = []
        # Calls of threads.
        self._lock = native.lock()  # held where a call is given to an event loop, and where that changes
        self._closed_for_threads = 0  # the process whose threads closed it: those that come late don't open it again
        self._background: asyncio.AbstractEventLoop | None = None  # of the background thread, while there is one
        self._thread: native.Thread
        self._thread_pid = 0  # the process that the thread belongs to

    def __reduce__(self) -> Any:
        """A hub is no value that can be copied or sent.

        Raises:
            TypeError: always; it says what to do.
        """
        raise TypeError(
            "a hub can't be copied, pickled or sent to another process: make it in a module that each process imports, "
            "or send the URL of its log and make a hub of that there"
        )

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            if _in_event_loop() and self.loop in (None, asyncio.get_running_loop()):
                await self.close()  # without an entry there is no exit
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """The hub's life as an application's: `Starlette(lifespan=hub.lifespan)`, `FastAPI(lifespan=hub.lifespan)`."""
        async with self:
            yield

    # -- open and close

    def check_process(self) -> None:
        """See that the hub was not carried over a fork.

        Raises:
            RuntimeError: it was open when this process was forked. Its event loop and threads are the parent's.
        """
        if self._pid is not None and self._pid != os.getpid():
            raise RuntimeError(
                f"this hub was opened in process {self._pid}, of which {os.getpid()} is a fork: open hubs after the "
                "fork, one in each process (with gunicorn --preload, a pool or a daemon: publish nothing before, or "
                "close the hub before the fork)"
            )

    def is_open_here(self) -> bool:
        """Whether the hub is open in the event loop that runs here: then `runtime` has nothing to do.

        In the thread that opened it no other loop than its own can run while that does. (Up to Python 3.11, to ask
        asyncio which one runs is a system call.)
        """
        loop = self.loop
        return loop is not None and loop.is_running() and self._runtime is not None and self._opened_by == get_ident()

    async def runtime(self) -> HubRuntime:
        """The inside of the hub, which is opened if need be; for newswire itself.

        Raises:
            Closed: the hub was closed in this event loop: a late call does not open it again.
            LogUnavailable, LogCorrupt, RuntimeError: see `open`.
        """
        if self.closed and self._closed_in is not None and self._closed_in() is running_loop():
            raise Closed("the hub is closed")
        return await self.open()

    async def open(self) -> HubRuntime:
        """Open the log and follow it. Idempotent; every awaited call does it when it must.

        A hub that was closed is opened again: by this method and `async with`, and in another event loop by every call.

        Returns:
            the inside of the hub; what it offers is for newswire itself.

        Raises:
            LogUnavailable, LogCorrupt: the log can't be opened. The next call tries again.
            Closed: the hub was closed, and its log can't be opened again.
            RuntimeError: the hub is open in another event loop, or was open when this process was forked; or its log is
                in memory, and this process is one of several workers of a server, which can't share it.
        """
        loop = running_loop()
        self.check_process()
        if self.loop is not None and self.loop is not loop:
            if self.loop.is_closed():
                self._abandon()
            elif not await self._take_over(loop):
                raise RuntimeError(
                    "this hub is open in another event loop: use hub.sync, but outside of an event loop (in a function "
                    "that is not async, or by asyncio.to_thread), or make a hub for each"
                )
        if self._ending is not None:
            await asyncio.shield(self._ending)
        if self.closed:
            self._reopen()
        if self._runtime is not None:
            return self._runtime
        self.loop = loop
        self._opened_by = get_ident()
        self._pid = os.getpid()
        _opened.add(self)
        if self._opening is None:
            self._opening = loop.create_task(self._open(loop), name="newswire hub opens")
            self._opening.add_done_callback(retrieved)  # the next call tries again
        return await asyncio.shield(self._opening)

    async def _open(self, loop: asyncio.AbstractEventLoop) -> HubRuntime:
        try:
            refuse_if_not_shared(self.log)
            self._runtime = HubRuntime(self.log, await self.log.span(), self.options, loop, self.latest_rules)
        except BaseException:
            self.loop = self._pid = None
            raise
        finally:
            self._opening = None
        return self._runtime

    async def _take_over(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Go on in `loop`, if the hub is open in the background thread of `sync` and has no readers there."""
        background = self._background
        if background is None or self.loop is not background:
            return False

        async def hand_over() -> bool:
            if self._opening is not None:
                await asyncio.wait([self._opening])
            # Whoever waited for that goes first: one pass through the shield, one to wake, one to go on.
            for _ in range(3):
                await asyncio.sleep(0)
            runtime = self._runtime
            if self.loop is not background or runtime is None or runtime.members or self._closing or self._ending:
                return False
            with self._lock:  # threads give their calls to `loop` from here on
                self.loop, self._runtime = loop, None
            await runtime.close()
            return True

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(hand_over(), background))

    def _abandon(self) -> None:
        """The event loop was closed with the hub open in it. The log is not bound to it."""
        runtime, self._runtime = self._runtime, None
        self.loop = self._opening = self._ending = None
        self._closing.clear()
        if runtime is not None:
            runtime.abandon()

    def _reopen(self) -> None:
        self.log.reopen()
        self._runtime = None
        self.closed = False
        self._closed_in = None

    async def close(self) -> None:
        """End every stream with a goodbye, then close the log. Idempotent.

        If the caller is cancelled, the hub is closed all the same before the cancellation goes on.

        Raises:
            RuntimeError: the hub is open in another event loop, which does not run; or it was carried over a fork.
        """
        if self.closed:
            return
        if self.loop is not None and self.loop.is_closed():
            self._abandon()
        self.check_process()
        if self.loop is not None and self.loop is not running_loop():
            await self._close_elsewhere(self.loop)
            return
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._close(), name="newswire hub closes")
        ending = self._ending
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending])
            raise

    async def _close_elsewhere(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the hub in the event loop that it is open in, if that runs in another thread."""
        if not loop.is_running():
            raise RuntimeError("this hub is open in another event loop, which does not run now: close it there")
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.close(), loop))
        self._closed_in = weakref.ref(asyncio.get_running_loop())

    async def _close(self) -> None:
        try:
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait([self._opening])
            while self._closing:
                await self._closing.pop()()
            await self.shutdown(grace=1.0)
        finally:
            self.closed = True
            self._closed_in = weakref.ref(asyncio.get_running_loop())
            self.loop = self._pid = self._ending = None
            try:
                if self._runtime is not None:
                    await self._runtime.close()
            finally:
                await self.log.close()

    def before_close(self, call: Callable[[], Awaitable[None]]) -> None:
        """Await `call()` when a call closes the hub, while it still works: for what is built upon it."""
        self._closing.append(call)

    async def shutdown(self, grace: float = 5.0, mode: Mode = "goodbye") -> None:
        """End every stream, and take no new ones. Publishing goes on working until `close`.

        Args:
            grace: seconds that clients have to take what they are still owed; then they are cut.
            mode: `goodbye` and `drain` tell clients when to come back (`retry:`, with jitter) and finish in order:
                subscriptions have no end of their own to wait for. `cut` drops the connections.
        """
        check_seconds("grace", grace)
        if mode not in get_args(Mode):
            raise ValueError(f"mode is 'goodbye', 'drain' or 'cut', not {mode!r:.60}")
        runtime = self._runtime
        if runtime is None:
            return
        if mode == "cut":
            runtime.draining = True
            runtime.cut()
        else:
            runtime.stop()
        await runtime.empty(grace)

    # -- calls of threads

    def close_from_thread(self, timeout: float | None = None) -> None:
        """Close the hub, and the background thread if there is one. Idempotent."""
        if not self.closed:
            self.call_from_thread(self.close, timeout)
        self._closed_for_threads = os.getpid()
        self._end_thread()

    def _at_exit(self) -> None:
        """The process ends with the background thread: close the hub, unless it is open elsewhere. Then end the thread,
        whose tasks would be destroyed, with tracebacks."""
        if self._background is not None and self.loop is self._background and self._thread_pid == os.getpid():
            with suppress(Exception):  # nothing is left that could hear of it
                self.call_from_thread(self.close, _EXIT_SECONDS)
        self._end_thread()

    def _end_thread(self) -> None:
        """End the background thread."""
        if self._background is None or self._thread_pid != os.getpid():
            return  # in a fork, the thread and perhaps the lock are the parent's
        with self._lock:
            loop, self._background = self._background, None
        if loop is not None:
            atexit.unregister(self._at_exit)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(1.0)

    def call_from_thread(self, call: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = None) -> T:
        """Await `call()` in the hub's event loop and wait for its result: for what is built upon the hub.

        Raises:
            TimeoutError, RuntimeError: see `publish`.
            Closed: the hub was closed, by `close` or in an event loop that is still there.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
            timeout = min(timeout, TIMEOUT_MAX)  # infinity, say
        self._check_thread()
        with self._lock:
            loop = self.loop
            if loop is None or loop.is_closed():
                loop = self._start_thread()
            elif self._opened_by == get_ident() and not loop.is_running():
                raise RuntimeError(
                    "this hub is open in an event loop of this thread that does not run now, so hub.sync would wait "
                    "for ever: close the hub in that loop, or await its own method there"
                )
            waiting = native.ThreadCall(partial(self._call, call), loop)
        return waiting.result(timeout)

    async def _call(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        loop = self.loop
        if loop is None or loop.is_closed() or loop is asyncio.get_running_loop():
            return await call()
        # The hub went over to another event loop while this was on its way to the one before.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop))

    def _check_thread(self) -> None:
        self.check_process()
        if self.closed and (self._closed_for_threads == os.getpid() or not self._loop_is_gone()):
            raise Closed("the hub is closed")
        self._closed_for_threads = 0
        if _in_event_loop():
            blocks = "hub.sync would block the event loop that runs in this thread"
            if self.loop is None or self.loop.is_closed() or self.loop is asyncio.get_running_loop():
                raise RuntimeError(f"{blocks}: await the hub's own method instead")
            raise RuntimeError(
                f"{blocks}, and the hub is open in another: call it in a function that is not async, or by "
                "asyncio.to_thread"
            )

    def _start_thread(self) -> asyncio.AbstractEventLoop:
        if self._background is None:
            loop = native.new_event_loop()
            try:
                self._background = loop
                self._thread_pid = os.getpid()
                self._thread = native.Thread(partial(_run_loop, loop), "newswire hub")
                self._thread.start()
                atexit.register(self._at_exit)
            except BaseException:  # of the handler of a signal, too: a task's time is over. The next call begins again
                self._background = None
                try:
                    loop.close()
                except RuntimeError:  # the thread runs it
                    loop.call_soon_threadsafe(loop.stop)
                raise
        return self._background

    def _loop_is_gone(self) -> bool:
        """Whether the event loop that the hub is or was open in is closed."""
        loop = self._closed_in() if self._closed_in is not None else self.loop
        return loop.is_closed() if loop is not None else self.closed


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs here.

    Raises:
        RuntimeError: none does, as under trio; it says what to do.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "a hub needs asyncio's event loop, and none runs here: under trio, call hub.sync in a thread "
            "(trio.to_thread.run_sync)"
        ) from None


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


def _after_in_child() -> None:
    for hub in _opened:
        hub._opened_by = 0


posix.at_fork(after_in_child=_after_in_child)
