"""Publishers that lose nothing: each event is sent again, under its idempotency key, until it is acknowledged.

An event's data names its publisher, its number among that one's events, and when it was first sent. A publisher sends
its next event when the last one is acknowledged, and catches up with its schedule after an outage. Half of them stay at
one server; the others turn to the other server after each error.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final

_ANSWER_SECONDS: Final = 20.0  # then the answer is taken for lost
_PAUSES: Final = 0.02, 0.15  # seconds between two attempts


class Publisher:
    """One publisher.

    Args:
        name: without white space.
        channel: where it publishes.
        ports: of the servers: the first one is its own. It goes to the next after an error.
        rate: events a second.
        size: bytes of an event's data.

    Attributes:
        acknowledged: how many events.
        errors: answers that were no acknowledgement, and attempts that got none.
        acknowledged_of: when the newest event that was acknowledged was first sent.
    """

    def __init__(self, name: str, channel: str, ports: Sequence[int], rate: float, size: int = 100) -> None:
        self.name = name
        self.channel = channel
        self.acknowledged = 0
        self.errors = 0
        self.acknowledged_of = 0.0
        self._ports = list(ports)
        self._interval = 1 / rate
        self._size = size
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`; what was begun is finished."""
        due = time.monotonic() + random.uniform(0, self._interval)
        try:
            while not stop.is_set():
                wait = due - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                due += self._interval
                await self._publish()
        finally:
            self._close()

    async def _publish(self) -> None:
        sent = time.monotonic()
        number = self.acknowledged
        data = f"{self.name} {number} {sent!r} ".ljust(self._size, "x").encode()
        request = (
            f"POST /channels/{self.channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
            f"Idempotency-Key: {self.name}-{number}\r\n\r\n"
        ).encode() + data
        while not await self._ask(request):
            self.errors += 1
            self._ports.append(self._ports.pop(0))
            await asyncio.sleep(random.uniform(*_PAUSES))
        self.acknowledged += 1
        self.acknowledged_of = sent

    async def _ask(self, request: bytes) -> bool:
        """Whether a request was answered with 200."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._streams is None or self._streams[1].is_closing():  # it was lost since the last answer
                    self._streams = await asyncio.open_connection("127.0.0.1", self._ports[0])
                reader, writer = self._streams
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
        except (OSError, EOFError, TimeoutError):
            self._close()
            return False
        if head.startswith(b"HTTP/1.1 200 "):
            return True
        self._close()  # the other server is next, perhaps
        return False

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
