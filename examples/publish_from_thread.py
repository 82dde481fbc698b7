"""Publish from threads, with `hub.sync`, while the event loop reads: `python -m examples.publish_from_thread`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from newswire import Hub, Pattern


def measure(hub: Hub, sensor: int) -> None:
    """Runs in a thread: blocks until the log has the event."""
    hub.sync.publish(f"sensor.{sensor}", {"value": sensor * 10})


async def main() -> None:
    async with Hub("memory://") as hub:
        readings = hub.subscribe(Pattern("sensor.*"), start="earliest")
        with ThreadPoolExecutor(3) as pool:
            work = [asyncio.wrap_future(pool.submit(measure, hub, sensor)) for sensor in (1, 2, 3)]
            await asyncio.gather(*work)
        seen = 0
        async for event in readings:
            print(event.channel, event.data)
            seen += 1
            if seen == 3:
                break


if __name__ == "__main__":
    asyncio.run(main())
