"""WSGI answers 307 with a ticket, and the stream comes from a server on the same log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from tests.fixtures.in_thread import Threaded, uvicorn_in_thread

import newswire
from newswire import Decoder, Hub, Pattern
from newswire.errors import InvalidSetting
from newswire.integrations.redirect import parameters_of
from newswire.integrations.wsgi import StreamServer, WsgiApp, WsgiStream
from newswire.log.channels import Channels
from newswire.server import Settings

PATIENCE = 20.0
SECRET = "a secret of the tests, 32 bytes long"


@pytest.fixture
def log(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/newswire.db"


@pytest.fixture
def server(log: str) -> Iterator[Threaded]:
    """A server that asks for credentials, with a prefix."""
    app = newswire.asgi_app(Hub(log), settings=Settings(jwt_secret=SECRET), prefix="/live")
    with uvicorn_in_thread(app, lifespan="on") as running:
        yield running


@pytest.fixture
def hub(log: str) -> Iterator[Hub[Any]]:
    hub = Hub(log)
    yield hub
    hub.sync.close()


def call(app: Any, method: str, path: str, query: str = "", body: bytes = b"", **more: str) -> tuple[str, Any, bytes]:
    """One request, as a WSGI server makes it."""
    heads: list[Any] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **more,
    }
    chunks = b"".join(app(environ, lambda *head: heads.append(head)))
    [(status, headers)] = heads
    return status, dict(headers), chunks


def read(location: str, count: int, **headers: str) -> list[Any]:
    """Events of a stream."""
    found, decoder = [], Decoder()
    with httpx2.stream("GET", location, timeout=PATIENCE, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        for chunk in answer.iter_raw():
            found += decoder.feed(chunk)
            if len(found) >= count:
                break
    return found


def test_publish_here_and_read_there(server: Threaded, hub: Hub[Any]) -> None:
    """The redirect's address opens the stream, with the cursor of the request, for one client."""
    app = WsgiApp(hub, StreamServer(f"http://127.0.0.1:{server.port}/live", secret=SECRET))
    status, _, body = call(app, "POST", "/channels/news", body=b"one")
    assert status == "200 OK"
    first = json.loads(body)["id"]
    call(app, "POST", "/channels/news", body=b"two")
    status, headers, body = call(app, "GET", "/channels/news", HTTP_LAST_EVENT_ID=first)
    assert (status, body, headers["Cache-Control"]) == ("307 Temporary Redirect", b"", "no-store")
    assert [event.data for event in read(headers["Location"], 1)] == ["two"]
    again = httpx2.get(headers["Location"], timeout=PATIENCE)
    assert (again.status_code, again.json()["reason"]) == (401, "used")


def test_the_secret_that_the_log_keeps(log: str, hub: Hub[Any]) -> None:
    """A server without a `jwt_secret` and an application on its log have it in common."""
    settings = Settings(anonymous=("public",))
    with uvicorn_in_thread(newswire.asgi_app(Hub(log), settings=settings), lifespan="on") as server:
        streams = StreamServer(f"http://127.0.0.1:{server.port}", hub=hub)
        hub.sync.publish("news", "one")
        location = streams.location(["news"], subject="ada", after="0")
        assert [event.event for event in read(location, 2)] == ["newswire.gap", "message"]


def test_several_channels_and_patterns(server: Threaded, hub: Hub[Any]) -> None:
    """Those of a subscription."""
    streams = StreamServer(f"http://127.0.0.1:{server.port}/live/", secret=SECRET)
    position = hub.sync.publish("begin", "x")
    subscription = hub.subscribe("news", Pattern("room.*"))
    hub.sync.publish("news", "one")
    hub.sync.publish("room.1", "two")
    hub.sync.publish("other", "three")
    location = streams.location(subscription.channels, after=position)
    assert "/live/stream?channel=news&channel=room.%2A&" in location
    assert [event.data for event in read(location, 2)] == ["one", "two"]


