"""FastAPI's own way to stream, with a hub behind it: `response_class=EventSourceResponse`, and a route that yields.

FastAPI (0.135 and later) reads such a route's return type: it validates what the route yields, makes JSON of it and
describes it in the OpenAPI document. It does so for classes of its own only, so `EventSourceResponse` here is one of
them, and of newswire's too. Import FastAPI's names from here, and a route may do either:

    @app.get("/ticks", response_class=EventSourceResponse)
    async def ticks() -> AsyncIterable[Tick]:           # FastAPI streams what it yields
        yield Tick(number=1)

    @app.get("/news")
    async def news(request: Request) -> EventSourceResponse:    # newswire streams the channel, with replay
        return EventSourceResponse(hub.subscribe("news", after=last_event_id(request)))

`events` leads a subscription through a route of the first kind. `FastAPI(exception_handlers=problems)` answers what
newswire raises with its problem; see `newswire.integrations.starlette`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

try:
    from fastapi import sse
    from fastapi.sse import KEEPALIVE_COMMENT, ServerSentEvent, format_sse_event
except ImportError as _error:
    raise ImportError("newswire.integrations.fastapi needs FastAPI 0.135: pip install 'fastapi>=0.135'") from _error

from newswire.delivery import response
from newswire.delivery.asgi import running_loop
from newswire.delivery.drain import drain_of
from newswire.delivery.framework import warn_of_held
from newswire.hub.hub import Hub
from newswire.hub.subscription import Subscription
from newswire.integrations.starlette import problems
from newswire.validate import check_kind, shown
from newswire.wire.event import Event
from newswire.wire.reserved import come_back, goodbye

__all__ = [
    "KEEPALIVE_COMMENT",
    "EventSourceResponse",
    "ServerSentEvent",
    "events",
    "format_sse_event",
    "lifespan",
    "problems",
]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


class EventSourceResponse(response.EventSourceResponse, sse.EventSourceResponse):  # type: ignore[misc]  # one base
    """`newswire.EventSourceResponse`, which FastAPI also takes as the `response_class` of a route that yields.

    As a `response_class` it only marks the route: FastAPI's documentation says how such a stream behaves. Returned by
    a route, it is newswire's response; such a route needs no `response_class`. See `newswire.EventSourceResponse` for
    the arguments.
    """


async def events(subscription: Subscription[Any]) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a subscription, with their ids, for a route that yields: so that a client can resume.

    `data` goes out as it was stored. Newswire's own events (a gap, a goodbye when the server gets SIGTERM) are among
    them, as on all of its streams.

    Args:
        subscription: `hub.subscribe(...)`.

    Raises:
        LogUnavailable: the log can't be read. FastAPI has sent the head then.
        Closed: the hub is closed, or the subscription was used before.
    """
    check_kind("subscription", subscription, Subscription)
    warn_of_held({}, sys._getframe(1))  # the route, with its dependencies
    drain = drain_of(running_loop())
    stop = _Stop(subscription)
    drain.enter(stop)
    try:
        async for event in subscription:
            yield _as_fastapis(event)
        if stop.stopped:
            yield _as_fastapis(goodbye(come_back(None)))
    finally:
        drain.leave(stop)


def _as_fastapis(event: Event) -> ServerSentEvent:
    name = None if event.event == "message" else event.event
    return ServerSentEvent(raw_data=event.data, event=name, id=event.id, retry=event.retry)


class _Stop:
    """A subscription that a route iterates over, as the drain stops it."""

    finite = False

    def __init__(self, subscription: Subscription[Any]) -> None:
        self.stopped = False
        self._subscription = subscription

    def stop(self) -> None:
        """The server is stopping."""
        self.stopped = True
        self._subscription.close()

    def cut(self) -> None:
        """There is no connection here to drop: FastAPI has it."""


def lifespan(*hubs: Hub[Any], then: Lifespan | None = None) -> Lifespan:
    """Make the lifespan of an application that has hubs and a lifespan of its own: `FastAPI(lifespan=lifespan(hub))`.

    Args:
        hubs: opened at the start, in this order, and closed at the stop.
        then: the application's own, within that.

    Returns:
        the lifespan. It has the state of `then`.
    """

    if then is not None and not callable(then):
        raise TypeError(f"then is a lifespan, which is called with the application, not {shown(then)}")
    for each in hubs:
        check_kind("each of `hubs`", each, Hub)

    @asynccontextmanager
    async def within(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            for hub in hubs:
                await stack.enter_async_context(hub)
            yield None if then is None else await stack.enter_async_context(then(app))

    return within
