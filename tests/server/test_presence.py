"""Presence over HTTP: who a client is, what it may see, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from tests.fixtures.serve import PATIENCE, Reader, Serve

from newswire.server.auth import new_token

SECRET = "a secret of thirty-two bytes, or more"
FLAGS = ("--presence", "room.*", "--presence-grace", "100ms", "--max-state", "100",
         "--cors-origin", "https://page.example")  # fmt: skip


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that asks for no credentials."""
    with Serve(tmp_path_factory.mktemp("open"), *FLAGS, "--state-rate", "1") as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that asks for tokens; one room is for everybody."""
    flags = ("--jwt-secret", SECRET, "--anonymous", "room.public")
    with Serve(tmp_path_factory.mktemp("guarded"), *FLAGS, *flags) as server:
        yield server


def bearer(subject: str | None, *subscribe: str) -> dict[str, str]:
    """The header of a token."""
    return {"authorization": f"Bearer {new_token(SECRET, subject=subject, subscribe=list(subscribe))}"}


def admin() -> dict[str, str]:
    """The header of a token of an admin."""
    return {"authorization": f"Bearer {new_token(SECRET, subject='root', admin=True)}"}


def changes(reader: Reader, count: int) -> list[dict[str, Any]]:
    """The next changes of a stream."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        [event] = reader.read(1)
        if event.event == "newswire.presence":
            found.append(json.loads(event.data))
    return found


def test_a_stream_and_what_the_server_answers(open_to_all: Serve) -> None:
    """A member joins, is listed, changes its state, and leaves; a visitor only counts."""
    url, room = open_to_all.url, "room.1"
    state = quote('{"name":"Ada"}')
    with Reader(f"{url}/channels/{room}?presence=watch") as watcher:
        with Reader(f"{url}/stream?channel={room}&channel=news&presence=join&member=ada&state={state}"):
            assert changes(watcher, 1) == [
                {"channel": room, "member": "ada", "change": "join", "state": {"name": "Ada"}}
            ]
            with Reader(f"{url}/channels/{room}?presence=join") as visitor:
                assert changes(visitor, 1)[0]["member"] == "ada"
                while (answer := httpx2.get(f"{url}/presence/{room}").json())["count"] != 2:
                    pass
                assert answer == {
                    "channel": room,
                    "count": 2,
                    "members": [{"member": "ada", "state": {"name": "Ada"}}],
                }
                assert httpx2.get(f"{url}/presence/{room}?count").json() == {"channel": room, "count": 2}
            stored = httpx2.post(f"{url}/presence/{room}?member=ada", json=[1, 2])
            assert stored.status_code == 204
            assert changes(watcher, 1) == [{"channel": room, "member": "ada", "change": "update", "state": [1, 2]}]
            again = httpx2.post(f"{url}/presence/{room}?member=ada", json=3)
            assert (again.status_code, again.json()["code"]) == (429, "too_fast")
        assert changes(watcher, 1) == [{"channel": room, "member": "ada", "change": "leave"}]


def numbers(reader: Reader, until: int) -> list[int]:
    """The numbers of a stream, up to one."""
    found: list[int] = []
    while not found or found[-1] != until:
        [event] = reader.read(1)
        assert event.event == "newswire.count"
        data = json.loads(event.data)
        assert set(data) == {"channel", "count"}
        found.append(data["count"])
    return found


def test_everybody_may_watch_how_many_there_are(guarded: Serve) -> None:
    """Live, without a credential and without a name, also where the channel itself is not for everybody."""
    url = f"{guarded.url}/presence/room.counted?count"
    stream = {"accept": "text/event-stream"}
    assert httpx2.head(url, headers=stream).headers["content-type"].startswith("text/event-stream")
    with Reader(url, headers=stream) as watcher:
        assert numbers(watcher, 0) == [0]
        with Reader(f"{guarded.url}/channels/room.counted?presence=join", headers=bearer("ada", "room.*")) as member:
            assert changes(member, 1)[0]["member"] == "ada"
            assert numbers(watcher, 1) == [1]
            metrics = httpx2.get(f"{guarded.url}/metrics", headers=admin()).text
            assert 'newswire_presence_changes_total{change="join"}' in metrics
            assert "newswire_presence_members 1.0" in metrics
        assert numbers(watcher, 0) == [0]
    assert httpx2.get(url).json() == {"channel": "room.counted", "count": 0}


