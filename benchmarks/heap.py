"""What a page holds while events come: `python -m benchmarks heap --minutes 10 --rate 200`.

Each page of newswire is open in a Chromium of its own and gets its events from real servers, all at the same time. The
JavaScript heap, the nodes and the listeners are counted after a forced collection, and the CPU time that the page's
main thread took. With `--page`, one page alone. For the first third a page fills:
lists, charts and caches grow to their limits. From there on it has to be flat: the table shows by how much the heap
grew from the second third to the last. The chat gets a stream of tokens: as soon as an answer ends, a new
chat begins, and the chat before is to be gone from memory.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.browser.conftest import Page
from tests.fixtures.demo import Cluster, Demo

from benchmarks.heap_sources import chat_server, console_server, dashboard_server
from benchmarks.processes import Failed
from benchmarks.report import Cell, Say, Size, Table

TITLE: Final = "Heap of the pages"
RATE: Final = 200.0
_PATIENCE: Final = 60.0

# Asks again as soon as an answer has ended, each time in a new chat.
_ASK: Final = """void setInterval(() => {
  const last = [...chat.turns.values()].at(-1);
  if (last && !last.end) return;
  if (last) return document.getElementById("new").click();
  if (document.getElementById("send").hidden || !chat.cursor) return;
  document.getElementById("question").value = "Tell me a story.";
  document.getElementById("ask").requestSubmit();
}, 100)"""


@dataclass(frozen=True, slots=True)
class _Place:
    """A page to look at.

    Attributes:
        open: starts its servers and publishers in a folder, at a rate; returns its address.
        ready: true in the page when events come.
        events: how many have come, in the page.
        drive: what the page is made to do.
    """

    open: Callable[[ExitStack, Path, float], str]
    ready: str
    events: str
    drive: str = "null"


def _demo(stack: ExitStack, folder: Path, rate: float) -> str:
    return f"{stack.enter_context(Demo(folder, rate)).url}/demo/"


def _cluster(stack: ExitStack, folder: Path, rate: float) -> str:
    return f"{stack.enter_context(Cluster(folder, rate)).url}/cluster/"


PLACES: Final = {
    "console": _Place(
        console_server, "document.querySelectorAll('#tail .row').length > 5", "globalThis.newswire.tail.received"
    ),
    "demo": _Place(_demo, "globalThis.demo?.feed.counts.received > 5", "demo.feed.counts.received"),
    "cluster": _Place(_cluster, "globalThis.cluster?.feed.counts.received > 5", "cluster.feed.counts.received"),
    "dashboard": _Place(
        dashboard_server,
        "globalThis.dashboard?.tiles.size > 5",
        "Number(document.getElementById('events').textContent)",
    ),
    "chat": _Place(chat_server, "Boolean(globalThis.chat?.cursor)", "chat.counts.events", _ASK),
}
SMOKE: Final = ("console",)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a page held at one moment.

    Attributes:
        time: seconds since the first sample.
        events: that had come.
        heap: bytes in use by JavaScript, after a collection.
        nodes, listeners: of the DOM.
        busy: seconds of CPU that its main thread took since the sample before.
    """

    time: float
    events: int
    heap: int
    busy: float
    nodes: int
    listeners: int


@dataclass(slots=True)
class Watched:
    """A page and its samples."""

    name: str
    page: Page
    place: _Place
    samples: list[Sample] = field(default_factory=list)

    def look(self, began: float) -> None:
        """Take one more sample."""
        events = self.page.evaluate(self.place.events)
        found: dict[str, Any] = self.page.order(heap=True)
        self.samples.append(
            Sample(
                time.monotonic() - began,
                events,
                int(found["JSHeapUsedSize"]),
                float(found["busy"]),
                int(found["Nodes"]),
                int(found["JSEventListeners"]),
            )
        )

    def third(self, number: int) -> list[Sample]:
        """The samples of the second or the last third; in the first the page fills."""
        size = len(self.samples) // 3
        return self.samples[size : 2 * size] if number == 2 else self.samples[2 * size :]

    def least(self, number: int) -> int:
        """What is left of the heap in a third: a collection may leave much for the next one, so the least counts."""
        return min(one.heap for one in self.third(number))

    @property
    def growth(self) -> float:
        """Bytes that the heap grew by each event, from the second third to the last."""
        before, after = (statistics.mean(one.events for one in self.third(number)) for number in (2, 3))
        return (self.least(3) - self.least(2)) / max(1.0, after - before)


