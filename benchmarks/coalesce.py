"""Many small events in one write: what `coalesce` saves a server, beside the floor's one `send()` for each event."""

from __future__ import annotations

from typing import Final

from benchmarks.contenders import DIRECT, FLOOR, Contender
from benchmarks.measure import Window, fresh
from benchmarks.report import Say, Size, Table, median, spread, times

TITLE: Final = "Small events that travel together"
_WAITS: Final = (0.05, 0.25)


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about a minute and a half in full."""
    subscribers, rate = size.count(1000, 1000, 20), 200.0
    seconds, rounds = size.pick(4, 2, 0.3), size.count(3, 2, 1)
    waiting = [
        Contender(f"{DIRECT.name}, coalesce={wait:g}", DIRECT.command, {"BENCH_COALESCE": str(wait)}) for wait in _WAITS
    ]
    found: dict[str, list[Window]] = {}
    for number in range(rounds):
        for contender in (FLOOR, DIRECT, *waiting):  # in turns, so that the machine's moods reach everybody
            say(f"{subscribers:,} subscribers, {rate:g} events/s, round {number + 1} of {rounds}: {contender.name}")
            found.setdefault(contender.name, []).append(fresh(contender, subscribers, rate=rate, seconds=seconds))
    base = median(window.cpu_us for window in found[FLOOR.name])
    rows = []
    for name, windows in found.items():
        cost = median(window.cpu_us for window in windows)
        rows.append(
            [
                name,
                cost,
                times(cost, base),
                spread(window.cpu_us for window in windows),
                f"{100 * (median(window.busy for window in windows) or 0):.0f}%",
                median(window.per_read for window in windows),
                median(window.p50_ms for window in windows),
                median(window.p99_ms for window in windows),
                "yes" if all(window.complete for window in windows) else "no",
            ]
        )
    columns = ("server", "CPU µs/delivery", "x floor", "rounds", "busy", "events/read", "p50 ms", "p99 ms", "all came")
    return [Table(f"{subscribers:,} subscribers, {rate:g} events a second of 100 bytes", columns, rows)]
