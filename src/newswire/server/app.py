"""The standalone hub over HTTP: the table of routes, and what each does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.errors import InvalidEvent, LimitExceeded, NewswireError
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.log.position import Position
from newswire.server.config import Settings
from newswire.server.problem import on_http_error, on_newswire_error, problem
from newswire.wire.event import Event

Action: TypeAlias = Literal["subscribe", "publish", "read"]
# Says whether a request may do something with channels: None, or the response that refuses it.
Authorize: TypeAlias = Callable[[Request, Action, list[str]], Awaitable[Response | None]]


async def allow_all(request: Request, action: Action, channels: list[str]) -> Response | None:
    """The `authorize` of a server for one's own machine."""
    return None


def create_app(settings: Settings | None = None, hub: Hub | None = None, authorize: Authorize = allow_all) -> Starlette:
    """Make the server's application. It closes `hub` when it ends.

    Args:
        authorize: asked before each subscribe, publish and read, before anything is sent or stored.
    """
    settings = settings or Settings()
    api = Api(settings, hub or Hub(settings.log), authorize)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await api.hub.open()
        yield
        await api.hub.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", api.console),
            Route("/console/stats", api.stats),
            Route("/channels/{channel}", api.publish, methods=["POST"]),
            Route("/channels/{channel}", api.subscribe_one, methods=["GET"]),
            Route("/channels/{channel}/events", api.history),
            Route("/stream", api.subscribe_many),
            Route("/health/live", api.live),
            Route("/health/ready", api.ready),
            Route("/metrics", api.metrics),
        ],
        exception_handlers={NewswireError: on_newswire_error, HTTPException: on_http_error},
    )


class Api:
    """The routes."""

    def __init__(self, settings: Settings, hub: Hub, authorize: Authorize) -> None:
        self.hub = hub
        self._settings = settings
        self._authorize = authorize
        self._options = StreamOptions(
            heartbeat=settings.heartbeat, retry=settings.retry, write_timeout=settings.write_timeout
        )

    # -- subscribe

    async def subscribe_one(self, request: Request) -> Any:
        """GET /channels/{channel}"""
        return await self._subscribe(request, [request.path_params["channel"]])

    async def subscribe_many(self, request: Request) -> Any:
        """GET /stream?channel=a&channel=b.*"""
        channels = request.query_params.getlist("channel")
        if not channels:
            return problem(400, "name at least one channel: /stream?channel=news&channel=orders.*", field="channel")
        if len(channels) > self._settings.max_channels:
            limit = self._settings.max_channels
            return problem(400, f"{len(channels)} channels; a stream may have {limit}: use a pattern", limit=limit)
        return await self._subscribe(request, channels)

    async def _subscribe(self, request: Request, channels: list[str]) -> Any:
        query = request.query_params
        start = query.get("from", "latest")
        envelope = query.get("envelope")
        if start not in ("earliest", "latest"):
            return problem(400, f"from is 'earliest' or 'latest', not {start[:40]!r}", field="from")
        if envelope not in (None, "json"):
            return problem(400, f"envelope can be 'json' only, not {envelope[:40]!r}", field="envelope")
        subscription = self.hub.subscribe(
            *channels,
            after=last_event_id(request),
            start="earliest" if start == "earliest" else "latest",
            envelope=envelope is not None,
        )
        refused = await self._authorize(request, "subscribe", channels)
        if refused is not None:
            return refused
        if self.hub.stats().subscribers >= self._settings.max_connections:
            return problem(503, f"this server has its {self._settings.max_connections} streams: try again later")
        return EventSourceResponse(subscription, options=self._options)

    # -- publish

    async def publish(self, request: Request) -> Response:
        """POST /channels/{channel}"""
        channel = request.path_params["channel"]
        refused = await self._authorize(request, "publish", [channel])
        if refused is not None:
            return refused
        body = await self._body(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/x-ndjson":
            events = _batch(channel, body)
            return JSONResponse({"ids": [str(position) for position in await self.hub.publish_many(events)]})
        name = request.query_params.get("event", "message")
        position = await self.hub.publish(channel, body, event=name)
        return JSONResponse({"id": str(position)})

    async def _body(self, request: Request) -> bytes:
        limit = self._settings.max_body
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise LimitExceeded("the body's size in bytes", limit=limit, actual=len(body), hint="send less at once")
        return bytes(body)

    # -- read

    async def history(self, request: Request) -> Response:
        """GET /channels/{channel}/events"""
        channel = request.path_params["channel"]
        refused = await self._authorize(request, "read", [channel])
        if refused is not None:
            return refused
        query = request.query_params
        limit = query.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= 1000):
            return problem(400, f"limit is a number from 1 to 1000, not {limit[:40]!r}", field="limit")
        page, after = await self.hub.history(channel, after=query.get("after") or None, limit=int(limit))
        events = [
            {
                "id": str(Position(self.hub.epoch, entry.offset)),
                "channel": entry.channel,
                "event": entry.event,
                "data": entry.data,
                "time": entry.time,
            }
            for entry in page.entries
        ]
        return JSONResponse({"events": events, "next": str(after), "more": len(events) == int(limit)})

    # -- for the operator

    async def live(self, request: Request) -> Response:
        """GET /health/live"""
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """GET /health/ready"""
        span = await self.hub.log.span()
        return JSONResponse({"status": "ready", "latest": str(Position(span.epoch, span.latest))})

    async def stats(self, request: Request) -> Response:
        """The console's numbers."""
        stats = self.hub.stats()
        return JSONResponse(
            {
                "followed": stats.followed,
                "delivered": stats.delivered,
                "subscribers": stats.subscribers,
                "stalled": stats.stalled,
                "gaps": stats.gaps,
                "channels": dict(self.hub.channels()),
            }
        )

    async def metrics(self, request: Request) -> Response:
        """GET /metrics"""
        registry = CollectorRegistry()
        stats = self.hub.stats()
        for name in ("followed", "delivered", "subscribers", "stalled", "gaps", "pages_read", "window_bytes"):
            gauge = Gauge(f"newswire_{name}", f"See HubStats.{name}.", registry=registry)
            gauge.set(getattr(stats, name))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def console(self, request: Request) -> Response:
        """GET /"""
        page = files("newswire.server").joinpath("console.html").read_text()
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
        return HTMLResponse(page, headers={"content-security-policy": policy, "x-content-type-options": "nosniff"})


def _batch(channel: str, body: bytes) -> list[tuple[str, Event]]:
    """The events of an NDJSON body: a line is an object with `data`, perhaps `event`."""
    events = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InvalidEvent("data", f"line {number} is no JSON: {error}. Nothing was stored") from None
        if not isinstance(item, dict) or "data" not in item or item.keys() - {"data", "event"}:
            raise InvalidEvent(
                "data", f"line {number} must be an object with `data` and perhaps `event`. Nothing was stored"
            )
        data = item["data"] if isinstance(item["data"], str) else json.dumps(item["data"], ensure_ascii=False)
        try:
            events.append((channel, Event(data, item.get("event", "message"))))
        except InvalidEvent as error:
            raise InvalidEvent(error.field, f"line {number}: {error}. Nothing was stored") from None
    if not events:
        raise InvalidEvent("data", "the batch is empty: send one JSON object a line")
    return events
