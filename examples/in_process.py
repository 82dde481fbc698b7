"""A subscriber without a request: it remembers its position, and goes on there: `python -m examples.in_process`."""

from __future__ import annotations

import asyncio

from newswire import Hub, Pattern


async def read(hub: Hub, after: str | None, count: int) -> str | None:
    """Read so many events, and return the position of the last."""
    async for event in hub.subscribe(Pattern("orders.>"), after=after, start="earliest"):
        print(event.channel, event.json())
        after = event.id
        count -= 1
        if count == 0:
            break
    return after


async def main() -> None:
    async with Hub("memory://") as hub:
        await hub.publish("orders.eu.1", {"items": 2})
        await hub.publish("orders.us.7", {"items": 1})
        position = await read(hub, None, 2)
        await hub.publish_many([("orders.eu.2", {"items": 5}), ("orders.eu.3", {"items": 8})])
        print("going on")
        await read(hub, position, 2)


if __name__ == "__main__":
    asyncio.run(main())
