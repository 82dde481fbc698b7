"""What must not be shown or passed on: passwords in URLs, credentials; and what must not be trusted: sizes."""

from __future__ import annotations

import asyncio
import gzip
import logging
import traceback
import tracemalloc
import zlib
from typing import Any

import httpx
import httpx2
import pytest
from tests.client.conftest import Face

from newswire.client import AsyncEventSource, EventSource, Hooks, Limits, Opened, Options
from newswire.client.request import check_url, make_request, moved
from newswire.errors import BadStatus, DecodeLimitExceeded, NewswireError, WrongContentType
from newswire.testing import Answer, BadServer, FakeClock

A = b"id: 1\ndata: a\n\n"
OVER = Answer(status=204)
BASIC = b"Basic YWRhOmh1bnRlcjI="  # ada:hunter2


def secret(url: str) -> str:
    """The URL with a user and a password."""
    return url.replace("//", "//ada:hunter2@")


@pytest.mark.parametrize(
    "script",
    [
        [Answer(A), Answer(A, end="reset"), OVER],
        [Answer(status=500), Answer(status=404, body=b"no")],
        [Answer(b"", headers={"content-type": "text/html"})],
        [Answer(status=302, headers={"location": "http://:x/"})],
        [Answer(status=307, headers={"location": "/other"}), Answer(status=401)],
    ],
)
def test_a_password_in_the_url_is_sent_and_never_shown(
    face: Face, caplog: pytest.LogCaptureFixture, script: list[Answer]
) -> None:
    """Not in logs of ours or of the library's, in errors and what they come from, or in what hooks get."""
    seen: list[Any] = []
    hooks = Hooks(open=seen.append, error=lambda *what: seen.append(what), disconnect=lambda *what: seen.append(what))
    with caplog.at_level(logging.DEBUG), BadServer(script) as server:
        outcome = face.read(secret(server.url), options=Options(hooks=hooks, limits=Limits(attempts=9)))
    assert {request.headers["authorization"] for request in server.requests} == {BASIC}
    shown = [caplog.text, repr(seen), *(one.url for one in seen if isinstance(one, Opened))]
    for error in [outcome.error, *(one[0] for one in seen if isinstance(one, tuple))]:
        if error is not None:
            shown += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
    assert not [text for text in shown if "hunter2" in text]


def test_nothing_that_a_source_says_of_itself_has_the_password(face: Face) -> None:
    """Its repr, the warning that it was not closed, and the error of a URL that can't be used."""
    kind = EventSource if face.name == "sync" else AsyncEventSource
    source = kind("http://ada:hunter2@127.0.0.1:9/events")
    assert repr(source) == f"<{kind.__name__} http://127.0.0.1:9/events CONNECTING>"
    with pytest.warns(ResourceWarning, match="http://127.0.0.1:9/events was not closed"):
        del source
    urls = [
        "ftp://ada:hunter2@h/",
        "http://ada:hunter2/x@h/",
        "http://ada:hunter2@h:x/",
        "//ada:hunter2@h",
        "http://[x",
    ]
    for url in urls:
        with pytest.raises(ValueError, match="is not an absolute") as error:
            kind(url)
        assert "hunter2" not in "".join(traceback.format_exception(error.value)[-1:])


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_nothing_listens_behind_a_url_with_a_password(
    face: Face, caplog: pytest.LogCaptureFixture, library: Any
) -> None:
    """The library's own error, which ours comes from, does not have it either."""
    seen: list[NewswireError] = []
    options = Options(
        hooks=Hooks(error=lambda error, _: seen.append(error)), limits=Limits(attempts=2), clock=FakeClock()
    )
    url = "http://ada:hunter2@127.0.0.1:9/"

    async def read() -> None:
        async with library.AsyncClient() as client, AsyncEventSource(url, client=client, options=options) as source:
            await source.open()

    with caplog.at_level(logging.DEBUG), pytest.raises(NewswireError) as raised:
        if face.name == "async":
            asyncio.run(read())
        else:
            with library.Client() as client, EventSource(url, client=client, options=options) as source:
                source.open()
    causes = [raised.value, *seen]
    texts = [repr(vars(cause)) + repr(cause.__cause__) for cause in causes]
    requests = [str(cause.__cause__.request.url) for cause in seen if hasattr(cause.__cause__, "request")]
    assert requests == ["http://127.0.0.1:9/"]
    assert not [text for text in [*texts, *requests, caplog.text] if "hunter2" in text]


def test_the_users_own_header_counts_more() -> None:
    """As curl has it; and a URL without a password adds nothing."""
    request = make_request(None, "https://ada:hunter2@h/x?y#z", {"Authorization": "Bearer t"}, None)
    assert request.url == "https://h/x?y"
    assert [value for name, value in request.headers if name == b"authorization"] == [b"Bearer t"]
    assert not [name for name, _ in make_request(None, "https://h/", None, None).headers if name == b"authorization"]
    nested = "https://h/x?next=https://ada:b@c/&y=//@"
    assert make_request(None, nested.replace("h/x", "ada:p@h/x"), None, None).url == nested
    odd = make_request(None, "https://a%40b:p%3Aw@h/", None, None)
    assert dict(odd.headers)[b"authorization"] == b"Basic YUBiOnA6dw=="  # a@b:p:w


