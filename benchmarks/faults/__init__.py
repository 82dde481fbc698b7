"""Faults: two servers on one log, readers and publishers on both, and one fault after the other. Nothing may be lost.

Each of the readers is a real client that reconnects by itself; each publisher sends an event again, under its
idempotency key, until it is acknowledged. Then each reader is judged: it has every acknowledged event of its channels,
once and in order, or it got a gap. A run that breaks a promise fails.

`cluster` has the processes, `publishers` and `readers` the load, `trial` the faults and the judgement.
"""

from __future__ import annotations

from typing import Final

import uvloop

from benchmarks.faults.cluster import KINDS
from benchmarks.faults.trial import FULL, QUICK, SMOKE, Plan, Result, run_trial
from benchmarks.processes import Failed
from benchmarks.report import Cell, Say, Size, Table

__all__ = ["KINDS", "TITLE", "run"]

TITLE: Final = "Faults"
_PLANS: Final = {Size.FULL: FULL, Size.QUICK: QUICK, Size.SMOKE: SMOKE}


def run(size: Size, say: Say, kind: str) -> list[Table]:
    """Measure one engine; half a minute and some seconds in full.

    Raises:
        Failed: a reader lost an event, or got one twice, or out of order.
    """
    plan = _PLANS[size]
    result = uvloop.run(run_trial(kind, plan, say))
    if result.wrong:
        raise Failed(f"{kind}: " + "; ".join(result.wrong))
    return [_table(kind, plan, result)]


def _table(kind: str, plan: Plan, result: Result) -> Table:
    rows: list[list[Cell]] = [
        [one.name, one.publishing, one.half, one.reading, one.errors, one.reconnects, one.gaps] for one in result.faults
    ]
    columns = (
        KINDS[kind].title,
        "all publish again, s",
        "half read again, s",
        "all read again, s",
        "answers that were errors",
        "streams that broke",
        "gaps",
    )
    rate = result.published / result.seconds
    notes = (
        f"{result.published:,} events acknowledged in {result.seconds:.0f} s ({rate:,.0f}/s; "
        f"the plan has {plan.rate:,.0f}/s), {result.delivered:,} deliveries to {result.readers} readers: "
        f"{result.lost} lost, {result.doubled} doubled, {result.disordered} out of order.",
        "Seconds count from the end of the cause: the process is started or goes on, the lock is released, the last "
        "connection was cut. They end when the last publisher has the answer to an event that it sent after that, and "
        "when half of the readers, or the last one, have such an event.",
    )
    title = f"{KINDS[kind].title}: 2 servers, {plan.readers} readers on each, {plan.publishers} publishers"
    return Table(title, columns, rows, notes)