def test_in_wsgi_too() -> None:
    """`/stream`, HEAD, and a channel whose name has to be quoted; no tickets for a server that needs none."""
    with_hub = Hub("memory://")
    app = WsgiApp(with_hub, StreamServer("/live"))
    assert call(app, "GET", "/stream", "channel=a&channel=b.*")[1]["Location"] == "/live/stream?channel=a&channel=b.%2A"
    status, headers, body = call(app, "HEAD", "/channels/caf\u00c3\u00a9")
    assert (status, headers["Location"], body) == ("307 Temporary Redirect", "/live/channels/caf%C3%A9", b"")
    assert headers["Content-Length"] == "0"
    with_hub.sync.close()


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "code"),
    [
        ("GET", "/", "", "404 Not Found", "not_found"),
        ("GET", "/channels/", "", "404 Not Found", "not_found"),
        ("GET", "/stream", "", "400 Bad Request", "invalid_query"),
        ("GET", "/channels/a/b", "", "400 Bad Request", "invalid_channel"),
        ("GET", "/channels/$auth.secret", "", "400 Bad Request", "invalid_channel"),
        ("POST", "/channels/$auth.revoked", "", "400 Bad Request", "invalid_channel"),
        ("POST", "/channels/room.*", "", "400 Bad Request", "invalid_channel"),
        ("POST", "/stream", "channel=a", "405 Method Not Allowed", "method_not_allowed"),
        ("DELETE", "/channels/a", "", "405 Method Not Allowed", "method_not_allowed"),
    ],
)
def test_bad_requests(method: str, path: str, query: str, status: str, code: str) -> None:
    """A problem says what is wrong; nothing is stored."""
    hub = Hub("memory://")
    found, headers, body = call(WsgiApp(hub, StreamServer("/live")), method, path, query)
    assert (found, json.loads(body)["code"]) == (status, code)
    assert headers["Content-Type"] == "application/problem+json"
    assert int(headers["Content-Length"]) == len(body)
    hub.sync.close()


def stored(hub: Hub[Any]) -> list[tuple[str, str]]:
    """What the log has."""
    entries = hub.sync.call(lambda: hub.log.read(Channels(["news"]), 0, 100)).entries
    return [(entry.event, entry.data) for entry in entries]


def test_what_a_post_says_counts() -> None:
    """The type of its event, its key, and a body in pieces where the server ends it."""
    hub = Hub("memory://")
    app = WsgiApp(hub, StreamServer("/live"))
    ids = [
        json.loads(call(app, "POST", "/channels/news", "event=tick", b"one", HTTP_IDEMPOTENCY_KEY="k")[2])["id"]
        for _ in range(2)
    ]
    assert ids[0] == ids[1]
    pieces: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    assert call(app, "POST", "/channels/news", body=b"two", **pieces | {"CONTENT_LENGTH": ""})[0] == "200 OK"
    assert stored(hub) == [("tick", "one"), ("message", "two")]
    hub.sync.close()


