"""Reconnect storms: how clients come back to a server that was away, with jitter and without. A simulation with a seed.

All clients lose their streams at one moment. While the server is away it refuses them; when it is back it takes so many
connections a second, keeps some waiting, and refuses what is beyond. Each client follows one rule for its next attempt.
newswire's rules are its own code: `newswire.client.backoff` and `newswire.wire.reserved`. No time passes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.report import Cell, Say, Size, Table
from benchmarks.svg import chart
from newswire.client.backoff import Backoff
from newswire.wire import reserved

TITLE: Final = "Reconnect storms"
IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"

# The delay before an attempt: of so many failures, with a random number from 0 to 1.
Rule: TypeAlias = Callable[[int, float], float]

_RETRY: Final = 1.0  # seconds: what the server said in `retry:`
_BIN: Final = 0.25  # seconds
_BACKOFF: Final = Backoff()


@dataclass(frozen=True, slots=True)
class Storm:
    """What happens.

    Attributes:
        clients: how many.
        away: seconds until the server is back.
        rate: connections that it takes a second.
        backlog: connections that may wait for that; the kernel refuses more.
        patience: seconds that a client waits for its answer.
        planned: the server ends its streams itself, and is back at once: a rolling restart.
    """

    clients: int = 10_000
    away: float = 5.0
    rate: float = 2_000.0
    backlog: int = 2_048
    patience: float = 10.0
    planned: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """How a storm went.

    Attributes:
        attempts: by quarter of a second.
        connected: the share of clients that is back, after each quarter of a second.
        refused: attempts in vain after the server was back.
        longest: the most that waited at the server at once.
        half, nearly_all, all: seconds until so many were back, from the moment when the server was.
    """

    attempts: list[int]
    connected: list[float]
    refused: int
    longest: int
    half: float
    nearly_all: float
    all: float


def _fixed(failures: int, chance: float) -> float:
    return _RETRY


def _doubling(failures: int, chance: float) -> float:
    return _RETRY + min(30.0, 2.0 ** (failures - 1)) if failures else _RETRY


def _client(failures: int, chance: float) -> float:
    return _BACKOFF.delay(failures, retry=_RETRY, chance=chance)


RULES: Final[Mapping[str, Rule]] = {
    "each second": _fixed,
    "doubling, no jitter": _doubling,
    "newswire's client": _client,
}


def storm(rule: Rule, what: Storm, seed: int = 1) -> Course:
    """Let a storm pass."""
    chance = random.Random(seed)
    back = 0.0 if what.planned else what.away
    # A client notices that its stream has ended within 50 ms.
    due = [(chance.uniform(0, 0.05) + rule(0, chance.random()), client) for client in range(what.clients)]
    heapq.heapify(due)
    failures = [0] * what.clients
    attempts: list[int] = []
    done: list[float] = []  # when each was back
    free = back  # when the server has served all that wait
    refused = longest = 0
    while due:
        now, client = heapq.heappop(due)
        while len(attempts) <= now / _BIN:
            attempts.append(0)
        attempts[int(now / _BIN)] += 1
        waiting = max(0.0, free - now) * what.rate
        if now >= back and waiting < what.backlog and waiting / what.rate < what.patience:
            free = max(free, now) + 1 / what.rate
            longest = max(longest, round(waiting) + 1)
            done.append(free)
            continue
        refused += now >= back
        failures[client] += 1
        heapq.heappush(due, (now + rule(failures[client], chance.random()), client))
    done.sort()
    count = len(done)
    bins = int(done[-1] / _BIN) + 2
    connected = [0] * bins
    for moment in done:
        connected[int(moment / _BIN) + 1] += 1
    share, shares = 0, []
    for number in connected:
        share += number
        shares.append(share / count)
    attempts += [0] * (bins - len(attempts))
    half, nearly_all, all_ = (done[min(int(part * count), count - 1)] - back for part in (0.5, 0.99, 1))
    return Course(attempts, shares, refused, longest, half, nearly_all, all_)


def planned(jitter: bool) -> Rule:
    """The first delay is the one that the goodbye named; after that newswire's client goes on as ever."""

    def rule(failures: int, chance: float) -> float:
        if failures:
            return _client(failures, chance)
        return reserved.DEFAULT_RETRY / 1000 * (0.5 + chance) if jitter else reserved.DEFAULT_RETRY / 1000

    return rule


@cache
def courses(size: Size) -> dict[str, dict[str, Course]]:
    """All storms, by what happens and by the clients' rule."""
    clients = size.count(10_000, 10_000, 300)
    crash = Storm(clients, backlog=clients // 5, rate=clients / 5)
    rolling = Storm(clients, backlog=clients // 5, rate=clients / 5, planned=True)
    return {
        "A crash: the server is away for 5 s": {name: storm(rule, crash) for name, rule in RULES.items()},
        "A planned restart: each stream gets a goodbye": {
            "all after 3 s": storm(planned(False), rolling),
            "newswire's goodbye": storm(planned(True), rolling),
        },
    }


def run(size: Size, say: Say) -> list[Table]:
    """Simulate; some seconds."""
    columns = ("rule", "most attempts/s", "refused when back", "most waiting", "half back, s", "99% back, s", "all, s")
    tables = []
    for title, found in courses(size).items():
        rows: list[list[Cell]] = [
            [
                name,
                round(max(one.attempts) / _BIN),
                one.refused,
                one.longest,
                one.half,
                one.nearly_all,
                one.all,
            ]
            for name, one in found.items()
        ]
        tables.append(Table(title, columns, rows))
    clients = size.count(10_000, 10_000, 300)
    taken = f"{clients // 5:,}"
    note = (
        f"{clients:,} clients lose their streams at one moment. The server takes {taken} connections a second; "
        f"{taken} may wait. Times count from its return. A simulation: the same figures at each run.",
    )
    return [*tables[:-1], Table(tables[-1].title, tables[-1].columns, tables[-1].rows, note)]


def plots(size: Size) -> dict[Path, str]:
    """The charts of `docs/explain/scale.md`."""
    crash, rolling = courses(size).values()
    end = 30.0

    def line(values: list[float] | list[int], scale: float) -> list[tuple[float, float]]:
        last = values[-1] if scale == 100 else 0  # a client that is back stays
        padded = [*values, *[last] * max(0, int(end / _BIN) + 1 - len(values))]
        return [(index * _BIN, value * scale) for index, value in enumerate(padded[: int(end / _BIN) + 1])]

    return {
        IMAGES / "storm-attempts.svg": chart(
            "Attempts to connect after a crash",
            "seconds since the crash; the server is back after 5",
            "attempts a second",
            {name: line(one.attempts, 1 / _BIN) for name, one in crash.items()},
        ),
        IMAGES / "storm-connected.svg": chart(
            "Clients that are back after a crash",
            "seconds since the crash; the server is back after 5",
            "% of clients",
            {name: line(one.connected, 100) for name, one in crash.items()},
        ),
        IMAGES / "storm-planned.svg": chart(
            "Attempts to connect in a planned restart",
            "seconds since the goodbye",
            "attempts a second",
            {name: [p for p in line(one.attempts, 1 / _BIN) if p[0] <= 8] for name, one in rolling.items()},
        ),
    }
