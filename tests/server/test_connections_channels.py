"""`GET /channels`: the channels that are alive."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

import pytest

from newswire.server import Settings, connections, create_app
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio


async def test_channels_with_events_and_with_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, page by page, with their streams and kept events; the server's own streams and channels are none."""
    monkeypatch.setattr(connections, "_NAMES_AT_ONCE", 2)
    app = create_app(Settings(log="memory://"))
    async with app.router.lifespan_context(app), contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(asgi_client(app, base_url="http://localhost"))
        for name in ("a", "b.x", "b.y", "c"):
            await client.post(f"/channels/{name}", content="1")
        await app.state.service.hub.publish("$internal", "1")
        for path in ("/channels/b.x", "/stream?channel=b.*&channel=quiet", "/console/tail"):
            await stack.enter_async_context(client.stream("GET", path))

        async def found(**query: object) -> dict[str, Any]:
            answer = (await client.get("/channels", params=query)).json()
            names = {one["name"]: (one["subscribers"], one.get("events")) for one in answer["channels"]}
            return {**names, "next": answer["next"]}

        assert await found() == {
            "a": (0, 1), "b.*": (1, None), "b.x": (2, 1), "b.y": (1, 1), "c": (0, 1), "quiet": (1, 0), "next": None,
        }  # fmt: skip
        assert await found(limit=2) == {"a": (0, 1), "b.*": (1, None), "next": "b.*"}
        assert await found(limit=2, after="b.*") == {"b.x": (2, 1), "b.y": (1, 1), "next": "b.y"}
        assert await found(after="c") == {"quiet": (1, 0), "next": None}
        assert await found(channel="b.*") == {"b.*": (1, None), "b.x": (2, 1), "b.y": (1, 1), "next": None}
        assert await found(channel="c") == {"c": (0, 1), "next": None}


async def test_channels_are_found_by_a_part_of_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever case, to the letter, of all that are alive; together with the other parameters."""
    monkeypatch.setattr(connections, "_NAMES_AT_ONCE", 2)
    app = create_app(Settings(log="memory://"))
    async with app.router.lifespan_context(app), contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(asgi_client(app, base_url="http://localhost"))
        for name in ("Orders.eu", "orders.us", "a+b", "a%b", "straße", "news"):
            await client.post(f"/channels/{quote(name)}", content="1")
        await app.state.service.hub.publish("$orders", "1")
        for channel in ("orders.*", "silent.orders"):
            await stack.enter_async_context(client.stream("GET", "/stream", params={"channel": channel}))

        async def found(**query: object) -> list[str]:
            answer = await client.get("/channels", params=query)
            assert answer.status_code == 200, answer.text
            return [one["name"] for one in answer.json()["channels"]]

        assert await found(contains="oRDERS") == ["Orders.eu", "orders.*", "orders.us", "silent.orders"]
        assert await found(contains="orders", after="Orders.eu", limit=2) == ["orders.*", "orders.us"]
        assert await found(contains="US", channel="orders.*") == ["orders.us"]
        assert await found(contains="*") == ["orders.*"]
        assert await found(contains="+") == ["a+b"]
        assert await found(contains="%") == ["a%b"]
        assert await found(contains=".") == ["Orders.eu", "orders.*", "orders.us", "silent.orders"]
        assert await found(contains="ẞE") == ["straße"]
        assert await found(contains="x" * 5000) == []
        assert len(await found(contains="")) == len(await found()) == 8
        assert (await client.get("/channels?contains=%ff")).status_code == 400
