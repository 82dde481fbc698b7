"""The server's routes at a prefix of any framework: `newswire.asgi_app(hub)`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.fixtures.asgi_request import first_events
from tests.fixtures.in_thread import uvicorn_in_thread

import newswire
from newswire import Hub
from newswire.server import Denied, Settings, create_app
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio
PATIENCE = 20.0
Framework = Callable[[Hub[Any], Any], Any]


def starlette(hub: Hub[Any], settings: Any) -> Any:
    return Starlette(routes=[Mount("/live", newswire.asgi_app(hub, settings=settings))])


def fastapi(hub: Hub[Any], settings: Any) -> Any:
    app = FastAPI()
    app.mount("/live", newswire.asgi_app(hub, settings=settings))
    return app


def fastapi_behind_a_proxy(hub: Hub[Any], settings: Any) -> Any:
    """As `uvicorn --root-path /outer` calls it: the proxy takes that away, and the server adds it."""
    app = fastapi(hub, settings)

    async def rooted(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/outer", "path": "/outer" + scope["path"]}, receive, send)

    return rooted


def litestar(hub: Hub[Any], settings: Any) -> Any:
    return Litestar(
        [asgi("/live", is_mount=True, copy_scope=True)(newswire.asgi_app(hub, settings=settings))], logging_config=None
    )


def by_hand(hub: Hub[Any], settings: Any) -> Any:
    """As projects of Django route in their asgi.py: the scope has no root_path."""
    events = newswire.asgi_app(hub, settings=settings, prefix="/live")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"].startswith("/live")
        await events(scope, receive, send)

    return app


FRAMEWORKS: list[Framework] = [starlette, fastapi, fastapi_behind_a_proxy, litestar, by_hand]


@pytest.fixture(params=FRAMEWORKS, ids=lambda framework: framework.__name__)
def framework(request: pytest.FixtureRequest) -> Framework:
    return request.param  # type: ignore[no-any-return]


async def test_all_routes_are_below_the_prefix(framework: Framework) -> None:
    """Publish, stream and resume, history, the script, the console with its files, health."""
    hub = Hub("memory://")
    async with hub, asgi_client(framework(hub, None)) as client:
        first = (await client.post("/live/channels/news", content="one")).json()["id"]
        await client.post("/live/channels/news", content="two")
        async with client.stream("GET", "/live/channels/news", headers={"Last-Event-ID": first}) as answer:
            assert answer.status_code == 200
            [event] = await first_events(answer, 1)
            assert event.data == "two"
        async with client.stream("GET", "/live/stream?channel=news&from=earliest") as answer:
            assert [event.data for event in await first_events(answer, 2)] == ["one", "two"]
        assert len((await client.get("/live/channels/news/events")).json()["events"]) == 2
        assert "EventSource" in (await client.get("/live/newswire.js")).text
        assert (await client.get("/live/health/ready")).json()["status"] == "ready"
        assert "newswire_published" in (await client.get("/live/metrics")).text
        assert "console/console.js" in (await client.get("/live/")).text
        assert (await client.get("/live/console/console.js")).status_code == 200
        stats = (await client.get("/live/console/stats")).json()
        assert [channel["name"] for channel in stats["channels"]] == ["news"]


async def test_the_page_is_at_a_folder() -> None:
    """Its links are relative, so the prefix without a slash leads to the one with it."""
    hub = Hub("memory://")
    async with hub:
        for framework in (starlette, by_hand):
            async with asgi_client(framework(hub, None)) as client:
                answer = await client.get("/live?a=b")
                assert (answer.status_code, answer.headers["location"].removeprefix("http://test")) == (
                    307,
                    "/live/?a=b",
                )


async def test_tickets(framework: Framework) -> None:
    """Where a server needs credentials, all routes for them exist, under any host name."""
    pytest.importorskip("jwt")
    import jwt

    secret = "a secret of the tests, 32 bytes long"
    hub = Hub("memory://")
    app = framework(hub, Settings(jwt_secret=secret))
    async with hub, asgi_client(app, base_url="http://news.example") as client:
        assert (await client.get("/live/channels/news")).status_code == 401
        token = jwt.encode({"sub": "ada", "subscribe": ["news"], "publish": ["news"]}, secret, "HS256")
        bearer = {"Authorization": f"Bearer {token}"}
        made = await client.post("/live/tickets", headers=bearer, json={"channels": ["news"]})
        ticket = made.json()["ticket"]
        async with client.stream("GET", f"/live/channels/news?ticket={ticket}") as answer:
            assert answer.status_code == 200
            assert "Path=/live/channels/news;" in answer.headers["set-cookie"]


async def test_an_authorizer_of_the_application() -> None:
    """It decides about each request."""

    async def authorize(request: Any, action: str, channels: Any) -> None:
        if action == "publish":
            raise Denied("readers only")

    hub = Hub("memory://")
    app = Starlette(routes=[Mount("/live", newswire.asgi_app(hub, authorize=authorize))])
    async with hub, asgi_client(app, base_url="http://news.example") as client:
        assert (await client.post("/live/channels/news", content="x")).status_code == 403
        async with client.stream("GET", "/live/channels/news") as answer:
            assert answer.status_code == 200


async def test_without_any_the_world_is_refused() -> None:
    """An application that asks no one for anything answers to this machine's names, and says how to allow others."""
    hub = Hub("memory://")
    async with hub:
        headers = {"Host": "news.example"}
        async with asgi_client(starlette(hub, None)) as client:
            answer = await client.post("/live/channels/news", content="x", headers=headers)
            assert answer.status_code == 421
            assert "Settings(allowed_hosts=['news.example'])" in answer.json()["detail"]
        open_to_all = starlette(hub, Settings(allowed_hosts=("news.example",)))
        async with asgi_client(open_to_all) as client:
            assert (await client.post("/live/channels/news", content="x", headers=headers)).status_code == 200


