"""A watch for the client's disconnect that takes no task.

Saves: 0.6 KB a stream.
Relies on: uvicorn's own `receive`, which waits for one future at a time and never asks which task it is in; and
`_asyncio_future_blocking`, by which a future knows that it was awaited.
Without them: a task awaits `receive` (`newswire.delivery.asgi.watch`), with a line in the log if futures have no such
attribute. The same holds where `receive` is not uvicorn's own, or a middleware stands before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

from newswire.delivery import asgi
from newswire.delivery.asgi import Message, Receive
from newswire.delivery.fast import ENABLED

logger: logging.Logger = logging.getLogger("newswire.delivery")

_NEEDS_NO_TASK: Final = frozenset(
    {"uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.http.h11_impl", "newswire.delivery.fast.uvicorn"}
)


_POSSIBLE: Final = ENABLED and hasattr(asyncio.Future, "_asyncio_future_blocking")
if ENABLED and not _POSSIBLE:
    logger.warning("This Python's futures have no _asyncio_future_blocking: each stream takes one task more.")


def watch(receive: Receive, gone: Callable[[], object], context: Context | None = None) -> Callable[[], object]:
    """See `newswire.delivery.asgi.watch`."""
    if _POSSIBLE and getattr(getattr(receive, "__func__", None), "__module__", None) in _NEEDS_NO_TASK:
        return Watch(receive, gone, context).stop
    return asgi.watch(receive, gone, context)


class Watch:
    """See `newswire.delivery.asgi.watch`, which it does without a task."""

    __slots__ = ("_awaited", "_context", "_gone", "_receive", "_receiving", "_stopped")

    def __init__(self, receive: Receive, gone: Callable[[], object], context: Context | None) -> None:
        self._receive = receive
        self._gone = gone
        self._context = context
        self._stopped = False
        self._awaited: asyncio.Future[Any] | None = None
        self._receiving: Coroutine[Any, Any, Message] = receive()  # type: ignore[assignment]
        self._step()

    def _step(self, awaited: asyncio.Future[Any] | None = None) -> None:
        # What was awaited may be there, and this on the loop's list, when the stream ends: uvicorn wakes its `receive`
        # as soon as the response is complete.
        while not self._stopped:
            try:
                awaited = self._receiving.send(None)
            except StopIteration as end:
                self._awaited = None
                if end.value["type"] == "http.disconnect":
                    self._gone()
                    return
                self._receiving = self._receive()  # type: ignore[assignment]
            else:
                assert awaited is not None
                awaited._asyncio_future_blocking = False  # what tells a future that it was awaited, not yielded
                awaited.add_done_callback(self._step, context=self._context)
                self._awaited = awaited
                return

    def stop(self) -> None:
        """Receive no more. Idempotent."""
        self._stopped = True
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.remove_done_callback(self._step)
        self._receiving.close()
