"""The clients of the soak: readers that come and go, publishers, and strangers that misbehave.

Each event's data begins with its number on its channel. So a reader knows which events it lost or got twice, also over
its reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from newswire.wire import Decoder

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: the connection ends with a reset, and not in order
_AWAY: Final = (0.1, 3.0)  # seconds that a reader stays away


@dataclass(slots=True)
class Counts:
    """What all clients have seen.

    Attributes:
        delivered, lost, doubled, gaps: events at the readers.
        published: events that the server has confirmed.
        reconnects: of readers, whatever ended their streams.
        answers: other answers than 200, by status; 0 is a connection that failed.
        faults: what was done to the server, by kind.
    """

    delivered: int = 0
    lost: int = 0
    doubled: int = 0
    gaps: int = 0
    published: int = 0
    reconnects: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


class Reader:
    """One reader: a stream, and the next one from its cursor when that ends.

    Args:
        port: of the server.
        path: of its stream.
        churn: how often a second it leaves by itself, on average.
        counts: of all clients.
    """

    def __init__(self, port: int, path: str, churn: float, counts: Counts) -> None:
        self._port = port
        self._path = path
        self._churn = churn
        self._counts = counts
        self._cursor = ""
        self._last: dict[str, int] = {}
        self._writer: asyncio.StreamWriter | None = None
        self.opened = asyncio.Event()

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(random.expovariate(self._churn)):
                        await self._stream()
                except TimeoutError:  # which is an OSError too
                    self._counts.faults["left"] += 1
                except (OSError, asyncio.IncompleteReadError):
                    self._counts.answers[0] += 1
                self.cut(reset=random.random() < 0.5)
                await asyncio.sleep(random.uniform(*_AWAY))
                self._counts.reconnects += 1
        finally:
            self.cut()

    async def _stream(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        cursor = f"Last-Event-ID: {self._cursor}\r\n" if self._cursor else ""
        self._writer.write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n{cursor}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            self._counts.answers[status] += 1
            return
        decoder = Decoder(last_event_id=self._cursor)
        while size := int(await reader.readuntil(b"\r\n"), 16):
            for event in decoder.feed((await reader.readexactly(size + 2))[:-2]):
                self._take(event.event, event.channel or "", event.data)
            self._cursor = decoder.last_event_id
            self.opened.set()

    def _take(self, kind: str, channel: str, data: str) -> None:
        if kind == "newswire.gap":
            self._counts.gaps += 1
        if kind != "message":
            return
        number = int(data.partition(" ")[0])
        last = self._last.get(channel)
        self._last[channel] = number
        self._counts.delivered += 1
        if last is not None and number <= last:
            self._counts.doubled += 1
        elif last is not None:
            self._counts.lost += number - last - 1

    def cut(self, *, reset: bool = True) -> None:
        """End the connection."""
        writer, self._writer = self._writer, None
        if writer is not None:
            if reset:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.close()


class Publisher:
    """Publishes to its channels in turn, each event confirmed before the next one, at a steady rate.

    Args:
        port: of the server.
        channels: its own.
        rate: events a second.
        counts: of all clients.
    """

    def __init__(self, port: int, channels: list[str], rate: float, counts: Counts) -> None:
        self._port = port
        self._channels = channels
        self._rate = rate
        self._counts = counts

    async def run(self) -> None:
        """Publish until cancelled."""
        loop = asyncio.get_running_loop()
        due, count = loop.time(), 0
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            channel, number = self._channels[count % len(self._channels)], count // len(self._channels)
            data = f"{number} {'x' * random.choice((40, 100, 400))}".encode()
            head = f"POST /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {channel}-{number}\r\n"
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = streams
                writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
                status = int(answer.split(b" ", 2)[1])
            except (OSError, asyncio.IncompleteReadError):
                status, streams = 0, None
            if status == 200:
                count += 1
                self._counts.published += 1
            else:
                self._counts.answers[status] += 1
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - loop.time()) if status == 200 else 0.1)


async def strangers(port: int, readers: list[Reader], counts: Counts, every: float) -> None:
    """Do something bad to the server every so many seconds, until cancelled."""
    async with asyncio.TaskGroup() as group:
        while True:
            await asyncio.sleep(random.expovariate(1 / every))
            kind = random.choice(("half a head", "half a body", "garbage", "no reading", "cut"))
            counts.faults[kind] += 1
            if kind == "cut":  # a part of the network fails
                for reader in random.sample(readers, max(1, len(readers) // 100)):
                    reader.cut()
            else:
                group.create_task(_misbehave(port, kind))


async def _misbehave(port: int, kind: str) -> None:
    sent = {
        "half a head": b"GET /channels/x HTTP/1.1\r\nHost: local",
        "half a body": b"POST /channels/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nhalf",
        "garbage": random.randbytes(300) + b"\r\n\r\n",
        "no reading": b"GET /stream?channel=> HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }[kind]
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)  # so nothing is read ahead
        writer.write(sent)
        await asyncio.sleep(random.uniform(1, 20))
        writer.transport.abort()
