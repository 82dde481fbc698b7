"""A queue a client: how the other servers' documentation tells to fan out, and what their chat examples do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class Queues:
    """All clients' queues."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[tuple[str, str]]] = set()
        self._published = 0

    async def publish(self, data: list[str]) -> None:
        """Put `data` into every queue."""
        for text in data:
            self._published += 1
            id = f"queuexyz-{self._published}"
            for queue in self._queues:
                queue.put_nowait((id, text))

    async def subscribe(self) -> AsyncIterator[tuple[str, str]]:
        """Ids and data from now on."""
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    def look(self) -> dict[str, Any]:
        """What /stats tells."""
        return {"subscribers": len(self._queues)}
