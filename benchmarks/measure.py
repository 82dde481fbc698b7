"""One window of deliveries, measured: what the server's CPU did, and what its clients saw. Used by most benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.contenders import Contender
from benchmarks.processes import Failed, Load, Server, loading, serving

# So many more seconds may an overloaded server take for what was published.
_PATIENCE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Window:
    """What one window showed.

    Attributes:
        deliveries: events that clients got.
        complete: whether every client got every event, once.
        cpu_us: server CPU for each delivery, in microseconds.
        busy: the share of its core that the server used.
        per_second: deliveries a second, from the first publish to the last delivery.
        per_read: events that came in one read of a client: above 1 the server (or the kernel) joined some.
        p50_ms, p99_ms: from publish to the client's read.
        rss: the server's resident bytes afterwards.
        seconds: from the first publish to the last delivery.
        wire_bytes: what clients read for each delivery, with chunked coding.
    """

    deliveries: int
    complete: bool
    cpu_us: float
    busy: float
    per_second: float
    per_read: float
    p50_ms: float
    p99_ms: float
    rss: int
    seconds: float
    wire_bytes: float


def subscribed(server: Server, load: Load) -> float:
    """Wait until all of `load` are subscribed. Returns the seconds until the last response's head."""
    seconds = load.ready()
    server.until(f"{load.count} subscribers", lambda stats: stats["subscribers"] >= load.count)
    return seconds


def window(
    server: Server,
    load: Load,
    *,
    rate: float,
    events: int,
    size: int = 100,
    readers: int | None = None,
    expected: int | None = None,
    query: str = "",
    patience: float = _PATIENCE,
) -> Window:
    """Publish `events` of `size` bytes at `rate` a second, and wait for them.

    Args:
        readers: clients that read; all by default.
        expected: deliveries to wait for; by default every event to every reader.
        query: more of `/start`'s parameters.
        patience: seconds to wait beyond the schedule; what has not come then is not counted.

    Raises:
        Failed: nothing was delivered, or publishing failed.
    """
    readers = load.count if readers is None else readers
    expected = events * readers if expected is None else expected
    load.reset()
    server.get(f"/start?rate={rate}&events={events}&size={size}{query}")
    cpu = server.cpu()
    counts = load.wait(expected, events / rate + patience)
    cpu = server.cpu() - cpu
    if not counts["events"]:
        raise server.failed("delivered nothing")
    stats: Mapping[str, Any] = server.get("/stats")
    if stats.get("failed"):
        raise server.failed(f"publishing failed: {stats['failed']}")
    seconds = counts["seconds"]
    return Window(
        deliveries=counts["events"],
        complete=counts["events"] == expected and (expected != events * readers or counts["fewest"] == counts["most"]),
        cpu_us=cpu / counts["events"] * 1e6,
        busy=cpu / seconds,
        per_second=counts["events"] / seconds,
        per_read=counts["events"] / counts["reads"],
        p50_ms=counts["p50_us"] / 1e3,
        p99_ms=counts["p99_us"] / 1e3,
        rss=server.rss(),
        seconds=seconds,
        wire_bytes=counts["bytes"] / counts["events"],
    )


def fresh(
    contender: Contender, subscribers: int, *, rate: float, seconds: float, patience: float = _PATIENCE
) -> Window:
    """Start a contender, subscribe, warm up, and measure one window on a single channel."""
    with serving(contender.command(), contender.environment) as server, loading(server, subscribers) as load:
        subscribed(server, load)
        window(server, load, rate=max(rate, 4.0), events=4)
        return window(server, load, rate=rate, events=max(2, round(rate * seconds)), patience=patience)


__all__ = ["Failed", "Window", "fresh", "subscribed", "window"]
