"""Stream tickets: one client each, on whatever node; its reconnects go on, and the URL alone is worth nothing."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from tests.fixtures.engines import Valkey
from tests.fixtures.serve import Reader, Serve
from tests.server.auth.conftest import SECRET, bearer, publish

from newswire import Hub, Pattern
from newswire.integrations.redirect import StreamServer
from newswire.server import Settings, create_app
from newswire.server.auth import tickets
from newswire.server.auth.api_keys import new_key
from newswire.server.auth.tickets import Tickets, derived_key, new_ticket

APP = "https://app.example"


def ticket(server: Serve, *channels: str, **members: Any) -> str:
    """A ticket of ada's."""
    headers = bearer("ada", subscribe=["room.*", "own"])
    answer = httpx2.post(f"{server.url}/tickets", json={"channels": list(channels), **members}, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["ticket"])


def refused(url: str, **headers: str) -> tuple[int, str]:
    """The status and the reason."""
    answer = httpx2.get(url, headers=headers)
    return answer.status_code, answer.json()["reason"]


def test_the_first_client_keeps_it(two: tuple[Serve, Serve]) -> None:
    """Its reconnects with the cookie go on, on both nodes; a second client is refused on both, also a moment later."""
    one, other = two
    path = f"/channels/room.1?ticket={ticket(one, 'room.1')}"
    with Reader(other.url + path) as reader:
        cookie = reader.answer.headers["set-cookie"]
        cursor = reader.opened()
        for node in two:
            assert refused(node.url + path) == (401, "used")
            assert refused(node.url + path, **{"last-event-id": cursor}) == (401, "used")
    pair, *attributes = cookie.split("; ")
    assert pair.startswith("newswire-ticket-")
    assert attributes[0] == "Path=/channels/room.1"
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
    for number in range(3):
        publish(one, "room.1", f"event {number}")
        with Reader(two[number % 2].url + path, {"cookie": pair, "last-event-id": cursor}) as reader:
            assert "set-cookie" not in reader.answer.headers
            [event] = reader.read(1)
            assert event.data == f"event {number}"
            cursor = event.id
    assert refused(one.url + path) == (401, "used")
    assert refused(one.url + path, cookie=pair.partition("=")[0] + "=forged") == (401, "used")


def test_both_at_once_and_one_gets_in(two: tuple[Serve, Serve]) -> None:
    """Of many first uses on both nodes, one."""
    path = f"/channels/room.2?ticket={ticket(two[0], 'room.2')}"

    async def race() -> list[int]:
        async with httpx2.AsyncClient() as client:

            async def one(node: Serve) -> int:
                async with client.stream("GET", node.url + path) as answer:
                    return answer.status_code

            return await asyncio.gather(*(one(node) for node in two for _ in range(8)))

    assert sorted(asyncio.run(race())) == [200] + [401] * 15


def test_it_opens_its_channels_and_nothing_else(two: tuple[Serve, Serve]) -> None:
    """Asking for more is a 403 and does not use it up; it neither reads history nor publishes."""
    url, made = two[0].url, ticket(two[0], "room.3", "own")
    for path in ("/channels/room.4?", "/channels/room.*?", "/stream?channel=room.3&channel=room.4&"):
        assert refused(f"{url}{path}ticket={made}") == (403, "not_granted")
    assert httpx2.get(f"{url}/channels/room.3/events?ticket={made}").json()["field"] == "ticket"
    assert httpx2.post(f"{url}/channels/room.3?ticket={made}", content="x").json()["field"] == "ticket"
    assert httpx2.post(f"{url}/tickets?ticket={made}", json={"channels": ["room.3"]}).status_code == 403
    assert httpx2.head(f"{url}/channels/room.3?ticket={made}").status_code == 200  # looks, and does not use it
    with Reader(f"{url}/stream?channel=room.3&channel=own&ticket={made}") as reader:
        assert reader.answer.status_code == 200
        assert "Path=/stream" in reader.answer.headers["set-cookie"]


@pytest.mark.slow
def test_its_time(two: tuple[Serve, Serve]) -> None:
    """Too late for its first use; and its streams end when the credential ends that it was made with."""
    key = derived_key(SECRET)
    late, _ = new_ticket(key, subject="ada", subscribe=["room.1"], first_use=-1)
    assert refused(f"{two[0].url}/channels/room.1?ticket={late}") == (401, "expired")
    over, _ = new_ticket(key, subject="ada", subscribe=["room.1"], until=time.time() - 1)
    assert refused(f"{two[0].url}/channels/room.1?ticket={over}") == (401, "expired")
    headers = bearer("ada", subscribe=["room.1"], ttl=1)
    made = httpx2.post(f"{two[0].url}/tickets", json={"channels": ["room.1"]}, headers=headers).json()
    with Reader(f"{two[0].url}/channels/room.1?ticket={made['ticket']}") as reader:
        pair = reader.answer.headers["set-cookie"].partition(";")[0]
        [last] = reader.rest()
        assert last.json()["reason"] == "expired"
    assert refused(f"{two[1].url}/channels/room.1?ticket={made['ticket']}", cookie=pair) == (401, "expired")


