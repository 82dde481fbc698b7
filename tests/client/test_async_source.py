"""What only the source of event loops has to survive."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.client.test_transports import async_client
from tests.fixtures.paused import pause, run

from newswire.client import AsyncEventSource
from newswire.testing import Answer, BadServer


class Held(BadServer):
    """The test itself may write to the connections."""

    def __init__(self) -> None:
        super().__init__([Answer(b"data: a\n\n", end="hang")])
        self.peers: list[socket.socket] = []

    def _serve(self, peer: socket.socket, number: int) -> None:
        self.peers.append(peer)
        super()._serve(peer, number)


@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
def test_what_came_in_a_pause_is_read(name: str) -> None:
    """A process that was stopped, or an event loop that was blocked, for longer than a peer may be silent has missed
    nothing: the source keeps the connection, and events without ids are not lost."""

    async def main() -> None:
        with Held() as server:
            async with async_client(name) as client, AsyncEventSource(server.url, client=client) as source:
                assert (await anext(source)).data == "a"
                waiting = asyncio.create_task(anext(source))
                await asyncio.sleep(0.01)
                server.peers[0].sendall(b"data: b\n\n")
                pause(1000)
                assert (await waiting).data == "b"
                assert source.stats.opened == 1

    run(main())
