"""A tree: an origin and its edges as processes, readers that move, and edges that are killed."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator

import httpx2
import pytest
from tests.fixtures.serve import Reader, Serve

from newswire.client import AsyncEventSource, Backoff, Options

FAST = Options(backoff=Backoff(retry=0.1, first=0.1, cap=0.3, longest=0.3))


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The origin."""
    with Serve(tmp_path_factory.mktemp("origin"), "--edge-key", "k") as server:
        yield server


@pytest.fixture(scope="module")
def edges(origin: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Serve]]:
    """Three edges."""
    made: list[Serve] = []
    log = f"http://:k@127.0.0.1:{origin.port}/"
    try:
        while len(made) < 3:
            made.append(Serve(tmp_path_factory.mktemp("edge"), "--log", log, "--retry", "100"))
        yield made
    finally:
        for edge in made:
            edge.stop()


def test_a_cursor_is_good_at_every_edge_and_at_the_origin(origin: Serve, edges: list[Serve]) -> None:
    """A reader goes from one to the other, and misses and doubles nothing; publishing at an edge goes to the origin."""
    ids = [server.publish("news", f"{number}") for number, server in enumerate([origin, *edges])]
    offsets = [int(id.partition("-")[2]) for id in ids]
    assert offsets == [*range(offsets[0], offsets[0] + 4)]
    cursor = ids[0]
    for number, server in enumerate([*edges, origin, edges[0]], 4):
        with Reader(f"{server.url}/channels/news", {"last-event-id": cursor}) as reader:
            server.publish("news", f"{number}")
            seen = reader.read(3 if number == 4 else 0)
            seen += reader.read(1)
            assert [event.data for event in seen] == [str(each) for each in range(number - len(seen) + 1, number + 1)]
            cursor = seen[-1].id or ""
    assert origin.stored("news") == edges[1].stored("news") == [str(number) for number in range(9)]


@pytest.mark.slow
def test_readers_come_through_the_death_of_an_edge_and_of_the_origin(origin: Serve, edges: list[Serve]) -> None:
    """Each is killed and started again while events come; every reader has each event once, in order, without a gap."""
    count = 400
    stored: list[str] = []

    async def read(edge: Serve) -> list[str]:
        seen: list[str] = []
        async with AsyncEventSource(f"{edge.url}/channels/deaths?from=earliest", options=FAST) as source:
            async for event in source:
                assert event.event == "message", event
                if event.data == "last":
                    break
                seen.append(event.data)
        return seen

    async def publish() -> None:
        async with httpx2.AsyncClient(timeout=10) as client:
            for number in [*range(count), "last"]:
                edge = edges[len(stored) % 2]  # the third one is killed
                while True:
                    headers = {"idempotency-key": str(number)}
                    try:
                        answer = await client.post(f"{edge.url}/channels/deaths", content=str(number), headers=headers)
                    except httpx2.TransportError:
                        continue
                    if answer.status_code == 200:
                        stored.append(str(number))
                        break
                    assert answer.status_code == 503, answer.text
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.005)

    def trouble() -> None:
        edges[2].stop(signal.SIGKILL)
        edges[2].start()
        origin.stop(signal.SIGKILL)
        origin.start()

    async def main() -> list[list[str]]:
        async with asyncio.timeout(60):
            readers = [asyncio.create_task(read(edge)) for edge in edges for _ in range(5)]
            await asyncio.gather(publish(), asyncio.to_thread(trouble))
            return await asyncio.gather(*readers)

    for seen in asyncio.run(main()):
        assert seen == [str(number) for number in range(count)]


def test_the_origin_s_work_depends_on_its_edges_and_not_on_their_readers(origin: Serve, edges: list[Serve]) -> None:
    """Ten times the readers: as many streams, and as many requests for pages."""

    def requests() -> float:
        """How many requests the origin has had by now, without those for its metrics."""
        text = httpx2.get(f"{origin.url}/metrics").text
        found = re.findall(r"^newswire_http_requests_total{(.*)} (\S+)$", text, re.MULTILINE)
        return sum(float(value) for labels, value in found if "/log/" in labels)

    async def read(readers: int) -> None:
        """Readers of an edge that have all events, then one that all get live."""
        url = f"{edges[0].url}/channels/work?from=earliest"
        before = len(origin.stored("work"))

        async def one() -> None:
            async with AsyncEventSource(url, options=FAST) as source:
                seen = 0
                async for _ in source:
                    seen += 1
                    if seen == before:
                        arrived.release()
                    elif seen == before + 1:
                        return

        arrived = asyncio.Semaphore(0)
        async with asyncio.timeout(240), asyncio.TaskGroup() as tasks:
            for _ in range(readers):
                tasks.create_task(one())
            for _ in range(readers):
                await arrived.acquire()
            await asyncio.to_thread(edges[1].publish, "work", "live")

    for number in range(50):
        origin.publish("work", str(number))
    first = requests()
    asyncio.run(read(10))
    few = requests() - first
    asyncio.run(read(100))
    many = requests() - first - few
    assert many <= few + 2
