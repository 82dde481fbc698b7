"""One server restart under a thousand of our own clients in one process: are all back, how spread, and is all there?

The server is `newswire serve` on a SQLite file; it is stopped by SIGTERM, or killed, and started again on its port two
seconds later. Every client is an `AsyncEventSource` with its defaults. Events are published before, and after.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import httpx2
from tests.fixtures.ports import free_port

from benchmarks.processes import Failed
from benchmarks.report import Cell, Say, Size, Table
from newswire.client import AsyncEventSource, Hooks, Opened, Options

TITLE: Final = "Reconnecting clients"
_LAST: Final = "the last one"
_BARS: Final = 40


class _Serve:
    """`newswire serve` that can be started again on its port and file."""

    def __init__(self, folder: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        newswire = Path(sys.executable).with_name("newswire")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NEWSWIRE_")}
        command = [str(newswire), "serve", "--port", str(self.port)]
        self._process = subprocess.Popen(command, cwd=self._folder, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx2.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.02)
        raise Failed("newswire serve does not answer")

    def stop(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None


class _Reader:
    """One client: its events, and when it was back."""

    def __init__(self, url: str) -> None:
        self.got: list[str] = []
        self.opened: list[float] = []
        self.open, self.back = asyncio.Event(), asyncio.Event()
        options = Options(hooks=Hooks(open=self._open, error=lambda error, wait: None))
        self.source = AsyncEventSource(url, options=options)

    def _open(self, head: Opened) -> None:
        (self.back if self.opened else self.open).set()
        self.opened.append(time.monotonic())

    async def read(self) -> None:
        async with self.source as source:
            async for event in source:
                self.got.append(event.data)
                if event.data == _LAST:
                    return


async def _restart(server: _Serve, clients: int, number: int, down: float) -> tuple[list[float], int, int]:
    """Returns how many seconds after the new server's start each client was back, and events lost and doubled."""
    readers = [_Reader(f"{server.url}/channels/news?from=latest") for _ in range(clients)]
    tasks = [asyncio.create_task(reader.read()) for reader in readers]
    await asyncio.wait_for(asyncio.gather(*(reader.open.wait() for reader in readers)), 120)
    sent = [f"before {n}" for n in range(20)]
    async with httpx2.AsyncClient() as client:
        for data in sent:
            await client.post(f"{server.url}/channels/news", content=data)
        await asyncio.to_thread(server.stop, number)
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)
        up = time.monotonic()
        # At once, so that most clients are not back yet and have to catch up.
        for data in (more := [f"after {n}" for n in range(20)]):
            await client.post(f"{server.url}/channels/news", content=data)
        await asyncio.wait_for(asyncio.gather(*(reader.back.wait() for reader in readers)), 120)
        await client.post(f"{server.url}/channels/news", content=_LAST)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    expected = Counter([*sent, *more, _LAST])
    lost = sum((expected - Counter(reader.got)).total() for reader in readers)
    doubled = sum((Counter(reader.got) - expected).total() for reader in readers)
    return [reader.opened[1] - up for reader in readers], lost, doubled


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about half a minute."""
    clients = size.count(1000, 1000, 20)
    down = size.pick(2, 2, 0.2)  # seconds between the end of the old server and the start of the new one
    tables: list[Table] = []
    rows: list[list[Cell]] = []
    for name, number in (("SIGTERM: goodbye", signal.SIGTERM), ("kill -9", signal.SIGKILL))[size.count(0, 0, 1) :]:
        say(f"{clients:,} clients, {name}")
        with tempfile.TemporaryDirectory(prefix="newswire-bench-") as folder:
            server = _Serve(folder)
            server.start()
            try:
                back, lost, doubled = asyncio.run(_restart(server, clients, number, down))
            finally:
                server.stop(signal.SIGKILL)
        back.sort()
        middle, most = back[len(back) // 2], back[-1]
        rows.append([name, len(back), lost, doubled, round(back[0], 2), round(middle, 2), round(most, 2)])
        tables.append(_histogram(name, back))
    columns = ["server's end", "back", "lost", "doubled", "first, s", "median, s", "last, s"]
    title = f"{clients:,} AsyncEventSource in one process over one restart, {down:g} s down"
    notes = ["Times are from when the new server answered. Two servers' lives share this machine with the clients."]
    return [Table(title, columns, rows, notes), *tables]


def _histogram(name: str, back: list[float]) -> Table:
    counts = Counter(int(max(0.0, seconds) * 2) for seconds in back)
    tallest = max(counts.values())
    rows: list[list[Cell]] = [
        [f"{half / 2:g} to {half / 2 + 0.5:g}", counts[half], "#" * round(_BARS * counts[half] / tallest)]
        for half in range(max(counts) + 1)
    ]
    return Table(f"When clients were back, {name}", ["seconds", "clients", ""], rows)
