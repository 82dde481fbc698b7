"""The connection to a NATS server: what comes is handed over as it is read, or through nats-py's queues."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from tests.fixtures.engines import Nats

from newswire.log.nats.client import DirectClient
from newswire.log.nats.engine import NatsLog
from newswire.log.nats.link import Msg, NatsLink
from newswire.testing.log_base import closing, opened, take
from newswire.wire.event import Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


class Numberless:
    """A subscription of a client that numbers them otherwise."""

    def __init__(self, subscription: Subscription) -> None:
        self.unsubscribe = subscription.unsubscribe


@pytest.fixture(params=["direct", "queues", "queues, without numbers"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How messages come. By the queues: as with a client that does not have or call what is private."""
    if request.param == "queues":
        monkeypatch.setattr(DirectClient, "_process_msg", Client._process_msg)
    elif request.param != "direct":

        async def subscribe(self: Client, *args: Any, **options: Any) -> Numberless:
            return Numberless(await Client.subscribe(self, *args, **options))

        monkeypatch.setattr(DirectClient, "subscribe", subscribe)
    return str(request.param)


@pytest.fixture
async def link(nats: Nats, way: str) -> AsyncGenerator[NatsLink]:
    """A connection of the test's own."""
    link = NatsLink(nats.url, 5.0)
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


async def test_a_callback_that_fails(link: NatsLink) -> None:
    """It has no effect on those after it."""

    def fail(message: Msg | None) -> None:
        if message is not None:
            raise RuntimeError("no")

    await link.send("$JS.API.INFO", b"", link.expect(fail))
    assert "memory" in await link.api("INFO")


async def test_nothing_is_left_of_who_listened(link: NatsLink, way: str) -> None:
    """Neither what is called, nor a subscription."""
    client = link._client
    assert client is not None
    before = dict(client._direct), list(client._subs)
    listener = await link.listen(lambda message: None)
    handed_over = 0 if way == "queues, without numbers" else 1
    assert (len(client._direct), len(client._subs)) == (len(before[0]) + handed_over, len(before[1]) + 1)
    await listener.close()
    await link.api("INFO")
    assert (dict(client._direct), list(client._subs)) == before