def watch(names: Sequence[str], seconds: float, rate: float, say: Say, *, samples: int = 30) -> list[Watched]:
    """Open the pages, and look at them for so long, so many times."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        with ThreadPoolExecutor() as pool:
            stacks = [stack.enter_context(ExitStack()) for _ in names]
            started = list(pool.map(lambda name, own: _open(name, own, Path(folder), rate), names, stacks))
        say(f"{', '.join(names)} are open; {seconds:.0f} s at {rate:.0f} events a second")
        began = time.monotonic()
        for number in range(samples + 1):
            while (left := began + number * seconds / samples - time.monotonic()) > 0:
                time.sleep(left)
            for one in started:
                one.look(began)
        for one in started:
            say(f"{one.name}: {[round(sample.heap / 1e6, 2) for sample in one.samples]} MB")
    return started


def _open(name: str, stack: ExitStack, folder: Path, rate: float) -> Watched:
    own = folder / name
    own.mkdir()
    place = PLACES[name]
    url = place.open(stack, own, rate)
    page = Page("devtools.mjs")
    stack.callback(page.close)
    page.order(goto=url)
    page.until(place.ready, seconds=_PATIENCE)
    page.evaluate(place.drive)
    page.until(f"{place.events} > 20", seconds=_PATIENCE)
    return Watched(name, page, place)


def run(size: Size, say: Say, minutes: float | None = None, rate: float = RATE, page: str | None = None) -> list[Table]:
    """Measure; ten minutes in full, or as many as `--minutes` says; all pages at once, or the one of `--page`."""
    if page is not None and page not in PLACES:
        raise Failed(f"there is no page {page}: choose of {', '.join(PLACES)}")
    seconds = size.pick(600, 120, 1) if minutes is None else minutes * 60
    smoke = size is Size.SMOKE
    pages = [page] if page else SMOKE if smoke else list(PLACES)
    watched = watch(pages, seconds, rate, say, samples=6 if smoke else 30)
    return [_table(watched, seconds, rate)]


def _table(watched: Sequence[Watched], seconds: float, rate: float) -> Table:
    rows: list[list[Cell]] = []
    for one in watched:
        first, last = one.samples[0], one.samples[-1]
        events = last.events - first.events
        minute = one.growth * events / (last.time - first.time) * 60
        rows.append(
            [
                one.name,
                events / (last.time - first.time),
                f"{100 * sum(each.busy for each in one.samples[1:]) / (last.time - first.time):.0f}%",
                *(heap / 1e6 for heap in (first.heap, one.least(2), one.least(3))),
                round(minute / 1e3),
                *(f"{getattr(first, what):,} → {getattr(last, what):,}" for what in ("nodes", "listeners")),
            ]
        )
    columns = (
        "page",
        "events/s",
        "main thread",
        "heap at first, MB",
        "in the second third, MB",
        "in the last third, MB",
        "growth, kB a minute",
        "nodes",
        "listeners",
    )
    notes = (
        "The heap is what JavaScript uses after a forced collection: at first, and at the least in the second and the "
        "last third of the time. The growth is from the one to the other.",
        "The main thread is the share of one core that the page itself takes: scripts, layout and painting's commands.",
    )
    return Table(f"Each page open for {seconds / 60:.3g} min at {rate:.0f} events a second", columns, rows, notes)