def test_streams_of_numbers_count_as_streams(tmp_path: Path) -> None:
    """A stranger can't open more of them than of others, and what was closed counts no more."""
    flags = ("--presence", "room.*", "--max-streams-per-address", "2")
    stream = {"accept": "text/event-stream"}
    with Serve(tmp_path, *flags) as server:
        url = f"{server.url}/presence/room.1?count"
        for _ in range(2):
            with Reader(url, headers=stream) as one, Reader(f"{server.url}/channels/a") as other:
                assert numbers(one, 0) == [0]
                other.opened()
                answer = httpx2.get(url, headers=stream)
                assert (answer.status_code, answer.json()["code"]) == (429, "too_many_of_address")
            deadline = time.monotonic() + PATIENCE
            while True:
                with httpx2.stream("GET", url, headers=stream) as again:
                    if again.status_code == 200:
                        break
                assert time.monotonic() < deadline


def test_a_head_request_is_no_visit(open_to_all: Serve) -> None:
    """It asks for the head alone, and no one joins."""
    assert httpx2.head(f"{open_to_all.url}/channels/room.head?presence=join&member=ada").status_code == 200
    assert httpx2.get(f"{open_to_all.url}/presence/room.head?count").json()["count"] == 0


@pytest.mark.parametrize(
    ("path", "status", "code", "detail"),
    [
        ("/channels/room.1?presence=yes", 400, "invalid_query", "presence is 'join' or 'watch', not 'yes'"),
        ("/channels/room.1?member=ada", 400, "invalid_query", "member is for presence=join"),
        ("/channels/room.1?presence=watch&state=1", 400, "invalid_query", "state is for presence=join"),
        ("/channels/room.1?presence=join&member=", 400, "invalid_query", "a member's id is a text of 1 to 200 bytes"),
        ("/channels/room.1?presence=join&member=a&state=x", 400, "invalid_query", "state is JSON, such as"),
        ("/channels/room.1?presence=join&state=1", 400, "invalid_query", "a visitor has no state"),
        ("/channels/room.*?presence=join&member=a", 400, "invalid_query", "each by its name"),
        ("/channels/news?presence=join&member=a", 400, "invalid_query", "each by its name"),
        (f"/channels/room.{'x' * 200}?presence=watch", 400, "invalid_channel", "a channel with members has a name of"),
        (f"/channels/room.1?presence=join&member=a&state=%22{'x' * 200}%22", 413, "too_large", "a member's state"),
        ("/presence/news", 404, "not_found", "'news' has no members here"),
        ("/presence/$presence.here", 400, "invalid_channel", "begins with '$'"),
        ("/presence/room.1?cuont", 400, "invalid_query", "did you mean count?"),
        ("/channels/$presence.here.room.1.ada", 400, "invalid_channel", "begins with '$'"),
    ],
)
def test_what_is_refused(open_to_all: Serve, path: str, status: int, code: str, detail: str) -> None:
    """Each with a sentence that says what is wrong."""
    with Reader(open_to_all.url + path) as reader:
        assert reader.answer.status_code == status
        problem = json.loads(reader.answer.read())
    assert problem["code"] == code
    assert detail in problem["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),  # a picture's
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "https://page.example", "sec-fetch-site": "cross-site"}, 200),
    ],
)
def test_a_foreign_page_makes_no_one_come(open_to_all: Serve, headers: dict[str, str], status: int) -> None:
    """Its user would be stored, and shown to others, although it is a GET. Watching stores nothing."""
    url = f"{open_to_all.url}/channels/room.9?member=eve&presence="
    with Reader(f"{url}join", headers) as reader:
        assert reader.answer.status_code == status
        if status == 403:
            assert json.loads(reader.answer.read())["code"] == "foreign_origin"
    with Reader(url.replace("member=eve&", "") + "watch", headers) as reader:
        assert reader.answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("room.2?member=ada", b"1", 404, "not_here"),
        ("room.2", b"1", 403, "no_member"),
        ("room.2?member=bob", b"{", 400, "invalid_state"),
        ("room.2?member=eve", b'"' + b"x" * 200 + b'"', 413, "too_large"),
    ],
)
def test_states_that_are_refused(open_to_all: Serve, path: str, body: bytes, status: int, code: str) -> None:
    """Nothing is stored."""
    answer = httpx2.post(f"{open_to_all.url}/presence/{path}", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_state_with_half_of_a_surrogate_pair(open_to_all: Serve) -> None:
    """JSON can say it and UTF-8 can't, so it stays escaped: in the log, on a stream and in the list."""
    url = open_to_all.url
    with Reader(f"{url}/channels/room.8?presence=join&member=ada&state=%22%5Cud83d%22") as reader:
        assert changes(reader, 1)[0]["state"] == "\ud83d"
        posted = httpx2.post(f"{url}/presence/room.8?member=ada", content=b'{"\\udc00":"\xc3\xa9"}')
        assert posted.status_code == 204
        assert changes(reader, 1)[0]["state"] == {"\udc00": "é"}
        listed = httpx2.get(f"{url}/presence/room.8").json()
        assert listed["members"] == [{"member": "ada", "state": {"\udc00": "é"}}]


def test_the_member_is_the_user_of_the_token(guarded: Serve) -> None:
    """No one comes as somebody else; without a token there is a visitor, and names are for those who may subscribe."""
    url = guarded.url
    ada, stranger = bearer("ada", "room.1", "room.public"), bearer("bob", "room.2")
    with Reader(f"{url}/channels/room.1?presence=join&state=1", ada) as reader:
        assert changes(reader, 1)[0]["member"] == "ada"
        for headers, status in ((ada, 200), (stranger, 403), ({}, 401)):
            assert httpx2.get(f"{url}/presence/room.1", headers=headers).status_code == status
        assert httpx2.get(f"{url}/presence/room.1?count").json() == {"channel": "room.1", "count": 1}
        assert httpx2.post(f"{url}/presence/room.1", json=2, headers=ada).status_code == 204
        assert changes(reader, 1)[0]["state"] == 2
        assert httpx2.post(f"{url}/presence/room.1", json=2, headers=stranger).status_code == 403
        assert httpx2.post(f"{url}/presence/room.1?member=bob", json=2, headers=ada).json()["code"] == "wrong_member"
    wrong = httpx2.get(f"{url}/channels/room.1?presence=join&member=bob", headers=ada)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_member")
    with Reader(f"{url}/channels/room.public?presence=join"):
        while httpx2.get(f"{url}/presence/room.public").json() != {"channel": "room.public", "count": 1, "members": []}:
            pass
    posted = httpx2.post(f"{url}/presence/room.public", json=1)
    assert (posted.status_code, posted.json()["code"]) == (403, "no_member")


@pytest.mark.parametrize("path", ["$presence.here.room.1.eve", "room.1?event=newswire.presence"])
def test_no_one_publishes_a_change(open_to_all: Serve, path: str) -> None:
    """Neither into the channels of presence, nor as an event of its type."""
    body = '{"channel":"room.1","member":"eve","change":"join","state":null}'
    answer = httpx2.post(f"{open_to_all.url}/channels/{path}", content=body)
    assert (answer.status_code, answer.json()["code"]) in ((400, "invalid_channel"), (400, "invalid_event"))
    assert "eve" not in str(httpx2.get(f"{open_to_all.url}/presence/room.1").json())


def test_a_server_without_members(server: Serve) -> None:
    """It says how to have them."""
    answer = httpx2.get(f"{server.url}/presence/room.1")
    assert answer.status_code == 404
    assert "--presence" in answer.json()["detail"]
    refused = httpx2.get(f"{server.url}/channels/room.1?presence=join")
    assert refused.status_code == 400
    assert "--presence" in refused.json()["detail"]
