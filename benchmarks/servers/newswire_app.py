"""newswire as its README says: a hub, and a response for each subscription.

Served twice: by uvicorn with newswire's protocol class (the direct path), and by uvicorn as it is (the ASGI path). The
environment gives what a benchmark varies: `BENCH_LOG` (the log's URL) and `BENCH_WRITE_TIMEOUT` (seconds, or `none`).
"""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from benchmarks.servers.control import Control
from newswire import Event, EventSourceResponse, Hub, StreamOptions, last_event_id
from newswire.delivery.middleware import StreamMiddleware

hub = Hub(os.environ.get("BENCH_LOG", "memory://"))
_timeout = os.environ.get("BENCH_WRITE_TIMEOUT", "30")
options = StreamOptions(write_timeout=None if _timeout == "none" else float(_timeout))


async def events(request: Request) -> EventSourceResponse:
    """Everybody on one channel."""
    return EventSourceResponse(hub.subscribe("bench", after=last_event_id(request)), options=options)


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
        if not self.users:
            return "bench"
        self._count += 1
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
        *Control(Publisher().publish, look).routes(),
    ]
)

# The ASGI path with streams that don't keep Starlette's frames.
handed = StreamMiddleware(app)
