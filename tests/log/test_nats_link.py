"""The connection to a NATS server: what comes is handed over as it is read, or through nats-py's queues."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator

import pytest
from nats.aio.client import Client
from tests.fixtures.engines import Nats

from newswire.log.nats.engine import NatsLog
from newswire.log.nats.link import Link, Msg, _Client
from newswire.testing.log_base import closing, opened, take
from newswire.wire.event import Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(params=["direct", "queues"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How messages come. By the queues: as with a client that does not call the private method."""
    if request.param == "queues":
        monkeypatch.setattr(_Client, "_process_msg", Client._process_msg)
    return str(request.param)


@pytest.fixture
async def link(nats: Nats, way: str) -> AsyncGenerator[Link]:
    """A connection of the test's own."""
    link = Link(nats.url, 5.0)
    await link.connect()
    yield link
    await link.close()


async def test_in_order_by_both_ways(nats: Nats, way: str) -> None:
    """Messages with headers and without come to another log in the order in which they were stored."""
    namespace = secrets.token_hex(8)
    sent = [(str(number), "kind" if number % 3 else "message") for number in range(300)]
    async with (
        opened(NatsLog(nats.url, namespace=namespace)) as log,
        opened(NatsLog(nats.url, namespace=namespace)) as other,
        closing(other.follow(0)) as follower,
    ):
        stored = [asyncio.ensure_future(log.append([("a", Event(data, event=type))])) for data, type in sent]
        found = await take(follower, len(sent))
        await asyncio.gather(*stored)
    assert [(each.data, each.event) for each in found] == sent


async def test_a_callback_that_fails(link: Link) -> None:
    """It has no effect on those after it."""

    def fail(message: Msg | None) -> None:
        if message is not None:
            raise RuntimeError("no")

    await link.send("$JS.API.INFO", b"", link.expect(fail))
    assert "memory" in await link.api("INFO")


async def test_nothing_is_left_of_who_listened(link: Link) -> None:
    """Neither what is called, nor a subscription."""
    assert link._client is not None
    before = len(link._client.direct), len(link._client._subs)
    listener = await link.listen(lambda message: None)
    assert len(link._client.direct) == before[0] + 1
    await listener.close()
    await link.api("INFO")
    assert (len(link._client.direct), len(link._client._subs)) == before
