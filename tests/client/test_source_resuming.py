"""How a source comes back: the query of its URL, the pace, the time limits, and what its hooks hear of it."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import httpx
import httpx2
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from tests.client.conftest import Face

from newswire.client import (
    AsyncEventSource,
    Backoff,
    CursorFile,
    EventSource,
    Hooks,
    Limits,
    Options,
    Resume,
    Timeouts,
    iter_events,
)
from newswire.client.request import make_request, with_cursor
from newswire.errors import BadStatus, InactivityTimeout, NewswireError
from newswire.testing import Answer, BadServer, FakeClock
from newswire.wire.event import Event

A = b"id: 1\ndata: a\n\n"
OVER = Answer(status=204)


# -- the query


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("sig=%FF", "sig=%FF&after=1"),
        ("a=b%20c&flag&x=%2f+%7E", "a=b%20c&flag&x=%2f+%7E&after=1"),
        ("flag", "flag&after=1"),
        ("a=1&&b=;", "a=1&&b=;&after=1"),
        ("after=0&z=%C3&after&%61fter=7", "z=%C3&after=1"),
        ("afters=0&x=after=1", "afters=0&x=after=1&after=1"),
        ("", "after=1"),
    ],
)
def test_the_rest_of_a_query_stays_as_it_is(face: Face, query: str, wanted: str) -> None:
    """To the byte: the URL may be signed."""
    options = Options(resume=Resume(query="after"))
    url = f"?{query}" if query else ""
    with BadServer([Answer(A), OVER]) as server:
        face.read(server.url + url, options=options)
    assert [request.target for request in server.requests] == [f"/events{url}", f"/events?{wanted}"]


@pytest.mark.slow
@given(rest=st.text("ab=&%+;/?:@é~-_.4F", max_size=30), id=st.text(min_size=1), name=st.sampled_from(["after", "a b"]))
def test_any_query_keeps_all_but_its_own_parameter(rest: str, id: str, name: str) -> None:
    """And the cursor is the only one of its name, as it was given."""
    id = id.encode("utf-8", "replace").decode()
    request = make_request(None, f"http://h/p?{rest}", None, None)
    made, sent = with_cursor(request, id, name)
    kept, _, cursor = made.url.partition("?")[2].rpartition("&")
    assert sent
    assert kept == "&".join(pair for pair in rest.split("&") if rest and unquote_plus(pair.split("=")[0]) != name)
    assert parse_qsl(cursor, keep_blank_values=True) == [(name, id)]
    assert with_cursor(made, id, name)[0].url == made.url


# -- a POST


@pytest.mark.parametrize("status", [429, 503])
def test_a_post_goes_out_again_only_if_the_server_says_when(face: Face, status: int) -> None:
    """Without `Retry-After` the request's fate is unknown; the user may say that it can be repeated."""
    with BadServer([Answer(status=status), Answer(A)]) as server:
        assert isinstance(face.read(server.url, body=b"x").error, BadStatus)
    assert len(server.requests) == 1
    with BadServer([Answer(status=status, headers={"retry-after": "1"}), Answer(b"data: a\n\n")]) as server:
        assert face.read(server.url, body=b"x").data == ["a"]
    with BadServer([Answer(status=status), Answer(A), OVER]) as server:
        options = Options(resume=Resume(idempotent=True))
        assert face.read(server.url, body=b"x", options=options).data == ["a"]


# -- the pace


@pytest.mark.parametrize("answer", [Answer(b"retry: 0\n" + A), Answer(status=503, headers={"retry-after": "0"})])
def test_a_server_that_asks_to_come_at_once_is_not_flooded(face: Face, answer: Answer) -> None:
    """The first time it is as it asks; then there is a tenth of a second between two attempts."""
    clock = FakeClock()
    with BadServer([answer] * 20 + [OVER]) as server:
        outcome = face.read(server.url, clock=clock, options=Options(limits=Limits(attempts=50)))
    assert outcome.waits[0] < 0.1
    assert sum(outcome.waits) >= 18 * 0.1
    assert all(wait >= 0.099 for wait in outcome.waits[1:])
    with BadServer([answer] * 5 + [OVER]) as server:
        options = Options(backoff=Backoff(shortest=0.0), limits=Limits(attempts=50))
        assert sum(face.read(server.url, options=options).waits) == 0


# -- time limits


def test_a_response_has_a_limit_also_if_connecting_has_none(face: Face) -> None:
    """`Timeouts(connect=None)` is as long as `response`."""
    options = Options(timeouts=Timeouts(connect=None, response=0.1), limits=Limits(attempts=1))
    with BadServer([Answer(status=0, end="hang")] * 2) as server:
        outcome = face.read(server.url, options=options)
    assert isinstance(outcome.failures[0].__cause__, InactivityTimeout)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_reader_that_waits_for_the_head_on_a_connection_used_before_leaves(library: Any) -> None:
    """When another thread closes: the user's client had the connection already."""
    hung = threading.Event()

    listener = _keep_alive_server(hung)
    with library.Client() as client, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert client.get(url).text == "ok"
        source = EventSource(url, client=client)
        reading = pool.submit(list, source)
        assert hung.wait(5)
        source.close()
        assert reading.result(5) == []
    listener.close()


