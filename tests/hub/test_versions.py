"""Versioned publish on every log: what is older than what is there is dropped, whoever publishes it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from uuid import uuid4

import pytest
from tests.fixtures.engines import Valkey

from newswire import Hub, NewswireError, Pattern
from newswire.hub import versions

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite", "valkey", "nats", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = f"versions_{uuid4().hex[:8]}"
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    server = request.getfixturevalue(request.param)
    option = "schema" if request.param == "postgres" else "namespace"
    return f"{server.url}?{option}={name}"


async def kept(hub: Hub, channel: str) -> list[str]:
    """The data of a channel's events."""
    page, _ = await hub.history(channel, limit=1000)
    return [entry.data for entry in page.entries]


async def test_older_is_dropped(url: str) -> None:
    """An older or equal version stores nothing, and gets the position of the one that is there."""
    async with Hub(url) as hub:
        one = await hub.publish("a", "1", version=10)
        two = await hub.publish("a", "2", version=12)
        for version in (12, 11, 10, -5):
            dropped = await hub.publish("a", "old", version=version)
            assert (dropped, dropped.stored) == (two, False)
        assert one.stored
        assert two.stored
        assert two > one
        assert (await hub.publish("b", "another channel", version=1)).stored
        assert (await hub.publish("a", "no version")).stored
        assert (await hub.publish("a", "3", version=13, event="moved", wait=5)).stored
        long = "x" * 250
        assert (await hub.publish(long, "1", version=1)).stored
        assert not (await hub.publish(long, "1", version=1)).stored
        assert await kept(hub, "a") == ["1", "2", "no version", "3"]
        reading = aiter(hub.subscribe(Pattern(">"), start="earliest"))
        assert [(await anext(reading)).data for _ in range(6)][-2:] == ["3", "1"]


async def test_at_the_same_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several publishers, each with a connection of its own, in random order: what is stored only grows."""
    monkeypatch.setattr(versions, "_CUT", 10)
    dice = random.Random(11)
    async with Hub(url) as one, Hub(url) as two:
        hubs = [one] if url == "memory://" else [one, two]

        async def publish(hub: Hub, numbers: list[int]) -> int:
            found = [(await hub.publish("a", f"{number}", version=number)).stored for number in numbers]
            return sum(found)

        orders = [dice.sample(range(60), 60) for _ in range(6)]
        counts = await asyncio.gather(*(publish(hubs[i % len(hubs)], order) for i, order in enumerate(orders)))
        found = [int(data) for data in await kept(one, "a")]
        assert found == sorted(set(found))
        assert found[-1] == 59
        assert len(found) == sum(counts)
    async with Hub(url) as hub:
        if url != "memory://":
            assert not (await hub.publish("a", "59", version=59)).stored
            records, _ = await hub.history("$version.a")
            assert len(records.entries) == 1


async def test_a_wiped_log_has_no_versions() -> None:
    """What a hub knows of the log before, and was about to remove there, means nothing in the new one."""
    with Valkey() as server:
        async with Hub(server.url) as one, Hub(server.url) as other:
            await one.publish("a", "5", version=5)
            server.ask("FLUSHALL")
            there = await other.publish("a", "10", version=10)
            assert await one.log.newest(["a"])  # it knows that the log is another one; the record has the same offset
            dropped = await one.publish("a", "7", version=7)
            assert (dropped, dropped.stored) == (there, False)
            for version in range(11, 20):
                assert (await one.publish("a", "more", version=version)).stored
            server.ask("FLUSHALL")
            assert (await other.publish("a", "100", version=100)).stored
        async with Hub(server.url) as hub:
            assert not (await hub.publish("a", "50", version=50)).stored
            assert await kept(hub, "a") == ["100"]


async def test_what_can_t_be(tmp_path: Path) -> None:
    """A version is a whole number, and stands alone."""
    async with Hub() as hub:
        for version in (1.5, "1", True, 2**63):
            with pytest.raises(ValueError, match="whole number of 64 bits"):
                await hub.publish("a", "x", version=version)
        with pytest.raises(ValueError, match="leave out the idempotency key"):
            await hub.publish("a", "x", version=1, idempotency_key="k")
        with pytest.raises(ValueError, match="order of the commits"):
            await hub.publish("a", "x", version=1, connection=object())
        with pytest.raises(NewswireError):
            await hub.publish("a b", "x", version=1)
        assert await kept(hub, "a") == []


def test_in_threads(tmp_path: Path) -> None:
    """`hub.sync` takes versions as well."""
    hub = Hub(f"sqlite:///{tmp_path}/log.db")
    assert hub.sync.publish("a", "1", version=2).stored
    assert not hub.sync.publish("a", "1", version=1).stored
    hub.sync.close()
