"""The standalone hub over HTTP: the table of its routes.

What a route does is in the module beside this one that has its name; what they share is in `service`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from newswire.errors import InvalidChannel
from newswire.hub.hub import Hub
from newswire.server import console
from newswire.server.auth import Authorizer, allow_all
from newswire.server.history import history
from newswire.server.metrics import CountRequests
from newswire.server.publish import HEADERS, FastPublish, publish
from newswire.server.service import Service, service_of
from newswire.server.settings import Settings
from newswire.server.subscribe import many_channels, one_channel
from newswire.serving.hosts import Hosts
from newswire.serving.problem import HANDLERS

_CHANNEL: Final = "/channels/{channel}"


def create_app(
    settings: Settings | None = None,
    hub: Hub | None = None,
    authorize: Authorizer = allow_all,
    *,
    parameters: Sequence[str] = (),
    stats_folder: Path | None = None,
) -> Starlette:
    """Make the server's application. Add routes of your own to its `routes` if you like.

    Args:
        settings: how it behaves; `port` and `workers` are for whoever runs it. It answers to the names in
            `allowed_hosts` and to that of `host`; see `newswire.serving.hosts`.
        hub: the hub to serve; else one on `settings.log`. It is opened when the server starts, and closed when it ends.
        authorize: called before each subscribe, publish and read; see `newswire.server.auth`.
        parameters: names of query parameters that `authorize` reads, such as `token`: a native EventSource can't send
            headers. Any other parameter that no route has is refused.
        stats_folder: where several worker processes share their stats.
    """
    settings = settings or Settings()
    if hub is None:
        hub = Hub(settings.log, retention=settings.retention)
    return _Server(settings, Service(settings, hub, authorize, tuple(parameters), stats_folder))


class _Server(Starlette):
    """The application. As long as it is as it was made, publish requests take the short way (`FastPublish`)."""

    def __init__(self, settings: Settings, service: Service) -> None:
        super().__init__(
            lifespan=service.lifespan,
            routes=[
                Route("/", console.page),
                Route("/console/stats", console.stats),
                Route("/console/tail", console.tail),
                Route("/console/{name}", console.asset),
                Route(_CHANNEL, _channel, methods=["GET", "POST"]),
                Route("/channels/{channel}/events", history),
                Route("/channels/{channel:path}", _slash, methods=["GET", "POST"]),
                Route("/stream", many_channels),
                Route("/health", service.ready),
                *service.routes(),
            ],
            middleware=service.middleware(),
            exception_handlers=dict(HANDLERS),
        )
        self.router.redirect_slashes = False  # "/channels/a/" names no channel; a redirect would hide the slip
        self.state.service = service
        self._made = self._parts()

    def _parts(self) -> tuple[Any, ...]:
        """What decides how a publish request is answered."""
        routes = self.router.routes
        channel = next((index for index, one in enumerate(routes) if getattr(one, "path", "") == _CHANNEL), 0)
        return [*self.user_middleware], dict(self.exception_handlers), routes[: channel + 1]

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's way, called before the first request; before it the short way for publish requests."""
        service: Service = self.state.service
        app = CountRequests(super().build_middleware_stack(), service.stats)
        if self._parts() != self._made:
            return app  # something was added that may want to see those requests too

        rules: Any = service.middleware()[0]
        publishing = next(route for route in self.router.routes if getattr(route, "path", "") == _CHANNEL)
        return FastPublish(app, Hosts(app, **rules.kwargs), service, publishing)


async def _channel(request: Request) -> Response | ASGIApp:
    if request.method != "POST":
        return await one_channel(request)
    return Response(await publish(service_of(request), request.scope, request.receive), headers=dict(HEADERS))


async def _slash(request: Request) -> Response:
    name = request.path_params["channel"]
    if not name:
        raise HTTPException(404)
    raise InvalidChannel(
        name, f"channel {name[:100]!r} has a slash, which no name may have: use dots, as in 'orders.eu'"
    )
