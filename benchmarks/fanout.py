"""Fan-out: one channel, many subscribers, 100-byte events. What one delivery costs the server.

Three questions, three kinds of table. Against the floor: CPU for each delivery at a rate that leaves every contender
idle in between, so that none saves work by joining events. Beside peers: the same, at a rate that the slowest of
them can follow. Saturated: how many deliveries a second get through when more is published than anybody can send.
"""

from __future__ import annotations

from typing import Final

from benchmarks.contenders import ASGI, BARE, DIRECT, FASTAPI, FLOOR, SSE_STARLETTE, Contender
from benchmarks.measure import Window, fresh
from benchmarks.report import Cell, Say, Size, Table, median, spread, times

TITLE: Final = "Fan-out"
_COLUMNS: Final = (
    *("server", "CPU µs/delivery", "x floor", "rounds", "busy", "events/read"),
    *("p50 ms", "p99 ms", "deliveries"),
)


def run(size: Size, say: Say) -> list[Table]:
    """Measure; some four minutes in full."""
    many = size.count(1000, 1000, 20)
    most = 5000
    seconds = size.pick(3, 2, 0.3)
    rounds = size.count(3, 2, 1)
    fewer = size.count(2, 1, 1)
    if size is Size.SMOKE:  # everybody once
        everybody = (FLOOR, DIRECT, BARE, ASGI, SSE_STARLETTE, FASTAPI)
        return [
            _costs(everybody, many, 500, seconds, rounds, say),
            _saturated((FLOOR, DIRECT), many, 50, size, say),
        ]
    tables = [
        _costs((FLOOR, DIRECT, BARE, ASGI), many, 20, seconds, rounds, say),
        _costs((FLOOR, DIRECT, BARE, ASGI), most, 4, seconds, rounds, say),
        _costs((FLOOR, DIRECT, ASGI, SSE_STARLETTE, FASTAPI), many, 3, seconds, fewer, say),
        _costs((FLOOR, DIRECT, ASGI, SSE_STARLETTE), most, 1, seconds, fewer, say),
    ]
    tables.append(_saturated((FLOOR, DIRECT, ASGI, SSE_STARLETTE, FASTAPI), many, 1000, size, say))
    return tables


def _costs(
    contenders: tuple[Contender, ...], subscribers: int, rate: float, seconds: float, rounds: int, say: Say
) -> Table:
    found: dict[Contender, list[Window]] = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:  # in turns, so that the machine's moods reach everybody
            say(f"{subscribers:,} subscribers, {rate:g} events/s, round {number + 1} of {rounds}: {contender.name}")
            found[contender].append(fresh(contender, subscribers, rate=rate, seconds=seconds))
    base = median(window.cpu_us for window in found[FLOOR])
    return Table(
        f"{subscribers:,} subscribers, {rate:g} events a second of 100 bytes",
        _COLUMNS,
        [_row(contender, windows, base) for contender, windows in found.items()],
        _complaints(found),
    )


def _row(contender: Contender, windows: list[Window], base: float | None) -> list[Cell]:
    cost = median(window.cpu_us for window in windows)
    return [
        contender.name,
        cost,
        times(cost, base),
        spread(window.cpu_us for window in windows),
        f"{100 * (median(window.busy for window in windows) or 0):.0f}%",
        median(window.per_read for window in windows),
        median(window.p50_ms for window in windows),
        median(window.p99_ms for window in windows),
        sum(window.deliveries for window in windows),
    ]


def _complaints(found: dict[Contender, list[Window]]) -> list[str]:
    notes = []
    for contender, windows in found.items():
        if not all(window.complete for window in windows):
            notes.append(f"{contender.name}: not every client got every event in time.")
        if max(window.busy for window in windows) > 0.9:
            notes.append(f"{contender.name}: its core was full, so its latencies are those of a backlog.")
    return notes


def _saturated(contenders: tuple[Contender, ...], subscribers: int, rate: float, size: Size, say: Say) -> Table:
    found: dict[Contender, list[Window]] = {contender: [] for contender in contenders}
    rounds, seconds = size.count(2, 1, 1), size.pick(2, 1, 0.3)
    for number in range(rounds):
        for contender in contenders:
            say(f"{subscribers:,} subscribers, saturated, round {number + 1} of {rounds}: {contender.name}")
            found[contender].append(fresh(contender, subscribers, rate=rate, seconds=seconds, patience=1.0))
    base = median(window.per_second for window in found[FLOOR])
    rows: list[list[Cell]] = []
    for contender, windows in found.items():
        speed = median(window.per_second for window in windows)
        rows.append(
            [
                contender.name,
                round(speed or 0),
                times(speed, base),
                median(window.cpu_us for window in windows),
                median(window.per_read for window in windows),
                f"{100 * min(1.0, median(w.deliveries / (subscribers * rate * seconds) for w in windows) or 0):.0f}%",
            ]
        )
    return Table(
        f"Saturated: {subscribers:,} subscribers, {rate:g} events a second of 100 bytes for {seconds:g} s",
        ("server", "deliveries/s", "x floor", "CPU µs/delivery", "events/read", "arrived in time"),
        rows,
        ("Counted until one second after the last publish was due. newswire joins what is ready.",),
    )
