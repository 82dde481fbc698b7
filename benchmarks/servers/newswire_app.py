"""newswire as its README says: a hub, and a response for each subscription.

Served twice: by uvicorn with newswire's protocol class (the direct path), and by uvicorn as it is (the ASGI path). The
environment gives what a benchmark varies: `BENCH_LOG` (the log's URL), `BENCH_WRITE_TIMEOUT` (seconds, or `none`),
`BENCH_COALESCE` (seconds), `BENCH_COMPRESS` (1), `BENCH_SILENT` (1: no heartbeats) and `BENCH_KEYS` (channels with a
state).
"""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from benchmarks.servers.control import Control
from newswire import Event, EventSourceResponse, Hub, Pattern, StreamOptions, last_event_id
from newswire.delivery.middleware import StreamMiddleware

_keys = int(os.environ.get("BENCH_KEYS", "0"))
_coalesce = float(os.environ.get("BENCH_COALESCE", "0")) or None
hub = Hub(os.environ.get("BENCH_LOG", "memory://"), latest=["key.*"] if _keys else ())
_timeout = os.environ.get("BENCH_WRITE_TIMEOUT", "30")
options = StreamOptions(
    heartbeat=None if os.environ.get("BENCH_SILENT") else 15.0,
    write_timeout=None if _timeout == "none" else float(_timeout),
    compress=bool(os.environ.get("BENCH_COMPRESS")),
)


async def events(request: Request) -> EventSourceResponse:
    """Everybody on one channel."""
    subscription = hub.subscribe("bench", after=last_event_id(request), coalesce=_coalesce)
    return EventSourceResponse(subscription, options=options)


async def state(request: Request) -> EventSourceResponse:
    """The newest event of each key, then all."""
    start: Any = request.query_params.get("from")
    subscription = hub.subscribe(Pattern("key.*"), after=last_event_id(request), start=start)
    return EventSourceResponse(subscription, options=options)


async def private(request: Request) -> EventSourceResponse:
    """A user's own channel, and the one that all share."""
    user = request.path_params["number"]
    return EventSourceResponse(hub.subscribe("common", f"user.{user}", after=last_event_id(request)), options=options)


class Publisher:
    """Publishes to one channel; or, while `users` is set, to the users' channels in turn and to the common one.

    Attributes:
        users: how many users' channels there are; 0 for one channel.
        common_every: of so many events one goes to the common channel.
    """

    def __init__(self) -> None:
        self.users = int(os.environ.get("BENCH_USERS", "0"))
        self.common_every = int(os.environ.get("BENCH_COMMON_EVERY", "10"))
        self._count = 0

    async def publish(self, data: list[str]) -> None:
        """Publish `data` at once."""
        if len(data) == 1:
            await hub.publish(self._channel(), data[0])
        else:
            await hub.publish_many([(self._channel(), Event(text)) for text in data])

    def _channel(self) -> str:
        self._count += 1
        if _keys:  # all in turn, then a few of them, in an order that looks random
            return f"key.{self._count % _keys if self._count <= _keys else self._count * 7919 % min(_keys, 200)}"
        if not self.users:
            return "bench"
        return "common" if self._count % self.common_every == 0 else f"user.{self._count % self.users}"


def look() -> dict[str, Any]:
    """The hub's own numbers, as far as the benchmarks use them."""
    stats = hub.stats()
    return {
        "subscribers": stats.subscribers,
        "delivered": stats.delivered,
        "stalled": stats.stalled,
        "gaps": stats.gaps,
        "pages_read": stats.pages_read,
        "epoch": hub.epoch,
    }


app = Starlette(
    routes=[
        Route("/events", events),
        Route("/events/{number:int}", private),
        Route("/state", state),
        *Control(Publisher().publish, look).routes(),
    ]
)

# The ASGI path with streams that don't keep Starlette's frames.
handed = StreamMiddleware(app)
