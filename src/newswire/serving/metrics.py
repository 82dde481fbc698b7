"""Stats in Prometheus' text format. Each served application declares its own metrics as `Family` objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from newswire.log.histogram import Histogram
from newswire.serving.stats import ServerStats


@dataclass(frozen=True, slots=True)
class Family:
    """A metric.

    Attributes:
        name: without the prefix `newswire_`; the same in `ServerStats`.
        help: what it counts.
        kind: a gauge that nothing has set is left out.
        labels: names of the labels of a counter.
        values: of its one label, those that there are from the start, at 0: a rate needs to see the first step.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"] = "counter"
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[str, ...]:
        """The names that its samples have in Prometheus."""
        name = f"newswire_{self.name}"
        if self.kind == "histogram":
            return f"{name}_bucket", f"{name}_count", f"{name}_sum"
        return (f"{name}_total" if self.kind == "counter" else name,)


def render(families: Iterable[Family], stats: ServerStats) -> Response:
    """The answer to a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families, stats))
    headers = {"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"}
    return Response(generate_latest(registry), headers=headers)


class _Collector(Collector):
    def __init__(self, families: Iterable[Family], stats: ServerStats) -> None:
        self._families = families
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats
        for family in self._families:
            name = f"newswire_{family.name}"
            if family.kind == "histogram":
                histogram = stats.histograms.get(family.name) or Histogram(())
                bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
                buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
                yield HistogramMetricFamily(name, family.help, buckets=buckets, sum_value=histogram.seconds)
            elif family.kind == "counter":
                counter = CounterMetricFamily(name, family.help, labels=family.labels)
                known = {f"{family.name} {value}" for value in family.values}
                for key in sorted(known | stats.counters.keys()) if family.labels else (family.name,):
                    found, *values = key.split(" ")
                    if found == family.name:
                        counter.add_metric(values, stats.counters[key])
                yield counter
            elif family.name in stats.gauges:
                yield GaugeMetricFamily(name, family.help, stats.gauges[family.name])
