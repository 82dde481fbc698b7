"""A process with runs on an SQLite log, told what to do by its arguments; what it does comes as lines of JSON.

    process.py LOG start NAME KEY COUNT    start so many times at once with one key
    process.py LOG stop ID                 stop a run
    process.py LOG work SEED AHEAD         start runs and read them, at random, with a clock that is so many seconds
                                           ahead, and steps at SIGUSR1; a line on standard input: start no more

It lives until its standard input ends. Clocks are `time.monotonic_ns`, which processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

if sys.argv[2:3] == ["work"]:  # before newswire takes the clock
    real, ahead = time.time, [float(sys.argv[4])]
    time.time = lambda: real() + ahead[0]
    signal.signal(signal.SIGUSR1, lambda *_: ahead.append(ahead.pop(0) * -2))

from newswire import Hub
from newswire.runs import RunOptions, Runs, WorkerOptions
from newswire.runs.worker.writer import RunWriter

LEASE = 2.0


def say(**what: Any) -> None:
    print(json.dumps({**what, "at": time.monotonic_ns()}), flush=True)


async def ticks() -> AsyncIterator[str]:
    say(event="began")
    try:
        while True:
            yield "tick "
            await asyncio.sleep(0.01)
    finally:
        say(event="closed")


async def counted(run: RunWriter, count: int) -> AsyncIterator[str]:
    """Go on where the one before was."""
    async for token in tokens(count, len((await run.text()).split()) if run.taken_over else 0):
        yield token


async def tokens(count: int, first: int = 0) -> AsyncIterator[str]:
    for number in range(first, count):
        yield f"{os.getpid()}:{number} "
        await asyncio.sleep(0.05)


async def answered(run: RunWriter) -> None:
    last = ""
    async for event in run.subscribe():
        last = event.data if event.event == "newswire.end" else ""
    say(event="read", run=run.id, end=last)


async def work(runs: Runs, seed: int) -> None:
    """Start runs, some with keys that other processes use too, and read each to its end."""
    chance = random.Random(seed)
    enough = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
    readers: set[asyncio.Task[None]] = set()
    runs.producer(counted)
    number = 0
    say(event="ready")
    while not enough.done():
        number += 1
        key = f"{seed} {number}" if chance.random() < 0.7 else f"shared {number % 5}"
        count = chance.randrange(5, 40)
        if chance.random() < 0.3:
            run = await runs.start("job", counted, args={"count": count}, options=RunOptions(takeover=True))
        else:
            run = await runs.start("job", tokens(count), key=key)
        readers.add(asyncio.create_task(answered(run)))
        await asyncio.wait([enough], timeout=chance.random() * 0.4)
    await asyncio.gather(*readers)
    say(event="all read", count=len(readers))


async def main(log: str, command: str, *arguments: str) -> None:
    async with Hub(f"sqlite:///{log}") as hub, Runs(hub, public=True, worker=WorkerOptions(lease=LEASE)) as runs:
        if command == "work":
            await work(runs, int(arguments[0]))
        elif command == "start":
            name, key, count = arguments
            say(event="ready")
            await asyncio.to_thread(sys.stdin.readline)  # all processes together
            options = RunOptions(keep_for=60)
            started = await asyncio.gather(
                *(runs.start(name, ticks(), key=key, options=options) for _ in range(int(count)))
            )
            say(event="started", ids=sorted({run.id for run in started}))
        else:
            begun = time.monotonic_ns()
            stopped = await runs.stop(arguments[0])
            say(event="stopped", stopped=stopped, begun=begun)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
