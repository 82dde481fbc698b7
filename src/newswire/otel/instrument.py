"""`instrument`: gives a hub its tracer and its metrics."""

from __future__ import annotations

from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from newswire.hub.hub import Hub
from newswire.otel.meter import SupportsRunStats, observe
from newswire.otel.tracer import Tracer


def instrument(
    hub: Hub[Any],
    *,
    runs: SupportsRunStats | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Trace a hub's publishes and streams, and offer its numbers as metrics. Call it once, before the hub is used.

    Each stream has one span, from its beginning to its end. Each publish has one. A stream's span has links to the
    publishes of what it was given, also from other processes, if both are sampled. Deliveries have no spans.

    Args:
        hub: the hub.
        runs: a `Runs` of the hub, whose numbers are metrics too.
        tracer_provider, meter_provider: where spans and metrics go; None: OpenTelemetry's global ones.

    Raises:
        ValueError: the hub has a tracer already.
    """
    if hub.tracer is not None:
        raise ValueError("this hub is instrumented already: call instrument(hub) once")
    hub.tracer = Tracer(hub, tracer_provider)
    observe(hub, runs, meter_provider)
