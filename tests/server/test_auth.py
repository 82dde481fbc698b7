"""Tokens over HTTP: in a header or a cookie, what they are good for, and when their streams end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from tests.docs.test_docs import ROOT, blocks
from tests.fixtures.serve import Reader, Serve, running

from newswire.server.auth import Access, Auth, new_token

SECRET = "a secret of thirty-two bytes, or more"


def bearer(subject: str = "ada", **more: Any) -> dict[str, str]:
    """The header of a token."""
    return {"authorization": f"Bearer {new_token(SECRET, subject=subject, **more)}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that asks for tokens."""
    flags = ("--jwt-secret", SECRET, "--anonymous", "public.>", "--anonymous", "news", "--retry", "100")
    with Serve(tmp_path_factory.mktemp("auth"), *flags) as server:
        yield server


def publish(server: Serve, channel: str, data: str) -> str:
    """Publish as somebody who may."""
    answer = httpx2.post(f"{server.url}/channels/{channel}", content=data, headers=bearer("root", publish=[">"]))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_a_token_opens_what_it_names(guarded: Serve) -> None:
    """Its channels and patterns, one by one or together, and their history; each event comes."""
    headers = bearer(subscribe=["room.*", "own"])
    for path in ("/channels/room.1", "/channels/room.*", "/stream?channel=room.1&channel=own", "/channels/public.a"):
        with Reader(guarded.url + path, headers) as reader:
            assert reader.answer.status_code == 200
            reader.opened()
            publish(guarded, path.rpartition("channel")[2].lstrip("s/=").replace("*", "2"), "here")
            assert reader.read(1)[0].data == "here"
    assert httpx2.get(f"{guarded.url}/channels/room.1/events", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/channels/room.>", "/channels/>", "/channels/other", "/stream?channel=room.1&channel=other", "/channels/room",
     "/channels/room.1.x", "/channels/*.1", "/channels/other/events", "/channels/>/events", "/console/tail"],
)  # fmt: skip
def test_and_nothing_else(guarded: Serve, path: str) -> None:
    """A 403 that names the channel, and the scheme of RFC 6750."""
    answer = httpx2.get(guarded.url + path, headers=bearer(subscribe=["room.*"]))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["reason"]) == (403, "denied", "not_granted")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == 'Bearer realm="newswire", error="insufficient_scope"'
    assert problem["detail"].startswith("this token does not allow its holder to ")


def test_to_subscribe_is_not_to_publish(guarded: Serve) -> None:
    """Each has its own claim, and nothing is stored that may not be."""
    url = f"{guarded.url}/channels/room.7"
    assert httpx2.post(url, content="x", headers=bearer(subscribe=["room.7"])).status_code == 403
    assert httpx2.post(url, content="y", headers=bearer(publish=["room.7"])).status_code == 200
    assert httpx2.get(f"{url}/events", headers=bearer(publish=["room.7"])).status_code == 403
    events = httpx2.get(f"{url}/events", headers=bearer(subscribe=["room.7"])).json()["events"]
    assert [event["data"] for event in events] == ["y"]


def test_without_a_token(guarded: Serve) -> None:
    """What is for everyone can be read, and not written; all else is a 401 that says how."""
    with Reader(f"{guarded.url}/stream?channel=news&channel=public.*") as reader:
        reader.opened()
    for answer in (
        httpx2.get(f"{guarded.url}/channels/room.1"),
        httpx2.get(f"{guarded.url}/channels/public"),
        httpx2.get(f"{guarded.url}/console/stats"),
        httpx2.post(f"{guarded.url}/channels/news", content="x"),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["reason"]) == (401, "unauthenticated", "missing")
        assert answer.headers["www-authenticate"] == 'Bearer realm="newswire"'
    assert httpx2.get(f"{guarded.url}/health/ready").status_code == 200


@pytest.mark.slow
def test_a_stream_ends_with_its_token_and_goes_on_with_the_next(guarded: Serve) -> None:
    """A goodbye that says why; the old token is refused, and with a new one no event is lost or doubled."""
    url = f"{guarded.url}/channels/room.3"
    short = bearer(subscribe=["room.3"], ttl=0.5)
    ids = [publish(guarded, "room.3", "before")]
    with Reader(url, short | {"last-event-id": f"{ids[0].partition('-')[0]}-0"}) as reader:
        *events, last = reader.rest()
    assert [event.id for event in events if event.data == "before"] == ids
    assert (last.event, last.json()["reason"]) == ("newswire.goodbye", "expired")
    answer = httpx2.get(url, headers=short)
    assert (answer.status_code, answer.json()["reason"]) == (401, "expired")
    assert 'error="invalid_token", error_description="the token has expired"' in answer.headers["www-authenticate"]
    ids.append(publish(guarded, "room.3", "meanwhile"))
    with Reader(url, bearer(subscribe=["room.3"]) | {"last-event-id": ids[0]}) as reader:
        assert reader.read(1)[0].id == ids[1]
        ids.append(publish(guarded, "room.3", "after"))
        assert reader.read(1)[0].id == ids[2]


