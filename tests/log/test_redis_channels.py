"""The log on a Valkey server with many channels: pages of hundreds, patterns, and what is known of forgotten ones."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator

import pytest
from tests.fixtures.engines import Valkey
from tests.log.many_channels import ManyChannels, retention_by_itself

from newswire.log.log import Log
from newswire.log.redis.engine import RedisEngine, RedisLog
from newswire.log.retention import Retention
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio

_numbers = itertools.count()


@pytest.fixture
async def log(valkey: Valkey) -> AsyncIterator[Log]:
    """A log that keeps one event of most channels."""
    namespace = f"channels.{os.getpid()}.{next(_numbers)}"
    retention = {"all.>": Retention(), ">": Retention(max_bytes=10)}
    async with opened(RedisLog(valkey.url, namespace=namespace, retention=retention)) as log:
        yield log


class TestManyChannels(ManyChannels):
    """See there."""


@pytest.mark.slow
async def test_pages_of_many_channels(log: Log) -> None:
    """More channels than one script looks at are read in the order of the log, page by page."""
    names = [f"all.{number}" for number in range(900)]
    for round in range(3):
        await log.append([(name, Event(f"{name} {round}")) for name in names])
    wanted = names[::2]
    expected = [f"{name} {round}" for round in range(3) for name in wanted]
    for limit in (7, 100, 1000):
        assert [entry.data for entry in await read_all(log, *wanted, limit=limit)] == expected


@pytest.mark.parametrize("name", ["all.a%b", "all.a-b", "all.(a)", "all.[x]", "all.ü^$", "all.a+?", "all.%a"])
async def test_patterns_take_names_literally(log: Log, name: str) -> None:
    """What means something in the language of the server's scripts means nothing in a channel's name."""
    await publish(log, f"{name}.1", "mine")
    await publish(log, "all.aab.1", "other")
    await publish(log, "all.x.1", "other")
    assert [entry.data for entry in await read_all(log, f"{name}.*")] == ["mine"]


@pytest.mark.slow
async def test_retention_by_itself(valkey: Valkey) -> None:
    """See `retention_by_itself`."""
    namespace = f"retention.{os.getpid()}"
    retention = {"age": Retention(max_age=0.5), "count": Retention(max_events=2)}
    await retention_by_itself(lambda: RedisLog(valkey.url, namespace=namespace, retention=retention))


async def test_retention_by_a_clock_that_goes_back(valkey: Valkey) -> None:
    """What the keeper has not looked at yet is looked at when it has to go, though it is older than what is before."""
    now = 1000.0
    namespace = f"clock.{os.getpid()}"
    retention = Retention(max_age=50)
    async with opened(RedisLog(valkey.url, namespace=namespace, retention=retention, clock=lambda: now)) as log:
        engine = log.engine
        assert isinstance(engine, RedisEngine)
        await engine._retention.close()  # it looks when the test says so
        for now in (1000.0, 110.0, 5.0):
            await publish(log, "a", f"at {now:g}")
        assert await engine._retention._enforce(1, True) == 0
        now = 58.0
        assert await engine._retention._enforce(10, True) == 1
        assert [entry.data for entry in await read_all(log, "a")] == ["at 1000", "at 110"]
        now = 161.0
        assert await engine._retention._enforce(10, True) == 1
        assert [entry.data for entry in await read_all(log, "a")] == ["at 1000"]


async def test_a_log_begins_where_its_namespace_does(valkey: Valkey) -> None:
    """Logs of two namespaces on one server have nothing in common, and two objects of one have all."""
    one, two = f"one.{os.getpid()}", f"two.{os.getpid()}"
    async with (
        opened(RedisLog(valkey.url, namespace=one)) as log,
        opened(RedisLog(valkey.url, namespace=two)) as other,
        opened(RedisLog(valkey.url, namespace=one)) as same,
    ):
        await publish(log, "a", "1")
        assert await read_all(other, "a") == []
        assert await read_all(same, "a") == await read_all(log, "a") != []
        assert (await other.span()).epoch != (await log.span()).epoch == (await same.span()).epoch


@pytest.mark.parametrize("namespace", ["", "a b", "{a}", "x" * 101])
def test_bad_namespaces(namespace: str) -> None:
    """A namespace that can't be the beginning of a key is refused."""
    with pytest.raises(ValueError, match="namespace"):
        RedisLog("redis://", namespace=namespace)


async def test_retention_by_other_rules(valkey: Valkey) -> None:
    """The keeper looks at all channels again if its rules are others than those before; what an operator trims in
    between by rules of its own changes nothing for the keeper."""
    now = 1000.0
    namespace = f"rules.{os.getpid()}"

    def make(**limits: float) -> RedisLog:
        return RedisLog(valkey.url, namespace=namespace, retention=Retention(**limits), clock=lambda: now)  # type: ignore[arg-type]

    async def enforced(log: RedisLog) -> int:
        engine = log.engine
        assert isinstance(engine, RedisEngine)
        await log.span()  # it is in use
        await engine._retention.close()  # it looks when the test says so
        valkey.ask("DEL", f"{{{namespace}}}:keeper")
        return await engine._retention._enforce(100, True)

    async with (
        opened(make(max_age=100)) as keeper,
        opened(make(max_events=2)) as other,
        opened(make(max_age=50, max_events=1)) as third,
    ):
        await publish(keeper, "a", *"123")
        await publish(keeper, "b", *"45")
        assert [await enforced(keeper), await enforced(keeper)] == [0, 0]
        assert await other.trim() == 1
        assert await enforced(third) == 2
        assert await enforced(keeper) == 0
        now = 1101.0
        assert await enforced(keeper) == 2
