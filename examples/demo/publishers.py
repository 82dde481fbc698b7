"""What the demo publishes, all of it real: this machine's load, a job with progress, lines of a log file, ticks.

Each publisher numbers its events (`n`), because a POST whose answer is lost may or may not have been stored: a
publisher that sends it again says so by sending the same number.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import logging
import sysconfig
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import psutil


class Publisher:
    """Posts events in order; while the server is down it holds on and tries again."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.AsyncClient(base_url=url, timeout=5)
        self._numbers: dict[str, int] = {}

    async def send(self, channel: str, event: str, **fields: object) -> None:
        """Publish one event, however long it takes."""
        number = self._numbers[channel] = self._numbers.get(channel, 0) + 1
        body = json.dumps({"n": number, **fields})
        while True:
            try:
                answer = await self._client.post(f"/channels/{channel}", params={"event": event}, content=body)
                if answer.status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)


async def machine(publisher: Publisher) -> None:
    """CPU, memory, disk and network, each second."""
    before = (psutil.net_io_counters(), psutil.disk_io_counters())
    while True:
        await asyncio.sleep(1)
        now = (psutil.net_io_counters(), psutil.disk_io_counters())
        await publisher.send(
            "machine",
            "machine",
            cpu=psutil.cpu_percent(),
            memory=psutil.virtual_memory().percent,
            network=(now[0].bytes_sent + now[0].bytes_recv) - (before[0].bytes_sent + before[0].bytes_recv),
            disk=0 if now[1] is None or before[1] is None else now[1].write_bytes - before[1].write_bytes,
        )
        before = now


async def job(publisher: Publisher, logger: logging.Logger) -> None:
    """Hash and compress the standard library of this Python, file by file, again and again."""
    root = Path(sysconfig.get_path("stdlib"))
    found = sorted(root.glob("*.py")) + sorted(root.glob("*/*.py"))
    files = [path for path in found if "site-packages" not in str(path)]
    while True:
        digest = hashlib.sha256()
        read = packed = 0
        for done, path in enumerate(files, 1):
            data = await asyncio.to_thread(path.read_bytes)
            digest.update(data)
            packed += len(await asyncio.to_thread(gzip.compress, data))
            read += len(data)
            if done % 10 == 0 or done == len(files):
                await publisher.send("job", "progress", done=done, total=len(files), bytes=read, file=path.name)
                logger.info("compressed %s: %d of %d files", path.name, done, len(files))
        await publisher.send("job", "done", sha256=digest.hexdigest(), bytes=read, packed=packed)
        await asyncio.sleep(3)


async def log_lines(publisher: Publisher, file: Path) -> None:
    """Follow a log file."""
    async for line in follow(file):
        await publisher.send("log", "line", line=line)


async def follow(file: Path) -> AsyncIterator[str]:
    """The lines appended to `file`, from now on."""
    with file.open() as lines:
        lines.seek(0, 2)
        while True:
            line = lines.readline()
            if line:
                yield line.rstrip("\n")
            else:
                await asyncio.sleep(0.2)


async def ticks(publisher: Publisher, rate: float) -> None:
    """So many events a second, for the kill test."""
    due = time.monotonic()
    while True:
        due = max(due + 1 / rate, time.monotonic() - 1)
        await asyncio.sleep(max(0, due - time.monotonic()))
        await publisher.send("ticks", "tick")
