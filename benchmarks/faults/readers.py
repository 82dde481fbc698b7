"""Readers that judge what they get: each event once, in order, and the same at all readers; or a gap before.

Each is an `AsyncEventSource` as an application has it, which reconnects and resumes by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import aiohttp

from benchmarks.faults.publishers import Publisher
from newswire import AsyncEventSource
from newswire.client.options import Hooks, Options


@dataclass(slots=True)
class Verdict:
    """What was wrong at a reader, or at all of them.

    Attributes:
        lost: events that did not come, without a gap before.
        doubled: events that came again, without a gap before.
        disordered: events whose position was not after the one before, or not that of the same event at other readers.
    """

    lost: int = 0
    doubled: int = 0
    disordered: int = 0

    def add(self, other: Verdict) -> None:
        """Add another."""
        self.lost += other.lost
        self.doubled += other.doubled
        self.disordered += other.disordered


@dataclass(slots=True)
class Reader:
    """One reader.

    Args:
        url: of its stream; a function is called before each attempt.
        publishers: whose events it has to get.
        positions: which event has which position, as all readers see it.

    Attributes:
        delivered: how many events came.
        gaps: how many gaps came.
        broken: how often its stream broke.
        newest: when the newest event that came was first sent.
        came: when that was.
        failure: what ended it; a reader never ends by itself.
    """

    url: str | Callable[[], str]
    publishers: Sequence[Publisher]
    positions: dict[str, tuple[str, int]]
    delivered: int = 0
    gaps: int = 0
    broken: int = 0
    newest: float = 0.0
    came: float = 0.0
    failure: BaseException | None = None
    verdict: Verdict = field(default_factory=Verdict)
    _next: dict[str, int] = field(init=False)
    _at: tuple[str, int] = ("", 0)

    def __post_init__(self) -> None:
        self._next = {publisher.name: 0 for publisher in self.publishers}

    async def run(self, session: aiohttp.ClientSession, opened: Callable[[], object]) -> None:
        """Read until it is cancelled."""

        def failed(error: Exception, wait: float | None) -> None:
            pass  # it tries again

        def disconnected(error: Exception | None, wait: float | None) -> None:
            self.broken += 1

        hooks = Hooks(error=failed, disconnect=disconnected, open=lambda _: opened())
        try:
            async with AsyncEventSource(self.url, client=session, options=Options(hooks=hooks)) as source:
                async for event in source:
                    if event.event == "newswire.gap":
                        self.take_gap()
                    else:
                        self.take(event.id or "", event.data)
            self.failure = EOFError("the stream ended")
        except Exception as error:  # the outermost frame of a task: it is reported
            self.failure = error

    def take_gap(self) -> None:
        """What comes next may be anything."""
        self.gaps += 1
        self._next.clear()

    def take(self, id: str, data: str) -> None:
        """Judge the next event."""
        publisher, numeral, sent, _ = data.split(" ", 3)
        number = int(numeral)
        self.delivered += 1
        self.came = time.monotonic()
        self.newest = max(self.newest, float(sent))
        verdict = self.verdict
        due = self._next.get(publisher)
        if due is not None and number < due:
            verdict.doubled += 1
            return
        if due is not None and number > due:
            verdict.lost += number - due
        self._next[publisher] = number + 1
        epoch, _, offset = id.rpartition("-")
        before, self._at = self._at, (epoch, int(offset))
        if (before[0] == epoch and before[1] >= self._at[1]) or self.positions.setdefault(id, (publisher, number)) != (
            publisher,
            number,
        ):
            verdict.disordered += 1

    def missing(self) -> int:
        """Acknowledged events that have not come, at the end of the channels."""
        missing = 0
        for publisher in self.publishers:
            due = self._next.get(publisher.name)
            missing += max(0, publisher.acknowledged - due) if due is not None else 0
        return missing


def total(readers: Iterable[Reader]) -> Verdict:
    """The verdicts of all readers together."""
    found = Verdict()
    for reader in readers:
        found.add(reader.verdict)
    return found
