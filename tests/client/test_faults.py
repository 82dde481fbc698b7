"""200 seeded faults between a source and a live `newswire serve`: nothing lost, nothing doubled, in order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import Serve

from newswire.client import AsyncEventSource, Backoff, EventSource, Options, Timeouts
from newswire.testing import ChaosProxy
from newswire.testing.chaos import FAULTS
from newswire.wire.event import Event

LAST = "the last one"
OPTIONS = Options(
    backoff=Backoff(retry=0.01, first=0.01, cap=0.05),
    timeouts=Timeouts(connect=2, response=0.5, inactivity=0.2),
)


class Publisher(threading.Thread):
    """Publishes events of many shapes while faults are left, and then the last one."""

    def __init__(self, server: Serve, more: Callable[[], bool]) -> None:
        super().__init__(name="publisher")
        self.sent: list[str] = []
        self._url = f"{server.url}/channels/news"
        self._more = more

    def run(self) -> None:
        with httpx2.Client() as client:
            number = 0
            while self._more():
                time.sleep(0.02)  # events come while faults strike, and do not fill the log
                self._send(client, f"{number} žluťoučký 𝄞\nkůň " + "€" * (number * 7 % 50))
                number += 1
            self._send(client, LAST)

    def _send(self, client: httpx2.Client, data: str) -> None:
        client.post(self._url, content=data.encode()).raise_for_status()
        self.sent.append(data)


def read_sync(url: str) -> list[Event]:
    with EventSource(url, options=OPTIONS) as source:
        events = []
        for event in source:
            events.append(event)
            if event.data == LAST:
                break
        return events


async def read_async(url: str) -> list[Event]:
    async with AsyncEventSource(url, options=OPTIONS) as source:
        events = []
        async for event in source:
            events.append(event)
            if event.data == LAST:
                break
        return events


@pytest.mark.slow
def test_200_faults(face, tmp_path: Path) -> None:
    """Between two events a subscriber gets, nothing is missing, whatever the network does; and none comes twice."""
    with Serve(tmp_path, "--retry", "10") as server, ChaosProxy("127.0.0.1", server.port, seed=7, reach=800) as proxy:
        failed = threading.Event()
        publisher = Publisher(server, lambda: proxy.left > 0 and not failed.is_set())
        publisher.start()
        url = f"{proxy.url}/channels/news?from=earliest"
        try:
            events = read_sync(url) if face.name == "sync" else asyncio.run(read_async(url))
        except BaseException:
            failed.set()
            raise
        finally:
            publisher.join()
        assert [event.data for event in events] == publisher.sent
        assert sum(proxy.suffered.values()) == 200
        assert set(proxy.suffered) == set(FAULTS)
