"""What a served application has done, in one process and in all of its workers together.

Each worker counts for itself. With several of them each writes its stats to a file of its own once a second, and
the worker that answers `/metrics` adds them up: counters of all workers that ever were, so that no counter falls when
a worker dies; gauges of the workers that still write.

`LoopLag` counts how late the event loop is: it has to call back four times a second. A loop that is late holds up every
stream of its process: something computes in it, or waits in it without `await`.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from newswire.log.histogram import Histogram

_FRESH: Final = 5.0  # seconds: a worker that has not written for so long is gone, or stuck


def _zeros() -> defaultdict[str, float]:
    return defaultdict[str, float](int)


@dataclass(slots=True)
class ServerStats:
    """Counters, gauges and histograms that can be added up.

    Attributes:
        counters: by name; one with labels has a key for each combination: its name and the labels' values with
            spaces between.
        gauges: by name.
        histograms: by name.
    """

    counters: defaultdict[str, float] = field(default_factory=_zeros)
    gauges: defaultdict[str, float] = field(default_factory=_zeros)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def add(self, other: ServerStats, *, alive: bool) -> None:
        """Add another worker's stats; its gauges only if it is alive."""
        for name, value in other.counters.items():
            self.counters[name] += value
        for name, value in other.gauges.items() if alive else ():
            self.gauges[name] += value
        for name, histogram in other.histograms.items():
            self.histograms.setdefault(name, Histogram(histogram.bounds)).add(histogram)

    def as_json(self) -> dict[str, Any]:
        """The stats as `of` reads them."""
        histograms = {name: asdict(one) for name, one in self.histograms.items()}
        return {"counters": self.counters, "gauges": self.gauges, "histograms": histograms}

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """The stats that `as_json` returned."""
        stats = cls(histograms={name: Histogram(**one) for name, one in value["histograms"].items()})
        stats.counters.update(value["counters"])
        stats.gauges.update(value["gauges"])
        return stats


class WorkerStats:
    """Shares the stats of one worker with the other workers, through files.

    Args:
        folder: of the workers of one server; None for a single process.

    Attributes:
        worker: names this worker.
        shared: whether there may be other workers.
    """

    def __init__(self, folder: Path | None) -> None:
        self.worker: str = f"{os.getpid()}-{secrets.token_hex(3)}"
        self.shared: bool = folder is not None
        self._folder = folder

    def write(self, stats: ServerStats, channels: dict[str, int]) -> None:
        """Write this worker's stats, and its subscribers by channel."""
        if self._folder is None:
            return
        text = json.dumps({"stats": stats.as_json(), "channels": channels})
        unfinished = self._folder / f".{self.worker}"
        try:
            unfinished.write_text(text, "utf-8")
            unfinished.replace(self._folder / f"{self.worker}.json")
        except OSError:
            return  # the disk is full, or the parent has tidied up already: stats are no reason to fail

    def others(self) -> Iterator[tuple[ServerStats, dict[str, int], bool]]:
        """Of each other worker: its stats, its subscribers by channel, and whether it is alive."""
        now = time.time()
        for file in self._folder.glob("*.json") if self._folder is not None else ():
            if file.stem == self.worker:
                continue
            try:
                value = json.loads(file.read_text("utf-8"))
                alive = abs(now - file.stat().st_mtime) < _FRESH  # the clock may have been set back since
            except (OSError, ValueError):
                continue
            yield ServerStats.of(value["stats"]), dict(value["channels"]), alive


_BETWEEN: Final = 0.25
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """Measures from `start` to `stop`.

    Attributes:
        seconds: how late each call was.
        sustained: seconds by which both of the last two calls were late: one pause is no pressure.
    """

    def __init__(self) -> None:
        self.seconds: Histogram = Histogram(BOUNDS)
        self.sustained: float = 0.0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure the running event loop. Idempotent."""
        self.stop()
        self._ask(asyncio.get_running_loop())

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_at(due := loop.time() + _BETWEEN, self._called, loop, due)

    def _called(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        late = max(0.0, loop.time() - due)
        self.seconds.observe(late)
        self.sustained, self._last = min(late, self._last), late
        self._ask(loop)
