"""One server of the cluster: newswire's own, a page, and buttons that kill each of the three processes.

Run by `examples.demo.supervisor`, which says in the environment where the log is, and holds the other end of stdin:
when the supervisor is gone, however it went, this process ends too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from newswire import Hub, Retention, open_log
from newswire.cli.serve import serve
from newswire.cli.settings import settings_of
from newswire.server import Settings, create_app

PAGE: Final = Path(__file__).with_name("page")
DEMO: Final = Path(__file__).parent.with_name("demo") / "page"
NAMES: Final = ("one", "two", "valkey")
# A type of one's own: a page of another site has to ask first whether it may send it, and may not.
KILL: Final = "application/x-newswire-kill"


async def moved(request: Request) -> Response:
    """The page's files are beside it, so its address ends with a slash."""
    return RedirectResponse("/cluster/")


async def servers(request: Request) -> Response:
    """Where the servers are, this one first."""
    urls = os.environ.get("CLUSTER_SERVERS", "").split()
    own = NAMES.index(os.environ.get("CLUSTER_NAME", "one"))
    return JSONResponse({"servers": [*urls[own:], *urls[:own]]})


async def kill(request: Request) -> Response:
    """POST a name: end that process as `kill -9` does, in the middle of everything."""
    if request.headers.get("content-type") != KILL:
        return Response(f"say so with the content type {KILL}", status_code=403)
    name = (await request.body()).decode("ascii", "replace")
    if name not in NAMES:
        return Response(f"there are {', '.join(NAMES)}", status_code=404)
    pid = int((Path(os.environ["CLUSTER_FOLDER"]) / f"{name}.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    return Response()


def make() -> Any:
    """Make the application that the environment describes."""
    settings, _ = settings_of(serve.make_context("serve", []), Settings)
    app = create_app(settings, Hub(open_log(settings.log, retention=Retention(max_age=900))))
    app.router.routes[:0] = [
        Route("/cluster", moved),
        Route("/cluster/servers.json", servers),
        Route("/cluster/kill", kill, methods=["POST"]),
        Mount("/cluster/demo", StaticFiles(directory=DEMO)),
        Mount("/cluster", StaticFiles(directory=PAGE, html=True)),
    ]
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        if os.environ.get("DEMO_SUPERVISED"):
            loop.add_reader(sys.stdin.fileno(), os.kill, os.getpid(), signal.SIGTERM)  # end of file
            (Path(os.environ["CLUSTER_FOLDER"]) / f"{os.environ['CLUSTER_NAME']}.pid").write_text(str(os.getpid()))
        async with inner(app):
            yield
        loop.remove_reader(sys.stdin.fileno())

    app.router.lifespan_context = lifespan
    return app


app = make()
