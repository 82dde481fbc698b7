"""`instrument`: gives a hub its tracer and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
from opentelemetry.trace import TracerProvider

from newswire.hub.hub import Hub
from newswire.hub.stats import HubStats
from newswire.otel.tracer import Tracer
from newswire.validate import check_kind

_NAME: Final = "newswire"


class SupportsRunStats(Protocol):
    """What has the numbers of runs: `newswire.runs.Runs`."""

    @property
    def stats(self) -> Any: ...

    @property
    def producing(self) -> int: ...


def observe(hub: Hub[Any], runs: SupportsRunStats | None, provider: MeterProvider | None) -> None:
    """Offer the numbers."""
    meter = get_meter(_NAME, meter_provider=provider)

    def of(read: Callable[[HubStats], float | Mapping[str, float]], label: str = "") -> Any:
        def call(options: CallbackOptions) -> Iterable[Observation]:
            try:
                found = read(hub.stats())
            except RuntimeError:  # the event loop has added a label in this moment, in another thread: next time
                return []
            if isinstance(found, Mapping):
                return [Observation(number, {label: value}) for value, number in found.items()]
            return [Observation(found)]

        return [call]

    gauge, counter = meter.create_observable_up_down_counter, meter.create_observable_counter
    gauge("newswire.streams", of(lambda now: now.streams), "{stream}", "Open streams.")
    gauge("newswire.streams.stalled", of(lambda now: now.stalled), "{stream}", "Streams whose client takes nothing.")
    gauge("newswire.log.lag", of(lambda now: now.lag), "{event}", "Events of the log that have not come here.")
    gauge("newswire.log.up", of(lambda now: int(now.log != "down")), "1", "Whether the log can be used.")
    counter("newswire.delivered", of(lambda now: now.delivered), "{event}", "Events given to subscribers.")
    counter("newswire.replayed", of(lambda now: now.replayed), "{event}", "Those given while they caught up.")
    counter("newswire.stream.io", of(lambda now: now.stream_bytes), "By", "Bytes of event streams, uncompressed.")
    counter("newswire.stream.compressed.from", of(lambda now: now.compressed_from), "By", "Before compression.")
    counter("newswire.stream.compressed.to", of(lambda now: now.compressed_to), "By", "After compression.")
    counter("newswire.heartbeats", of(lambda now: now.heartbeats), "{comment}", "Comments sent to silent streams.")
    counter("newswire.gaps", of(lambda now: now.gap_reasons, "reason"), "{event}", "Gap events, by reason.")
    counter("newswire.resumes", of(lambda now: now.resumes, "kind"), "{stream}", "Streams by where they began.")
    counter("newswire.stream.ends", of(lambda now: now.ends, "reason"), "{stream}", "Streams by how they ended.")
    gauge("newswire.presence.members", of(lambda now: now.members), "{member}", "Members with a stream here.")
    gauge("newswire.presence.visitors", of(lambda now: now.visitors), "{stream}", "Visitors with a stream here.")
    counter("newswire.presence.changes", of(lambda now: now.presence_changes, "change"), "{change}", "By their kind.")
    counter("newswire.log.outages", of(lambda now: now.outages), "{outage}", "Times that the log could not be used.")
    for name, what in (("append", "store batches"), ("read", "read pages")):
        counter(
            f"newswire.log.{name}.time",
            of(lambda now, name=name: getattr(now, name).seconds),  # type: ignore[misc]
            "s",
            f"How long the log took to {what}, all together.",
        )
        counter(
            f"newswire.log.{name}.count",
            of(lambda now, name=name: sum(getattr(now, name).counts)),  # type: ignore[misc]
            "{call}",
            f"How often it was used to {what}.",
        )
    if runs is not None:
        counter("newswire.runs.started", of(lambda now: runs.stats.started), "{run}", "Runs that were started.")
        counter("newswire.runs.ended", of(lambda now: dict(runs.stats.ended), "end"), "{run}", "Runs by their end.")
        gauge("newswire.runs.active", of(lambda now: runs.producing), "{run}", "Runs that are being produced.")


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
        TypeError: `hub` is none.
    """
    check_kind("hub", hub, Hub)
    if hub.tracer is not None:
        raise ValueError("this hub is instrumented already: call instrument(hub) once")
    hub.tracer = Tracer(hub, tracer_provider)
    observe(hub, runs, meter_provider)
