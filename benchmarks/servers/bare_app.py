"""The same streams without a framework: newswire in a bare ASGI application, and one that only waits.

`/events` is `newswire_app`'s, by the ASGI path; with `BENCH_IDLE=1` it sends a head and one event and waits for the
client to leave: what uvicorn itself costs, whoever streams. All else is passed on to `newswire_app`.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.servers.newswire_app import app as inner
from benchmarks.servers.newswire_app import hub, options
from newswire import EventSourceResponse

_IDLE = bool(os.environ.get("BENCH_IDLE"))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application."""
    if scope["type"] != "http" or scope["path"] != "/events":
        await inner(scope, receive, send)
    elif _IDLE:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    else:
        await EventSourceResponse(hub.subscribe("bench"), options=options)(scope, receive, send)