def _keep_alive_server(hung: threading.Event) -> Any:
    """Answers the first request of a connection, and leaves the second one without an answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok")
            peer.recv(65536)
            hung.set()
            peer.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    return listener


# -- the cursor


@pytest.mark.slow
def test_a_cursor_file_never_holds_none(tmp_path: Path) -> None:
    """Whichever threads save and flush at once; what is saved last is what is there."""
    file = CursorFile(tmp_path / "cursor", interval=1e-9)
    stop = threading.Event()
    seen: set[str] = set()

    def flush() -> None:
        while not stop.is_set():
            file.flush()
            seen.add(file.load())

    with ThreadPoolExecutor(3) as pool:
        flushing = [pool.submit(flush) for _ in range(3)]
        for number in range(150):
            file.save(f"id-{number}")
        stop.set()
        for each in flushing:
            each.result()
    file.flush()
    assert file.load() == "id-149"
    assert "None" not in seen
    assert all(id == "" or id.startswith("id-") for id in seen)


def test_a_cursor_without_ids_is_warned_of_once(face: Face, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to keep; a stream with ids, or a source without a cursor, is no reason to warn."""
    bare = b"data: a\n\ndata: b\n\n"
    for stream, cursor, warnings in ((bare, tmp_path / "a", 1), (A, tmp_path / "b", 0), (bare, None, 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING), BadServer([Answer(stream), Answer(stream), OVER]) as server:
            face.read(server.url, cursor=cursor)
        assert caplog.text.count("sends events without ids") == warnings


# -- hooks


def test_the_end_of_each_stream_is_heard(face: Face) -> None:
    """In order, broken, refused and by the server's own word, with the time until it is read again."""
    heard: list[tuple[NewswireError | None, float | None]] = []
    options = Options(hooks=Hooks(disconnect=lambda error, seconds: heard.append((error, seconds))))
    goodbye = b'event: newswire.goodbye\ndata: {"retry": 5}\nretry: 5\n\n'
    script = [
        Answer(A),
        Answer(status=503),
        Answer(A, end="reset"),
        Answer(A + goodbye),
        Answer(A + b"event: newswire.end\ndata: {}\n\n"),
    ]
    with BadServer(script) as server:
        assert face.read(server.url, options=options).ended
    assert [(error is None, seconds is None) for error, seconds in heard] == [
        *[(True, False), (False, False), (True, False), (True, True)],
    ]
    assert [type(error).__name__ for error, _ in heard if error is not None] == ["ConnectionLost"]


def test_the_last_stream_is_heard_too(face: Face) -> None:
    """Nothing is read again: without reconnecting, and at a line past the limit."""
    for resume, limits, ended in ((Resume(reconnect=False), Limits(), True), (Resume(), Limits(max_line=8), False)):
        heard: list[Any] = []
        hooks = Hooks(disconnect=lambda *what, heard=heard: heard.append(what))
        with BadServer([Answer(b"data: a\n\n" + b"data: " + b"x" * 20 + b"\n\n")]) as server:
            face.read(server.url, options=Options(hooks=hooks, resume=resume, limits=limits))
        ((error, seconds),) = heard
        assert (error is None, seconds) == (ended, None)


def test_comments_are_heard(face: Face) -> None:
    """As they come, in order; an event of the same piece is given after them."""
    heard: list[str] = []
    options = Options(hooks=Hooks(comment=heard.append))
    with BadServer([Answer([b": one\n:tw", b"o\n\ndata: a\n\n:\n"], chunked=True), OVER]) as server:
        assert face.read(server.url, options=options).data == ["a"]
    assert heard == ["one", "two", ""]


def test_open_raises_what_iterating_would_raise(face: Face) -> None:
    """A refusal is no open stream."""
    with BadServer([Answer(status=404)] * 2) as server:

        async def open() -> None:
            async with AsyncEventSource(server.url) as source:
                await source.open()

        with pytest.raises(BadStatus):
            if face.name == "async":
                asyncio.run(open())
            else:
                with EventSource(server.url) as source:
                    source.open()


# -- responses of requests


class _WithoutRead1:
    """What urllib3 1.26 gives: no `read1`, over a real response of the standard library."""

    def __init__(self, raw: Any) -> None:
        self._fp = raw._fp
        self.headers = raw.headers


class _Response:
    def __init__(self, response: requests.Response) -> None:
        self.raw = _WithoutRead1(response.raw)
        self.iter_content = response.iter_content


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_events_of_requests_over_urllib3_of_old(chunked: bool, encoding: str) -> None:
    """Each as soon as it is there."""
    body = b"data: a\n\n"
    sent = gzip.compress(body) if encoding == "gzip" else body
    answer = Answer(sent, headers={"content-encoding": encoding}, chunked=chunked, end="hang")
    with BadServer([answer]) as server, requests.get(server.url, stream=True, timeout=20) as response:
        assert next(iter_events(_Response(response))) == Event("a")