@pytest.mark.parametrize(
    ("more", "query", "code"),
    [
        ({"CONTENT_LENGTH": "5"}, "", "client_gone"),
        ({"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}, "", "length_required"),
        ({"CONTENT_LENGTH": "9" * 5000}, "", "too_large"),
        ({"CONTENT_LENGTH": "-5"}, "", "invalid_request"),
        ({"CONTENT_TYPE": "application/x-ndjson"}, "", "unsupported_type"),
        ({"CONTENT_TYPE": "multipart/form-data; boundary=x"}, "", "unsupported_type"),
        ({"CONTENT_TYPE": "text/plain; charset=latin-1"}, "", "unsupported_charset"),
        ({"HTTP_CONTENT_ENCODING": "gzip"}, "", "unsupported_encoding"),
        ({"HTTP_IDEMPOTENCY_KEY": "k" * 300}, "", "invalid_idempotency_key"),
        ({"PATH_INFO": "/channels/\xe9"}, "", "not_utf8"),
        ({}, "evt=tick", "invalid_query"),
        ({}, "event=%ff", "not_utf8"),
        ({}, "event=", "invalid_event"),
    ],
)
def test_what_can_not_be_published(more: dict[str, str], query: str, code: str) -> None:
    """It is refused, and nothing is stored: a body that was cut is no event, nor is what a parameter's slip made."""
    hub = Hub("memory://")
    _, headers, body = call(WsgiApp(hub, StreamServer("/live")), "POST", "/channels/news", query, b"two", **more)
    assert (json.loads(body)["code"], headers["Content-Type"]) == (code, "application/problem+json")
    assert stored(hub) == []
    hub.sync.close()


def test_the_parameters_of_a_stream_are_passed_on(server: Threaded, hub: Hub[Any]) -> None:
    """A stream from the earliest event begins there; a slip is refused, and what the authorizer reads is not."""
    app = WsgiApp(
        hub,
        StreamServer(f"http://127.0.0.1:{server.port}/live", secret=SECRET),
        authorize=lambda environ, action, channels: "ada",
        parameters=["token"],
    )
    hub.sync.publish("news", "one")
    location = call(app, "GET", "/channels/news", "from=earliest&envelope=json&token=x")[1]["Location"]
    [event] = read(location, 1)
    assert json.loads(event.data)["data"] == "one"
    status, _, body = call(app, "GET", "/stream", "channel=news&form=earliest")
    assert (status, json.loads(body)["field"]) == ("400 Bad Request", "form")
    assert call(app, "GET", "/stream", "channel=%ff")[0] == "400 Bad Request"


def test_a_subscription_as_parameters() -> None:
    """Where it begins and how it is written is in them."""
    hub = Hub("memory://")
    assert parameters_of(hub.subscribe("news")) == []
    assert parameters_of(hub.subscribe("news", start="earliest", envelope=True)) == [
        ("from", "earliest"),
        ("envelope", "json"),
    ]
    assert parameters_of(hub.subscribe("news", after="epoch-5")) == [("last_event_id", "epoch-5")]


def test_an_authorizer() -> None:
    """It gives the ticket its user, or refuses with its words."""
    import jwt

    asked: list[Any] = []

    def authorize(environ: dict[str, Any], action: str, channels: Any) -> str | None:
        asked.append((action, list(channels)))
        if action == "publish":
            raise PermissionError("readers only")
        return environ.get("REMOTE_USER")

    hub = Hub("memory://")
    app = WsgiApp(hub, StreamServer("/live", secret=SECRET), authorize=authorize)
    status, _, body = call(app, "POST", "/channels/news", body=b"x")
    assert (status, json.loads(body)["detail"]) == ("403 Forbidden", "readers only")
    location = call(app, "GET", "/channels/news", REMOTE_USER="ada")[1]["Location"]
    claims = jwt.decode(location.partition("ticket=")[2], options={"verify_signature": False})
    assert (claims["sub"], claims["subscribe"]) == ("ada", ["news"])
    assert asked == [("publish", ["news"]), ("subscribe", ["news"])]
    hub.sync.close()


def test_a_body_that_is_too_large() -> None:
    """It is refused before it is read."""
    hub = Hub("memory://")
    status, _, body = call(WsgiApp(hub, StreamServer("/")), "POST", "/channels/news", CONTENT_LENGTH="999999999999")
    assert (status, json.loads(body)["code"]) == ("413 Request Entity Too Large", "too_large") or status.startswith(
        "413"
    )
    hub.sync.close()


@pytest.mark.parametrize("url", ["live", "ftp://x", "/live?a=b", ""])
def test_an_address_that_is_none(url: str) -> None:
    """The error shows one."""
    with pytest.raises(InvalidSetting, match="/live"):
        StreamServer(url)


@pytest.mark.parametrize(
    "query", ["", "limit=2", "limit=1&after={first}", "last=2", "after=nonsense", "limit=0", "last=1&limit=1", "from=x"]
)
@pytest.mark.parametrize("channel", ["news", "room.*", "a..b", "$auth", "none"])
def test_history_is_that_of_the_server(log: str, hub: Hub[Any], channel: str, query: str) -> None:
    """Status and body, of answers and of errors."""
    first = hub.sync.publish("news", "one")
    for name in ("news", "room.1", "news"):
        hub.sync.publish(name, {"two": "ö"})
    app = WsgiApp(hub, StreamServer("/live"))
    query = query.format(first=first)
    status, headers, body = call(app, "GET", f"/channels/{channel}/events", query)
    with TestClient(newswire.asgi_app(Hub(log), settings=Settings(allowed_hosts=["testserver"]))) as client:
        answer = client.get(f"/channels/{channel}/events?{query}")
    assert int(status.split()[0]) == answer.status_code
    found, expected = json.loads(body), answer.json()
    if answer.status_code != 200:
        found, expected = ({name: one[name] for name in ("status", "code", "field")} for one in (found, expected))
    assert found == expected
    assert headers["Content-Type"] == answer.headers["content-type"]
    assert headers["Cache-Control"] == answer.headers["cache-control"]


def test_a_ticket_opens_a_stream(server: Threaded, hub: Hub[Any]) -> None:
    """For the user that the application names, and for no other."""

    def authorize(environ: Any, action: str, channels: Any) -> str | None:
        if "secret" in channels:
            raise PermissionError("not for you")
        return "ada"

    url = f"http://127.0.0.1:{server.port}/live"
    app = WsgiApp(hub, StreamServer(url, secret=SECRET), authorize=authorize)
    asked = json.dumps({"channels": ["news"], "ttl": 20, "subject": "ada"}).encode()
    status, headers, body = call(app, "POST", "/tickets", body=asked)
    assert (status, headers["Cache-Control"]) == ("201 Created", "no-store")
    made = json.loads(body)
    assert set(made) == {"ticket", "expires", "until"}
    hub.sync.publish("news", "one")
    [event] = read(f"{url}/channels/news?ticket={made['ticket']}&from=earliest", 1)
    assert event.data == "one"
    for channels, subject in ((["secret"], None), (["news"], "bob")):
        denied = json.dumps({"channels": channels, "subject": subject}).encode()
        status, _, body = call(app, "POST", "/tickets", body=denied)
        assert (status, json.loads(body)["code"]) == ("403 Forbidden", "denied")


@pytest.mark.parametrize(
    ("method", "body", "status", "code"),
    [
        ("GET", b"", 405, "method_not_allowed"),
        ("POST", b"", 400, "invalid_ticket"),
        ("POST", b"[]", 400, "invalid_ticket"),
        ("POST", b'{"channels": []}', 400, "invalid_ticket"),
        ("POST", b'{"channels": ["a"], "ttl": 0}', 400, "invalid_ticket"),
        ("POST", b'{"channels": ["a"], "more": 1}', 400, "invalid_ticket"),
        ("POST", b'{"channels": ["a..b"]}', 400, "invalid_channel"),
        ("POST", b'{"channels": ["$auth"]}', 400, "invalid_channel"),
        ("POST", json.dumps({"channels": ["a"] * 101}).encode(), 400, "too_many_channels"),
        ("POST", b" " * 70_000, 413, "too_large"),
        ("POST", b'{"channels": ["a"]}', 404, "not_found"),  # the server of the streams needs none
    ],
)
def test_tickets_that_can_not_be_made(method: str, body: bytes, status: int, code: str) -> None:
    """As the server answers."""
    found, _, answer = call(WsgiApp(Hub(), StreamServer("/live")), method, "/tickets", body=body)
    assert (int(found.split()[0]), json.loads(answer)["code"]) == (status, code)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"channels": "news"}, "channels is a list, not 'news'"),
        ({"subject": 42}, "subject is a str, not 42"),
        ({"first_use": "30"}, "first_use is a number of seconds, not '30'"),
    ],
)
def test_other_kinds_are_refused(given: dict[str, Any], text: str) -> None:
    """A text alone is no list: it would be the channels of its letters. No one can revoke a subject of another kind."""
    server = StreamServer("/live", secret="x" * 40)
    for call in (server.location, server.ticket):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(**{"channels": ["news"], **given})
        assert str(caught.value) == text


def test_what_is_no_application() -> None:
    """A hub, the server of its streams, and a list of parameters."""
    hub: Any = Hub()
    server = StreamServer("/live")
    mistakes: list[tuple[Any, str]] = [
        (lambda: WsgiApp("memory://", server), "hub is a Hub, not 'memory://'"),  # type: ignore[arg-type]
        (lambda: WsgiApp(hub, "/live"), "streams is a StreamServer, not '/live'"),  # type: ignore[arg-type]
        (lambda: WsgiApp(hub, server, parameters="token"), "parameters is a list, not 'token'"),
        (lambda: WsgiStream("memory://", hub.subscribe("a")), "hub is a Hub, not 'memory://'"),  # type: ignore[arg-type]
        (lambda: StreamServer(3), "url is a str, not 3"),  # type: ignore[arg-type]
        (lambda: StreamServer("/live", secret=b"hush"), "secret is a str, not bytes"),  # type: ignore[arg-type]
    ]
    for make, text in mistakes:
        with pytest.raises(TypeError) as caught:
            make()
        assert str(caught.value) == text
