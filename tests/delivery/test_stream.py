"""The ASGI path up to the interface: an application that a test drives, with a `send` that behaves as servers' do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from tests.fixtures.asgi_request import Client, Send, request_id

from newswire import Decoder, EventSourceResponse, Hub, StreamOptions

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def streaming(
    hub: Hub, client: Client, through: Callable[[Send], Send] = lambda send: send, **options: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """A subscription's stream to `client`, by way of a middleware's send; it has begun, and is ended at the end."""

    async def app() -> None:
        request_id.set("mine")
        response = EventSourceResponse(hub.subscribe("news"), options=StreamOptions(**options))
        await response({"type": "http", "method": "GET", "http_version": "1.1"}, client.receive, through(client.send))

    task = asyncio.create_task(app())
    try:
        await client.until(lambda: "retry:" in client.text)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


async def test_a_send_runs_as_the_stream_s_own_task(hub: Hub) -> None:
    """Whether it waits or not, a send sees the stream's task and context variables, whoever publishes."""
    client = Client()
    async with streaming(hub, client) as task:
        await hub.publish("news", "one")
        await client.until(lambda: "one" in client.text)
        client.open.clear()
        await hub.publish("news", "two")
        await client.until(lambda: client.waiting == 1)
        client.open.set()
        await client.until(lambda: "two" in client.text)
        assert set(client.tasks) == {task}
        assert set(client.ids) == {"mine"}


async def test_padded_heartbeats(hub: Hub) -> None:
    """Each stream has its own padding, beside others on the same channel, and every decoder ignores it."""
    padded, plain = Client(), Client()
    async with streaming(hub, padded, heartbeat=0.02, heartbeat_padding=2000), streaming(hub, plain, heartbeat=0.02):
        await padded.until(lambda: padded.text.count("\n:" + " " * 2000 + "\n") >= 1)
        await plain.until(lambda: plain.text.count("\n:\n") >= 1)
        await hub.publish("news", "one")
        await padded.until(lambda: "data: one" in padded.text)
        assert "  " not in plain.text
        assert [event.data for event in Decoder().feed(padded.text.encode())] == ["one"]


async def test_one_send_at_a_time_and_everything_in_order(hub: Hub) -> None:
    """While a send waits nothing else is sent; then comes all that was published meanwhile, in order, once."""
    client = Client()
    async with streaming(hub, client):
        client.open.clear()
        for number in range(10):
            await hub.publish("news", f"<{number}>")
        await client.until(lambda: client.waiting > 0)
        for number in range(10, 20):
            await hub.publish("news", f"<{number}>")
        assert client.waiting == 1
        client.open.set()
        await client.until(lambda: "<19>" in client.text)
        places = [client.text.index(f"data: <{number}>\n") for number in range(20)]
        assert places == sorted(places)
        assert client.text.count("data:") == 20


async def test_events_beside_a_reader_that_stalls(hub: Hub) -> None:
    """A send that waits keeps no other stream waiting."""
    stuck, healthy = Client(), Client()
    async with streaming(hub, stuck), streaming(hub, healthy):
        stuck.open.clear()
        for number in range(50):
            await hub.publish("news", f"<{number}>")
        await healthy.until(lambda: "<49>" in healthy.text)
        assert stuck.waiting == 1


async def test_an_error_of_send_ends_this_stream_only(hub: Hub) -> None:
    """What `send` raises comes out of the application, as it would from any await; others get their events."""
    failing, healthy = Client(), Client()
    async with streaming(hub, failing) as task, streaming(hub, healthy):
        failing.fails = OSError("broken pipe")
        await hub.publish("news", "one")
        with pytest.raises(OSError, match="broken pipe"):
            await task
        await healthy.until(lambda: "one" in healthy.text)
        assert hub.stats().subscribers == 1


def asyncio_timeout(send: Send) -> Send:
    async def limited(message: dict[str, Any]) -> None:
        async with asyncio.timeout(0.05):
            await send(message)

    return limited


def anyio_timeout(send: Send) -> Send:
    async def limited(message: dict[str, Any]) -> None:
        with anyio.fail_after(0.05):
            await send(message)

    return limited


