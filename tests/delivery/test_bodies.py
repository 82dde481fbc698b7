"""Bodies that don't end: each has its time, and all together a budget, whose oldest holders give way."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import select
import selectors
import socket
import sys
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serve import Serve

from newswire.delivery.bodies import Bodies
from newswire.delivery.problem import Problem
from newswire.delivery.strangers import BUDGET
from newswire.errors import LimitExceeded

HEAD = b"POST /channels/held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("size", [60_000, 300_000, 1_000_000])
def test_a_thousand_bodies_without_their_last_byte(tmp_path: Path, size: int) -> None:
    """All at once, each as far as the server takes it: less than 100 MB at the peak, and the server serves."""
    head = b"POST /channels/held HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
    request = head + b"x" * (size - 1)
    with Serve(tmp_path) as server, ExitStack() as stack:
        server.publish("honest", "first")
        before = _peak(server)
        waiting = selectors.DefaultSelector()
        for _ in range(1000):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
            connection.setblocking(False)
            waiting.register(connection, selectors.EVENT_WRITE, memoryview(request))
        while waiting.get_map() and (ready := waiting.select(1.0)):
            for key, _ in ready:
                try:
                    rest = key.data[_send(key.fileobj, key.data) :]
                except OSError:
                    rest = b""  # refused
                if rest:
                    waiting.modify(key.fileobj, selectors.EVENT_WRITE, rest)
                else:
                    waiting.unregister(key.fileobj)
        server.publish("honest", "second")
        assert _peak(server) - before < 100e6


def _peak(server: Serve) -> int:
    """The most memory that its process ever had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def _send(connection: Any, data: memoryview) -> int:
    sent: int = connection.send(data[:65536])
    return sent


async def _never() -> Any:
    await asyncio.Event().wait()


@pytest.mark.anyio
async def test_one_timer_serves_all_in_order() -> None:
    """Each ends at its own time with a 408; the task is not left cancelled."""
    bodies = Bodies(0.05, 100)

    async def read() -> str:
        with pytest.raises(Problem) as caught:
            await bodies.read(_never, None)
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
    bodies = Bodies(30, 1000)
    task = asyncio.create_task(bodies.read(_never, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert BUDGET.used == 0


@pytest.mark.anyio
async def test_one_that_is_the_oldest_itself_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cancellation that would reach what comes after it."""
    bodies = Bodies(30, 1000)
    monkeypatch.setattr(BUDGET, "limit", 50)
    parts = [b"x" * 100, b"y"]

    async def receive() -> Any:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    with pytest.raises(Problem) as caught:
        await bodies.read(receive, None)
    assert caught.value.code == "unfinished"
    await asyncio.sleep(0)
    assert BUDGET.used == 0


@pytest.mark.anyio
@pytest.mark.parametrize("size", [100, 10_000])
async def test_what_is_refused_is_freed_at_once(size: int) -> None:
    """While a body waits it alone refers to its pieces, and once it is refused nothing does, before any collection."""
    pieces = [bytes(size) for _ in range(3)]
    before = [sys.getrefcount(piece) for piece in pieces]
    waiting = asyncio.Event()
    left = iter(pieces)

    async def receive() -> Any:
        try:
            return {"type": "http.request", "body": next(left), "more_body": True}
        except StopIteration:
            waiting.set()
            return await _never()

    async def answer() -> str:
        try:
            await Bodies(30, 100_000).read(receive, None)
        except Problem as problem:
            return problem.code
        return ""

    gc.disable()
    try:
        task = asyncio.create_task(answer())
        await waiting.wait()
        assert BUDGET.used == 3 * size
        assert [sys.getrefcount(piece) for piece in pieces] == [count + (size == 10_000) for count in before]
        (held,) = BUDGET._held
        held.refuse_unfinished()
        assert held.unfinished() == 0
        assert [sys.getrefcount(piece) for piece in pieces] == before
        problem = weakref.ref(held.refusal)  # type: ignore[attr-defined]
        assert await task == "unfinished"
        del held, task
        assert problem() is None  # no circle through its traceback
    finally:
        gc.enable()
    assert BUDGET.used == 0


@pytest.mark.anyio
async def test_a_body_in_any_pieces_is_the_same() -> None:
    """Tiny and large ones in any order; what they cost is little more than what they hold."""
    chance = random.Random(7)
    bodies = Bodies(30, 10**7)
    for _ in range(50):
        pieces = [
            chance.randbytes(chance.choice([0, 1, 7, 4095, 4096, 70_000])) for _ in range(chance.randrange(1, 60))
        ]
        left = list(reversed(pieces))

        async def receive(left: list[bytes] = left) -> Any:
            return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

        assert await bodies.read(receive, None) == b"".join(pieces)
    assert BUDGET.used == 0


@pytest.mark.slow
@pytest.mark.anyio
async def test_each_piece_may_have_its_own_time() -> None:
    """With `each`, a body that goes on is not late, however long the whole takes; one that stops is."""
    bodies = Bodies(0.2, 10**6, each=True)
    parts = 6

    async def receive() -> Any:
        nonlocal parts
        parts -= 1
        if not parts:
            return await _never()
        await asyncio.sleep(0.06)  # the subject: the sum is longer than the time of one piece
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Problem) as caught:
        await bodies.read(receive, None)
    assert (caught.value.code, parts) == ("body_timeout", 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("announced", "most", "pieces", "limit"),
    [
        ("9" * 5000, None, [], 100),
        (101, None, [], 100),
        ("51", 50, [], 50),
        ("²", 50, [30, 30], 50),
        (None, 50, [51], 50),
    ],
)
async def test_a_body_that_is_too_large(announced: Any, most: int | None, pieces: list[int], limit: int) -> None:
    """It is refused before it is read if it says so, and else where it passes the limit, its own if that is less."""
    messages = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in pieces]

    async def receive() -> Any:
        return messages.pop(0)

    with pytest.raises(LimitExceeded) as caught:
        await Bodies(10.0, 100).read(receive, announced, most)
    assert caught.value.limit == limit
    assert messages == []
