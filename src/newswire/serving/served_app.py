"""The shell of a served application: how it starts and stops, `/health/…`, `/metrics`, and the stats of its workers.

`newswire serve` and `newswire relay` each subclass `ServedApp`. One object a process; it is at
`request.app.state.service` for the routes. It knows no route of the application's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from hmac import compare_digest
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from newswire import posix
from newswire.delivery.drain import drain_of
from newswire.delivery.problem import Problem, unavailable
from newswire.delivery.threads import in_thread
from newswire.errors import LogError, LogUnavailable
from newswire.hub.hub import Hub
from newswire.log.position import Position
from newswire.log.retry import Retry, end
from newswire.serving.answers import JsonAnswer
from newswire.serving.hangup import Hangup
from newswire.serving.hosts import Hosts
from newswire.serving.metrics import Family, render
from newswire.serving.origins import Grants, Origins
from newswire.serving.reload import Again, read_again
from newswire.serving.settings import ServerSettings
from newswire.serving.stats import LoopLag, ServerStats, WorkerStats
from newswire.serving.worker_calls import WorkerCalls

logger: logging.Logger = logging.getLogger("newswire.server")

_LOG_SECONDS: Final = 2.0  # a log that needs longer to say where it is has no strength to serve
_WRITE_SECONDS: Final = 1.0
REASONS: Final = ("trimmed", "epoch", "future", "invalid", "slow")
_RESUMES: Final = ("new", "current", "window", "log", "gap")
_ENDS: Final = ("client", "slow", "goodbye", "max_age", "expired", "revoked", "closed", "cut", "failed")
SHARED: Final = (
    Family("workers", "Processes that serve.", "gauge"),
    Family("log_offset", "The offset of the log's newest event.", "gauge"),
    Family("log_up", "Processes that can use the log.", "gauge"),
    Family("log_lag", "Events of the log that have not come to a process yet, all processes together.", "gauge"),
    Family("log_outages", "How often a process could not use the log."),
    Family("log_retries", "Attempts to use the log that failed."),
    Family("log_epochs", "How often a process found another log than before: wiped, put back, or taken over."),
    Family(
        "log_append_seconds",
        "How long the log took to store batches of events; not measured in memory.",
        "histogram",
    ),
    Family("log_read_seconds", "How long the log took to read a page of events.", "histogram"),
    Family("event_loop_lag_seconds", "How late the event loop was, looked at four times a second.", "histogram"),
    Family("event_loop_tasks", "Tasks of the event loop; on the direct path a stream has none.", "gauge"),
    Family("replayed", "Events given to streams while they caught up; they are among the delivered ones."),
    Family("stream_bytes", "Bytes of the event streams, before transfer coding and compression."),
    Family("stream_compressed_from_bytes", "Bytes of compressed event streams, before compression."),
    Family("stream_compressed_to_bytes", "Bytes of compressed event streams, after compression."),
    Family("heartbeats", "Comments sent to silent streams."),
    Family("gaps", "Gap events sent: losses that streams reported, by reason.", labels=("reason",), values=REASONS),
    Family("resumes", "Streams by where their cursor led.", labels=("kind",), values=_RESUMES),
    Family("stream_ends", "Streams by how they ended.", labels=("reason",), values=_ENDS),
)


class ServedApp:
    """What all served applications have.

    Args:
        settings: of the application.
        hub: the hub that it serves; it is opened at the start and closed at the stop.
        stats_folder: where several workers share their stats; None for a single process.
        drain: how streams end at a stop; None: as the drain of the event loop says.

    Attributes:
        settings, hub: as given.
        stats: this process's own counters and histograms.
        workers: the stats of the other workers.
        started: when, in seconds since the Unix epoch.
        stopping: its streams end, and a new one would end at once.
        loop_lag: how late this process's event loop is.
        again: reads the settings again, on SIGHUP; None: they stay as they are, and the signal is not handled.
        calls: questions to the other workers.
    """

    families: ClassVar[tuple[Family, ...]]
    grants: Grants

    def __init__(
        self,
        settings: ServerSettings,
        hub: Hub,
        stats_folder: Path | None,
        drain: Literal["goodbye", "drain"] | None = None,
    ) -> None:
        self.settings: ServerSettings = settings
        self.hub = hub
        self.stats: ServerStats = ServerStats()
        self.started: float = time.time()
        self.stopping = False
        self.again: Again | None = None
        self._one_rereads = asyncio.Lock()
        self._drain = drain
        self.loop_lag: LoopLag = LoopLag()
        self._stats_folder = stats_folder
        self.workers: WorkerStats
        self.calls: WorkerCalls
        self._join()

    def _join(self) -> None:
        """Become one of the workers of this server, under a name of this object's own."""
        self.workers = WorkerStats(self._stats_folder)
        self.calls = WorkerCalls(self._stats_folder, self.workers.worker, self.answer)

    # -- what each application has of its own

    async def open(self) -> None:
        """Open what the application needs."""
        await self.hub.open()

    async def close(self, stopping: float) -> None:
        """Close what the application has opened, except the hub.

        Args:
            stopping: seconds since the server began to stop.
        """

    async def check_scraper(self, request: Request) -> None:
        """Check whether a request without the metrics token may read the metrics.

        Raises:
            Problem: it may not.
        """
        if self.settings.metrics_token is not None:
            raise _token_needed(request)

    def change(self, settings: ServerSettings) -> None:
        """Go on with other settings; called in the event loop. What raises here must have changed nothing."""
        self.settings = settings

    def own(self) -> ServerStats:
        """This process's stats."""
        return self.stats

    def runs_counted(self) -> Any:
        """The runs whose numbers are metrics; None: there are none."""
        return None

    def _instrument(self) -> None:
        if self.settings.otel and self.hub.tracer is None:
            from newswire.otel import instrument  # an extra

            instrument(self.hub, runs=self.runs_counted())

    async def answer(self, question: dict[str, Any]) -> Any:
        """Answer another worker's question."""
        return None

    def streams(self) -> int:
        """How many streams of clients are open in this process."""
        raise NotImplementedError

    def subscribers(self) -> dict[str, int]:
        """Subscribers in this process by channel, for the other workers."""
        return {}

    # -- life

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Start, and stop in the end."""
        self._instrument()
        self._join()  # again: a parent may have made the application, and its children would all have one name
        waiting = await self._open_now_or_later()
        self.loop_lag.start()
        await self.calls.open()
        drain = drain_of(asyncio.get_running_loop())
        drain.grace = self.settings.grace
        if self._drain is not None:
            drain.mode = self._drain
        stop = _Stop(self)
        drain.enter(stop)
        writer = asyncio.create_task(self._share(), name="newswire stats") if self.workers.shared else None
        try:
            with self._rereading():
                yield
        finally:
            drain.leave(stop)
            self.loop_lag.stop()
            await self.calls.close()
            await end(writer)
            await end(waiting)
            await self.close(stop.elapsed())
            await self.hub.close()
            count = stop.streams
            ended = f"; {count:,} stream{'s' if count > 1 else ''} ended in order, clients come back" if count else ""
            logger.info("stopped%s", ended)

    async def _open_now_or_later(self) -> asyncio.Task[None] | None:
        """Open the application. Where the origin of an edge is away, the task that is returned does so when it is back.

        Until then a request that needs the log tries too, and is answered with 503.
        """
        try:
            await self._open_and_follow()
        except LogUnavailable as error:
            if not self.settings.may_wait(error):
                raise
            logger.warning("%s: what needs it gets 503 until it is there", error)
            return asyncio.create_task(self._open_later(), name="newswire waits for its origin")
        return None

    async def _open_and_follow(self) -> None:
        await self.open()
        (await self.hub.runtime()).follower.start()  # its clients will come: what follows is at hand for them

    async def _open_later(self) -> None:
        retry = Retry()
        while True:
            await asyncio.sleep(retry.next())
            try:
                await self._open_and_follow()
            except Exception as error:  # the outermost frame of a task: it may be good the next time
                logger.debug("the origin is not there yet: %s", error)
            else:
                logger.info("the origin is there")
                return

    @contextlib.contextmanager
    def _rereading(self) -> Iterator[None]:
        """Read the settings again at each SIGHUP, if that can be."""
        loop = asyncio.get_running_loop()
        hangup = posix.HANGUP
        if self.again is None or hangup is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        tasks = set()

        def begin() -> None:
            task = loop.create_task(self.reread(), name="newswire settings")
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        posix.on_signals(loop, (hangup,), Hangup(begin))
        try:
            yield
        finally:
            loop.remove_signal_handler(hangup)
            signal.signal(hangup, signal.SIG_IGN)  # no reason to die in the middle of an orderly stop
            for task in tasks:
                task.cancel()

    async def reread(self) -> None:
        """Read the settings again, and go on with what may change."""
        async with self._one_rereads:
            assert self.again is not None
            found = await in_thread(partial(read_again, self.settings, self.again))
            if found is None:
                return
            settings, line = found
            try:
                self.change(settings)
            except ValueError as error:  # a file of keys that was replaced just now
                logger.error("the settings were not read again, and those of before stay: %s", error)
            else:
                logger.log(logging.DEBUG if self.workers.shared else logging.INFO, line)  # the supervisor says it once

    async def _share(self) -> None:
        while True:
            try:
                own = ServerStats()
                own.add(self._own(), alive=True)
                await in_thread(partial(self.workers.write, own, self.subscribers()))
            except Exception:  # the outermost frame of its task: it goes on, and the log shows why
                logger.exception("this worker's stats can't be written")
            await asyncio.sleep(_WRITE_SECONDS)

    # -- routes

    def routes(self) -> list[Route]:
        """The routes for operators."""
        return [
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/metrics", self.metrics),
        ]

    def middleware(self) -> list[Middleware]:
        """The checks of `Host` and `Origin` that each request meets first."""
        settings = self.settings
        hosts = Middleware(
            Hosts,
            allowed=settings.allowed_hosts,
            listens_on=settings.host,
            variable=settings.variable("allowed_hosts"),
        )
        origins = Middleware(
            Origins, allowed=settings.cors_origins, grants=self.grants, variable=settings.variable("cors_origins")
        )
        return [hosts, origins]

    async def live(self, request: Request) -> Response:
        """Answer as long as the event loop turns."""
        return JsonAnswer({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """Answer 200 if the process can publish and stream: its log answers, and it is not stopping.

        Raises:
            Problem: it can't.
        """
        inside = await self.hub.runtime()
        if inside.draining:
            raise unavailable("the server is stopping", "stopping")
        await inside.follower.settle()  # publishing may work, and nothing be delivered
        try:
            async with asyncio.timeout(_LOG_SECONDS):
                span = await self.hub.log.span()
        except TimeoutError:
            raise unavailable(f"the log did not answer within {_LOG_SECONDS:g} s", "log_unavailable") from None
        latest = str(Position(span.epoch, span.latest))
        lag = max(0, span.latest - inside.head) if span.epoch == inside.epoch else 0
        found = {"status": "ready", "latest": latest, "log": "behind" if lag else inside.monitor.state, "lag": lag}
        return JsonAnswer(found)

    async def metrics(self, request: Request) -> Response:
        """Answer a scrape with the stats of all workers.

        Raises:
            Problem: the request's credential is missing, or not good for this.
        """
        if not _has_token(request, self.settings.metrics_token):
            await self.check_scraper(request)
        stats = self.all()
        try:
            stats.gauges["log_offset"] = (await self.hub.log.span()).latest
        except LogError:
            pass  # the rest counts all the more while the log is away
        return render((*self.families, *SHARED), stats)

    def _own(self) -> ServerStats:
        """This process's stats, with what its hub knows of the log."""
        hub = self.hub.stats()
        self.stats.counters.update(log_outages=hub.outages, log_retries=hub.retries, log_epochs=hub.epochs)
        tasks = len(asyncio.all_tasks())
        self.stats.gauges.update(log_up=int(hub.log != "down"), log_lag=hub.lag, event_loop_tasks=tasks)
        self.stats.counters.update(replayed=hub.replayed, stream_bytes=hub.stream_bytes, heartbeats=hub.heartbeats)
        self.stats.counters.update(
            stream_compressed_from_bytes=hub.compressed_from, stream_compressed_to_bytes=hub.compressed_to
        )
        for name, counts in (("gaps", hub.gap_reasons), ("resumes", hub.resumes), ("stream_ends", hub.ends)):
            self.stats.counters.update({f"{name} {label}": count for label, count in counts.items()})
        self.stats.histograms.update(
            log_append_seconds=hub.append, log_read_seconds=hub.read, event_loop_lag_seconds=self.loop_lag.seconds
        )
        return self.own()

    def all(self) -> ServerStats:
        """The stats of all workers."""
        together = ServerStats()
        together.add(self._own(), alive=True)
        together.gauges["workers"] = 1
        for stats, _, alive in self.workers.others():
            together.add(stats, alive=alive)
            together.gauges["workers"] += alive
        return together


class _Stop:
    """Notes when the server began to stop, and how many streams were open then."""

    finite = False

    def __init__(self, app: ServedApp) -> None:
        self.streams = 0
        self._at: float | None = None
        self._app = app

    def stop(self) -> None:
        """The server is stopping."""
        self._at = time.monotonic()
        self._app.stopping = True
        self.streams = self._app.streams()

    def cut(self) -> None:
        """There is nothing to drop."""

    def elapsed(self) -> float:
        """Seconds since the server began to stop."""
        return 0.0 if self._at is None else time.monotonic() - self._at


def _has_token(request: Request, token: str | None) -> bool:
    """Whether a request brings this token: `Authorization: Bearer TOKEN`. False if there is no such token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer":
        return False
    return compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())


def _token_needed(request: Request) -> Problem:
    """The answer to a request without it."""
    if "authorization" in request.headers:
        detail = "this is not the metrics token: send Authorization: Bearer and what --metrics-token says"
    else:
        detail = "the metrics need a credential: send Authorization: Bearer and the server's --metrics-token"
    return Problem(401, "unauthenticated", detail, headers={"www-authenticate": 'Bearer realm="newswire"'})
