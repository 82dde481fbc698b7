"""Bodies of requests, read with bounds: in size, in time, and in what all unfinished ones hold together.

A client that announces a megabyte and withholds its end costs what it has sent, for as long as it likes. So each body
has a limit and a time, and all that have begun and not ended share one budget with the connections below: when it is
spent, the oldest give way. This is at work on every server, whatever its protocol.

What is counted is all there is: nothing else refers to a piece once it was added, and what is refused is freed at once,
not when its task runs again. One timer serves all bodies, since all have the same time; a timer for each would cost as
much as to parse the request.

Whoever can connect can send half a head, or a body without its end, and wait. Limits for each connection don't help:
1,000 connections below any useful limit are 1,000 times that limit. So all connections of a process share a `Budget`.
When it is spent, the oldest unfinished requests are refused until a tenth of it is free again: an honest request is
whole within moments, so the oldest are those that withhold. While the budget lasts, a slow upload may be slow.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final, Protocol

from newswire.delivery.asgi import Receive
from newswire.delivery.problem import Problem, unavailable
from newswire.errors import LimitExceeded

_FREE: Final = 0.9  # what may be left of the limit after requests were refused
_BESIDE: Final = 4 * 2**20  # for small requests beside the largest


class Holder(Protocol):
    """An unfinished request."""

    def unfinished(self) -> int:
        """How many bytes it holds now. Must be quick: called for all holders when the budget is spent."""
        ...

    def refuse_unfinished(self) -> None:
        """Refuse it, and hold nothing any more. Must not raise. Another event loop's thread may be the caller."""
        ...


class Budget:
    """Counts what unfinished requests hold. Thread-safe: several event loops share it.

    Attributes:
        limit: in bytes.
        used: how much of it.
    """

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.used: int = 0
        self._held: dict[Holder, int] = {}  # the oldest first
        self._lock = threading.Lock()

    def allow(self, size: int) -> None:
        """From now on, one request of `size` bytes has room on a server that is quiet otherwise."""
        self.limit = max(self.limit, size + _BESIDE)

    def hold(self, holder: Holder, size: int) -> None:
        """`holder` has so many bytes now. It may be refused within this call."""
        refused: list[Holder] = []
        with self._lock:
            self._set(holder, size)
            if self.used > self.limit:
                refused = self._reclaim()
        for one in refused:
            one.refuse_unfinished()

    def release(self, holder: Holder) -> None:
        """`holder` is whole, or gone. Idempotent."""
        with self._lock:
            self.used -= self._held.pop(holder, 0)

    def _set(self, holder: Holder, size: int) -> None:
        self.used += size - self._held.get(holder, 0)
        self._held[holder] = size

    def _reclaim(self) -> list[Holder]:
        """Those that have to go."""
        for holder in self._held:
            self._set(holder, holder.unfinished())  # an application may have taken what came
        refused = []
        for holder, size in list(self._held.items()):
            if self.used <= self.limit * _FREE:
                break
            if size:  # a slow upload that was taken so far costs nothing
                self.used -= self._held.pop(holder)
                refused.append(holder)
        return refused


# Unfinished heads and bodies on this process's connections, and early requests behind streams. 32 MiB, because with
# Python's own costs a thousand connections then stay below 100 MB.
BUDGET: Final = Budget(32 * 2**20)


# A piece that is smaller goes into one with its neighbours, since a piece by itself costs 50 bytes more.
_SMALL: Final = 4 * 2**10
_JOINED: Final = 64 * 2**10  # the most that are joined before the end: what grows leaves holes where it was
_CLOSE: Final = {"connection": "close"}  # the rest of the body is not wanted any more


class ClientGone(Exception):
    """The client has left in the middle of its request; no one waits for an answer."""


