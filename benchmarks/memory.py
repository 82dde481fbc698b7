"""Memory: what one more idle subscriber costs the server's process.

Resident bytes with many subscribers less those with few, divided by the difference: what the interpreter and the
imports weigh is left out. Measured after an event has reached everybody, when every buffer that a stream makes is made.
"""

from __future__ import annotations

from typing import Final

from benchmarks.contenders import ASGI, BARE, DIRECT, FASTAPI, HANDED, IDLE, SSE_STARLETTE, Contender
from benchmarks.measure import subscribed, window
from benchmarks.processes import loading, serving
from benchmarks.report import Cell, Say, Size, Table

TITLE: Final = "Memory"


def run(size: Size, say: Say) -> list[Table]:
    """Measure; some forty seconds in full."""
    few, more = size.count(1000, 1000, 10), size.count(4000, 2000, 20)
    rate = size.count(1, 1, 50)  # events a second before memory is measured
    rows: list[list[Cell]] = []
    for contender in (DIRECT, BARE, HANDED, ASGI, SSE_STARLETTE, FASTAPI):
        say(contender.name)
        rows.append([contender.name, _each(contender, few, more, rate)])
    say(IDLE.name)
    rows.append([IDLE.name, _alone(few, more)])
    title = f"Resident memory for each idle subscriber, {few:,} to {few + more:,} of them"
    notes = (
        "After events have reached everybody.",
        "On the ASGI path a stream keeps its request alive: the frames and closures of the framework that wait for it, "
        "and uvicorn's own. `StreamMiddleware` takes the stream over, and the framework's are gone.",
    )
    return [Table(title, ("server", "KB"), rows, notes)]


def _each(contender: Contender, few: int, more: int, rate: int) -> float:
    with serving(contender.command(), contender.environment) as server, loading(server, few) as first:
        subscribed(server, first)
        window(server, first, rate=2 * rate, events=3)
        before = server.rss()
        with loading(server, more) as second:
            second.ready()
            server.until("all subscribers", lambda stats: stats["subscribers"] >= few + more)
            server.get(f"/start?rate={rate}&events=3&size=100")
            if second.wait(3 * more, 30)["events"] < 3 * more:
                raise server.failed("did not deliver the events after which memory is measured")
            server.until("the publisher's end", lambda stats: not stats["publishing"])
            return (server.rss() - before) / more / 1000


def _alone(few: int, more: int) -> float:
    """The same of a server whose application only waits."""
    with serving(IDLE.command(), IDLE.environment) as server, loading(server, few) as first:
        first.ready()
        before = server.rss()
        with loading(server, more) as second:
            second.ready()
            return (server.rss() - before) / more / 1000
