"""A process that has the log of a PostgreSQL database open, and so may be its leader: `postgres_leader.py URL`."""

from __future__ import annotations

import asyncio
import sys

from newswire import open_log


async def main(url: str) -> None:
    """Until it is killed."""
    log = open_log(url)
    await log.span()
    print("open", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
