"""`/metrics` of a relay: its runs and its upstreams in Prometheus' text format, all workers together.

Runs, models and keys are not labels: there may be millions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from newswire.relay import Relay
from newswire.relay.stats import BUCKETS
from newswire.runs import Runs
from newswire.serving.workers import Numbers

# By name: the help, and the labels.
_COUNTERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "relay_calls": ("Completions asked of an upstream, by the status of its answer.", ("upstream", "status")),
    "relay_passed": ("Other requests passed on, by the status of the answer.", ("upstream", "status")),
    "relay_tokens": ("Tokens that upstreams wrote.", ()),
    "relay_streaming_seconds": ("From the first content to the end, all completions together.", ()),
    "runs_started": ("Runs whose producer was started.", ()),
    "runs_attached": ("Starts that found a run of the same key: calls that the upstream was spared.", ()),
    "runs_ended": ("Runs by how they ended.", ("end",)),
    "run_readers": (
        "Streams of runs by how they began: new, resumed by a cursor, finished (nothing left), not_found.",
        ("kind",),
    ),
    "run_gaps": ("Streams that were told of a loss.", ()),
}
_GAUGES: Final = {
    "runs_active": "Runs that are being produced.",
    "run_streams": "Open streams of runs.",
    "workers": "Processes that serve.",
}
_FIRST: Final = "first_bucket"


def numbers_of(runs: Runs, relay: Relay) -> Numbers:
    """What this process has done."""
    numbers = Numbers()
    stats, relayed, hub = runs.stats, relay.stats, runs.hub.stats()
    count = numbers.counters
    for name, calls in (("relay_calls", relayed.calls), ("relay_passed", relayed.passed)):
        for (upstream, status), times in calls.items():
            count[f"{name} {upstream or 'default'} {status}"] = times
    count["relay_tokens"] = relayed.tokens
    # A counter of `Numbers` may be a float as well as an int; its type says what most are.
    count["relay_streaming_seconds"] = relayed.streaming_seconds  # type: ignore[assignment]
    count["first_seconds"] = relayed.first_seconds  # type: ignore[assignment]
    for number, times in enumerate(relayed.first):
        count[f"{_FIRST} {number}"] = times
    count["runs_started"] = stats.started
    count["runs_attached"] = stats.attached
    for end, times in stats.ended.items():
        count[f"runs_ended {end}"] = times
    kinds = {**stats.readers, "finished": stats.finished, "not_found": stats.not_found}
    for kind, times in kinds.items():
        count[f"run_readers {kind}"] = times
    count["run_gaps"] = hub.gaps
    numbers.gauges.update(runs_active=runs.producing, run_streams=runs.reading, workers=1)
    return numbers


def render(numbers: Numbers) -> Response:
    """The answer to a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(numbers))
    headers = {"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"}
    return Response(generate_latest(registry), headers=headers)


class _Collected(Collector):
    """`Numbers` as Prometheus' metrics."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterable[Metric]:
        counters = self._numbers.counters
        for name, (help, labels) in _COUNTERS.items():
            family = CounterMetricFamily(f"newswire_{name}", help, labels=labels)
            for key in sorted(counters):
                found, *values = key.split(" ")
                if found == name:
                    family.add_metric(values, counters[key])
            yield family
        for name, help in _GAUGES.items():
            yield GaugeMetricFamily(f"newswire_{name}", help, self._numbers.gauges[name])
        seconds = counters["relay_streaming_seconds"]
        speed = counters["relay_tokens"] / seconds if seconds else 0.0
        yield GaugeMetricFamily(
            "newswire_relay_tokens_per_second", "Tokens a second while one completion streams.", speed
        )
        yield HistogramMetricFamily(
            "newswire_relay_first_token_seconds",
            "From the request to the first content, not to the head.",
            buckets=list(self._buckets()),
            sum_value=counters["first_seconds"],
        )

    def _buckets(self) -> Iterator[tuple[str, float]]:
        total = 0
        for number, bound in enumerate((*(f"{bound:g}" for bound in BUCKETS), "+Inf")):
            total += self._numbers.counters[f"{_FIRST} {number}"]
            yield bound, total
