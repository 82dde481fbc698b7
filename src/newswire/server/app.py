"""The standalone hub over HTTP: the table of its routes, and those that stream.

Any other route is in the module that has its name; what the routes share is in `service`. A stream is refused only
before its head is sent. A cursor never refuses one: whatever it is, it gives a stream, from the right place or with a
gap, because a refused EventSource never comes back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from newswire.browser import FILES
from newswire.counted import counted
from newswire.delivery.asgi import Answer, AnswersWhole
from newswire.delivery.history import PageRequest, page
from newswire.delivery.problem import Problem
from newswire.delivery.query import Query, channel_of
from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.errors import Closed, InvalidChannel
from newswire.hub.hub import Hub
from newswire.hub.options import HubOptions
from newswire.log.channels import name_or_pattern
from newswire.server import access, console, presence
from newswire.server.auth import Auth, Authorizer, allow_all
from newswire.server.auth.access import check_authorizer
from newswire.server.auth.credentials import TICKET
from newswire.server.auth.tokens import warn_if_weak
from newswire.server.connections import channels, connections, own_channels, own_connections
from newswire.server.edges import OriginService
from newswire.server.metrics import CountRequests, outcome_of
from newswire.server.publish import HEADERS, FastChannel, publish
from newswire.server.service import Service, service_of
from newswire.server.settings import Settings
from newswire.serving.answers import HANDLERS, JsonAnswer, problem_from
from newswire.serving.hosts import Hosts
from newswire.validate import check_kind, check_list, options_or
from newswire.wire.encoder import encode
from newswire.wire.headers import STREAM_HEADERS
from newswire.wire.reserved import come_back, goodbye

_CHANNEL: Final = "/channels/{channel}"
_NO_TICKETS: Final = (
    "this server takes no tickets, since it asks for no credentials: give it the secret that signs them "
    "(--jwt-secret), or other credentials (docs/auth.md)"
)


def create_app(
    settings: Settings | None = None,
    hub: Hub | None = None,
    authorize: Authorizer | None = None,
    *,
    parameters: Sequence[str] = (),
    stats_folder: Path | None = None,
) -> Starlette:
    """Make the application of `newswire serve`, for any ASGI server. You may add routes of your own to its `routes`.

    Args:
        settings: how it behaves; `port` and `workers` have no effect here. A request to a host name other than `host`,
            `localhost` and those in `allowed_hosts` is refused; see `newswire.serving.hosts`.
        hub: the hub to serve; None: one on `settings.log`. It opens when the server starts, and closes when that stops.
        authorize: called before each subscribe, publish and read; see `newswire.server.auth`. None: the settings say
            which credentials are good (`jwt_secret` …); without any of those, everyone may do everything.
        parameters: names of query parameters that `authorize` reads, such as `token`: a native EventSource can't send
            headers. Any other parameter that no route has is refused.
        stats_folder: a folder in which several worker processes share their stats, for `/metrics` and the console.

    Raises:
        TypeError: an argument is of another kind.
    """
    settings = options_or("settings", settings, Settings)
    check_list("parameters", parameters)
    if hub is None:
        hub = _hub_of(settings)
    check_kind("hub", hub, Hub)
    check_authorizer(authorize)
    if authorize is None:
        authorize = auth_of(settings, hub) if settings.authenticates else allow_all
    return _Server(
        settings,
        Service(settings, hub, authorize, tuple(parameters), None if stats_folder is None else Path(stats_folder)),
    )


def _hub_of(settings: Settings) -> Hub[Any]:
    contract = settings.loaded_contract()
    options: dict[str, Any] = {
        "retention": settings.retention,
        "latest": settings.latest,
        "presence": settings.presence,
        "options": HubOptions(presence=settings.presence_options),
    }
    if contract is None:
        return Hub(settings.log, **options)
    return Hub(settings.log, contract=contract, **options)


def auth_of(settings: Settings, hub: Hub) -> Auth:
    """The authorizer that the settings describe."""
    if settings.jwt_secret is not None:
        warn_if_weak(settings.jwt_secret)
    return Auth(
        hub,
        tokens=settings.tokens(),
        anonymous=settings.anonymous,
        origins=settings.cors_origins,
        cookie=settings.auth_cookie,
        keys=settings.keys(),
        secret=settings.jwt_secret,
    )


class _Server(Starlette, AnswersWhole):
    """The application. As long as it is as it was made, requests for a channel take the short way (`FastChannel`)."""

    def __init__(self, settings: Settings, service: Service) -> None:
        super().__init__(
            lifespan=service.lifespan,
            routes=[
                Route("/", console.page),
                *(Route(path, file) for path, file in FILES.items()),
                Route("/console/stats", console.stats),
                Route("/console/tail", console.tail),
                Route("/console/{name}", console.asset),
                Route(_CHANNEL, _channel, methods=["GET", "POST"]),
                Route("/channels/{channel}/events", history),
                Route("/channels/{channel:path}", _slash, methods=["GET", "POST"]),
                Route("/stream", many_channels),
                Route("/tickets", access.tickets, methods=["POST"]),
                Route("/session", access.sign_in, methods=["POST"]),
                Route("/session", access.sign_out, methods=["DELETE"]),
                Route("/revoke", access.revoke, methods=["POST"]),
                Route("/connections", connections),
                Route("/connections", access.end_connections, methods=["DELETE"]),
                Route("/presence/{channel}", presence.presence, methods=["GET", "POST"]),
                Route("/channels", channels),
                *OriginService(service).routes(),
                Route("/health", service.ready),
                *service.routes(),
            ],
            middleware=service.middleware(),
            exception_handlers=dict(HANDLERS),
        )
        self.router.redirect_slashes = False  # "/channels/a/" names no channel; a redirect would hide the slip
        self.state.service = service
        service.answers |= {"connections": own_connections, "channels": own_channels}
        self._made = self._parts()

    def _parts(self) -> tuple[Any, ...]:
        """What decides how a request for a channel is answered."""
        routes = self.router.routes
        channel = next((index for index, one in enumerate(routes) if getattr(one, "path", "") == _CHANNEL), 0)
        return [*self.user_middleware], dict(self.exception_handlers), routes[: channel + 1]

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's way, called before the first request; before it the short way for a channel's requests."""
        service: Service = self.state.service
        app = CountRequests(super().build_middleware_stack(), service.stats)
        if self._parts() != self._made:
            return app  # something was added that may want to see those requests too

        rules: Any = service.middleware()[0]
        channel = next(route for route in self.router.routes if getattr(route, "path", "") == _CHANNEL)
        return FastChannel(app, Hosts(app, **rules.kwargs), service, channel, one_channel)

    def whole(self, scope: Scope, body: bytes) -> Coroutine[Any, Any, Answer] | None:
        """Answer a request that is there already; see `newswire.delivery.fast.limits`."""
        stack = self.middleware_stack
        if type(stack) is not FastChannel:
            return None
        scope["app"] = self
        return stack.whole(scope, body)


