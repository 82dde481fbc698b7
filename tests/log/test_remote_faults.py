"""Logs on servers in trouble, the same for each engine: readers lose nothing and get nothing twice.

What only one engine knows (a wiped server, an evicted key, a dropped table) is in its own module.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from tests.fixtures.engines import Nats, Postgres, Server, Valkey
from tests.fixtures.tcp_proxy import TcpProxy
from tests.log.redis_reader import PATIENCE, Reader
from tests.log.two_logs import two_logs, until_answered, until_stored

from newswire.errors import LogUnavailable, TokenReused
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.nats.engine import NatsLog
from newswire.log.postgres.engine import PostgresLog
from newswire.log.redis.engine import RedisLog
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KINDS: dict[str, tuple[Callable[[], Server], Callable[[int, str], Log]]] = {
    "valkey": (
        lambda: Valkey("--appendonly", "yes", "--appendfsync", "always"),
        lambda port, namespace: RedisLog(f"redis://127.0.0.1:{port}/0", namespace=namespace),
    ),
    "nats": (Nats, lambda port, namespace: NatsLog(f"nats://127.0.0.1:{port}", namespace=namespace)),
    "postgres": (
        Postgres,
        lambda port, namespace: PostgresLog(f"postgresql://postgres@127.0.0.1:{port}/postgres", namespace=namespace),
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The engine."""
    return str(request.param)


@pytest.fixture
def shared(kind: str, request: pytest.FixtureRequest) -> Server:
    """The server that all tests have."""
    server: Server = request.getfixturevalue(kind)
    return server


@pytest.fixture(scope="module")
def own(kind: str) -> Iterator[Server]:
    """A server of this module's, which tests stop and start again, and which forgets nothing that it has stored."""
    with KINDS[kind][0]() as server:
        yield server


@pytest.fixture
def make(kind: str) -> Callable[[int], Log]:
    """Makes objects of one log that no other test has, on the server of a port."""
    namespace = secrets.token_hex(8)
    return lambda port: KINDS[kind][1](port, namespace)


async def test_connections_are_cut_at_random(shared: Server, make: Callable[[int], Log]) -> None:
    """Each event is there once, in order, and no reader sees a gap."""
    with TcpProxy(shared.port) as proxy:
        async with two_logs(make(proxy.port), make(proxy.port)) as (publishers, readers):
            for round in range(12):
                if round % 3 == 2:
                    proxy.cut_answers = 2
                proxy.cut()
                for publisher in publishers:
                    await publisher.more(10)
        assert all(None not in reader.seen for reader in readers)
        assert all(len(reader.epochs) == 1 for reader in readers)


async def test_outcomes_of_a_call_whose_answer_was_lost(shared: Server, make: Callable[[int], Log]) -> None:
    """They are those of the first time, whether it was stored, kept out, known or known with another length."""
    one, two = [("a", Event("1"))], [("a", Event("2")), ("a", Event("3"))]
    with TcpProxy(shared.port) as proxy:
        async with opened(make(proxy.port)) as log:
            [first] = await log.append(one, token="one")
            for round in range(3):
                proxy.cut_answers = 1
                stored, refused, known, reused = await asyncio.gather(
                    log.append(two, token=f"two {round}"),
                    log.append_if(one, Condition("a", first.offset), token=f"if {round}"),
                    log.append(one, token="one"),
                    log.append(two, token="one"),
                    return_exceptions=True,
                )
                assert isinstance(stored, list)
                assert [each.offset - stored[0].offset for each in stored] == [0, 1]
                assert refused is None
                assert known == [first]
                assert isinstance(reused, TokenReused)
            proxy.cut_answers = 0
            await until_answered(log)
            assert [entry.data for entry in await read_all(log, "a")] == ["1", "2", "3", "2", "3", "2", "3"]


async def test_a_connection_that_was_lost_while_nothing_was_sent(shared: Server, make: Callable[[int], Log]) -> None:
    """The next batch is stored on another connection, and no error is seen."""
    with TcpProxy(shared.port) as proxy:
        async with opened(make(proxy.port)) as log:
            for number in range(5):
                await publish(log, "a", str(number))
                proxy.cut()
                await asyncio.sleep(0.05)
            assert [entry.data for entry in await read_all(log, "a")] == ["0", "1", "2", "3", "4"]


