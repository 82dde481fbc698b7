"""Revoking and expiring: how long until every stream of a user has ended, on two nodes with one log.

A thousand streams are ada's and two hundred bob's, spread over both nodes. Ada is revoked on one node; the time runs
from the request to the last goodbye on any node. Then a thousand streams have a token that expires at one moment; the
time runs from that moment. Beside it: how many of bob's have stayed, and how many of ada's were refused when they came
back.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from tests.fixtures.engines import Valkey
from tests.fixtures.serve import Serve

from benchmarks.report import Cell, Say, Size, Table, median
from newswire.server.auth import new_token

TITLE: Final = "Revoking"
_SECRET: Final = "a secret of sixty-four bytes, which is as long as HS512 wants it to be"
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Result:
    revoked: float  # seconds until the last stream ended
    expired: float
    stayed: int
    refused: int


class _Stream(asyncio.Protocol):
    """One stream: when it began and ended, by the wall clock."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._tail = b""
        self.status = b""
        self.goodbye = 0.0
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self.status = self.status or data[9:12]
        if not self.begun.done():
            self.begun.set_result(None)
        self._tail = self._tail[-50:] + data
        if b"newswire.goodbye" in self._tail and not self.goodbye:
            self.goodbye = time.time()
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        for future in (self.begun, self.over):
            if not future.done():
                future.set_result(None)


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about a minute in full."""
    streams = size.count(1000, 1000, 20)
    rounds = size.count(3, 1, 1)
    rows: list[list[Cell]] = []
    for name, opened in (("SQLite", _sqlite), ("Valkey", _valkey))[size.count(0, 0, 1) :]:
        found = []
        for number in range(rounds):
            say(f"{name}, round {number + 1} of {rounds}: {streams:,} streams on two nodes")
            with opened() as nodes:
                found.append(asyncio.run(_measure(nodes, streams)))
        rows.append(
            [
                name,
                median(one.revoked for one in found),
                median(one.expired for one in found),
                f"{min(one.stayed for one in found):,} of {streams // 5:,}",
                f"{min(one.refused for one in found):,} of {streams:,}",
            ]
        )
    columns = ("log", "s to revoke", "s after expiry", "others that stayed", "reconnects refused")
    notes = ("Nodes, log and all clients share two cores.",)
    return [
        Table(
            f"{streams:,} open streams of one user on two nodes, and {streams // 5:,} of others", columns, rows, notes
        )
    ]


@contextmanager
def _nodes(log: str) -> Iterator[Sequence[Serve]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="newswire-bench-")))
        url = log or f"sqlite:///{folder}/shared.db"
        nodes = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            nodes.append(stack.enter_context(Serve(folder / name, "--jwt-secret", _SECRET, "--log", url)))
        yield nodes


@contextmanager
def _sqlite() -> Iterator[Sequence[Serve]]:
    with _nodes("") as nodes:
        yield nodes


@contextmanager
def _valkey() -> Iterator[Sequence[Serve]]:
    with Valkey() as server, _nodes(server.url) as nodes:
        yield nodes


async def _measure(nodes: Sequence[Serve], count: int) -> _Result:
    ada, bob = (_token(name) for name in ("ada", "bob"))
    hers, his = await _open(nodes, ada, count), await _open(nodes, bob, count // 5)
    admin = {"authorization": f"Bearer {new_token(_SECRET, subject='root', admin=True)}"}
    async with httpx2.AsyncClient(timeout=_PATIENCE) as client:
        began = time.time()
        answer = await client.post(f"{nodes[0].url}/revoke", json={"subject": "ada"}, headers=admin)
        answer.raise_for_status()
        await _all_over(hers)
    revoked = max(one.goodbye for one in hers) - began
    assert all(one.goodbye for one in hers)
    back = await _open(nodes, ada, count)
    refused = sum(one.status == b"401" for one in back)
    stayed = sum(not one.over.done() for one in his)
    end = int(time.time()) + max(4, count // 100)
    short = await _open(nodes, _token("bob", end), count)
    assert time.time() < end, "the streams took too long to open"
    await _all_over(short)
    expired = max(one.goodbye for one in short) - end
    stayed = min(stayed, sum(not one.over.done() for one in his))
    for one in (*hers, *his, *back, *short):
        one.transport.close()
    return _Result(revoked, expired, stayed, refused)


def _token(subject: str, end: float | None = None) -> str:
    more = {} if end is None else {"exp": end}
    return new_token(_SECRET, subject=subject, subscribe=["room.*"], more=more)


async def _open(nodes: Sequence[Serve], token: str, count: int) -> list[_Stream]:
    loop = asyncio.get_running_loop()
    streams = []
    for number in range(count):
        node = nodes[number % len(nodes)]
        head = f"GET /channels/room.{number % 50} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        _, stream = await loop.create_connection(lambda head=head: _Stream(head.encode()), "127.0.0.1", node.port)  # type: ignore[misc]
        streams.append(stream)
    async with asyncio.timeout(_PATIENCE):
        for stream in streams:
            await stream.begun
    return streams


async def _all_over(streams: Sequence[_Stream]) -> None:
    async with asyncio.timeout(_PATIENCE):
        for stream in streams:
            await stream.over