@pytest.mark.parametrize("through", [asyncio_timeout, anyio_timeout])
async def test_time_outs_around_a_send_hold(hub: Hub, through: Callable[[Send], Send]) -> None:
    """A middleware's time-out, set up before a send was found to wait, ends that send, and only that."""
    client = Client()
    async with streaming(hub, client, through) as task:
        await hub.publish("news", "one")
        await client.until(lambda: "one" in client.text)
        client.open.clear()
        await hub.publish("news", "two")
        with pytest.raises(TimeoutError):
            await task
        assert not task.cancelled()
        assert task.cancelling() == 0


async def test_a_send_may_wait_in_many_ways(hub: Hub) -> None:
    """Bare yields, anyio's checkpoints and awaitables that are no coroutines: all arrive, once."""

    class Resting:
        def __init__(self, send: Send, message: dict[str, Any]) -> None:
            self._sending = send(message)

        def __await__(self) -> Iterator[Any]:
            yield
            yield from self._sending.__await__()

    def through(send: Send) -> Send:
        async def checked(message: dict[str, Any]) -> None:
            await anyio.lowlevel.checkpoint()
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            await send(message)

        return lambda message: Resting(checked, message)

    client = Client()
    async with streaming(hub, client, through):
        for number in range(20):
            await hub.publish("news", f"<{number}>")
        await client.until(lambda: "<19>" in client.text)
        assert client.text.count("data:") == 20


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
async def test_cancelling_reaches_a_send_that_waits(hub: Hub, at_once: bool) -> None:
    """A cancelled request's send hears of it, before the stream's task knows that it waits as well as later."""
    heard: list[bytes] = []

    def through(send: Send) -> Send:
        async def listening(message: dict[str, Any]) -> None:
            try:
                await send(message)
            except asyncio.CancelledError:
                heard.append(message["body"])
                raise

        return listening

    client = Client()
    async with streaming(hub, client, through) as task:
        client.open.clear()
        if at_once:
            client.on_wait = lambda: heard or asyncio.get_running_loop().call_soon(task.cancel)
        await hub.publish("news", "one")
        await client.until(lambda: client.waiting == 1)
        if not at_once:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert b"data: one" in heard[0]
        assert hub.stats().subscribers == 0


async def test_a_stream_that_is_cut_ends_without_an_error(hub: Hub) -> None:
    """Who takes nothing for the write time-out is cut: the waiting send is left, and the request is not cancelled."""
    client = Client()
    async with streaming(hub, client, write_timeout=0.3) as task:
        client.open.clear()
        await hub.publish("news", "one")
        async with asyncio.timeout(10):
            await task
        assert task.cancelling() == 0
        assert client.waiting == 0
        assert hub.stats().subscribers == 0


async def test_a_goodbye_comes_after_what_was_begun(hub: Hub) -> None:
    """A stream that is ended while a send waits sends the rest of it, then goodbye, then the end of the response."""
    client = Client()
    async with streaming(hub, client) as task:
        client.open.clear()
        await hub.publish("news", "one")
        await client.until(lambda: client.waiting == 1)
        stopping = asyncio.create_task(hub.shutdown())
        await asyncio.sleep(0)
        client.open.set()
        await stopping
        await task
        assert client.text.index("data: one") < client.text.index("newswire.goodbye")
        assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_max_bytes_ends_a_stream_with_a_goodbye(hub: Hub) -> None:
    """After so many bytes the client is sent away, and the response is completed."""
    client = Client()
    async with streaming(hub, client, max_bytes=1000) as task:
        for number in range(100):
            await hub.publish("news", f"<{number}>")
            await asyncio.sleep(0)
        await task
        assert 1000 <= len(client.text) < 1400
        assert "newswire.goodbye" in client.text
        assert client.sent[-1]["more_body"] is False


async def test_a_client_that_leaves_ends_the_stream(hub: Hub) -> None:
    """`http.disconnect` ends it, though nothing is sent."""
    client = Client()
    async with streaming(hub, client) as task:
        client.left.set()
        async with asyncio.timeout(10):
            await task
        assert hub.stats().subscribers == 0
