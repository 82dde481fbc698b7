"""A stream of tokens for each client, as a run, and as a bare generator through Starlette's own StreamingResponse.

The generators wait for `/start?rate=…&events=…`; then each yields so many tokens, so many a second, out of step with
the others as real answers are. `BENCH_LOG` is the log's URL.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from benchmarks.servers.control import stamped
from newswire import Hub
from newswire.runs import Runs

_TOKEN = 30  # bytes; the stamp is most of it
_AWAKE = 0.3  # seconds in which all generators have woken up, before the first token is due

hub = Hub(os.environ.get("BENCH_LOG", "memory://?max_bytes=1000000000"))
runs = Runs(hub, public=True)


class Pace:
    """What the generators wait for, and their number."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.rate = 0.0
        self.events = 0
        self.open = 0

    async def tokens(self) -> AsyncIterator[str]:
        """One answer."""
        self.open += 1
        await self.go.wait()
        due = time.monotonic() + _AWAKE + random.random() / self.rate
        for _ in range(self.events):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield stamped(_TOKEN)
            due += 1 / self.rate


pace = Pace()


async def run(request: Request) -> ASGIApp:
    """A run."""
    started = await runs.start(f"answer.{request.path_params['number']}", pace.tokens())
    return runs.response(request, started)


async def bare(request: Request) -> StreamingResponse:
    """No run."""

    async def blocks() -> AsyncIterator[str]:
        async for token in pace.tokens():
            yield f"data: {token}\n\n"

    return StreamingResponse(blocks(), media_type="text/event-stream")


async def start(request: Request) -> JSONResponse:
    """Let all begin."""
    pace.rate = float(request.query_params["rate"])
    pace.events = int(request.query_params["events"])
    pace.go.set()
    return JSONResponse({"started": True})


async def stats(request: Request) -> JSONResponse:
    """How many generators wait or yield."""
    return JSONResponse({"subscribers": pace.open, "ended": dict(runs.stats.ended)})


app = Starlette(
    routes=[
        Route("/runs/{number:int}", run),
        Route("/bare/{number:int}", bare),
        Route("/start", start),
        Route("/stats", stats),
    ]
)
