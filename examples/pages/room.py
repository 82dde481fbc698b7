"""A room: a POST says something, one stream brings what all say, and the members who are there.

The stream of a member is its presence: while it is open, in whatever process, the member is there. A name may have many
tabs. A key makes it safe to send a message again: `newswire run examples.pages.room:app`.
"""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from newswire import (
    EventSourceResponse,
    Hub,
    HubOptions,
    Member,
    PresenceOptions,
    Retention,
    StreamOptions,
    channel,
    last_event_id,
)
from newswire.browser import FILES

MOST: Final = {"member": 40, "name": 30, "text": 1000}  # characters

hub = Hub(
    "sqlite:///room.db",
    retention={"room.*": Retention(max_events=500)},
    presence=["room.*"],
    options=HubOptions(presence=PresenceOptions(heartbeat=3, grace=2)),
)


def room_of(request: Request) -> str:
    return channel("room", request.path_params["room"])


async def sent(request: Request) -> Any:
    try:
        return await request.json()
    except ValueError:
        raise HTTPException(400, "the body is no JSON") from None


def checked(values: Any, *names: str) -> dict[str, str]:
    """The values of a request, each a text that is neither empty nor too long."""
    for name in names:
        value = values.get(name) if hasattr(values, "get") else None
        if not isinstance(value, str) or not 0 < len(value.strip()) <= MOST[name]:
            raise HTTPException(400, f"{name} is a text of 1 to {MOST[name]} characters")
    return {name: values[name].strip() for name in names}


async def say(request: Request) -> Response:
    """Publish a message. A request that is sent again with its key publishes nothing."""
    message = checked(await sent(request), "member", "name", "text") | {"at": round(time() * 1000)}
    key = request.headers.get("idempotency-key")
    await hub.publish(room_of(request), message, event="say", idempotency_key=key)
    return Response(status_code=204)


async def rename(request: Request) -> Response:
    """Change what others see of a member."""
    values = checked(await sent(request), "member", "name")
    await hub.presence(room_of(request)).update(values["member"], {"name": values["name"]})
    return Response(status_code=204)


async def read(request: Request) -> EventSourceResponse:
    """Join, and read everything: the members who are there, the messages that are kept, and what follows."""
    name = unquote(request.headers.get("x-name", ""))  # a header, so that all tabs have one address, whatever the name
    values = checked({**request.query_params, "name": name}, "member", "name")
    member = Member(values["member"], {"name": values["name"]})  # in your application, the user of the request
    cursor = last_event_id(request)
    subscription = hub.subscribe(room_of(request), after=cursor, start="earliest", presence=member)
    return EventSourceResponse(subscription, options=StreamOptions(retry=500))


app = Starlette(
    routes=[
        Route("/", lambda request: FileResponse(Path(__file__).with_suffix(".html"))),
        Route("/rooms/{room}", read),
        Route("/rooms/{room}", say, methods=["POST"]),
        Route("/rooms/{room}/name", rename, methods=["POST"]),
        *(Route(path, file) for path, file in FILES.items()),
    ],
    lifespan=hub.lifespan,
)
