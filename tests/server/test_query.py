"""Queries: every spelling of a cursor is the place to go on from, and a parameter that nothing reads is refused."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from tests.fixtures.serve import Reader, Serve

from newswire import last_event_id
from newswire.server import create_app
from newswire.server.auth import Denied
from newswire.server.settings import Settings
from newswire.serving.hosts import Hosts

SPELLINGS = ("last_event_id", "lastEventId", "last-event-id", "Last-Event-ID", "Last-Event-Id", "lastEventID",
             "LAST_EVENT_ID", "lasteventid", "evs_last_event_id", "last%2Devent%2Did", "last%5Fevent_id")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/channels/spelled?", "/stream?channel=spelled&channel=other&"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_a_cursor_is_read(server: Serve, name: str, path: str) -> None:
    """Polyfills of EventSource put it into the URL, each in its own way: none may lose an event in silence."""
    first = server.publish("spelled", "first")
    server.publish("spelled", "second")
    with Reader(f"{server.url}{path}from=latest&{name}={first}") as reader:
        assert reader.read(1)[0].data == "second"


def test_what_a_polyfill_adds_beats_what_the_page_wrote(server: Serve) -> None:
    """It stands behind it; an empty one, as of a first connect, is none. The header beats both."""
    ids = [server.publish("twice", data) for data in "abcd"]
    url = f"{server.url}/channels/twice?last_event_id={ids[0]}"
    for more, headers, data in (
        (f"&lastEventId={ids[1]}&r=4711", {}, "c"),
        ("&lastEventId=&r=4711", {}, "b"),
        ("&evs_preamble=2056", {}, "b"),
        (f"&lastEventId={ids[1]}", {"last-event-id": ids[2]}, "d"),
    ):
        with Reader(url + more, headers) as reader:
            assert reader.read(1)[0].data == data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/channels/a?form=earliest", "did you mean from?"),
        ("/channels/a?From=earliest", "did you mean from?"),
        ("/channels/a?envelop=json", "did you mean envelope?"),
        ("/channels/a?last_event=x", "did you mean last_event_id?"),
        ("/channels/a?last_event_ids=x", "did you mean last_event_id?"),
        ("/channels/a?channel=b", "from, envelope, live, max_rate, coalesce, presence, member, state, last_event_id"),
        ("/channels/a?%00=1", "what there is"),
        ("/channels/a?nonsense", "what there is"),
        ("/stream?channel=a&channels=b", "did you mean channel?"),
        ("/stream?channel=a&form=earliest", "did you mean from?"),
        ("/channels/a/events?limits=3", "did you mean limit?"),
        ("/channels/a/events?last_event_id=3", "what there is: after, limit"),
        ("/channels/a/events?from=earliest", "what there is"),
    ],
)
def test_a_parameter_that_nothing_reads_is_refused(server: Serve, path: str, says: str) -> None:
    """On a stream and in the history as on a publish; with what was meant, if it looks like that."""
    answer = httpx2.get(server.url + path)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_query")
    assert says in answer.json()["detail"]
    assert httpx2.head(server.url + path).status_code == 400


def test_health_and_metrics_take_any_query(server: Serve) -> None:
    """Probes and scrapers add what they like; nothing is lost there."""
    for path in ("/health/live?t=1", "/health/ready?t=1", "/health?t=1", "/metrics?name[]=x", "/?utm_source=mail"):
        assert httpx2.get(server.url + path).status_code == 200


def test_a_query_without_end_is_cut_before_it_is_parsed(server: Serve) -> None:
    """Past 64 KiB: 414, or 400 and 431 where the protocol sees it first."""
    for target in (
        "/stream?" + "a&" * 40_000,
        "/channels/" + "x" * 70_000,
        "/channels/a?last_event_id=" + "x" * 70_000,
    ):
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert connection.recv(4096)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 414", b"HTTP/1.1 431")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "target", ["/stream?" + "a&" * 10**6, f"/channels/{'x' * 2**21}", f"/x?last_event_id={'x' * 2**21}"]
)
async def test_no_part_of_a_long_target_is_parsed(target: str) -> None:
    """On any server: what stands behind the check never runs."""
    path, _, query = target.partition("?")
    found: list[Any] = []

    async def parse(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def send(message: Any) -> None:
        found.append(message)

    app = Hosts(parse, [], "127.0.0.1", "X")
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
    await app(scope, send, send)
    assert found[0]["status"] == 414


@pytest.mark.anyio
async def test_rules_of_an_application_may_read_parameters_of_their_own() -> None:
    """A native EventSource can't send a header: its token comes in the query, and is no slip."""

    async def authorize(request: Request, action: object, channels: object) -> None:
        if request.query_params.get("token") != "secret":
            raise Denied("give a token", authenticate="Bearer")

    app = create_app(Settings(log="memory://"), authorize=authorize, parameters=("token",))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client,
    ):
        assert (await client.post("/channels/a", content="x")).status_code == 401
        assert (await client.post("/channels/a?token=secret", content="x")).status_code == 200
        page = await client.get("/channels/a/events?token=secret&limit=1")
        assert page.json()["events"][0]["data"] == "x"
        assert (await client.get("/channels/a/events?tokens=secret")).status_code == 400


@given(st.sampled_from(SPELLINGS), st.text(max_size=40), st.text(max_size=20))
def test_an_application_reads_the_same_spellings(name: str, cursor: str, other: str) -> None:
    """`last_event_id(request)`, whatever else is in the query."""
    scope = {"query_string": f"x={quote(other)}&{name}={quote(cursor)}&y={quote(other)}".encode(), "headers": []}
    expected = cursor.encode("utf-8", "replace").decode()[:256] or None
    assert last_event_id(scope) == expected


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_reading_a_cursor_never_raises(query: bytes) -> None:
    """Any bytes are a query."""
    last_event_id({"query_string": query, "headers": []})
    last_event_id({"query_string": b"last_event_id=" + query, "headers": []})
