"""Runs: a thousand answers at once, token by token, one reader each: what does outliving the request cost?

The measure is the same generator through Starlette's StreamingResponse on uvicorn, where an answer ends with its
connection. A run stores each token, on its log's terms, before its reader gets it.
"""

from __future__ import annotations

import tempfile
from typing import Final

from benchmarks.contenders import uvicorn
from benchmarks.measure import Window, subscribed, window
from benchmarks.processes import loading, python, serving
from benchmarks.publish import syncs_per_second
from benchmarks.report import Cell, Say, Size, Table, median, spread, times

TITLE: Final = "Runs"
_BARE: Final = "a generator through StreamingResponse, uvicorn"
_MEMORY: Final = "memory://?max_bytes=1000000000"
_SQLITE: Final = "sqlite:///{folder}/log.db"
_PLAIN: Final = uvicorn("runs_app", "httptools")
# `newswire run` is uvicorn with the direct path, and a collector that leaves streams alone.
_OURS: Final = python("newswire.cli.main", "run", "benchmarks.servers.runs_app:app", "--port", "{port}")
# Name, path, server, log.
_CASES: Final = (
    (_BARE, "/bare/%d", _PLAIN, _MEMORY),
    ("the same under newswire run", "/bare/%d", lambda: _OURS, _MEMORY),
    ("run, memory log", "/runs/%d", lambda: _OURS, _MEMORY),
    ("run, SQLite log, synchronous=FULL", "/runs/%d", lambda: _OURS, _SQLITE),
    ("run, memory log, uvicorn's ASGI path", "/runs/%d", _PLAIN, _MEMORY),
)


def run(size: Size, say: Say) -> list[Table]:
    """Measure; some two minutes in full."""
    count = size.count(1000, 1000, 20)
    tokens = size.count(200, 200, 5)
    rate = size.pick(10.0, 10.0, 20.0)
    rounds = size.count(3, 1, 1)
    found: dict[str, list[Window]] = {name: [] for name, *_ in _CASES}
    for number in range(rounds):
        for name, path, server, log in _CASES:
            say(f"{count:,} answers, round {number + 1} of {rounds}: {name}")
            found[name].append(_measure(path, server(), log, count, tokens, rate))
    with tempfile.TemporaryDirectory(prefix="newswire-") as folder:
        syncs = syncs_per_second(folder)
    base = median(each.cpu_us for each in found[_BARE])
    slowest = median(each.p99_ms for each in found[_BARE])
    return [
        Table(
            f"{count:,} answers at once of {tokens} tokens, {rate:g} tokens a second each, one reader each",
            ("server", "CPU µs/token", "x bare", "rounds", "busy", "p50 ms", "p99 ms", "x bare", "complete"),
            [_row(name, windows, base, slowest) for name, windows in found.items()],
            (
                "Latency is from the token to the client's read; a run's token is stored in between.",
                f"A bare 4 KB append and fdatasync takes {1000 / syncs:.2f} ms here: with FULL a token waits for one "
                "at least, and for the one that was under way when it came.",
            ),
        )
    ]


def _measure(path: str, command: list[str], log: str, count: int, tokens: int, rate: float) -> Window:
    with tempfile.TemporaryDirectory(prefix="newswire-") as folder:
        env = {"BENCH_LOG": log.replace("{folder}", folder)}
        with serving(command, env) as server, loading(server, count, path=path) as load:
            subscribed(server, load)
            return window(server, load, rate=rate, events=tokens)


def _row(name: str, windows: list[Window], base: float | None, slowest: float | None) -> list[Cell]:
    cost = median(each.cpu_us for each in windows)
    p99 = median(each.p99_ms for each in windows)
    return [
        name,
        cost,
        times(cost, base),
        spread(each.cpu_us for each in windows),
        f"{100 * (median(each.busy for each in windows) or 0):.0f}%",
        median(each.p50_ms for each in windows),
        p99,
        times(p99, slowest),
        "yes" if all(each.complete for each in windows) else "no",
    ]