@pytest.mark.parametrize(
    "header", ["authorization", "cookie", "x-api-key", "x-goog-api-key", "cf-aig-authorization", "x-auth-token"]
)
def test_every_credential_stays_with_its_origin(face: Face, header: str) -> None:
    """A redirect to another origin goes without it, whatever header it is in."""
    with (
        BadServer([Answer(A), OVER]) as other,
        BadServer([Answer(status=302, headers={"location": other.url}), OVER]) as server,
    ):
        outcome = face.read(secret(server.url), headers={header: "s", "x-more": "m"})
    assert outcome.data == ["a"]
    assert header in server.requests[0].headers
    assert not {header, "authorization"} & other.requests[0].headers.keys()
    assert other.requests[0].headers["x-more"] == b"m"


def test_the_default_headers_of_a_client_stay_with_their_origin() -> None:
    """Also those that no standard knows as credentials."""
    with (
        BadServer([Answer(A), OVER]) as other,
        BadServer([Answer(status=302, headers={"location": other.url}), OVER]) as server,
        httpx2.Client(headers={"x-api-key": "s"}) as client,
        EventSource(server.url, client=client, options=Options(clock=FakeClock())) as source,
    ):
        assert [event.data for event in source] == ["a"]
    assert "x-api-key" in server.requests[0].headers
    assert "x-api-key" not in other.requests[0].headers


def test_a_password_of_a_servers_redirect_is_not_used() -> None:
    """Only the user says whose requests these are."""
    request = make_request(None, "http://h/", None, None)
    assert moved(request, check_url("http://h/x"), keep=True).headers == request.headers


# -- compressed answers


@pytest.mark.parametrize("chunked", [True, False])
def test_a_compressed_stream_is_read(face: Face, chunked: bool) -> None:
    """No client asked for it, but some servers do it."""
    body = gzip.compress(A + b"data: b\n\n")
    with BadServer([Answer(body, headers={"content-encoding": "gzip"}, chunked=chunked), OVER]) as server:
        assert face.read(server.url).data == ["a", "b"]
    assert server.requests[0].headers["accept-encoding"] == b"identity"


def bomb(start: bytes, megabytes: int) -> bytes:
    """A gzip stream of some text and many zeros, made of one block over and over; what ends it is missing."""
    compressor = zlib.compressobj(wbits=31)
    head = compressor.compress(start) + compressor.flush(zlib.Z_FULL_FLUSH)
    return head + (compressor.compress(bytes(1_000_000)) + compressor.flush(zlib.Z_FULL_FLUSH)) * megabytes


def test_a_compressed_stream_is_bounded(face: Face) -> None:
    """200 KB that become 200 MB end the source, not the process."""
    with BadServer([Answer(bomb(b"data: ", 200), headers={"content-encoding": "gzip"})]) as server:
        tracemalloc.start()
        try:
            outcome = face.read(server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(outcome.error, DecodeLimitExceeded)
    assert peak < 80_000_000


def test_the_error_of_a_compressed_answer_is_bounded(face: Face) -> None:
    """Its start is kept, decompressed."""
    with BadServer([Answer(bomb(b"no such ", 100), status=404, headers={"content-encoding": "gzip"})]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, BadStatus)
    assert (outcome.error.body[:8], len(outcome.error.body)) == (b"no such ", 1024)


def test_an_encoding_that_nobody_asked_for_ends_the_source(face: Face) -> None:
    """Trying again would not cure it."""
    with BadServer([Answer(b"\x0b\x02\x80hello\x03", headers={"content-encoding": "br"})]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, WrongContentType)
    assert "content-encoding of 'br'" in str(outcome.error)


def test_a_status_counts_whatever_its_body_is_in(face: Face) -> None:
    """A server that is down is down, also if its page is in an encoding that no one asked for: the body is left out."""
    brotli = {"content-encoding": "br"}
    answers = [
        Answer(b"\x0b\x02", 503, headers=brotli),
        Answer(status=307, headers={**brotli, "location": "/x"}),
        Answer(A),
        Answer(b"\x0b\x02", 404, headers=brotli),
    ]
    with BadServer(answers) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a"]
    assert isinstance(outcome.error, BadStatus)
    assert (outcome.error.status, outcome.error.body) == (404, b"")


def test_what_is_not_compressed_as_it_says_breaks_the_connection(face: Face) -> None:
    """The source tries again."""
    with BadServer([Answer(b"data: plain\n\n", headers={"content-encoding": "gzip"}), Answer(A), OVER]) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a"]
    assert outcome.stats.failures == 1
