"""What this process has done, and the same of all worker processes together.

Each worker counts for itself. With several of them each writes its numbers to a file of its own once a second, and
whoever is asked (any worker may get the request for `/metrics`) adds them up: counters of all that ever were, so that
no counter falls when a worker dies; gauges of those that still write.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
_FRESH: Final = 5.0  # seconds: a worker that has not written for so long is gone, or stuck


@dataclass(slots=True)
class Numbers:
    """Counters and gauges that can be added up.

    Attributes:
        requests: answers by route, method and status, joined by a space.
        counters: by name.
        gauges: by name.
        publish_buckets: publish requests by the time they took; the last bucket is everything above.
        publish_seconds: their times together.
    """

    requests: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    gauges: Counter[str] = field(default_factory=Counter)
    publish_buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    publish_seconds: float = 0.0

    def published(self, events: int, seconds: float) -> None:
        """A publish request has stored so many events in so many seconds."""
        self.counters["published"] += events
        self.publish_buckets[bisect_left(BUCKETS, seconds)] += 1
        self.publish_seconds += seconds

    def add(self, other: Numbers, *, alive: bool) -> None:
        """Add another worker's numbers; its gauges only if it is alive."""
        self.requests.update(other.requests)
        self.counters.update(other.counters)
        if alive:
            self.gauges.update(other.gauges)
        self.publish_buckets = [a + b for a, b in zip(self.publish_buckets, other.publish_buckets, strict=True)]
        self.publish_seconds += other.publish_seconds

    def as_json(self) -> dict[str, Any]:
        """What `of` reads. (`asdict` would make other counters of these.)"""
        counted = {name: dict(getattr(self, name)) for name in ("requests", "counters", "gauges")}
        return {**counted, "publish_buckets": self.publish_buckets, "publish_seconds": self.publish_seconds}

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """What `as_json` gave."""
        counted = {name: Counter(value[name]) for name in ("requests", "counters", "gauges")}
        return cls(**counted, publish_buckets=value["publish_buckets"], publish_seconds=value["publish_seconds"])


class Board:
    """Where workers leave their numbers for each other.

    Args:
        folder: shared by the workers of one server; None for a single process, which has nobody to tell.
    """

    def __init__(self, folder: Path | None) -> None:
        self.worker = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._folder = folder

    @property
    def shared(self) -> bool:
        return self._folder is not None

    def write(self, numbers: Numbers, channels: dict[str, int]) -> None:
        """Leave this worker's numbers, and its subscribers by channel."""
        if self._folder is None:
            return
        text = json.dumps({"numbers": numbers.as_json(), "channels": channels})
        unfinished = self._folder / f".{self.worker}"
        try:
            unfinished.write_text(text, "utf-8")
            unfinished.replace(self._folder / f"{self.worker}.json")
        except OSError:
            return  # the disk is full, or the parent has tidied up already: numbers are no reason to fail

    def others(self) -> list[tuple[Numbers, dict[str, int], bool]]:
        """What the other workers left: numbers, subscribers by channel, and whether they are alive."""
        found = []
        now = time.time()
        for file in self._folder.glob("*.json") if self._folder is not None else ():
            if file.stem == self.worker:
                continue
            try:
                value = json.loads(file.read_text("utf-8"))
                alive = now - file.stat().st_mtime < _FRESH
            except (OSError, ValueError):
                continue
            found.append((Numbers.of(value["numbers"]), dict(value["channels"]), alive))
        return found
