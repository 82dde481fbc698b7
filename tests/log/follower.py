"""A process that follows an SQLite log, and tells how long events were on their way and what waiting cost.

    python follower.py PATH COUNT

Prints `ready`, follows COUNT events whose data is a time of the machine's monotonic clock, then waits for more. Its
last line is JSON: `delays` in seconds, and `idle`, the part of a core that waiting took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import closing, opened


async def main(path: str, count: int) -> None:
    delays: list[float] = []
    async with opened(SqliteLog(path)) as log, closing(log.follow(0)) as follower:
        print("ready", flush=True)
        while len(delays) < count:
            now = [(entry, time.monotonic()) for entry in await anext(follower)]
            delays += [came - float(entry.data) for entry, came in now]
        waiting = asyncio.ensure_future(anext(follower))
        began, used = time.monotonic(), time.process_time()
        await asyncio.wait([waiting], timeout=1.0)
        idle = (time.process_time() - used) / (time.monotonic() - began)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    print(json.dumps({"delays": delays, "idle": idle}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
