"""What the fuzzers attack: each target is a strategy of inputs and a check that holds for every one of them."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx2
import jwt
from hypothesis import strategies as st
from starlette.requests import Request
from tests.fixtures.serve import Serve
from tests.fuzz.application import SECRET, Application, Asked, check, token

from newswire import Decoder, Hub, Pattern
from newswire.errors import InvalidChannel, InvalidPosition
from newswire.log.channels import Channels, check_pattern, covers, name_or_pattern
from newswire.log.position import Position
from newswire.redact import printable, without_query_secrets, without_userinfo
from newswire.server.auth import Access, Denied, Tokens, secret_key
from newswire.server.auth.tickets import Tickets, derived_key, new_ticket

RESOURCES: Final = ExitStack()
"""Closed at the end: the application, the server."""


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: its name.
        inputs: what it is fed.
        check: raises if something is wrong.
        cost: how much slower it is than the others, roughly.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    cost: int = 1


# -- the decoder

LINES = st.sampled_from(
    [b"data: x", b"data", b"id: 1-2", b"id:", b"id: a\0b", b"event: e", b"retry: 10", b"retry: 1_0", b":", b": c",
     b"\xef\xbb\xbf",
     b"data:\xff\xfe", b"data: \xe2\x80\xa8", b"channel: a", b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\0", b"x" * 70]
)  # fmt: skip
STREAMS = st.lists(LINES | st.binary(max_size=30), max_size=40).map(b"".join)


def decode(case: tuple[bytes, list[int]]) -> None:
    """Any bytes, cut anywhere, give the events that they give whole."""
    data, cuts = case
    whole = Decoder()
    expected = whole.feed(data)
    pieces, events = Decoder(), []
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    for begin, end in zip([0, *places], [*places, len(data)], strict=True):
        events += pieces.feed(data[begin:end])
    assert events == expected
    assert (pieces.last_event_id, pieces.retry) == (whole.last_event_id, whole.retry)
    assert all("\n" not in event.event and "\0" not in (event.id or "") for event in events)


# -- cursors

CURSORS = (
    st.text(max_size=60)
    | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
    | st.builds("{}-{}".format, st.sampled_from(["EPOCH", "zzzzzzzz", "", "é"]), st.integers() | st.text(max_size=25))
)


@cache
def _hub() -> tuple[asyncio.AbstractEventLoop, Hub, str]:
    loop = asyncio.new_event_loop()
    hub = Hub()

    async def begin() -> str:
        await hub.open()
        return (await hub.publish("a", "kept")).epoch

    epoch = loop.run_until_complete(begin())

    def close() -> None:
        loop.run_until_complete(hub.close())
        loop.close()

    RESOURCES.callback(close)
    return loop, hub, epoch


def cursor(text: str) -> None:
    """Any text gives a stream, from a place of this log; what is read as a position is written the same again."""
    loop, hub, epoch = _hub()
    text = text.replace("EPOCH", epoch)

    async def go() -> None:
        subscription = hub.subscribe("a", after=text)
        position = await subscription.open()
        assert position.epoch == epoch
        assert 0 <= position.offset <= hub.latest
        subscription.close()

    loop.run_until_complete(go())
    try:
        assert str(Position.parse(text)) == text
    except InvalidPosition:
        pass


# -- channels and what grants cover

PIECES = st.sampled_from(["a", "b", "*", ">", "", "$x", "\0", " ", "\u2028", "é", "~2a", "a*", "\ud800"]) | st.text(
    max_size=3
)
NAMES = st.lists(PIECES, max_size=4).map(".".join)


def grant(case: tuple[str, str, str]) -> None:
    """What is covered is matched; what is no pattern is refused, and nothing else is raised."""
    granted, wanted, name = case
    try:
        check_pattern(granted)
        check_pattern(wanted)
        covered = covers(granted, wanted)
        channels = [Channels([name_or_pattern(one)]) for one in (granted, wanted)]
    except InvalidChannel:
        return
    if covered and name in channels[1]:
        assert name in channels[0]
    assert repr(Pattern(granted))


# -- tokens and tickets

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
CLAIM = ["sub", "exp", "iat", "nbf", "jti", "aud", "iss", "subscribe", "publish", "admin", "use", "until", "parent"]
CLAIMS = st.fixed_dictionaries({}, optional=dict.fromkeys(CLAIM, JSON))
HEADS = st.fixed_dictionaries(
    {}, optional={name: JSON | st.sampled_from(["HS256", "none", "RS256", "newswire-ticket"]) for name in
                  ("alg", "typ", "kid", "crit", "b64", "jwk", "jku")}
)  # fmt: skip


def _b64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode("utf-8", "replace")).decode().rstrip("=")


def _good() -> str:
    return new_ticket(derived_key(SECRET), subject="ada", subscribe=["a"])[0]


def _forged(case: tuple[Any, Any, bytes]) -> str:
    return f"{_b64(case[0])}.{_b64(case[1])}.{base64.urlsafe_b64encode(case[2]).decode().rstrip('=')}"


def _cut(case: tuple[int, int, str]) -> str:
    good = _good()
    begin, length, text = case
    begin %= len(good)
    return good[:begin] + text + good[begin + length :]


FORGED = (
    st.text(max_size=80)
    | st.builds(_forged, st.tuples(HEADS | JSON, CLAIMS | JSON, st.binary(max_size=40)))
    | st.builds(_cut, st.tuples(st.integers(0, 400), st.integers(0, 5), st.text(max_size=3)))
)


def _check_denied(denied: Denied) -> None:
    assert denied.status == 401
    assert set(denied.headers["www-authenticate"]) <= set(map(chr, range(32, 127)))


def credential(text: str) -> None:
    """No text that was not signed opens anything; a refusal is a 401 and nothing else is raised."""
    loop, hub, _ = _hub()
    tokens = Tokens([secret_key(SECRET)])
    tickets = Tickets(hub, SECRET)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "server": ("a", 1)}
    for call in (lambda: tokens.verify(text), lambda: tickets.enter(Request(dict(scope)), text, use=False)):
        try:
            access = loop.run_until_complete(call())
        except Denied as denied:
            _check_denied(denied)
        else:
            # Only what `_good` signed gets in: base64 may be written in several ways, its claims may not be changed.
            assert isinstance(access, Access)
            assert (access.subject, access.subscribe, access.kind) == ("ada", ("a",), "ticket")


def signed(claims: Any) -> None:
    """Claims that are signed well may be anything: an access with good patterns, or a 401."""
    loop, _, _ = _hub()
    try:
        text = jwt.encode(claims, SECRET, "HS256")
    except (TypeError, ValueError):
        return  # no JSON object
    try:
        access = loop.run_until_complete(Tokens([secret_key(SECRET)]).verify(text))
    except Denied as denied:
        _check_denied(denied)
        return
    for pattern in (*access.subscribe, *access.publish):
        check_pattern(pattern)
    assert access.expires is None or access.expires > time.time() - 5


# -- what is shown


def shown(text: str) -> None:
    """Whatever is written to a log or a terminal has no control characters, and never raises."""
    assert "\x1b" not in printable(text)
    without_userinfo(text)
    hidden = without_query_secrets(f"/a?ticket={text}")
    if text and not set(text) & set("&;#"):
        assert hidden == "/a?ticket=[hidden]"


# -- HTTP, as the application sees it

NAMED = [
    b"ada.1",
    b"ada.*",
    b"ada.>",
    b"bob.secret",
    b"bob.*",
    b">",
    b"*",
    b"public.x",
    b"$auth.secret",
    b"%00",
    b"%ff",
    b"..",
    b"a%2fb",
]
PATHS = st.builds(
    b"".join,
    st.tuples(
        st.sampled_from([b"/channels/", b"/stream", b"/", b"/tickets", b"/revoke", b"/connections", b"/console/",
                         b"/console/tail",
                         b"/console/stats", b"/health/live", b"/metrics", b"/channels"]),
        st.sampled_from([*NAMED, b"", b"", b""]) | st.binary(max_size=12).map(lambda raw: raw.replace(b"?",
                         b"").replace(b" ", b"")),
        st.sampled_from([b"", b"", b"/events", b"/", b"/x"]),
    ),
)  # fmt: skip
QUERIES = st.lists(
    st.builds(
        b"%b=%b".__mod__,
        st.tuples(
            st.sampled_from([b"channel", b"channel", b"from", b"envelope", b"event", b"after", b"limit", b"last",
                             b"ticket",
                             b"last_event_id", b"lastEventId", b"subject", b"token", b"again", b"x"]),
            st.sampled_from([*NAMED, b"earliest", b"json", b"5", b"-1", b"99999999999999999999", b"true",
                             b""]) | st.binary(max_size=15),
        ),
    )
    | st.binary(max_size=10),
    max_size=5,
).map(b"&".join)  # fmt: skip
VALUES = st.binary(max_size=30).map(lambda raw: raw.translate(None, b"\r\n\0"))
TOKENS = [
    token(),
    token(subscribe=["public.>"]),
    token(publish=["ada.1"], ttl=-5),
    b"Bearer x",
    b"Basic eDp5",
    b"Bearer nwk_a_b",
]
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"cookie", b"origin", b"host", b"content-type", b"content-length",
                         b"last-event-id",
                         b"idempotency-key", b"sec-fetch-site", b"content-encoding", b"x-forwarded-for", b"accept",
                         b"range",
                         b"if-none-match", b"access-control-request-method", b"x"]),
        st.sampled_from([b"localhost", b"evil.example", b"application/x-ndjson", b"application/json",
                         b"text/plain; charset=x",
                         b"multipart/form-data", b"gzip", b"same-origin", b"http://localhost", b"null", b"5",
                         b"99999999999999999999",
                         b"POST"]) | VALUES,
    )
    | st.tuples(st.just(b"authorization"), st.sampled_from(TOKENS))
    | st.tuples(st.just(b"cookie"), st.sampled_from(TOKENS).map(lambda value: b"__Host-newswire=" + value[7:])),
    max_size=5,
)  # fmt: skip
BODIES = st.lists(
    st.sampled_from([b'{"data": 1}\n', b'{"data": "x", "event": "e"}\n', b"[]", b"{}", b'{"channels": ["ada.1"]}',
                     b"\xff",
                     b'{"subject": "ada"}', b'{"token": "x"}', b"x" * 3000, b"[" * 500, b"",
                                                                               b"1e999"]) | st.binary(max_size=40),
    max_size=4,
)  # fmt: skip
METHODS = st.sampled_from(["GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "x", ""])
REQUESTS = st.builds(Asked, METHODS, PATHS, QUERIES, HEADERS, BODIES)


@cache
def _application() -> Application:
    application = Application()
    RESOURCES.callback(application.close)
    return application


def request(asked: Asked) -> None:
    """Any request gets an answer that is no fault of the server's, and no event of another user."""
    check(asked, _application().ask(asked))


