"""Bodies of requests, read with bounds: in size, in time, and in what all unfinished ones hold together.

A client that announces a megabyte and withholds its end costs what it has sent, for as long as it likes. So each body
has a limit and a time, and all that have begun and not ended share the budget of `newswire.delivery.strangers` with
the connections below: when it is spent, the oldest give way.

One timer serves them all, since all have the same time; a timer for each would cost as much as to parse the request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from newswire.delivery.problem import Problem, unavailable
from newswire.delivery.strangers import BUDGET
from newswire.errors import LimitExceeded

_CLOSE: Final = {"connection": "close"}  # the rest of the body is not wanted any more


class Bodies:
    """Reads bodies, one for each request.

    Args:
        seconds: how long a body may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._reading: dict[_Body, float] = {}  # until when each may take; the oldest first
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, announced: int | None, limit: int) -> bytes:
        """Read a whole body, no more of it than `limit` bytes.

        Args:
            receive: the request's.
            announced: its `Content-Length`.
            limit: in bytes.

        Raises:
            LimitExceeded: it is larger.
            Problem: it did not come in time, or unfinished ones hold too much.
            ClientDisconnect: the client has left.
        """
        if announced is not None and announced > limit:
            raise _too_large(limit, announced)
        loop = asyncio.get_running_loop()
        body = _Body()
        deadline = self._reading[body] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._sweep, loop)
        try:
            message = await receive()
            data: bytes = message.get("body", b"")
            if message.get("more_body", False) and len(data) <= limit:
                return await _rest(body, receive, data, limit)
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if len(data) > limit:
                raise _too_large(limit, len(data))
            return data
        except asyncio.CancelledError:
            if body.refusal is None or body.task.uncancel() > body.cancelling:
                raise  # somebody else has cancelled the request
            raise body.refusal from None
        finally:
            del self._reading[body]

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for body, deadline in self._reading.items():
            if deadline > now:
                self._timer = loop.call_at(deadline, self._sweep, loop)
                return
            detail = f"the body did not come within {self._seconds:g} seconds; nothing was stored"
            body.refuse(Problem(408, "body_timeout", detail, headers=_CLOSE))


class _Body:
    """One body that is being read; a `Holder` of the budget."""

    __slots__ = ("cancelling", "data", "refusal", "task")

    def __init__(self) -> None:
        task: Any = asyncio.current_task()
        self.task: asyncio.Task[Any] = task
        self.cancelling = task.cancelling()
        self.data: bytearray | None = None  # what has come, while more is to come
        self.refusal: Problem | None = None

    def unfinished(self) -> int:
        return 0 if self.data is None else len(self.data)

    def refuse_unfinished(self) -> None:
        detail = "too many unfinished requests are open, and this is one of the oldest: nothing was stored, try again"
        problem = unavailable(detail, "unfinished")
        problem.headers.update(_CLOSE)
        self.refuse(problem)

    def refuse(self, problem: Problem) -> None:
        """End the reading with this answer."""
        if self.refusal is None:
            self.refusal = problem
            self.data = None
            if asyncio.current_task() is not self.task:  # where it is, `_rest` sees it
                self.task.cancel()


async def _rest(body: _Body, receive: Receive, first: bytes, limit: int) -> bytes:
    data = body.data = bytearray(first)
    try:
        more = True
        while more:
            BUDGET.hold(body, len(data))
            if body.refusal is not None:
                raise body.refusal
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            data += message.get("body", b"")
            if len(data) > limit:
                raise _too_large(limit, len(data))
            more = message.get("more_body", False)
        return bytes(data)
    finally:
        BUDGET.release(body)


def _too_large(limit: int, actual: int) -> LimitExceeded:
    hint = "send smaller events, or fewer in a batch. Nothing was stored"
    return LimitExceeded("the body's size in bytes", limit=limit, actual=actual, hint=hint)
