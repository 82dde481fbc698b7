"""A process with runs on an SQLite log, told what to do by its arguments; what it does comes as lines of JSON.

    process.py LOG start NAME KEY COUNT    start so many times at once with one key
    process.py LOG stop ID                 stop a run

It lives until its standard input ends. Clocks are `time.monotonic_ns`, which processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from newswire import Hub
from newswire.runs import RunOptions, Runs, WorkerOptions

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


async def main(log: str, command: str, *arguments: str) -> None:
    async with Hub(f"sqlite:///{log}") as hub, Runs(hub, public=True, worker=WorkerOptions(lease=LEASE)) as runs:
        if command == "start":
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