# -- HTTP, as bytes on a socket

PARTS = st.sampled_from(
    [b"GET ", b"POST ", b"HEAD ", b"PRI * HTTP/2.0", b"/channels/public.x", b"/stream?channel=public.x",
     b" HTTP/1.1", b" HTTP/1.0",
     b" HTTP/9", b"\r\n", b"\r\n", b"\n", b"\r\n\r\n", b"Host: localhost", b"Host: evil", b"Content-Length: 3",
     b"Content-Length: -1",
     b"Transfer-Encoding: chunked", b"3\r\nabc\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"Connection: close",
     b"Expect: 100-continue",
     b"Connection: upgrade\r\nUpgrade: websocket", b"Last-Event-ID: ", b"Authorization: " + TOKENS[0], b"a" * 500,
     b"\0", b"\x16\x03\x01"]
)  # fmt: skip
RAW = st.lists(PARTS | st.binary(max_size=10), max_size=14).map(b"".join)


@cache
def _server() -> Serve:
    folder = RESOURCES.enter_context(tempfile.TemporaryDirectory())
    flags = ("--jwt-secret", SECRET, "--anonymous", "public.>", "--log", "memory://")
    return RESOURCES.enter_context(Serve(Path(folder), *flags))


def raw(data: bytes) -> None:
    """Any bytes on a connection: no 500, no traceback, and the server goes on."""
    server = _server()
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while len(answer) < 65536 and (got := connection.recv(65536)):
                answer += got
        except ConnectionError:
            pass  # it was refused while we still spoke
    assert b"HTTP/1.1 500" not in answer, answer
    assert server.process.poll() is None, server.stderr()
    assert "Traceback" not in server.stderr(), server.stderr()[-3000:]
    assert httpx2.get(f"{server.url}/health/live").status_code == 200


TARGETS: Final = (
    Target("decoder", st.tuples(STREAMS, st.lists(st.integers(0, 2000), max_size=6)), decode),
    Target("cursor", CURSORS, cursor),
    Target("grants", st.tuples(NAMES, NAMES, NAMES), grant),
    Target("credentials", FORGED, credential, cost=2),
    Target("claims", CLAIMS, signed, cost=2),
    Target("redaction", st.text(max_size=80), shown),
    Target("requests", REQUESTS, request, cost=3),
    Target("connections", RAW, raw, cost=30),
)
