"""Publishing that outlives the server: what a careful publisher does, over plain HTTP.

A POST whose answer never came may or may not have been stored, and sending it again blindly would double it. So each
event carries the name of its publisher's run and a number; after a failure the outbox first asks the log which of its
numbers are there, and sends only the rest. Nothing is lost as long as the buffer holds, and nothing is doubled (but
for a request that a living server stores after the client gave up on it: then the number tells).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from typing import Any, Final

import httpx2

# A batch is stored whole or not at all, so one number says what of it is there. 200 small events are well under the
# server's 1 MiB.
BATCH: Final = 200


class Outbox:
    """The events of one publisher for one channel: in order, each once, while the server comes and goes.

    Args:
        client: whose `base_url` is the server.
        channel: where to. One outbox publishes to it; others (a chat's people) may too.
        limit: events that wait at most while the server is away. 20,000 is 100 seconds of 200 a second.

    Attributes:
        run: names this outbox's life; in every event as `run`, beside its number `n`.
        refused: events that found the buffer full. They got no number, so the stream shows no hole for them.
        sent: events that the server has confirmed.
        found: events that a lost answer had hidden: they were stored, and were not sent again.
    """

    def __init__(self, client: httpx2.AsyncClient, channel: str, *, limit: int = 20_000) -> None:
        self.channel = channel
        self.run = secrets.token_hex(4)
        self.refused = 0
        self.sent = 0
        self.found = 0
        self._client = client
        self._limit = limit
        self._numbers = 0
        self._waiting: deque[tuple[int, str]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._known: str | None = None  # a position in the log before which there is nothing unclear

    def put(self, event: str, **fields: Any) -> bool:
        """Take an event to publish; returns at once.

        Returns:
            whether there was room for it.
        """
        if len(self._waiting) >= self._limit:
            self.refused += 1
            return False
        self._numbers += 1
        data = json.dumps({"run": self.run, "n": self._numbers, **fields}, ensure_ascii=False)
        self._waiting.append((self._numbers, json.dumps({"event": event, "data": data}, ensure_ascii=False)))
        self._wake.set()
        self._idle.clear()
        return True

    async def publish(self) -> None:
        """Send what was put, for ever."""
        unclear = True  # at first only to learn where the log ends
        while True:
            await self._wake.wait()
            try:
                if unclear:
                    await self._find()
                    unclear = False
                await self._send()
            except (httpx2.TransportError, httpx2.HTTPStatusError):
                unclear = True
                await asyncio.sleep(0.1)
            if not self._waiting:
                self._wake.clear()
                self._idle.set()

    async def flush(self) -> None:
        """Wait until everything that was put is stored."""
        await self._idle.wait()

    async def _send(self) -> None:
        count = min(len(self._waiting), BATCH)
        if not count:
            return
        lines = "\n".join(self._waiting[i][1] for i in range(count))
        answer = await self._client.post(
            f"/channels/{self.channel}", content=lines, headers={"content-type": "application/x-ndjson"}
        )
        answer.raise_for_status()
        self._known = answer.json()["ids"][-1]
        for _ in range(count):
            self._waiting.popleft()
        self.sent += count

    async def _find(self) -> None:
        """Drop from the buffer what the log has already, and note how far it has been looked through."""
        answer = await self._client.get("/health/ready")
        answer.raise_for_status()
        latest: str = answer.json()["latest"]
        after = self._known
        if after is None:
            self._known = latest
            return
        stored = 0
        while offset(after) < offset(latest):
            answer = await self._client.get(f"/channels/{self.channel}/events", params={"after": after, "limit": 1000})
            if answer.status_code == 400:  # another log; a later life of the same one would know this position
                break
            answer.raise_for_status()
            page = answer.json()
            after = page["next"]
            for event in page["events"]:
                data = json.loads(event["data"])
                if data.get("run") == self.run:
                    stored = max(stored, data["n"])
        while self._waiting and self._waiting[0][0] <= stored:
            self._waiting.popleft()
            self.found += 1
        self._known = latest


def offset(position: str) -> int:
    """The offset of a position's text."""
    return int(position.rpartition("-")[2])
