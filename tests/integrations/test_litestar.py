"""Litestar's channels on a hub: its publishers and subscribers, history, and streams of the same channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.channels import ChannelsPlugin
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from tests.fixtures.asgi_request import first_events

from newswire import Hub, HubOptions, Retention
from newswire.errors import InvalidChannel
from newswire.integrations.litestar import HubChannels
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio
PATIENCE = 20.0


@asynccontextmanager
async def started(hub: Hub[Any], **more: Any) -> AsyncIterator[tuple[ChannelsPlugin, Litestar]]:
    """An application that has started."""
    backend = HubChannels(hub)
    plugin = ChannelsPlugin(backend, arbitrary_channels_allowed=True)
    app = Litestar([backend.handler(**more)], plugins=[plugin], logging_config=None)
    async with app.lifespan():
        yield plugin, app


async def take(subscriber: Any, count: int) -> list[bytes]:
    """The next events of one of the plugin's subscribers."""
    found: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        async for event in subscriber.iter_events():
            found.append(event)
            if len(found) == count:
                break
    return found


def test_a_path_that_names_no_channel() -> None:
    """It is refused where the handler is made, not at the first request."""
    with pytest.raises(ValueError, match=r"\{channel:str\}"):
        HubChannels(Hub("memory://")).handler("/events/{name:str}")


async def test_subscribers_of_the_plugin() -> None:
    """They get what is published to their channels, from the moment in which they subscribe."""
    async with started(Hub("memory://")) as (plugin, _):
        async with plugin.start_subscription(["news", "more"]) as subscriber:
            await plugin.wait_published({"n": 1}, "news")
            await plugin.wait_published({"n": 2}, "other")
            plugin.publish("three", ["more", "news"])
            assert await take(subscriber, 3) == [b'{"n":1}', b"three", b"three"]
        async with plugin.start_subscription("other") as subscriber:
            await plugin.wait_published({"n": 4}, "news")
            await plugin.wait_published({"n": 5}, "other")
            assert await take(subscriber, 1) == [b'{"n":5}']


async def test_history() -> None:
    """The newest events that the log keeps."""
    async with started(Hub("memory://")) as (plugin, _):
        for number in range(5):
            await plugin.wait_published(str(number), "news")
        async with plugin.start_subscription("news", history=2) as subscriber:
            assert await take(subscriber, 2) == [b"3", b"4"]
        async with plugin.start_subscription("empty", history=2) as subscriber:
            await plugin.wait_published("x", "empty")
            assert await take(subscriber, 1) == [b"x"]


async def test_two_processes_share_a_log(tmp_path: Path) -> None:
    """What one application publishes arrives at the subscribers of another."""
    url = f"sqlite:///{tmp_path}/log.db"
    async with started(Hub(url)) as (one, _), started(Hub(url)) as (other, _):  # noqa: SIM117
        async with other.start_subscription("news") as subscriber:
            await one.wait_published("hello", "news")
            assert await take(subscriber, 1) == [b"hello"]


async def test_streams_of_the_same_channels() -> None:
    """With ids, so that they resume; guards decide about them."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
        if connection.path_params["channel"] == "secret":
            raise NotAuthorizedException

    async with started(Hub("memory://"), path="/live/{channel:str}", guards=[guard]) as (plugin, app):  # noqa: SIM117
        async with asgi_client(app) as client:
            assert (await client.get("/live/secret")).status_code == 401
            async with client.stream("GET", "/live/news") as answer:
                await plugin.wait_published({"n": 1}, "news")
                [event, *_] = await first_events(answer)
                assert event.data == '{"n":1}'
            await plugin.wait_published({"n": 2}, "news")
            async with client.stream("GET", "/live/news", headers={"Last-Event-ID": event.id}) as answer:
                assert (await first_events(answer))[0].data == '{"n":2}'


async def test_what_cannot_be_published(caplog: pytest.LogCaptureFixture) -> None:
    """Raised where somebody waits for it; else logged, and the next events go out."""
    async with started(Hub("memory://")) as (plugin, _), plugin.start_subscription("news") as subscriber:
        with pytest.raises(InvalidChannel):
            await plugin.wait_published("x", "no channel\n")
        plugin.publish("x", "no channel\n")
        plugin.publish("good", "news")
        assert await take(subscriber, 1) == [b"good"]
    assert "can't be published" in caplog.text


async def test_the_application_starts_again() -> None:
    """As the tests of an application do."""
    hub = Hub("memory://")
    for _ in range(2):
        async with started(hub) as (plugin, _):
            await plugin.wait_published("x", "news")
        assert hub.closed


async def test_what_is_missing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A log that lost events before the plugin took them says so in a line, and goes on."""
    hub = Hub("memory://", retention=Retention(max_events=1), options=HubOptions(window_bytes=1))
    backend = HubChannels(hub)
    await backend.on_startup()
    await backend.subscribe(["news"])
    for number in range(3):
        await hub.publish("news", f"{number}")
    await hub.log.trim()
    async with asyncio.timeout(PATIENCE):
        assert await anext(backend.stream_events()) == ("news", b"2")
    assert "events are missing" in caplog.text
    await backend.on_shutdown()


async def test_not_started() -> None:
    """The error says what is missing."""
    with pytest.raises(RuntimeError, match="ChannelsPlugin"):
        await anext(HubChannels(Hub("memory://")).stream_events())
