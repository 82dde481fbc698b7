"""The numbers of a process's runs, for metrics and benchmarks."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

_KEPT: Final = 1000  # of the newest runs, for quantiles


@dataclass(slots=True)
class RunStats:
    """What this process has seen of runs since it began.

    Attributes:
        started: runs that it began to produce, those that it took over among them.
        taken_over: those.
        attached: starts that found a run of the same key.
        ended: runs that it produced, or found orphaned, by how they ended.
        events: events that its producers wrote.
        seconds: how long its producers took, all together.
        first_seconds: how long the newest runs took to their first content, from the start of their source.
        readers: streams of runs by how they began: `new`, or `resumed` by a cursor.
        finished: answers 204: a reader that had come to the end, or nothing that goes on.
        not_found: answers 404.
    """

    started: int = 0
    taken_over: int = 0
    attached: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    events: int = 0
    seconds: float = 0.0
    first_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    readers: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    not_found: int = 0