async def _channel(request: Request) -> Response | ASGIApp:
    if request.method != "POST":
        return await one_channel(request)
    return Response(await publish(service_of(request), request.scope, request.receive), headers=dict(HEADERS))


async def history(request: Request) -> JsonAnswer:
    """Answer with a page of kept events; see `newswire.delivery.history`."""
    service = service_of(request)
    channel = channel_of(request.scope)
    asked = PageRequest.of(Query(request.scope["query_string"]), service.parameters)
    await service.allow(request, "read", channel)
    return JsonAnswer(await page(service.hub, channel, asked))


async def _slash(request: Request) -> Response:
    name = request.path_params["channel"]
    if not name:
        raise HTTPException(404)
    raise InvalidChannel(
        name, f"channel {name[:100]!r} has a slash, which no name may have: use dots, as in 'orders.eu'"
    )


async def one_channel(request: Request) -> Response | ASGIApp:
    """Stream one channel, or one pattern."""
    return await _counted(_one, request)


async def many_channels(request: Request) -> Response | ASGIApp:
    """Stream many channels and patterns on one connection, in the log's order."""
    return await _counted(_many, request)


async def _counted(
    answer: Callable[[Request, Service], Awaitable[Response | ASGIApp]], request: Request
) -> Response | ASGIApp:
    """Count what comes of a request for a stream."""
    service = service_of(request)
    count = service.stats.counters
    try:
        response = await answer(request, service)
    except Exception as error:  # counted, and raised
        count[f"connects {outcome_of(problem_from(error, request.scope))}"] += 1
        raise
    outcome = "opened" if isinstance(response, EventSourceResponse) else "unavailable"
    count[f"connects {outcome}"] += request.method != "HEAD"
    return response


async def _one(request: Request, service: Service) -> Response | ASGIApp:
    return await _stream(request, service, [channel_of(request.scope)], Query(request.scope["query_string"]))


async def _many(request: Request, service: Service) -> Response | ASGIApp:
    limit = service.settings.max_channels
    query = Query(request.scope["query_string"], 2 * limit + 100)
    channels = query.all("channel")
    if not channels:
        detail = "name at least one channel: /stream?channel=news&channel=orders.*"
        raise Problem(400, "invalid_query", detail, field="channel")
    if len(channels) > limit:
        detail = f"a stream has at most {counted(limit, 'channel')} here, and these are {len(channels)}: use a pattern"
        raise Problem(400, "too_many_channels", detail, field="channel", limit=limit)
    return await _stream(request, service, channels, query, "channel")


async def _stream(
    request: Request, service: Service, channels: list[str], query: Query, *more: str
) -> Response | ASGIApp:
    names = (*more, "from", "envelope", "live", "max_rate", "coalesce", *presence.PARAMETERS)
    if TICKET not in service.stream_parameters and query.all(TICKET):
        raise Problem(400, "invalid_query", _NO_TICKETS, field=TICKET)
    query.only(*names, also=service.stream_parameters, cursor=True)
    start = query.choice("from", "earliest", "latest")
    envelope = query.choice("envelope", "json")
    if request.method != "HEAD":
        service.check_room()
    allowed = await service.allow(request, "subscribe", *channels)
    try:
        subscription = service.hub.subscribe(
            *map(name_or_pattern, channels),
            after=last_event_id(request),
            start=None if start is None else "earliest" if start == "earliest" else "latest",
            envelope=envelope is not None,
            live=query.choice("live", "0", "1") == "1",
            max_rate=query.number("max_rate"),
            coalesce=query.number("coalesce"),
            presence=presence.member_of(service, request, allowed, query),
        )
    except InvalidChannel:
        raise
    except ValueError as error:
        raise Problem(400, "invalid_query", str(error), field="query") from None
    if request.method != "HEAD":
        service.follow(subscription, allowed, request)
        try:
            await subscription.open()  # what fails here is still a status code
        except Closed:
            if not service.stopping:
                raise
            return _goodbye(service)
    headers = {"set-cookie": allowed.cookie} if allowed is not None and allowed.cookie else None
    return EventSourceResponse(subscription, headers=headers, options=service.options(channels))


def _goodbye(service: Service) -> Response:
    """A stream that only says when to come back: a browser's EventSource gives up for good when it gets an error."""
    answer = Response(encode(goodbye(come_back(service.settings.retry))))
    answer.raw_headers[:0] = STREAM_HEADERS
    return answer
