"""A process that appends to an SQLite log until it is killed, and says which of its batches were acknowledged.

    python appender.py PATH NAME SEED

Each line of its output is the number of a batch whose `append` has returned. The data of an event names its batch:
`NAME batch index size`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from itertools import count

from newswire.log.retention import Retention
from newswire.log.sqlite import SqliteLog
from newswire.wire.event import Event


async def main(path: str, name: str, seed: int) -> None:
    dice = random.Random(seed)
    numbers = count()
    # Retention that removes nothing: its thread is about nevertheless when the process dies.
    log = SqliteLog(path, retention=Retention(max_events=10**6))

    async def publisher() -> None:
        for number in numbers:
            size = dice.choice([1, 1, 2, 5, 40])
            filling = "x" * dice.choice([0, 0, 10, 3000])
            batch = [
                (f"c{dice.randrange(5)}", Event(f"{name} {number} {index} {size} {filling}")) for index in range(size)
            ]
            await log.append(batch)
            os.write(1, b"%d\n" % number)

    await asyncio.gather(*(publisher() for _ in range(8)))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
