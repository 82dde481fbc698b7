"""Revoking: streams end on every node at once, their credentials are refused, and others go on."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.engines import Valkey
from tests.fixtures.serve import Reader, Serve
from tests.server.auth.conftest import SECRET, bearer, publish

from newswire import Hub
from newswire.server.auth import Auth, new_token
from newswire.server.auth.access import Access
from newswire.server.auth.revocations import CHANNEL, Revocations, Revoked

ADMIN = bearer("root", admin=True)
STREAMS = 10


def revoked_everywhere(one: Serve, other: Serve) -> None:
    """Streams of two users on two nodes; those of one are revoked on one node."""
    ada, bob = bearer("ada", subscribe=["room.*"]), bearer("bob", subscribe=["room.*"])
    with ExitStack() as stack:
        readers = {
            headers["authorization"]: [
                stack.enter_context(Reader(f"{node.url}/channels/room.{number}", headers))
                for node in (one, other)
                for number in range(STREAMS)
            ]
            for headers in (ada, bob)
        }
        for reader in (reader for each in readers.values() for reader in each):
            reader.opened()
        began = time.monotonic()
        answer = httpx2.post(f"{one.url}/revoke", json={"subject": "ada"}, headers=ADMIN)
        assert (answer.status_code, answer.json()["subject"]) == (200, "ada")
        for reader in readers[ada["authorization"]]:
            [last] = reader.rest()
            assert (last.event, last.json()["reason"]) == ("newswire.goodbye", "revoked")
        took = time.monotonic() - began
        assert took < 10  # measured in benchmarks/, where nothing else runs
        for node in (one, other):
            refused = httpx2.get(f"{node.url}/channels/room.1", headers=ada)
            assert (refused.status_code, refused.json()["reason"]) == (401, "revoked")
            assert httpx2.post(f"{node.url}/channels/room.1", content="x", headers=ada).status_code == 401
        for number in range(STREAMS):
            publish(one, f"room.{number}", "still here")
        for reader in readers[bob["authorization"]]:
            assert reader.read(1)[0].data == "still here"
        with Reader(f"{other.url}/channels/room.1", bearer("ada", subscribe=["room.*"])) as reader:
            assert reader.answer.status_code == 200  # what was made since is good


@pytest.mark.slow
def test_a_subject_on_two_nodes_with_a_file(two: tuple[Serve, Serve]) -> None:
    """Through the SQLite log."""
    revoked_everywhere(*two)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["valkey", "nats", "postgres"])
def test_a_subject_on_two_nodes_with_a_server(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Through a log on a server."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    url = request.getfixturevalue(kind).url
    log = f"{url}{'&' if '?' in url else '?'}namespace=revoked"
    flags = ("--jwt-secret", SECRET, "--log", log, "--retry", "50")
    with Serve(tmp_path / "a", *flags) as one, Serve(tmp_path / "b", *flags) as other:
        revoked_everywhere(one, other)


def test_one_token(two: tuple[Serve, Serve]) -> None:
    """By its `jti`: another token of the same user goes on."""
    one, other = two
    first = bearer("eve", subscribe=["room.1"], more={"jti": "first"})
    second = bearer("eve", subscribe=["room.1"], more={"jti": "second"})
    with Reader(f"{other.url}/channels/room.1", first) as gone, Reader(f"{one.url}/channels/room.1", second) as stays:
        gone.opened()
        stays.opened()
        assert httpx2.post(f"{one.url}/revoke", json={"token": "first"}, headers=ADMIN).status_code == 200
        assert [event.event for event in gone.rest()] == ["newswire.goodbye"]
        publish(one, "room.1", "on")
        assert stays.read(1)[0].data == "on"
    assert httpx2.get(f"{other.url}/channels/room.1", headers=first).json()["reason"] == "revoked"


def test_the_stream_of_an_edge(two: tuple[Serve, Serve]) -> None:
    """It ends as any other does, on each node, at its next event or before."""
    one, other = two
    epoch = publish(one, "room.edge", "before").partition("-")[0]
    asks = bearer("edge", subscribe=[">"], more={"jti": "edge-1"}) | {"last-event-id": f"{epoch}-0"}
    with Reader(f"{one.url}/log/tail", asks) as here, Reader(f"{other.url}/log/tail", asks) as there:
        for reader in (here, there):
            assert "before" in reader.read(1)[0].data
        assert httpx2.post(f"{one.url}/revoke", json={"token": "edge-1"}, headers=ADMIN).status_code == 200
        for reader in (here, there):
            list(reader.rest())
    assert httpx2.get(f"{other.url}/log/tail", headers=asks).json()["reason"] == "revoked"


def test_the_end_of_connections(two: tuple[Serve, Serve]) -> None:
    """`DELETE /connections?subject=` is the same; with `again=true` the clients may come back."""
    one, other = two
    quiet = f"room.{STREAMS}"  # no other test's event is on its way there
    fay = bearer("fay", subscribe=[quiet])
    for again, status in (("&again=true", 200), ("", 401)):
        with Reader(f"{other.url}/channels/{quiet}", fay) as reader:
            reader.opened()
            assert httpx2.delete(f"{one.url}/connections?subject=fay{again}", headers=ADMIN).status_code == 200
            assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
        assert httpx2.head(f"{other.url}/channels/{quiet}", headers=fay).status_code == status


def test_who_may_revoke_what(two: tuple[Serve, Serve]) -> None:
    """An admin everything, a user what is its own, and no one else anything."""
    url = f"{two[0].url}/revoke"
    gus, again = (bearer("gus", more={"jti": name}) for name in ("gus-1", "gus-2"))
    assert httpx2.post(url, json={"subject": "ada"}, headers=gus).json()["reason"] == "not_granted"
    assert httpx2.post(url, json={"token": "gus-2"}, headers=gus).status_code == 403
    assert httpx2.post(url, json={"subject": "gus"}).json()["reason"] == "missing"
    assert httpx2.delete(f"{two[0].url}/connections?subject=ada", headers=gus).status_code == 403
    own = f"{two[0].url}/connections?subject=gus&again=true"  # an admin only: it could be repeated for ever
    assert httpx2.delete(own, headers=gus).status_code == 403
    assert httpx2.post(url, json={"token": "gus-1"}, headers=gus).status_code == 200
    assert httpx2.post(url, json={"token": "gus-1"}, headers=gus).json()["reason"] == "revoked"
    assert httpx2.post(url, json={"subject": "gus"}, headers=again).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "subject"),
        ('{"subject": "a", "token": "b"}', "subject"),
        ('{"subject": ""}', "subject"),
        ('{"subject": 5}', "subject"),
        ('{"subject": "\\ud800"}', "subject"),
        ('{"token": "\\udc00"}', "token"),
        ('{"sub": "a"}', "sub"),
        ('{"subject": "a", "until": "soon"}', "until"),
        ('{"subject": "a", "until": 3600}', "until"),  # the time from now: it would be forgotten at once
        ("[]", "body"),
        ("{", "body"),
    ],
)
def test_what_is_no_revocation(two: tuple[Serve, Serve], body: str, field: str) -> None:
    """It is refused as a whole, and the field is named."""
    answer = httpx2.post(f"{two[0].url}/revoke", content=body, headers=ADMIN)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "invalid_revocation", field)


@pytest.mark.anyio
@pytest.mark.parametrize("named", [{}, {"subject": "ada", "token": "t1"}, {"subject": ""}, {"token": ""}])
async def test_a_revocation_names_one(named: dict[str, str]) -> None:
    """With none it would be about all users without a name; with both, only one would count. Nothing is stored."""
    async with Hub() as hub:
        with pytest.raises(ValueError, match="name a subject, or a token by its jti, and not both"):
            await Auth(hub).revoke(**named)  # type: ignore[arg-type]
        assert (await hub.log.span()).latest == 0


def test_a_server_without_credentials_has_nothing_to_revoke(server: Serve) -> None:
    """A 404 that says why."""
    for method, path in (("POST", "/revoke"), ("POST", "/tickets"), ("DELETE", "/connections?subject=a")):
        answer = httpx2.request(method, server.url + path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "--jwt-secret" in answer.json()["detail"]


@pytest.mark.anyio
@pytest.mark.slow
async def test_what_was_revoked_holds_after_a_start(tmp_path: Path) -> None:
    """A process that starts later reads it first; what means nothing any more is removed from the log."""
    url = f"sqlite:///{tmp_path}/events.db"
    async with Hub(url) as hub:
        revocations = Revocations(hub, lambda revoked: None)
        for number in range(1100):
            await revocations.revoke(token=f"old-{number}", until=time.time() - 1)
        await revocations.revoke(subject="ada")
        await revocations.revoke(token="t1", until=time.time() + 60)
    told: list[Revoked] = []
    async with Hub(url) as hub:
        revocations = Revocations(hub, told.append)
        await revocations.open()
        assert [(one.subject, one.token) for one in told] == [("ada", None), (None, "t1")]
        assert revocations.refuses(Access(subject="ada", issued=time.time() - 1))
        assert not revocations.refuses(Access(subject="ada", issued=time.time() + 1))
        assert revocations.refuses(Access(subject="ada"))  # no one knows when it was made
        assert revocations.refuses(Access(subject="bob", token="t1"))
        assert revocations.refuses(Access(subject="bob", token="t2", parent="t1"))
        assert not revocations.refuses(Access(subject="bob", token="t2"))
        page, _ = await hub.history(CHANNEL)
        assert len(page.entries) == 2


@pytest.mark.anyio
async def test_what_was_revoked_holds_after_the_log_was_wiped() -> None:
    """A process that knows it stores it again, for those that start later; what is over by itself is left out."""
    with Valkey() as server:
        async with Hub(server.url) as hub, Hub(server.url) as another:
            here, there = (Revocations(each, lambda revoked: None) for each in (hub, another))
            await there.open()
            await here.revoke(token="t1")
            await here.revoke(token="over", until=time.time() - 1)
            await here.revoke(subject="ada")
            server.ask("FLUSHALL")
            async with asyncio.timeout(20):
                while len((await hub.history(CHANNEL))[0].entries) < 2:
                    await asyncio.sleep(0.02)
            async with Hub(server.url) as late:
                revocations = Revocations(late, lambda revoked: None)
                await revocations.open()
                assert revocations.refuses(Access(subject="bob", token="t1"))
                assert revocations.refuses(Access(subject="ada", issued=time.time() - 60))
                assert not revocations.refuses(Access(subject="bob", token="over"))
                assert len((await late.history(CHANNEL))[0].entries) == 2  # however many processes know them


@pytest.mark.anyio
async def test_what_is_no_revocation_in_the_log_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """A later version may write more; the rest counts."""
    async with Hub() as hub:
        await hub.publish(CHANNEL, "nonsense")
        await hub.publish(CHANNEL, {"at": 1.0, "subject": "ada", "strange": True})
        await hub.publish(CHANNEL, json.dumps({"at": 1.0, "subject": "bob"}))
        told: list[Any] = []
        revocations = Revocations(hub, told.append)
        await revocations.open()
        await hub.publish(CHANNEL, "[]")
        assert [one.subject for one in told] == ["bob"]
    assert "passed over" in caplog.text


def test_a_token_may_be_made_in_the_same_second() -> None:
    """`newswire token` gives the time with its fraction, so a new one is good at once."""
    revoked = Revoked(at=1000.5, subject="ada")
    assert revoked.concerns(Access(subject="ada", issued=1000.4))
    assert not revoked.concerns(Access(subject="ada", issued=1000.6))
    assert new_token(SECRET, subject="ada")
