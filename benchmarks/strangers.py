"""Strangers: what connections cost that send half a request and wait, and requests that are far too long.

Each server is `newswire serve` with its defaults. A thousand connections each send the same: a head that never ends, a
body that misses its last byte, or half of them each. What counts is the resident memory that the server has more at its
peak. The long query is measured by the CPU time of the server's process, which is at least what its event loop
stands still for.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.processes import Server
from benchmarks.report import Cell, Say, Size, Table, median

TITLE: Final = "Strangers"
_COMMAND: Final = (sys.executable, "-m", "newswire.cli.main", "serve", "--port", "{port}", "--log", "memory://")
_HEAD: Final = b"GET /channels/news HTTP/1.1\r\nHost: localhost\r\nX-Filler: "
_BODY: Final = (
    b"POST /channels/news HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
)
_LONG: Final = 2_000_000


def run(size: Size, say: Say) -> list[Table]:
    """Measure; some fifteen seconds in full."""
    count = size.count(1000, 1000, 10)
    head = _HEAD + b"x" * 60_000
    body = _BODY % 1_000_000 + b"x" * 999_999
    rows: list[list[Cell]] = []
    for name, requests in (
        ("heads of 60 KB without an end", [head] * count),
        ("bodies of 1 MB without their last byte", [body] * count),
        ("half of each", [head, body] * (count // 2)),
    )[size.count(0, 0, 2) :]:
        say(name)
        rows.append([name, _memory(requests)])
    title = f"Memory for {count:,} connections with unfinished requests"
    say("long queries")
    long: list[list[Cell]] = []
    for what, request in (
        (f"GET with a query of {_LONG:,} bytes", _query(b"channel=" + b"a" * _LONG)),
        ("the same, of many parameters", _query(b"channel=a&" * (_LONG // 10))),
        ("GET of one small page, beside it", _query(b"limit=1")),
    ):
        long.append([what, *_cpu(request, size.count(10, 5, 1))])
    return [
        Table(title, ("what they send", "MB more at the peak"), rows, ("The target is 100 MB.",)),
        Table("One request that is far too long", ("request", "status", "CPU, ms"), long, ("The target is 5 ms.",)),
    ]


def _query(query: bytes) -> bytes:
    return b"GET /channels/news/events?" + query + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def _server() -> Server:
    return Server(_COMMAND, ready="/health/live")


def _memory(requests: Sequence[bytes]) -> float:
    server = _server()
    try:
        before = server.rss()
        with contextlib.ExitStack() as stack:
            waiting = selectors.DefaultSelector()
            for request in requests:
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                connection.setblocking(False)
                waiting.register(connection, selectors.EVENT_WRITE, memoryview(request))
            # Until all is sent, or the server takes no more for a second.
            while waiting.get_map():
                ready = waiting.select(1.0)
                if not ready:
                    break
                for key, _ in ready:
                    connection = key.fileobj  # type: ignore[assignment]
                    try:
                        rest = key.data[connection.send(key.data[:65536]) :]
                    except OSError:  # refused: that is an answer too
                        rest = b""
                    if rest:
                        waiting.modify(connection, selectors.EVENT_WRITE, rest)
                    else:
                        waiting.unregister(connection)
            time.sleep(0.5)
            return (server.peak_rss() - before) / 1e6
    finally:
        server.stop()


def _cpu(request: bytes, rounds: int) -> tuple[str, float | None]:
    server = _server()
    try:
        taken = []
        status = ""
        for _ in range(rounds + 1):  # the first warms up
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                before = server.cpu()
                with contextlib.suppress(ConnectionError):  # a server may answer before it has read all
                    connection.sendall(request)
                with contextlib.suppress(ConnectionError):
                    status = (connection.recv(4096).split(b" ", 2)[1:2] or [b""])[0].decode()
                taken.append((server.cpu() - before) * 1000)
        return status, median(taken[1:])
    finally:
        server.stop()
