"""`/health/live` and `/health/ready`: is the process alive, and should it be sent requests?

Live answers as long as the event loop turns. Ready also asks the log, and says no while the server stops.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from newswire.log.position import Position
from newswire.server.problem import unavailable
from newswire.server.service import service_of

_LOG_SECONDS: Final = 2.0  # a log that needs longer to say where it is has no strength to serve


async def live(request: Request) -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "live"}, headers={"cache-control": "no-store"})


async def ready(request: Request) -> JSONResponse:
    """The process can publish and stream."""
    hub = service_of(request).hub
    inside = await hub.live()
    if inside.draining:
        raise unavailable("the server is stopping", "stopping")
    inside.follower.check()  # publishing may work, and nothing be delivered
    try:
        async with asyncio.timeout(_LOG_SECONDS):
            span = await hub.log.span()
    except TimeoutError:
        raise unavailable(f"the log did not answer within {_LOG_SECONDS:g} s", "log_unavailable") from None
    latest = str(Position(span.epoch, span.latest))
    return JSONResponse({"status": "ready", "latest": latest}, headers={"cache-control": "no-store"})