async def test_a_log_that_is_away() -> None:
    """Is a 503 that says so; and the routes are there when the log is."""
    hub = Hub("sqlite:////nowhere/at/all.db")
    async with asgi_client(starlette(hub, None)) as client:
        answer = await client.get("/live/channels/news")
        assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
    await hub.close()


async def test_a_closed_hub() -> None:
    """A late request does not open it again."""
    hub = Hub("memory://")
    async with asgi_client(starlette(hub, None)) as client:
        await client.post("/live/channels/news", content="x")
        await hub.close()
        answer = await client.get("/live/channels/news")
        assert (answer.status_code, answer.json()["code"]) == (503, "stopping")


async def test_many_first_requests_at_once() -> None:
    """Make one set of routes."""
    hub = Hub("memory://")
    async with hub, asgi_client(starlette(hub, None)) as client:
        calls: list[Awaitable[Any]] = [client.post("/live/channels/news", content=str(n)) for n in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
        assert "newswire_published_total 20" in (await client.get("/live/metrics")).text


def test_a_test_client_twice() -> None:
    """Each has an event loop of its own, and the lifespan closes the hub in between."""
    hub = Hub("memory://")
    app = FastAPI(lifespan=hub.lifespan)
    app.mount("/live", newswire.asgi_app(hub, settings=Settings(jwt_secret="a secret of the tests, 32 bytes long")))
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post("/live/channels/news", content="x").status_code == 401
            assert client.get("/live/health/ready").status_code == 200


def test_a_server_by_itself() -> None:
    """Its lifespan opens the hub, and closes it in the end: the streams hear goodbye."""
    hub = Hub("memory://")
    with uvicorn_in_thread(newswire.asgi_app(hub), lifespan="on") as server:
        with server.get("/channels/news") as stream:
            stream.until("retry:")
            server.stop()
            assert "newswire.goodbye" in stream.rest()
        assert server.has_stopped()
    assert hub.closed


def test_a_server_whose_log_is_away_does_not_start() -> None:
    """It says why."""
    sent: list[Any] = []

    async def start() -> None:
        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        hub = Hub("sqlite:////nowhere/at/all.db")
        await newswire.asgi_app(hub)({"type": "lifespan"}, receive, send)
        await hub.close()

    asyncio.run(start())
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "nowhere" in sent[0]["message"]


@pytest.mark.parametrize("prefix", ["live", "/live/", "/"])
def test_a_prefix_is_a_path(prefix: str) -> None:
    """Else it would fit nothing, in silence."""
    with pytest.raises(ValueError, match="such as '/newswire'"):
        newswire.asgi_app(Hub("memory://"), prefix=prefix)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"hub": "memory://"}, "hub is a Hub, not 'memory://'"),
        ({"settings": {"retry": 1}}, "settings is a Settings, not {'retry': 1}"),
        ({"authorize": True}, "authorize is a function that decides about requests, not True"),
    ],
)
def test_other_kinds_are_refused(given: dict[str, Any], text: str) -> None:
    """Where the application is made, and not with its first request; also the server's own."""
    calls: list[Any] = [newswire.asgi_app, create_app]
    for make in calls:
        with pytest.raises(TypeError) as caught:
            make(**{"hub": Hub(), **given})
        assert str(caught.value) == text
    with pytest.raises(TypeError, match="parameters is a list, not 'token'"):
        create_app(parameters="token")
    with pytest.raises(TypeError, match="prefix is a str, not 3"):
        newswire.asgi_app(Hub(), prefix=3)  # type: ignore[arg-type]
