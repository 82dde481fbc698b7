"""Two servers on one NATS: readers move from one to the other, and each of the three may die."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from nats.aio.client import Client
from tests.fixtures.engines import Nats
from tests.fixtures.serve import Reader, Serve

pytestmark = pytest.mark.slow

FLAGS = ("--retention", "none", "--heartbeat", "1")


@pytest.fixture
def nats_server() -> Iterator[Nats]:
    """A server of the test's own, with a password."""
    with Nats("--user", "hub", "--pass", "s3cret") as server:
        yield server


@pytest.fixture
def servers(nats_server: Nats, tmp_path: Path) -> Iterator[list[Serve]]:
    """Two of newswire's servers on it."""
    url = f"nats://hub:s3cret@127.0.0.1:{nats_server.port}"
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with Serve(folders[0], "--log", url, *FLAGS) as one, Serve(folders[1], "--log", url, *FLAGS) as two:
        yield [one, two]
    assert "s3cret" not in one.stderr() + two.stderr()


def test_readers_of_each_get_what_is_published_at_either(servers: list[Serve]) -> None:
    """In one order, and a cursor of one server is good at the other, also after a kill -9."""
    one, two = servers
    with Reader(f"{one.url}/channels/news") as at_one, Reader(f"{two.url}/channels/news") as at_two:
        at_one.opened()
        at_two.opened()
        for number in range(20):
            servers[number % 2].publish("news", str(number))
        expected = [str(number) for number in range(20)]
        first, second = at_one.read(20), at_two.read(20)
        assert [event.data for event in first] == expected
        assert first == second
        one.stop(signal.SIGKILL)
        two.publish("news", "20")
        with Reader(f"{two.url}/channels/news", {"Last-Event-ID": first[14].id or ""}) as moved:
            assert [event.data for event in moved.read(6)] == ["15", "16", "17", "18", "19", "20"]
        one.start()
        one.publish("news", "21")
        assert [event.data for event in at_two.read(2)] == ["20", "21"]
    assert one.stored("news") == two.stored("news") == [str(number) for number in range(22)]


def test_streams_stay_when_nats_goes(servers: list[Serve], nats_server: Nats) -> None:
    """Streams stay open with heartbeats; a publish fails with 503; after its return all goes on, without a gap."""
    one, two = servers
    with Reader(f"{one.url}/channels/news") as at_one, Reader(f"{two.url}/channels/news") as at_two:
        at_one.opened()
        at_two.opened()
        one.publish("news", "before")
        nats_server.kill()
        assert _status(two, "away") == 503
        nats_server.start()
        while _status(two, "after") != 200:
            time.sleep(0.02)
        for reader in (at_one, at_two):
            data = [event.data for event in reader.read(2)]
            assert data[0] == "before"
            assert data[1] in ("away", "after")  # a publish without an answer may be there
        assert one.stored("news") == two.stored("news")


def test_a_stream_is_deleted_under_open_readers(servers: list[Serve], nats_server: Nats) -> None:
    """Each reader gets a gap and then what is new; a cursor from before gets a gap at either server, and no error."""
    one, two = servers
    with Reader(f"{one.url}/channels/news") as at_one, Reader(f"{two.url}/channels/news") as at_two:
        at_one.opened()
        at_two.opened()
        for number in range(3):
            one.publish("news", str(number))
        first, second = at_one.read(3), at_two.read(3)
        asyncio.run(_delete(f"nats://hub:s3cret@127.0.0.1:{nats_server.port}"))
        while _status(two, "new") != 200:
            time.sleep(0.02)
        for reader in (at_one, at_two):
            gap, new = reader.read(2)
            assert gap.event == "newswire.gap"
            assert new.data == "new"
        for server, cursor in ((one, second[1].id), (two, first[1].id)):
            with Reader(f"{server.url}/channels/news", {"Last-Event-ID": cursor or ""}) as late:
                assert late.answer.status_code == 200, late.answer.read()
                gap, new = late.read(2)
                assert (gap.event, new.data) == ("newswire.gap", "new")


async def _delete(url: str) -> None:
    client = Client()
    await client.connect(url)
    answer = await client.request("$JS.API.STREAM.DELETE.newswire", b"", timeout=10)
    assert b'"success":true' in answer.data
    await client.close()


def _status(server: Serve, data: str) -> int:
    return httpx2.post(f"{server.url}/channels/news", content=data, timeout=30).status_code