def test_a_cookie_is_as_good_for_reading(guarded: Serve) -> None:
    """A page's EventSource sends it by itself; one that has expired keeps no one from what is for everyone."""
    good = {"cookie": f"a=b; __Host-newswire={new_token(SECRET, subject='ada', subscribe=['room.1'])}"}
    with Reader(f"{guarded.url}/channels/room.1", good) as reader:
        assert reader.answer.status_code == 200
    old = {"cookie": f"__Host-newswire={new_token(SECRET, subject='ada', subscribe=['room.1'], ttl=-10)}"}
    assert httpx2.get(f"{guarded.url}/channels/room.1", headers=old).json()["reason"] == "expired"
    with Reader(f"{guarded.url}/channels/news", old) as reader:
        assert reader.answer.status_code == 200


def test_the_command_prints_a_token(guarded: Serve) -> None:
    """It is good for what its options name."""
    done = guarded.run(
        "token", "--jwt-secret", SECRET, "--sub", "ada", "--subscribe", "room.*", "--publish", "room.1", "--ttl", "60"
    )
    headers = {"authorization": f"Bearer {done.stdout.decode().strip()}"}
    assert httpx2.post(f"{guarded.url}/channels/room.1", content="x", headers=headers).status_code == 200
    assert httpx2.post(f"{guarded.url}/channels/room.2", content="x", headers=headers).status_code == 403
    with Reader(f"{guarded.url}/channels/room.2", headers) as reader:
        assert reader.answer.status_code == 200
    assert guarded.run("token", "--jwt-secret", SECRET, "--subscribe", "a..b").returncode == 2


def test_a_session(guarded: Serve) -> None:
    """A token in the header becomes a cookie that ends with it; the cookie itself, or a bad token, makes none."""
    url = f"{guarded.url}/session"
    answer = httpx2.post(url, headers=bearer(subscribe=["room.1"], ttl=60))
    pair, *attributes = answer.headers["set-cookie"].split("; ")
    assert (answer.status_code, pair.partition("=")[0]) == (204, "__Host-newswire")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"} < set(attributes)
    assert 55 <= int(next(one for one in attributes if one.startswith("Max-Age=")).partition("=")[2]) <= 61
    assert httpx2.head(f"{guarded.url}/channels/room.1", headers={"cookie": pair}).status_code == 200
    assert httpx2.post(url, headers={"cookie": pair}).json()["reason"] == "missing"
    assert httpx2.post(url, headers=bearer(ttl=-5)).json()["reason"] == "expired"
    assert "__Host-newswire=; Path=/; Max-Age=0" in httpx2.delete(url).headers["set-cookie"]


@pytest.mark.slow
def test_a_rule_of_an_application(tmp_path: Path) -> None:
    """A rule of one's own that says whose a request is: its streams end when it says, and count for their user."""
    (tmp_path / "app.py").write_text(
        """
import time
from newswire.server import Settings, create_app
from newswire.server.auth import Access

async def authorize(request, action, channels):
    return Access(subject="ada", expires=time.time() + 0.5, kind="token")

app = create_app(Settings(log="memory://", max_streams_per_subject=1), authorize=authorize)
"""
    )
    with running("app:app", tmp_path) as (url, _), Reader(f"{url}/channels/a") as reader:
        assert httpx2.get(f"{url}/channels/a").json()["code"] == "too_many_of_subject"
        [last] = reader.rest()
        assert (last.event, last.json()["reason"]) == ("newswire.goodbye", "expired")


@pytest.mark.slow
def test_the_application_of_the_page() -> None:
    """docs/auth.md: an application with a hub of its own, and the same answers."""
    [block] = blocks(ROOT / "docs" / "auth.md", "python")
    names: dict[str, Any] = {}
    exec(compile(block.replace("sqlite:///events.db", "memory://"), "auth.md", "exec"), names)
    secret = "a secret of thirty-two bytes, or more"
    for _ in range(2):  # a hub that was closed is opened again, and so is what was revoked
        served_by(names["app"], secret, names["auth"])


def served_by(app: Any, secret: str, auth: Auth) -> None:
    """The application asks for tokens, and its streams end with them."""
    with TestClient(app) as client:
        assert client.get("/rooms/1").json()["reason"] == "missing"
        other = new_token(secret, subject="ada", subscribe=["room.2"])
        assert client.get("/rooms/1", headers={"authorization": f"Bearer {other}"}).status_code == 403
        wild = new_token(secret, subject="ada", subscribe=["room.*"], ttl=1)
        with client.stream("GET", "/rooms/1", headers={"authorization": f"Bearer {wild}"}) as answer:
            assert answer.status_code == 200
            assert '"reason": "expired"' in "".join(answer.iter_text())
        access = Access(subject="ada", subscribe=("room.1",), expires=time.time() + 1, kind="token")
        assert client.portal is not None
        ticket = client.portal.call(auth.ticket, access, ["room.1"])["ticket"]
        with client.stream("GET", f"/rooms/1?ticket={ticket}") as answer:
            assert answer.status_code == 200
            assert answer.headers["set-cookie"].startswith("newswire-ticket-")
            assert '"reason": "expired"' in "".join(answer.iter_text())
        ticket = client.portal.call(auth.ticket, replace(access, expires=None), ["room.1"])["ticket"]
        assert client.head(f"/rooms/2?ticket={ticket}").status_code == 403
