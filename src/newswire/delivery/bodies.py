"""Bodies of requests, read with bounds: in size, in time, and in what all unfinished ones hold together.

A client that announces a megabyte and withholds its end costs what it has sent, for as long as it likes. So each body
has a limit and a time, and all that have begun and not ended share the budget of `newswire.delivery.strangers` with
the connections below: when it is spent, the oldest give way. This is at work on every server, whatever its protocol.

What is counted is all there is: nothing else refers to a piece once it was added, and what is refused is freed at once,
not when its task runs again. One timer serves all bodies, since all have the same time; a timer for each would cost as
much as to parse the request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from newswire.counted import counted
from newswire.delivery.asgi import Receive
from newswire.delivery.drain import drain_of
from newswire.delivery.problem import Problem, unavailable
from newswire.delivery.strangers import BUDGET
from newswire.errors import LimitExceeded

# A piece that is smaller goes into one with its neighbours, since a piece by itself costs 50 bytes more.
_SMALL: Final = 4 * 2**10
_JOINED: Final = 64 * 2**10  # the most that are joined before the end: what grows leaves holes where it was
_CLOSE: Final = {"connection": "close"}  # the rest of the body is not wanted any more


class ClientGone(Exception):
    """The client has left in the middle of its request; no one waits for an answer."""


def content_length(value: bytes) -> int | None:
    """What a `Content-Length` says; None: it is no number."""
    return int(value[:19]) if value.isdigit() else None


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

    async def read(self, receive: Receive, announced: int | str | None, most: int | None = None) -> bytes:
        """Read a whole body.

        Args:
            receive: the request's.
            announced: its `Content-Length`, as it came or as a number.
            most: bytes that it may have, if that is less than the limit.

        Raises:
            LimitExceeded: it is larger than the limit.
            Problem: it did not come in time, or unfinished ones hold too much.
            ClientGone: the client has left.
        """
        limit = self._limit if most is None else min(most, self._limit)
        if isinstance(announced, str):
            announced = content_length(announced.encode("latin-1", "replace"))
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
            return await self._rest(body, receive, limit)
        except asyncio.CancelledError:
            if body.refusal is None and drain_of(loop).stopping:  # its server has waited for as long as it may
                body.task.uncancel()
                problem = unavailable("the server is stopping; nothing was done with this: send it again", "stopping")
                problem.headers.update(_CLOSE)
                raise problem from None
            if body.refusal is None or body.task.uncancel() > body.cancelling:
                raise  # somebody else has cancelled the request
            raise body.refused() from None
        finally:
            del self._reading[body]

    async def _rest(self, body: _Body, receive: Receive, limit: int) -> bytes:
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
                if body.size > limit:
                    raise _too_large(limit, body.size)
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
            detail = f"the body did not come within {counted(self._seconds, 'second')}; nothing was done with it"
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
    hint = "send less at once. Nothing was stored"
    return LimitExceeded("the body's size in bytes", limit=limit, actual=actual, hint=hint)