async def test_an_address_that_leads_to_another_server(shared: Server, own: Server, make: Callable[[int], Log]) -> None:
    """One connection is made again, to the other server: all are, so that what is acknowledged is where readers are."""
    for number in range(4):
        with TcpProxy(shared.port) as proxy:
            async with opened(make(proxy.port)) as log, Reader(log) as reader:
                await publish(log, "a", f"{number} before")
                await reader.saw(f"{number} before")
                proxy.lead_to(own.port)
                if not proxy.cut_one(number):
                    assert number > 0
                    return
                async with asyncio.timeout(PATIENCE):
                    while len(reader.epochs) < 2:
                        with suppress(LogUnavailable):
                            await log.newest(["a"])
                        await until_stored(log, f"{number} at first")
                await until_stored(log, f"{number} after")
                await reader.saw(f"{number} after")
                async with opened(make(own.port)) as other:
                    assert f"{number} after" in [entry.data for entry in await read_all(other, "a")]


async def test_a_killed_server(own: Server, make: Callable[[int], Log]) -> None:
    """After `kill -9` and a start nothing is lost or doubled, and no reader sees a gap."""
    async with two_logs(make(own.port), make(own.port)) as (publishers, readers):
        for _ in range(2):
            own.kill()
            await asyncio.sleep(0.02)
            own.start()
            for publisher in publishers:
                await publisher.more(10)
    assert all(None not in reader.seen for reader in readers)
    assert all(len(reader.epochs) == 3 for reader in readers)


async def test_a_frozen_server(own: Server, make: Callable[[int], Log]) -> None:
    """A server that stands still for less than the timeout delays what is published; nothing else happens."""
    async with two_logs(make(own.port), make(own.port)) as (publishers, readers):
        own.pause()
        await asyncio.sleep(1.5)
        own.resume()
    assert all(None not in reader.seen for reader in readers)
    assert sum(publisher.failures for publisher in publishers) == 0


async def test_publishing_fails_fast_while_the_server_is_away(own: Server, make: Callable[[int], Log]) -> None:
    """Nothing waits for a server that is known to be away; it goes on by itself when it is back."""
    async with opened(make(own.port)) as log, Reader(log) as reader:
        await publish(log, "a", "before")
        own.pause()
        sent = asyncio.create_task(log.append([("a", Event("sent as it died"))], token="one"))
        await asyncio.sleep(0.1)
        own.kill()
        await asyncio.sleep(0.1)
        begin = time.perf_counter()
        for _ in range(100):
            with pytest.raises(LogUnavailable, match="can't be reached"):
                await publish(log, "a", "never")
        assert time.perf_counter() - begin < PATIENCE  # one timeout of 5 s for each would be 500
        own.start()
        await asyncio.wait([sent])
        if (error := sent.exception()) is not None:  # the connection was known to be lost before it was sent
            assert isinstance(error, LogUnavailable)
        await until_stored(log, "after")
        await reader.saw("after")
        assert None not in reader.seen
        assert "never" not in reader.seen
        assert reader.seen.count("sent as it died") == (error is None)


async def test_another_event_loop(shared: Server, make: Callable[[int], Log]) -> None:
    """A log that was left open in an event loop that has ended is used in the next one."""
    log = make(shared.port)

    def use(data: str) -> list[int]:
        return asyncio.run(publish(log, "a", data))

    assert await asyncio.to_thread(use, "1") == [1]
    assert await asyncio.to_thread(use, "2") == [2]
    assert await publish(log, "a", "3") == [3]
    await log.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_fork(shared: Server, make: Callable[[int], Log]) -> None:
    """The child of a fork makes connections of its own, and takes nothing from its parent's."""
    async with opened(make(shared.port)) as log, Reader(log) as reader:
        await publish(log, "a", "parent")
        child = os.fork()
        if child == 0:
            try:
                asyncio.events._set_running_loop(None)
                stored = asyncio.run(publish(log, "a", "child"))
                os._exit(0 if stored == [2] else 1)
            finally:
                os._exit(2)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        await publish(log, "a", "parent again")
        await reader.saw("parent again")
        assert reader.seen == ["parent", "child", "parent again"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_forks_of_a_log_that_was_not_used(shared: Server, make: Callable[[int], Log]) -> None:
    """A log that was made before a fork and is used after it is another writer in each child: no one gets the
    outcomes of another's."""
    log = make(shared.port)
    for name in "12":
        child = os.fork()
        if child == 0:
            try:
                asyncio.events._set_running_loop(None)
                stored = [asyncio.run(publish(log, "a", f"{name}.{number}"))[0] for number in range(3)]
                os._exit(0 if stored == ([1, 2, 3] if name == "1" else [4, 5, 6]) else 1)
            finally:
                os._exit(2)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
    async with opened(log):
        entries = await read_all(log, "a")
        assert [entry.data for entry in entries] == [f"{name}.{number}" for name in "12" for number in range(3)]
