"""`newswire relay` as an application: a hub, its runs, the upstreams, and the routes for operators.

`/health/live`, `/health/ready`, `/metrics` and `/runs/…` are the server's own; the relay passes on all else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Final

from starlette.applications import Starlette
from starlette.routing import Mount

from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.log.retention import KEEP_ALL
from newswire.relay.app import Relay
from newswire.relay.settings import RelaySettings
from newswire.runs import Runs, WorkerOptions
from newswire.serving.answers import HANDLERS
from newswire.serving.metrics import Family
from newswire.serving.origins import Grants
from newswire.serving.served_app import ServedApp
from newswire.serving.stats import ServerStats

_LAST_STEPS: Final = 0.5  # seconds: what is left of the grace time for closing the log
FAMILIES: Final = (
    Family(
        "relay_calls", "Completions asked of an upstream, by the status of its answer.", labels=("upstream", "status")
    ),
    Family("relay_passed", "Other requests passed on, by the status of the answer.", labels=("upstream", "status")),
    Family("relay_tokens", "Tokens that upstreams wrote."),
    Family("relay_streaming_seconds", "From the first content to the end, all completions together."),
    Family("runs_started", "Runs whose producer was started."),
    Family("runs_attached", "Starts that found a run of the same key: calls that the upstream was spared."),
    Family("runs_ended", "Runs by how they ended.", labels=("end",)),
    Family(
        "run_readers",
        "Streams of runs by how they began: new, resumed by a cursor, finished (nothing left), not_found.",
        labels=("kind",),
    ),
    Family("run_gaps", "Streams that reported a loss."),
    Family("runs_active", "Runs that are being produced.", "gauge"),
    Family("run_streams", "Open streams of runs.", "gauge"),
    Family("relay_tokens_per_second", "Tokens a second while one completion streams.", "gauge"),
    Family("relay_first_token_seconds", "From the request to the first content, not to the head.", "histogram"),
)


def create_relay(settings: RelaySettings, *, stats_folder: Path | None = None) -> Starlette:
    """Make the application of `newswire relay`.

    Args:
        settings: how it behaves.
        stats_folder: where several worker processes share their stats.
    """
    service = _Service(settings, stats_folder)
    rest = Mount("", app=service.relay)
    rest.path_regex = re.compile(rest.path_regex.pattern, re.DOTALL)  # line feeds in a path too
    app = Starlette(
        lifespan=service.lifespan,
        routes=[*service.routes(), rest],
        middleware=service.middleware(),
        exception_handlers=dict(HANDLERS),
    )
    app.state.service = service
    return app


class _Service(ServedApp):
    settings: RelaySettings
    families: ClassVar[tuple[Family, ...]] = FAMILIES
    # Clients of AI services send dozens of headers of their own, and read some of their upstreams'.
    grants = Grants(methods="GET, HEAD, POST, PUT, PATCH, DELETE", headers="*, Authorization", exposed="*", hide=True)

    def __init__(self, settings: RelaySettings, stats_folder: Path | None) -> None:
        # Runs are removed by `keep_for`; other channels are not the relay's.
        hub = Hub(settings.log, retention=KEEP_ALL)
        super().__init__(settings, hub, stats_folder)
        stream = StreamOptions(
            heartbeat=settings.heartbeat, heartbeat_padding=settings.heartbeat_padding, compress=settings.compress
        )
        self.runs = Runs(hub, worker=WorkerOptions(lease=settings.lease), stream=stream)
        self.relay = Relay(self.runs, settings.upstreams, options=settings.options)

    async def open(self) -> None:
        await self.runs.open()

    async def close(self, stopping: float) -> None:
        # What the connections took of the grace time is no time for completions.
        await self.runs.close(max(self.settings.grace - _LAST_STEPS - stopping, 0.0))
        await self.relay.close()

    def runs_counted(self) -> Runs:
        return self.runs

    def streams(self) -> int:
        return self.runs.reading

    def own(self) -> ServerStats:
        stats, runs, relay = self.stats, self.runs.stats, self.relay.stats
        count = stats.counters
        for name, answers in (("relay_calls", relay.calls), ("relay_passed", relay.passed)):
            for (upstream, status), times in answers.items():
                count[f"{name} {upstream or 'default'} {status}"] = times
        for end, times in runs.ended.items():
            count[f"runs_ended {end}"] = times
        for kind, times in {**runs.readers, "finished": runs.finished, "not_found": runs.not_found}.items():
            count[f"run_readers {kind}"] = times
        count.update(
            relay_tokens=relay.tokens,
            relay_streaming_seconds=relay.streaming_seconds,
            runs_started=runs.started,
            runs_attached=runs.attached,
            run_gaps=self.hub.stats().gaps,
        )
        stats.gauges.update(runs_active=self.runs.producing, run_streams=self.runs.reading)
        stats.histograms["relay_first_token_seconds"] = relay.first_content
        return stats

    def all(self) -> ServerStats:
        stats = super().all()
        seconds = stats.counters["relay_streaming_seconds"]
        stats.gauges["relay_tokens_per_second"] = stats.counters["relay_tokens"] / seconds if seconds else 0.0
        return stats
