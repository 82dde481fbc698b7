"""Channels with a state: many keys, many readers, some of which take a kilobyte a second.

What do slow readers cost the others, and how old is what they get? The same load with and without them, in turns. And
what does one of them hold in memory, beyond what a reader holds that keeps up?
"""

from __future__ import annotations

import asyncio
import json
import select
from typing import Final

from tests.fixtures.slow_readers import cost_of_one

from benchmarks.contenders import DIRECT
from benchmarks.measure import Window, subscribed, window
from benchmarks.processes import Failed, Process, cores, loading, python, serving
from benchmarks.report import Cell, Say, Size, Table, median, spread, times

TITLE: Final = "State: the newest of each key"
_RATE: Final = 1000  # bytes a second that a slow reader takes
_COLUMNS: Final = (
    *("case", "p50 ms", "p99 ms", "p99, rounds", "x without", "CPU µs/delivery", "RSS growth MB"),
    *("slow ones read", "of it stale", "worst, s", "allowed, s"),
)


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about two minutes in full."""
    keys, readers, slow = size.count(10_000, 10_000, 50), size.count(900, 900, 20), size.count(100, 100, 3)
    rate, seconds, rounds = 20.0, size.pick(20, 8, 0.5), size.count(3, 2, 1)
    found: dict[int, list[tuple[Window, dict[str, float], float]]] = {0: [], slow: []}
    for number in range(rounds):
        for count in found:
            say(f"round {number + 1} of {rounds}: {readers:,} fast readers, {count} slow")
            found[count].append(_measure(keys, readers, count, rate, seconds))
    base = median(one.p99_ms for one, _, _ in found[0])
    rows: list[list[Cell]] = []
    for count, results in found.items():
        p99 = median(one.p99_ms for one, _, _ in results)
        saw = [each for _, each, _ in results if each]
        rows.append(
            [
                f"{readers:,} fast readers" + (f", {count} that take {_RATE // 1000} KB/s" if count else ""),
                median(one.p50_ms for one, _, _ in results),
                p99,
                spread(one.p99_ms for one, _, _ in results),
                times(p99, base),
                median(one.cpu_us for one, _, _ in results),
                median(growth for _, _, growth in results),
                sum(int(each["events"]) for each in saw) if saw else None,
                f"{100 * sum(each['stale'] for each in saw) / max(1, sum(each['events'] for each in saw)):.1f}%"
                if saw
                else None,
                max(each["worst"] for each in saw) if saw else None,
                max(each["allowed"] for each in saw) if saw else None,
            ]
        )
    notes = (
        "The goal: the p99 of the fast readers is at most 1.10x of theirs without the slow ones.",
        "An event is stale if a newer one of its key was published before it was read; the worst is by how long. Its "
        f"bandwidth allows what its connection holds, the bytes in both sockets' buffers, at {_RATE:,} a second.",
    )
    title = f"{keys:,} keys, {rate:g} events a second of 200 of them"
    return [Table(title, _COLUMNS, rows, notes), _memory(200 if size is Size.SMOKE else 3_000, say)]


def _memory(events: int, say: Say) -> Table:
    say("what a slow reader holds")
    rows: list[list[Cell]] = []
    whole: dict[bool, float] = {}
    for slow in (False, True):
        begun, more = asyncio.run(cost_of_one(slow=slow, events=events))
        whole[slow] = begun + more
        beyond = round(whole[True] - whole[False]) if slow else None
        rows.append(["takes nothing more" if slow else "keeps up", round(begun), round(more), beyond])
    columns = ("a reader that", "bytes when it begins", f"more after {events:,} events", "beyond one that keeps up")
    note = (
        "What Python holds for one more reader, by tracemalloc: its subscription and its cursor. The goal: 1,000 bytes."
    )
    return Table("Memory of one more reader", columns, rows, (note,))


def _measure(keys: int, readers: int, slow: int, rate: float, seconds: float) -> tuple[Window, dict[str, float], float]:
    environment = {"BENCH_KEYS": str(keys), "BENCH_WRITE_TIMEOUT": "none"}
    with serving(DIRECT.command(), environment) as server:
        server.get(f"/start?rate=1000000&events={keys}&size=100")
        server.until("all keys", lambda stats: stats["published"] >= keys)
        with loading(server, readers, path="/state") as load:
            subscribed(server, load)
            load.wait(keys * readers, 60)  # everybody has the state
            before = server.rss()
            clients = _slow(server.port, slow) if slow else None
            try:
                one = window(server, load, rate=rate, events=max(4, round(rate * seconds)), readers=readers)
                growth = (server.rss() - before) / 1e6
                return one, _end(clients) if clients else {}, growth
            finally:
                if clients is not None:
                    clients.stop()


def _slow(port: int, count: int) -> Process:
    clients = Process(python("benchmarks.slow_clients", str(port), str(count), str(_RATE)), core=cores()[1])
    assert clients.popen.stdout is not None
    if not select.select([clients.popen.stdout], [], [], 60)[0] or clients.popen.stdout.readline() != b"ready\n":
        raise Failed("the slow clients did not start")
    return clients


def _end(clients: Process) -> dict[str, float]:
    assert clients.popen.stdin is not None
    assert clients.popen.stdout is not None
    clients.popen.stdin.close()
    found: dict[str, float] = json.loads(clients.popen.stdout.readline())
    return found
