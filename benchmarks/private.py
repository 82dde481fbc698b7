"""Private channels: every subscriber has a channel of its own and one that all share.

Two mixes, because "90% private" can be read in two ways: of the events that are published (then nearly all deliveries
are of the common ones), and of the events that a subscriber gets (then each delivery has its own publish, which is
most of its cost). Both beside the figure for a single channel, in the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.contenders import DIRECT
from benchmarks.measure import Window, fresh, subscribed, window
from benchmarks.processes import loading, serving
from benchmarks.report import Cell, Say, Size, Table, median, spread, times

TITLE: Final = "Private channels"


@dataclass(frozen=True, slots=True)
class _Mix:
    name: str
    common_every: int
    rate: float
    batch: int
    events: int

    def deliveries(self, subscribers: int) -> int:
        common = self.events // self.common_every
        return common * subscribers + (self.events - common)


def _mixes(subscribers: int, seconds: float) -> list[_Mix]:
    # About 15,000 deliveries a second at any number of subscribers.
    published = 10 * 15_000 / subscribers
    received = 10 * subscribers
    events = -(-round(15_000 * seconds / 2) // received) * received
    return [
        _Mix("90% of published events private", 10, published, 1, max(10, round(published * seconds) // 10 * 10)),
        _Mix("90% of received events private", 1 + 9 * subscribers, 7_500, 50, events),
    ]


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about a minute in full."""
    numbers = {Size.FULL: (500, 5000), Size.QUICK: (500, 5000), Size.SMOKE: (10,)}[size]
    rounds, seconds = size.count(2, 1, 1), size.pick(3, 2, 0.2)
    rows: list[list[Cell]] = []
    for subscribers in numbers:
        found: dict[str, list[Window]] = {}
        for number in range(rounds):
            say(f"{subscribers:,} subscribers, round {number + 1} of {rounds}")
            single = fresh(DIRECT, subscribers, rate=15_000 / subscribers, seconds=seconds)
            found.setdefault("one channel", []).append(single)
            for mix in _mixes(subscribers, seconds):
                found.setdefault(mix.name, []).append(_window(subscribers, mix))
        base = median(one.cpu_us for one in found["one channel"])
        for name, windows in found.items():
            cost = median(one.cpu_us for one in windows)
            rows.append(
                [
                    f"{subscribers:,}: {name}",
                    cost,
                    times(cost, base),
                    spread(one.cpu_us for one in windows),
                    median(one.per_read for one in windows),
                    median(one.p99_ms for one in windows),
                    "yes" if all(one.complete for one in windows) else "no",
                ]
            )
    columns = ("subscribers", "CPU µs/delivery", "x one channel", "rounds", "events/read", "p99 ms", "complete")
    note = "The last mix publishes in batches of 50 (`publish_many`); its cost includes one publish for 0.9 deliveries."
    return [Table("Direct path, about 15,000 deliveries a second of 100 bytes", columns, rows, (note,))]


def _window(subscribers: int, mix: _Mix) -> Window:
    environment = {"BENCH_USERS": str(subscribers), "BENCH_COMMON_EVERY": str(mix.common_every)}
    with (
        serving(DIRECT.command(), environment) as server,
        loading(server, subscribers, path="/events/%d") as load,
    ):
        subscribed(server, load)
        return window(
            server,
            load,
            rate=mix.rate,
            events=mix.events,
            expected=mix.deliveries(subscribers),
            query=f"&batch={mix.batch}",
        )