@pytest.mark.parametrize("made", ["", "x", "a.b.c", "nwk_1_2", "../..", "%00", "x" * 5000])
def test_what_is_no_ticket(two: tuple[Serve, Serve], made: str) -> None:
    """One answer for all."""
    assert refused(f"{two[0].url}/channels/room.1?ticket={made}") == (401, "bad_signature")


def test_a_token_is_no_ticket_nor_a_ticket_a_token(two: tuple[Serve, Serve]) -> None:
    """Each is signed with a key of its own: neither a URL takes the one, nor a header the other."""
    token = bearer("ada", subscribe=["room.1"])["authorization"].removeprefix("Bearer ")
    assert refused(f"{two[0].url}/channels/room.1?ticket={token}") == (401, "bad_signature")
    made = ticket(two[0], "room.1")
    assert refused(f"{two[0].url}/channels/room.1", authorization=f"Bearer {made}") == (401, "bad_signature")
    assert refused(f"{two[0].url}/channels/room.1?ticket={made}&ticket={made}") == (401, "malformed")


def test_revoking_its_maker_revokes_it(two: tuple[Serve, Serve]) -> None:
    """The token that it was made with, or itself by its name."""
    headers = bearer("hal", subscribe=["room.1"], more={"jti": "hal-1"})
    made = httpx2.post(f"{two[0].url}/tickets", json={}, headers=headers).json()["ticket"]
    with Reader(f"{two[1].url}/channels/room.1?ticket={made}") as reader:
        pair = reader.answer.headers["set-cookie"].partition(";")[0]
        reader.opened()
        assert httpx2.post(f"{two[0].url}/revoke", json={"token": "hal-1"}, headers=headers).status_code == 200
        assert [event.json()["reason"] for event in reader.rest()] == ["revoked"]
    assert refused(f"{two[1].url}/channels/room.1?ticket={made}", cookie=pair) == (401, "revoked")


def test_a_page_whose_cookies_do_not_come(two: tuple[Serve, Serve]) -> None:
    """Another origin without credentials: its own reconnect goes on, on both nodes; a copy of the URL does not."""
    path = f"/channels/room.5?ticket={ticket(two[0], 'room.5')}"
    page = {"origin": APP, "user-agent": "Browser/1", "sec-fetch-site": "cross-site"}
    with Reader(two[0].url + path, page) as reader:
        cursor = reader.opened()
        assert reader.answer.headers["access-control-allow-origin"] == APP
    for node in (*two, two[0]):
        with Reader(node.url + path, page | {"last-event-id": cursor}) as reader:
            assert reader.answer.status_code == 200
    for changed in (
        {"last-event-id": ""},
        {"last-event-id": "zzzzzzzz-1"},
        {"origin": "https://evil.example"},
        {"origin": two[0].url, "sec-fetch-site": "same-origin"},
        {"user-agent": "curl/8"},
    ):
        assert refused(two[1].url + path, **(page | {"last-event-id": cursor} | changed)) == (401, "used")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"channels": []}, "channels"),
        ({"channels": "room.1"}, "channels"),
        ({"channels": [5]}, "channels"),
        ({"channels": ["a..b"]}, "channel"),
        ({"channels": [f"room.{number}" for number in range(101)]}, "channels"),
        ({"channels": ["room.1"], "ttl": 0}, "ttl"),
        ({"channels": ["room.1"], "ttl": 1e9}, "ttl"),
        ({"channels": ["room.1"], "ttl": True}, "ttl"),
        ({"channels": ["room.1"], "subject": 5}, "subject"),
        ({"channel": ["room.1"]}, "channel"),
        ([], "body"),
    ],
)
def test_what_can_not_be_asked_for(two: tuple[Serve, Serve], body: Any, field: str) -> None:
    """A 400 that names the field."""
    answer = httpx2.post(f"{two[0].url}/tickets", json=body, headers=bearer("ada", subscribe=["room.*"]))
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_who_may_ask_for_which(two: tuple[Serve, Serve]) -> None:
    """No more than one's own channels, and not for another user, unless an admin asks."""
    url = f"{two[0].url}/tickets"
    for channel in ("room.1", "public.x"):  # what anyone may read needs no ticket
        assert httpx2.post(url, json={"channels": [channel]}).json()["reason"] == "missing"
    ada = bearer("ada", subscribe=["room.1"])
    assert httpx2.post(url, json={"channels": ["room.*"]}, headers=ada).json()["reason"] == "not_granted"
    assert httpx2.post(url, json={"channels": ["room.1"], "subject": "bob"}, headers=ada).status_code == 403
    root = bearer("root", subscribe=[">"], admin=True)
    assert httpx2.post(url, json={"channels": ["room.1"], "subject": "bob"}, headers=root).status_code == 201
    large = httpx2.post(url, content=b" " * 70_000, headers=ada)
    assert (large.status_code, large.json()["code"]) == (413, "too_large")