class Bodies:
    """Reads bodies, one for each request. For one event loop at a time.

    Args:
        seconds: how long a body may take.
        limit: the largest body, in bytes. The budget of all becomes large enough for one of this size.
        each: whether every piece of a body has `seconds`, and not the whole.
    """

    def __init__(self, seconds: float, limit: int, *, each: bool = False) -> None:
        self._seconds = seconds
        self._limit = limit
        self._each = each
        self._reading: dict[_Body, float] = {}  # until when each may take; the first that is due comes first
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the timer's
        BUDGET.allow(limit)

    async def read(self, receive: Receive, announced: int | None) -> bytes:
        """Read a whole body.

        Args:
            receive: the request's.
            announced: its `Content-Length`.

        Raises:
            LimitExceeded: it is larger than the limit.
            Problem: it did not come in time, or unfinished ones hold too much.
            ClientGone: the client has left.
        """
        limit = self._limit
        if announced is not None and announced > limit:
            raise _too_large(limit, announced)
        loop = asyncio.get_running_loop()
        body = _Body()
        deadline = self._reading[body] = loop.time() + self._seconds
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_at(deadline, self._sweep, loop)
        try:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            data: bytes = message.get("body", b"")
            if len(data) > limit:
                raise _too_large(limit, len(data))
            if not message.get("more_body", False):
                return data
            body.add(data)
            del message, data
            return await self._rest(body, receive)
        except asyncio.CancelledError:
            if body.refusal is None or body.task.uncancel() > body.cancelling:
                raise  # somebody else has cancelled the request
            raise body.refused() from None
        finally:
            del self._reading[body]

    async def _rest(self, body: _Body, receive: Receive) -> bytes:
        """What comes after the first piece."""
        try:
            while True:
                BUDGET.hold(body, body.size)
                if body.refusal is not None:
                    raise body.refused()
                message: Any = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body.add(message.get("body", b""))
                if body.size > self._limit:
                    raise _too_large(self._limit, body.size)
                if not message.get("more_body", False):
                    return b"".join(body.data)
                del message
                if self._each:
                    del self._reading[body]
                    self._reading[body] = asyncio.get_running_loop().time() + self._seconds
        finally:
            BUDGET.release(body)
            body.data.clear()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for body, deadline in self._reading.items():
            if deadline > now:
                self._timer = loop.call_at(deadline, self._sweep, loop)
                return
            detail = f"the body did not come within {self._seconds:g} seconds; nothing was done with it"
            body.refuse(Problem(408, "body_timeout", detail, headers=_CLOSE))


class _Body:
    """One body that is being read; a `Holder` of the budget."""

    __slots__ = ("cancelling", "data", "refusal", "size", "task")

    def __init__(self) -> None:
        task: Any = asyncio.current_task()
        self.task: asyncio.Task[Any] = task
        self.cancelling = task.cancelling()
        self.data: list[bytes | bytearray] = []  # what has come, while more is to come: pieces, the small ones joined
        self.size = 0  # of all of them
        self.refusal: Problem | None = None

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        last = self.data[-1] if self.data else None
        if len(piece) >= _SMALL:
            self.data.append(piece)
        elif isinstance(last, bytearray) and len(last) < _JOINED:
            last += piece
        else:
            self.data.append(bytearray(piece))

    def unfinished(self) -> int:
        return self.size

    def refuse_unfinished(self) -> None:
        detail = "too many unfinished requests are open, and this is one of the oldest: nothing was done, try again"
        problem = unavailable(detail, "unfinished")
        problem.headers.update(_CLOSE)
        self.refuse(problem)

    def refuse(self, problem: Problem) -> None:
        """End the reading with this answer."""
        if self.refusal is None:
            self.refusal = problem
            self.data.clear()
            self.size = 0
            if asyncio.current_task() is not self.task:  # where it is, `_rest` sees it
                self.task.cancel()

    def refused(self) -> Problem:
        """The answer, to be raised. It isn't kept here: its traceback leads here, and the circle would stay."""
        problem, self.refusal = self.refusal, None
        assert problem is not None
        return problem


def _too_large(limit: int, actual: int) -> LimitExceeded:
    hint = "send smaller events, or fewer in a batch. Nothing was stored"
    return LimitExceeded("the body's size in bytes", limit=limit, actual=actual, hint=hint)
