"""The demo's application: newswire's own server with an access log, two more pages, and a button that kills it.

Run by `examples.demo.supervisor`, which says in the environment where the log and the access log are, and holds the
other end of stdin: when the supervisor is gone, however it went, this process ends too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.chat.app import make_chat
from examples.demo.kill import kill
from newswire import Hub, Retention, open_log
from newswire.cli.serve import serve
from newswire.cli.settings import settings_of
from newswire.server import Settings, create_app

PAGE: Final = Path(__file__).with_name("page")
# A dashboard shows the last minutes; a room remembers. What a page may have missed beyond that, a gap event tells it.
RETENTION: Final = {
    "ticks": Retention(max_age=900, max_events=200_000),
    "room": Retention(max_events=500),
    "chat.*": Retention(max_age=86_400),  # the questions, for as long as the answers are kept
    ">": Retention(max_age=900, max_events=1_000),
}
# The log file is about what people do. Following it publishes to `log`, which would be a line of the log again; and
# the other publishers and the pages' own files and looks into the log would be all that one sees.
QUIET: Final = ("/channels/", "/console/", "/health")
FILES: Final = (".css", ".js", ".svg")

access = logging.getLogger("demo.access")


def quiet(path: str) -> bool:
    """Whether requests for this path stay out of the access log."""
    return path.endswith(FILES) or (path.startswith(QUIET) and path != "/channels/room")


class AccessLog:
    """Writes a line for each response, when its head goes out."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http" or quiet(scope["path"]):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        query = scope["query_string"].decode("latin-1")
        target = scope["path"] + ("?" + query if query else "")

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                spent = (time.perf_counter() - started) * 1000
                access.info("%s %s %d %.1f ms", scope["method"], target, message["status"], spent)
            await send(message)

        await self._app(scope, receive, noting)


async def moved(request: Request) -> Response:
    """The page's files are beside it, so its address ends with a slash."""
    return RedirectResponse("/demo/")


def make() -> Any:
    """Make the application that the environment describes."""
    settings, _ = settings_of(serve.make_context("serve", []), Settings)
    hub = Hub(open_log(settings.log, retention=RETENTION))
    app = create_app(settings, hub)
    chat = make_chat(hub)
    pages = StaticFiles(directory=PAGE, html=True)
    app.router.routes[:0] = [
        Route("/demo", moved),
        Route("/demo/kill", kill, methods=["POST"]),
        Mount("/demo", pages),
        *chat.routes(),
    ]
    app.add_middleware(AccessLog)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        if os.environ.get("DEMO_SUPERVISED"):
            loop.add_reader(sys.stdin.fileno(), os.kill, os.getpid(), signal.SIGTERM)  # end of file
        async with inner(app):
            await chat.runs.open()
            yield
        loop.remove_reader(sys.stdin.fileno())

    app.router.lifespan_context = lifespan
    if file := os.environ.get("DEMO_ACCESS_LOG"):
        handler = RotatingFileHandler(file, maxBytes=64 * 2**10, backupCount=2)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        access.addHandler(handler)
        access.setLevel(logging.INFO)
        access.propagate = False
    return app


app = make()
