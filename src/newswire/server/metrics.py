"""`/metrics`: the server's numbers in Prometheus' text format, all workers together.

Channels are not labels: there may be millions. The console shows those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newswire.errors import LogError
from newswire.server.service import Service, service_of
from newswire.serving.workers import BUCKETS, Numbers

_COUNTERS: Final = {
    "published": "Events stored for publish requests.",
    "delivered": "Events given to streams, counted once for each.",
    "gaps": "Gap events sent: streams that were told of a loss.",
    "pages_read": "Pages read from the log for streams behind the window.",
    "refused": "Streams refused because the server had as many as it may.",
}
_GAUGES: Final = {
    "subscribers": "Open streams.",
    "stalled": "Open streams whose client takes nothing now.",
    "window_events": "Events that the windows hold in memory.",
    "window_bytes": "Memory that the windows hold, in bytes, roughly.",
    "workers": "Processes that serve.",
}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


async def metrics(request: Request) -> Response:
    """Answer a scrape."""
    service = service_of(request)
    registry = CollectorRegistry(auto_describe=False)
    try:
        latest = (await service.hub.log.span()).latest
    except LogError:
        latest = None  # the rest counts all the more while the log is away
    registry.register(_Numbers(service.all(), latest))
    return Response(
        generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"}
    )


class _Numbers(Collector):
    """`Numbers` as Prometheus' metrics."""

    def __init__(self, numbers: Numbers, latest: int | None) -> None:
        self._numbers = numbers
        self._latest = latest

    def collect(self) -> Iterable[Metric]:
        numbers = self._numbers
        for name, help in _COUNTERS.items():
            yield CounterMetricFamily(f"newswire_{name}", help, numbers.counters[name])
        for name, help in _GAUGES.items():
            yield GaugeMetricFamily(f"newswire_{name}", help, numbers.gauges[name])
        if self._latest is not None:
            yield GaugeMetricFamily("newswire_log_offset", "The offset of the log's newest event.", self._latest)
        requests = CounterMetricFamily(
            "newswire_http_requests", "Answers, by route, method and status.", labels=("route", "method", "status")
        )
        for key, count in sorted(numbers.requests.items()):
            requests.add_metric(key.split(" "), count)
        yield requests
        yield HistogramMetricFamily(
            "newswire_publish_seconds",
            "Publish requests, from their head to the answer, stored.",
            buckets=list(_cumulative(numbers.publish_buckets)),
            sum_value=numbers.publish_seconds,
        )


def _cumulative(counts: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*(f"{bound:g}" for bound in BUCKETS), "+Inf"), counts, strict=True):
        total += count
        yield bound, total


class CountRequests:
    """Counts answers by route, method and status. Messages pass through as they are, so streams go their direct way."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self._counts: Counter[str] = service.numbers.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.count(scope, message["status"])
            await send(message)

        await self.app(scope, receive, counted)

    def count(self, scope: Scope, status: int) -> None:
        """Count one answer."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._counts[f"{route} {method} {status}"] += 1


class Counted:
    """A `send` that counts, and can be looked through."""

    __slots__ = ("_count", "_scope", "send")

    def __init__(self, send: Send, scope: Scope, count: Callable[[Scope, int], None]) -> None:
        self.send = send
        self._scope = scope
        self._count = count

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._count(self._scope, message["status"])
        await self.send(message)
