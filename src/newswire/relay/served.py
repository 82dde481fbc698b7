"""The relay as a server of its own: a hub, its runs, the upstreams, and what an operator asks for.

`/health/live`, `/health/ready`, `/metrics` and `/runs/…` are the server's; all else is the relay's to pass on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from newswire.delivery.drain import drain_of
from newswire.delivery.threads import in_thread
from newswire.errors import Closed, LogError
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.log.retention import KEEP_ALL
from newswire.relay import Relay
from newswire.relay.metrics import numbers_of, render
from newswire.relay.settings import RelaySettings
from newswire.runs import Runs, WorkerOptions
from newswire.serving.hosts import Hosts
from newswire.serving.origins import RELAY, Origins
from newswire.serving.workers import Board, Numbers

logger = logging.getLogger("newswire.server")

_WRITE_SECONDS: Final = 1.0
_LOG_SECONDS: Final = 2.0
_LAST_STEPS: Final = 0.5  # what is left of the grace time for closing the log


def create_relay(settings: RelaySettings, *, board: Path | None = None) -> Starlette:
    """Make the application of `newswire relay`.

    Args:
        settings: how it behaves.
        board: a folder where several worker processes leave their numbers for each other.
    """
    hub = Hub(settings.log, retention=KEEP_ALL)  # runs are removed by `keep_for`; other channels are not the relay's
    stream = StreamOptions(heartbeat=settings.heartbeat)
    runs = Runs(hub, worker=WorkerOptions(lease=settings.lease), stream=stream)
    relay = Relay(runs, settings.upstreams, options=settings.options)
    numbers = _Workers(runs, relay, Board(board))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await runs.open()
        drain = drain_of(asyncio.get_running_loop())
        drain.grace = settings.grace
        stop = _Stop()
        drain.enter(stop)
        async with numbers.written():
            try:
                yield
            finally:
                drain.leave(stop)
                await runs.close(max(settings.grace - _LAST_STEPS - stop.elapsed(), 0.0))
                await relay.close()
                await hub.close()

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "live"}, headers={"cache-control": "no-store"})

    async def ready(request: Request) -> Response:
        try:
            async with asyncio.timeout(_LOG_SECONDS):
                stopping = (await hub.live()).draining
                await hub.log.span()
        except (LogError, Closed, TimeoutError):
            stopping = True
        status = {"status": "stopping, or without its log" if stopping else "ready"}
        return JSONResponse(status, 503 if stopping else 200, headers={"cache-control": "no-store"})

    async def metrics(request: Request) -> Response:
        return render(numbers.all())

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
            Mount("", app=relay),
        ],
        middleware=[
            Middleware(
                Hosts,
                allowed=settings.allowed_hosts,
                listens_on=settings.host,
                variable="NEWSWIRE_RELAY_ALLOWED_HOSTS",
            ),
            Middleware(Origins, allowed=settings.cors_origins, grants=RELAY),
        ],
    )


class _Stop:
    """Notes when the server was told to stop: what connections take of the grace time is no time for completions."""

    finite = False

    def __init__(self) -> None:
        self._at: float | None = None

    def stop(self) -> None:
        """The server is stopping."""
        self._at = monotonic()

    def cut(self) -> None:
        """There is nothing to drop."""

    def elapsed(self) -> float:
        """Seconds since then."""
        return 0.0 if self._at is None else monotonic() - self._at


class _Workers:
    """The numbers of all workers."""

    def __init__(self, runs: Runs, relay: Relay, board: Board) -> None:
        self._runs = runs
        self._relay = relay
        self._board = board

    def all(self) -> Numbers:
        together = Numbers()
        together.add(numbers_of(self._runs, self._relay), alive=True)
        for numbers, _, alive in self._board.others():
            together.add(numbers, alive=alive)
        return together

    @asynccontextmanager
    async def written(self) -> AsyncIterator[None]:
        """Leave this worker's for the others, every second."""
        task = asyncio.create_task(self._write(), name="newswire numbers") if self._board.shared else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _write(self) -> None:
        while True:
            try:
                await in_thread(partial(self._board.write, numbers_of(self._runs, self._relay), {}))
            except Exception:  # the outermost frame of its task: numbers go on, and somebody hears of it
                logger.exception("this worker's numbers can't be written")
            await asyncio.sleep(_WRITE_SECONDS)
