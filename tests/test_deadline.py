"""A limit of time, in an event loop that does not always get to look."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from tests.fixtures.paused import pause, run

from newswire.deadline import Deadline


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def test_what_came_in_a_pause_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    """With `asyncio.timeout` it would be lost."""

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        loop.call_soon(pause, 60)
        loop.call_soon(pair[1].send, b"x")
        async with Deadline(30):
            return await loop.sock_recv(pair[0], 1)

    assert run(main()) == b"x"


def test_a_pause_is_forgiven_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """Where nothing came, the time is over soon after it, also in an event loop that is late all the time."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()

        def always_late() -> None:
            pause(20)
            loop.call_soon(always_late)

        always_late()
        deadline = Deadline(30)
        with pytest.raises(TimeoutError):
            async with deadline:
                await loop.sock_recv(pair[0], 1)
        return deadline.expired()

    assert run(main())


def test_the_time_is_over() -> None:
    """Without a pause it is as `asyncio.timeout`; no timer is left behind."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with Deadline(0.01):
                await asyncio.sleep(60)
        async with Deadline(None), Deadline(60) as deadline:
            await asyncio.sleep(0)
        assert not deadline.expired()
        with pytest.raises(asyncio.CancelledError):
            async with Deadline(60):
                raise asyncio.CancelledError
        assert not [each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()]  # type: ignore[attr-defined]

    run(main())
