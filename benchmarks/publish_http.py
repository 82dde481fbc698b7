"""Publishing over HTTP: what `POST /channels/{channel}` costs the server, beside what uvicorn alone costs.

Publishers are keep-alive connections, each of which sends the next event when the last is stored. The server is the
real command on one core, the publishers are one process on the other. `bare` is an application of three lines on the
same uvicorn, which reads the body and answers as much: the least that a request can cost there.
"""

from __future__ import annotations

import asyncio
import http.client
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from tests.fixtures.ports import free_port

from benchmarks.processes import Process, cores
from benchmarks.report import Cell, Say, Size, Table, median

_BODY: Final = b"x" * 200
_ANSWER: Final = b'{"id":"0000000a-1000000"}\n'
_PUBLISHERS: Final = 64
_CASES: Final = {
    "SQLite, synchronous=FULL": "sqlite:///{path}?synchronous=FULL",
    "memory": "memory://",
    "bare": "",
}


@dataclass(frozen=True, slots=True)
class _Result:
    per_second: float
    cpu_us: float


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The least that can be answered."""
    if scope["type"] == "http":
        await receive()
        length = str(len(_ANSWER)).encode()
        headers = [(b"content-length", length), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _ANSWER})


def table(folder: str, size: Size, say: Say) -> Table:
    """Measure, all cases in turns."""
    seconds = size.pick(3, 1, 0.2)
    rounds = size.count(5, 2, 1)
    found: dict[str, list[_Result]] = {name: [] for name in _CASES}
    servers = {name: (free_port(), url) for name, url in _CASES.items()}
    running = {
        name: Process(_command(port, url.format(path=Path(folder) / "http.db")), core=cores()[0])
        for name, (port, url) in servers.items()
    }
    try:
        for name, (port, _) in servers.items():
            _wait(running[name], port)
            uvloop.run(_load(port, seconds / 3))
        for number in range(rounds):
            for name, (port, _) in servers.items():
                say(f"round {number + 1} of {rounds}: over HTTP, {name}")
                before = running[name].cpu()
                count = uvloop.run(_load(port, seconds))
                found[name].append(_Result(count / seconds, (running[name].cpu() - before) / count * 1e6))
    finally:
        for process in running.values():
            process.stop()
    least = median(one.cpu_us for one in found["bare"]) or 1.0
    rows: list[list[Cell]] = []
    for name, results in found.items():
        cost = median(one.cpu_us for one in results) or 0.0
        rows.append([name, round(median(one.per_second for one in results) or 0), cost, f"{cost / least:.2f}x"])
    title = f"Over HTTP, {_PUBLISHERS} publishers, events of 200 bytes, server on one core"
    columns = ("log", "events/s", "server CPU µs", "of a bare application")
    notes = ("CPU is the server process's, all its threads and its part of the kernel's work.",)
    return Table(title, columns, rows, notes)


def _command(port: int, log: str) -> Sequence[str]:
    if log:
        return [sys.executable, "-m", "newswire", "serve", "--port", str(port), "--log", log]
    protocol = ["--http", "newswire.delivery.uvicorn:DirectHttpProtocol", "--loop", "uvloop", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", "benchmarks.publish_http:bare", "--port", str(port), *protocol]


def _wait(process: Process, port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", "/health/ready")
            connection.getresponse().read()
            return
        except OSError:
            if process.popen.poll() is not None or time.monotonic() > deadline:
                raise process.failed("does not answer") from None
            time.sleep(0.02)
        finally:
            connection.close()


async def _load(port: int, seconds: float) -> int:
    """Publish for so long. Returns how many events were acknowledged."""
    head = f"POST /channels/bench HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
    request = f"{head}Content-Type: text/plain\r\nContent-Length: {len(_BODY)}\r\n\r\n".encode() + _BODY
    end = time.monotonic() + seconds
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(lambda: _Publisher(request, end), "127.0.0.1", port))[1]
                   for _ in range(_PUBLISHERS)]  # fmt: skip
    await asyncio.gather(*(one.done for one in connections))
    return sum(one.count for one in connections)


class _Publisher(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, end: float) -> None:
        self.count = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._end = end
        self._answer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b"}\n"):
            return
        if not self._answer.startswith(b"HTTP/1.1 200"):
            self._fail(self._answer.decode("latin-1"))
            return
        self.count += 1
        self._answer = b""
        if time.monotonic() < self._end:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _fail(self, answer: str) -> None:
        self.done.set_exception(AssertionError(answer))
        self._transport.close()