def test_the_command_prints_a_ticket(two: tuple[Serve, Serve]) -> None:
    """It opens what it says, once."""
    done = two[0].run("ticket", "--jwt-secret", SECRET, "--sub", "ada", "--subscribe", "room.*")
    url = f"{two[0].url}/channels/room.9?ticket={done.stdout.decode().strip()}"
    with Reader(url) as reader:
        assert reader.answer.status_code == 200
    assert refused(url) == (401, "used")


@pytest.mark.anyio
async def test_what_is_over_leaves_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Used tickets are removed from the log when they have ended by themselves, and no earlier."""
    monkeypatch.setattr(tickets, "_MARGIN", 0.0)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "server": ("a", 1)}
    async with Hub() as hub:
        before = Tickets(hub)
        for until in (time.time() + 0.05, time.time() + 60):
            made, _ = new_ticket(await before.key(), subject=None, subscribe=["a"], until=until)
            access = await before.enter(Request(scope), made, use=True)
            assert access.cookie is not None
        while time.time() < until - 59.9:
            pass
        made, _ = new_ticket(await before.key(), subject=None, subscribe=["a"])
        await Tickets(hub).enter(Request(scope), made, use=True)
        page, _ = await hub.history(Pattern("$auth.ticket.*"))
        assert len(page.entries) == 2


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_server_that_comes_after_the_log_was_wiped() -> None:
    """Tickets of older servers are good there, and the other way round; so are tickets that a framework makes."""
    with Valkey() as server:
        async with Hub(server.url) as old:
            made = Tickets(old)
            redirect = StreamServer("https://events.example", hub=old)
            key = await made.key()
            assert await asyncio.to_thread(redirect._ticket_key) == key
            server.ask("FLUSHALL")
            async with Hub(server.url) as new:
                other = await Tickets(new).key()  # it was first
                async with asyncio.timeout(20):
                    while old.epoch != new.epoch:
                        await asyncio.sleep(0.01)
                assert await made.key() == other != key
                assert await asyncio.to_thread(redirect._ticket_key) == other


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/app/é x", "raw_path": b"/app/%C3%A9%20x", "root_path": "/app"}, "/app/%C3%A9%20x"),
        ({"path": "/app/é x", "root_path": "/app"}, "/app/%C3%A9%20x"),
        ({"path": "/channels/a;b", "raw_path": b"/channels/a;b"}, "/channels"),
        ({"path": "/a,b", "raw_path": b"/a,b"}, "/"),
        ({"path": "/a", "raw_path": b"/a?ticket=x"}, "/a"),
    ],
)
async def test_the_path_of_the_cookie(scope: dict[str, Any], path: str) -> None:
    """As the browser writes it, with what is before it; what a cookie can't say is left out, and is no injection."""
    whole = {"type": "http", "method": "GET", "headers": [], "query_string": b"", "server": ("a", 1), **scope}
    async with Hub() as hub:
        one = Tickets(hub, SECRET)
        made, _ = new_ticket(derived_key(SECRET), subject=None, subscribe=["a"])
        access = await one.enter(Request(whole), made, use=True)
    assert f"; Path={path}; " in (access.cookie or "")


@pytest.mark.anyio
async def test_a_server_without_pyjwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has API keys alone: what looks like a ticket is a 401, and asking for one a 404, which say what is missing."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    key, line = new_key("shop", subscribe=["orders.>"])
    (tmp_path / "keys.jsonl").write_text(line)
    app = create_app(Settings(log="memory://", api_keys=str(tmp_path / "keys.jsonl")))
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://a") as http:
        brought = await http.get("/channels/orders.1?ticket=x")
        assert (brought.status_code, brought.json()["reason"]) == (401, "no_tickets")
        asked = await http.post("/tickets", headers={"authorization": f"Bearer {key}"})
        assert (asked.status_code, asked.json()["code"]) == (404, "not_found")
        for answer in (brought, asked):
            assert "pip install 'newswire[auth]'" in answer.json()["detail"]
