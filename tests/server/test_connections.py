"""`GET /connections`: who reads what, on all workers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.serve import Reader, Serve

from newswire.server import Settings, connections, create_app
from newswire.server.auth import new_token
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio
SECRET = "a secret of sixty-four bytes, which is as long as HS512 wants it to be"


def bearer(**more: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {new_token(SECRET, **more)}"}


async def test_streams_by_channel_and_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its user, address, age and state; pages follow each other, also where one page looks at few streams."""
    app = create_app(Settings(log="memory://", jwt_secret=SECRET))
    root = bearer(subject="root", admin=True)
    async with app.router.lifespan_context(app), contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(asgi_client(app, base_url="http://localhost"))
        for subject in ("ada", "bob"):
            token = bearer(subject=subject, subscribe=[">"])
            for path in ("/channels/orders.eu", "/stream?channel=orders.*", "/channels/news"):
                await stack.enter_async_context(client.stream("GET", path, headers=token))

        async def found(**query: object) -> list[tuple[str, list[str]]]:
            streams, after = [], ""
            while True:
                params = {**query, **({"after": after} if after else {})}
                answer = await client.get("/connections", params=params, headers=root)
                assert answer.status_code == 200, answer.text
                streams += answer.json()["connections"]
                assert len(answer.json()["connections"]) <= int(str(query.get("limit", 100)))
                after = answer.json()["next"]
                if after is None:
                    return [(one["subject"], one["channels"]) for one in streams]

        everything = await found()
        assert everything == [
            (subject, [channel]) for subject in ("ada", "bob") for channel in ("orders.eu", "orders.*", "news")
        ]
        assert await found(limit=1) == await found(limit=4) == everything
        assert await found(subject="bob") == everything[3:]
        assert await found(subject="none") == []
        assert await found(channel="orders.eu", subject="ada") == everything[:2]
        assert await found(channel="orders.*") == [everything[0], everything[1], everything[3], everything[4]]
        assert await found(channel="orders.us", limit=1) == [everything[1], everything[4]]
        [one, *_] = (await client.get("/connections", headers=root)).json()["connections"]
        assert (one["state"], one["behind"], one["address"]) == ("live", 0, "127.0.0.1")
        assert one["since"] > 1.7e9
        monkeypatch.setattr(connections, "_LOOKED_AT", 2)
        monkeypatch.setattr(connections, "_SLICE", 1)
        assert await found() == everything
        assert await found(channel="news", limit=1) == [everything[2], everything[5]]


@pytest.mark.parametrize("path", ["/connections", "/channels"])
async def test_only_admins_see_them(path: str) -> None:
    """Others get a 401 or a 403; what the query can't have is named."""
    app = create_app(Settings(log="memory://", jwt_secret=SECRET))
    async with app.router.lifespan_context(app), asgi_client(app, base_url="http://localhost") as client:
        root = bearer(subject="root", admin=True)
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=bearer(subject="ada", subscribe=[">"]))).status_code == 403
        for query in ("limit=0", "limit=1001", "limit=x", "limit=٣", "channel=a..b", "chan=a"):
            answer = await client.get(f"{path}?{query}", headers=root)
            assert answer.status_code == 400, query
            assert answer.json()["field"] or answer.json()["code"] == "invalid_channel"
        if path == "/connections":
            assert (await client.get(f"{path}?after=x:y", headers=root)).status_code == 400
            assert (await client.get(f"{path}?after=zzz:9", headers=root)).json() == {"connections": [], "next": None}


def test_the_streams_of_all_workers(tmp_path: Path) -> None:
    """Whichever answers; page by page; and a worker that was killed is left out."""
    with Serve(tmp_path, "--workers", "3") as server:
        readers = [Reader(f"{server.url}/channels/news") for _ in range(9)]
        for reader in readers:
            reader.opened()
        ids, after = [], None
        while True:
            params = {"limit": 2, "channel": "news", **({} if after is None else {"after": after})}
            page = httpx2.get(f"{server.url}/connections", params=params).json()
            ids += [one["id"] for one in page["connections"]]
            after = page["next"]
            if after is None:
                break
        assert len(set(ids)) == len(ids) == 9
        channels = httpx2.get(f"{server.url}/channels").json()["channels"]
        assert channels == [{"name": "news", "kind": "channel", "subscribers": 9, "events": 0, "last": None}]
        for reader in readers:
            reader.__exit__()
