"""Bodies that don't end: each has its time, and all together a budget, whose oldest holders give way."""

from __future__ import annotations

import asyncio
import select
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serve import Serve

from newswire.delivery.problem import Problem
from newswire.delivery.strangers import BUDGET
from newswire.server.bodies import Bodies

HEAD = b"POST /channels/held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


def test_withheld_bodies_share_a_budget(tmp_path: Path) -> None:
    """A hundred that withhold the end of a megabyte: the oldest are refused, and an honest publisher never is."""
    with Serve(tmp_path) as server:
        connections = []
        for _ in range(100):
            connection = socket.create_connection(("127.0.0.1", server.port), 30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                connection.sendall(HEAD + b"x" * 900_000)
            except ConnectionError:
                pass
            connections.append(connection)
        for number in range(20):
            server.publish("honest", str(number))
        readable, _, _ = select.select(connections, [], [], 0)
        refused = 0
        for connection in readable:
            try:
                answer = connection.recv(4096)
            except ConnectionError:
                answer = b"HTTP/1.1 503"  # the kernel dropped it, since we were still talking
            refused += answer.startswith(b"HTTP/1.1 503")
        assert (100 - refused) * 900_000 <= BUDGET.limit + 2 * 900_000
        assert connections[0] in readable
        assert connections[-1] not in readable
        assert len(server.stored("honest")) == 20
        for connection in connections:
            connection.close()
        assert server.stored("held") == []


async def _never() -> Any:
    await asyncio.Event().wait()


@pytest.mark.anyio
async def test_one_timer_serves_all_in_order() -> None:
    """Each ends at its own time with a 408; the task is not left cancelled."""
    bodies = Bodies(0.05)

    async def read() -> str:
        with pytest.raises(Problem) as caught:
            await bodies.read(_never, None, 100)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return caught.value.code

    async def later() -> str:
        await asyncio.sleep(0.03)
        return await read()

    assert await asyncio.gather(read(), later(), read()) == ["body_timeout"] * 3


@pytest.mark.anyio
async def test_a_cancelled_request_stays_cancelled() -> None:
    """A reading that is cancelled by somebody else, before or while it is refused, is no timeout."""
    bodies = Bodies(30)
    task = asyncio.create_task(bodies.read(_never, None, 100))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert BUDGET.used == 0


@pytest.mark.anyio
async def test_one_that_is_the_oldest_itself_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cancellation that would reach what comes after it."""
    monkeypatch.setattr(BUDGET, "limit", 50)
    parts = [b"x" * 100, b"y"]

    async def receive() -> Any:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    with pytest.raises(Problem) as caught:
        await Bodies(30).read(receive, None, 1000)
    assert caught.value.code == "unfinished"
    await asyncio.sleep(0)
    assert BUDGET.used == 0
