"""Notifications with an unread count that is right in every tab, also after a week offline.

Notifications are rows of the application's database. Each change publishes an event in the same transaction, with the
count as it is then, so no page adds up what it happened to see: `newswire run examples.pages.notifications:app`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import time
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from newswire import EventSourceResponse, Hub, Retention, channel, last_event_id
from newswire.browser import FILES

USER: Final = "ada"  # the user of the request, in your application
TABLE: Final = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, user TEXT, text TEXT, at REAL, read INTEGER)"
ADD: Final = "INSERT INTO notes (user, text, at, read) VALUES (?, ?, ?, 0) RETURNING id, text, at, read"
NEWEST: Final = "SELECT id, text, at, read FROM notes WHERE user = ? ORDER BY id DESC LIMIT 50"
UNREAD: Final = "SELECT count(*) FROM notes WHERE user = ? AND NOT read"

hub = Hub("sqlite:///notifications.db", retention=Retention(max_events=500))  # the log is in the file of the rows
writing = asyncio.Lock()  # SQLite has one writer at a time


@asynccontextmanager
async def transaction() -> AsyncIterator[sqlite3.Connection]:
    async with writing:
        with closing(sqlite3.connect("notifications.db")) as connection, connection:  # commits, or rolls back
            connection.row_factory = sqlite3.Row
            yield connection


async def publish(connection: sqlite3.Connection, event: str, data: dict[str, Any]) -> None:
    """Publish a change and the count after it. Readers see it if and only if the transaction commits."""
    [unread] = connection.execute(UNREAD, [USER]).fetchone()
    await hub.publish(channel("inbox", USER), {**data, "unread": unread}, event=event, connection=connection)


async def notify(request: Request) -> Response:
    """Something happens elsewhere in the application: here, a form or curl reports it."""
    text = (await request.body()).decode(errors="replace").strip()
    if not 0 < len(text) <= 200:
        return Response("a notification has 1 to 200 characters", 400)
    async with transaction() as connection:
        await publish(connection, "notification", dict(connection.execute(ADD, [USER, text, time()]).fetchone()))
    return Response(status_code=204)


async def read_through(request: Request) -> Response:
    """Mark all notifications up to one as read."""
    async with transaction() as connection:
        through = request.path_params["id"]
        connection.execute("UPDATE notes SET read = 1 WHERE user = ? AND id <= ?", [USER, through])
        await publish(connection, "read", {"through": through})
    return Response(status_code=204)


async def inbox(request: Request) -> JSONResponse:
    """The newest rows, the count, and the cursor from which the stream goes on."""
    async with transaction() as connection, hub.snapshot(connection) as cursor:
        rows = [dict(row) for row in connection.execute(NEWEST, [USER])]
        [unread] = connection.execute(UNREAD, [USER]).fetchone()
    return JSONResponse({"rows": rows, "unread": unread, "cursor": str(cursor)}, headers={"cache-control": "no-store"})


async def events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(hub.subscribe(channel("inbox", USER), after=last_event_id(request)))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub:
        async with transaction() as connection:
            connection.execute(TABLE)
        yield


app = Starlette(
    routes=[
        Route("/", lambda request: FileResponse(Path(__file__).with_suffix(".html"))),
        Route("/inbox", inbox),
        Route("/events", events),
        Route("/notify", notify, methods=["POST"]),
        Route("/read/{id:int}", read_through, methods=["POST"]),
        *(Route(path, file) for path, file in FILES.items()),
    ],
    lifespan=lifespan,
)
