"""The console at `/`: a page that shows what the server does, and the numbers behind it.

The page is plain HTML, CSS and JavaScript in `static/`, without a build and without anything from elsewhere. It polls
`/console/stats` (a second stream would take one of the six connections that a browser has for a host) and tails
channels over one EventSource, `/console/tail`, which counts as no subscriber. It looks as all pages of newswire do, by
`newswire.css` of `newswire.browser`.
"""

from __future__ import annotations

import hashlib
import time
from functools import cache
from importlib.resources import files
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from newswire.delivery.query import Query
from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.errors import LogError
from newswire.log.channels import Pattern, name_or_pattern
from newswire.log.engine import Span
from newswire.log.position import Position
from newswire.server.service import Service, service_of
from newswire.serving.answers import JsonAnswer
from newswire.serving.served_app import REASONS

_TYPES: Final = {
    "console.html": "text/html; charset=utf-8",
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "channels.js": "text/javascript; charset=utf-8",
    "streams.js": "text/javascript; charset=utf-8",
    "tail.js": "text/javascript; charset=utf-8",
}
_SECURITY: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_CHANNELS: Final = 200
_PATTERNS: Final = 20


async def page(request: Request) -> Response:
    """The page."""
    return _file(request, "console.html")


async def asset(request: Request) -> Response:
    """One of its files."""
    return _file(request, request.path_params["name"])


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = files("newswire.server").joinpath("static", name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _file(request: Request, name: str) -> Response:
    if name not in _TYPES:
        raise HTTPException(404)
    content, tag = _read(name)
    headers = {**_SECURITY, "content-type": _TYPES[name], "etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers)


async def tail(request: Request) -> EventSourceResponse:
    """Stream one channel or pattern, or all (`?channel=` left out), as `/stream?envelope=json` does.

    No number of subscribers counts it, as it is the console's own; but it takes one of the server's places.
    """
    service = service_of(request)
    query = Query(request.scope["query_string"])
    query.only("channel", "last_event_id", also=service.stream_parameters)
    channel = query.one("channel") or ">"
    access = await service.allow(request, "subscribe", channel)
    service.check_room()
    subscription = service.hub.subscribe(name_or_pattern(channel), after=last_event_id(request), envelope=True)
    service.follow(subscription, access, request)
    await subscription.open()  # what fails here is still a status code
    service.pages[channel] += 1

    async def left() -> None:
        service.pages[channel] -= 1

    return EventSourceResponse(subscription, options=service.settings.stream, background=left)


async def stats(request: Request) -> JsonAnswer:
    """The numbers."""
    service = service_of(request)
    await service.allow(request, "observe")
    hub = service.hub
    try:
        span = await hub.log.span()
    except LogError:  # the page shows that
        span = Span(hub.epoch, 0, hub.latest)
    state = hub.stats()
    stats = service.all()
    activity = service.activity
    activity.look_again()
    channels, patterns = _channels(service)
    return JsonAnswer(
        {
            "worker": service.workers.worker,
            "workers": stats.gauges["workers"],
            "started": service.started,
            "now": time.time(),
            "log": service.settings.log.partition(":")[0],
            "log_state": state.log,
            "lag": state.lag,
            "outages": stats.counters["log_outages"],
            "epochs": stats.counters["log_epochs"],
            "epoch": span.epoch,
            "latest": str(Position(span.epoch, span.latest)),
            "offset": span.latest,
            "kept": span.latest - span.earliest if activity.kept is None else activity.kept,
            "subscribers": stats.gauges["subscribers"],
            "pages": stats.gauges["pages"],
            "stalled": stats.gauges["stalled"],
            "delivered": stats.counters["delivered"],
            "gaps": sum(stats.counters[f"gaps {reason}"] for reason in REASONS),
            "recent": activity.recent(),
            "channels": channels,
            "channels_seen": len(activity),
            "complete": activity.complete,
            "patterns": patterns,
        }
    )


def _channels(service: Service) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The channels that are alive, those with the newest events first, then those without any; and the patterns."""
    subscribers = service.subscribers()
    for _, others, alive in service.workers.others():
        if alive:
            for name, count in others.items():
                subscribers[name] = subscribers.get(name, 0) + count
    busiest = service.activity.busiest(_CHANNELS)
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "subscribers": subscribers.pop(name, 0),
            "events": one.events,
            "seen": one.events + one.removed,
            "last": one.last,
        }
        for name, one in busiest.items()
    ]
    most = sorted(subscribers.items(), key=lambda item: -item[1])
    silent = [pair for pair in most if not isinstance(name_or_pattern(pair[0]), Pattern)][
        : max(0, _CHANNELS - len(found))
    ]
    found += [{"name": name, "subscribers": count, "events": 0, "seen": 0, "last": None} for name, count in silent]
    patterns = [
        {"name": name, "subscribers": count} for name, count in most if isinstance(name_or_pattern(name), Pattern)
    ]
    return found, patterns[:_PATTERNS]
