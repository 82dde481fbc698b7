"""The standalone hub over HTTP: the table of its routes.

What a route does is in the module beside this one that has its name; what they share is in `service`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from newswire.errors import InvalidChannel, NewswireError
from newswire.hub.hub import Hub
from newswire.log.open import open_log
from newswire.server import console, health, problem
from newswire.server.auth import Authorizer, allow_all
from newswire.server.config import Settings
from newswire.server.history import history
from newswire.server.metrics import CountRequests, metrics
from newswire.server.origins import SERVER, Origins
from newswire.server.publish import publish
from newswire.server.service import Service
from newswire.server.subscribe import many_channels, one_channel


def create_app(
    settings: Settings | None = None,
    hub: Hub | None = None,
    authorize: Authorizer = allow_all,
    *,
    board: Path | None = None,
) -> Starlette:
    """Make the server's application. Add routes of your own to its `routes` if you like.

    Args:
        settings: how it behaves; `host`, `port` and `workers` are for whoever runs it.
        hub: the hub to serve; else one on `settings.log`. It is opened when the server starts, and closed when it ends.
        authorize: asked before each subscribe, publish and read.
        board: a folder where several worker processes leave their numbers for each other.
    """
    settings = settings or Settings()
    if hub is None:
        hub = Hub(open_log(settings.log, retention=settings.retention or None))
    service = Service(settings, hub, authorize, board)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", console.page),
            Route("/console/stats", console.stats),
            Route("/console/{name}", console.asset),
            Route("/channels/{channel}", _channel, methods=["GET", "POST"]),
            Route("/channels/{channel}/events", history),
            Route("/channels/{channel:path}", _slash, methods=["GET", "POST"]),
            Route("/stream", many_channels),
            Route("/health/live", health.live),
            Route("/health/ready", health.ready),
            Route("/metrics", metrics),
        ],
        middleware=[
            Middleware(CountRequests, service=service),
            Middleware(Origins, allowed=settings.cors_origins, grants=SERVER),
        ],
        exception_handlers={
            NewswireError: problem.on_newswire_error,
            problem.Problem: problem.on_problem,
            HTTPException: problem.on_http_error,
            ClientDisconnect: problem.on_disconnect,
            Exception: problem.on_bug,
        },
    )
    app.router.redirect_slashes = False  # "/channels/a/" names no channel; a redirect would hide the slip
    app.state.service = service
    return app


async def _channel(request: Request) -> Response | ASGIApp:
    return await publish(request) if request.method == "POST" else await one_channel(request)


async def _slash(request: Request) -> Response:
    name = request.path_params["channel"]
    if not name:
        raise HTTPException(404)
    raise InvalidChannel(
        name, f"channel {name[:100]!r} has a slash, which no name may have: use dots, as in 'orders.eu'"
    )
