"""The log in a NATS cluster of three servers: every event is on all, and each of them may die."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.fixtures.engines import Nats
from tests.fixtures.ports import free_port
from tests.log.two_logs import two_logs

from newswire.errors import LogError
from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.nats.engine import NatsEngine, NatsLog
from newswire.testing.log_base import PATIENCE, opened, publish, read_all
from newswire.wire.event import Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Nats]]:
    """Three servers."""
    ports = [free_port() for _ in range(3)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        servers = []
        for number, port in enumerate(ports):
            cluster = ("--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{port}", "--routes", routes)
            servers.append(stack.enter_context(Nats("--name", f"s{number}", *cluster)))
        yield servers


@pytest.fixture
def url(cluster: list[Nats]) -> str:
    """Of all three."""
    return "nats://" + ",".join(f"127.0.0.1:{server.port}" for server in cluster) + ""


async def ready(log: Log) -> None:
    """Wait for the cluster's leaders."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await log.span()
                return
            except LogError:
                await asyncio.sleep(0.05)


async def test_what_is_stored_is_read(url: str) -> None:
    """By name, by pattern and for many channels, at once after it was stored; conditions, tokens and drops as ever."""
    async with opened(NatsLog(url, namespace="read", replicas=3)) as log:
        await ready(log)
        names = [f"a.{number}" for number in range(20)]
        for turn in range(20):
            await log.append([(name, Event(f"{turn}")) for name in names])
            for wanted in (names[:1], names, [Pattern("a.*")]):
                page = await log.read(Channels(wanted), turn * 20, 100)
                while page.through < (turn + 1) * 20:
                    more = await log.read(Channels(wanted), page.through, 100)
                    assert more.through > page.through
                    page = more
            assert len(await read_all(log, *names[:1])) == turn + 1
            assert len(await read_all(log, *names)) == 20 * (turn + 1)
        [newest] = await log.newest(["a.3"])
        assert newest is not None
        claims = [log.append_if([("a.3", Event("claim"))], Condition("a.3", newest.offset)) for _ in range(10)]
        assert sum(each is not None for each in await asyncio.gather(*claims)) == 1
        first = await log.append([("a.1", Event("x")), ("a.2", Event("y"))], token="one")
        assert await log.append([("a.1", Event("x")), ("a.2", Event("y"))], token="one") == first
        await log.drop({"a.1": first[0].offset})
        assert await read_all(log, "a.1") == []
        await publish(log, "a.1", "new")
        assert [entry.data for entry in await read_all(log, "a.1")] == ["new"]


async def test_the_leader_is_killed(cluster: list[Nats], url: str) -> None:
    """Another one goes on: each event is there once, in order, and no reader sees a gap."""
    one, other = (NatsLog(url, namespace="killed", replicas=3, timeout=2) for _ in range(2))
    await ready(one)
    async with two_logs(one, other) as (publishers, readers):
        assert isinstance(one.engine, NatsEngine)
        leader = (await one.engine._stream.look())["cluster"]["leader"]
        server = cluster[int(leader[1:])]
        server.kill()
        for publisher in publishers:
            await publisher.more(10)
        server.start()
        for publisher in publishers:
            await publisher.more(10)
    assert all(None not in reader.seen for reader in readers)
