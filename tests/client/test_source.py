"""What an event source does beyond the standard, by both faces."""

from __future__ import annotations

import pytest

from newswire.client import Backoff, EventSource, Hooks, Limits, Options, Resume, Timeouts
from newswire.errors import (
    BadStatus,
    ConnectionLost,
    DecodeLimitExceeded,
    EventsLost,
    InactivityTimeout,
    NotResumable,
    TooManyAttempts,
)
from newswire.testing import Answer, BadServer, FakeClock
from newswire.wire.event import Event

A = b"id: 1\ndata: a\n\n"
B = b"id: 2\ndata: b\n\n"
OVER = Answer(status=204)
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 521])
def test_not_now_is_tried_again(face, status: int) -> None:
    """A status that says 'not now' rather than 'no' is tried again: a rolling deploy must not end clients for good."""
    with BadServer([Answer(b"later", status), Answer(A), OVER]) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a"]
    (failure,) = outcome.failures
    assert isinstance(failure, BadStatus)
    assert failure.body == b"later"


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "7"}, 7.0, 7.7),
        ({"date": "Mon, 23 Nov 2026 10:00:00 GMT", "retry-after": "Mon, 23 Nov 2026 10:00:20 GMT"}, 20.0, 22.0),
        ({"date": "Mon, 23 Nov 2026 10:00:00 GMT", "retry-after": "Mon, 23 Nov 2026 09:00:00 GMT"}, 0.0, 0.0),
        ({"retry-after": "999999999"}, 3600.0, 3630.0),
        ({"retry-after": "soon"}, 1.0, 2.0),
    ],
    ids=["seconds", "date", "past", "absurd", "nonsense"],
)
def test_retry_after(face, headers: dict[str, str], least: float, most: float) -> None:
    """`Retry-After` is honoured, up to a limit: not earlier, and a little later, so that not all come at once."""
    with BadServer([Answer(status=503, headers=headers), OVER]) as server:
        outcome = face.read(server.url)
    assert least <= outcome.waits[0] <= most


def test_back_off_grows_until_a_healthy_connection(face) -> None:
    """Failures are forgotten after a connection that stayed open long enough, not after any that opened."""
    clock = FakeClock()
    ages = iter([0.0, 0.0, 60.0, 0.0])
    options = Options(
        backoff=Backoff(retry=0, first=100, cap=1000, healthy=10),
        hooks=Hooks(raw=lambda _: clock.advance(next(ages))),
    )
    with BadServer([*[Answer(A, end="reset", chunked=True)] * 4, OVER]) as server:
        outcome = face.read(server.url, options=options, clock=clock)
    # Two short ones: up to 100, then up to 200. The long one: forgotten. Then the first failure again.
    draws = FakeClock()
    chances = [draws.chance() for _ in range(4)]
    assert outcome.waits == pytest.approx([100 * chances[0], 200 * chances[1], 0.0, 100 * chances[3]])


def test_slow_server_that_ends_its_streams_is_not_backed_off(face) -> None:
    """After a stream that its server ended in order, the next request waits for the reconnection time."""
    answers = [Answer(b"retry: 1000\nid: %d\ndata: x\n\n" % n) for n in range(6)]
    with BadServer([*answers, OVER]) as server:
        outcome = face.read(server.url)
    assert all(1 <= wait <= 2 for wait in outcome.waits)


def test_attempts_without_progress_end(face) -> None:
    """A server that accepts, says nothing new and closes, over and over, uses up the attempts."""
    with BadServer([Answer(A), Answer(b"id: 1\n\n")]) as server:
        outcome = face.read(server.url, options=Options(limits=Limits(attempts=4)))
    assert outcome.data == ["a"]
    assert isinstance(outcome.error, TooManyAttempts)
    assert outcome.error.attempts == 4
    assert len(server.requests) == 5


def test_time_without_progress_ends(face) -> None:
    """No attempt is made that would begin after the time without progress is over; the last error is the cause."""
    options = Options(limits=Limits(without_progress=100), backoff=Backoff(retry=30, first=0, cap=0))
    with BadServer([Answer(b"down", 503)]) as server:
        outcome = face.read(server.url, options=options)
    assert isinstance(outcome.error, TooManyAttempts)
    assert isinstance(outcome.error.__cause__, BadStatus)
    assert outcome.waits == [30, 30, 30]


def test_inactivity(face) -> None:
    """A peer that fell silent is given up, and the source goes on with the next connection."""
    options = Options(timeouts=Timeouts(inactivity=0.2))
    with BadServer([Answer(A, end="hang"), Answer(B), OVER]) as server:
        outcome = face.read(server.url, options=options)
    assert outcome.data == ["a", "b"]
    assert isinstance(outcome.failures[0], InactivityTimeout)


@pytest.mark.slow
def test_comments_are_activity(face) -> None:
    """Heartbeats keep a quiet connection: they count as activity though no reader sees them."""
    options = Options(timeouts=Timeouts(inactivity=0.5))
    with BadServer([Answer([b":\n"] * 8 + [A], pace=0.1), OVER]) as server:
        outcome = face.read(server.url, options=options)
    assert outcome.data == ["a"]
    assert outcome.failures == []


def test_no_head_in_time(face) -> None:
    """A server that accepts the connection and never answers is given up as well."""
    options = Options(timeouts=Timeouts(connect=0.1, response=0.2))
    with BadServer([Answer(status=0, end="hang"), Answer(A), OVER]) as server:
        outcome = face.read(server.url, options=options)
    assert outcome.data == ["a"]
    assert isinstance(outcome.failures[0], InactivityTimeout)


def test_line_limit(face) -> None:
    """A line past the limit is an error: reconnecting would meet it again."""
    with BadServer([Answer(b"data: " + b"x" * 2000 + b"\n\n")]) as server:
        outcome = face.read(server.url, options=Options(limits=Limits(max_line=1000)))
    assert isinstance(outcome.error, DecodeLimitExceeded)
    assert len(server.requests) == 1


def test_no_reconnect(face) -> None:
    """With `reconnect` off, the end of the stream ends the loop, and a broken connection is an error."""
    options = Options(resume=Resume(reconnect=False))
    with BadServer([Answer(A)]) as server:
        outcome = face.read(server.url, options=options)
    assert outcome.ended
    with BadServer([Answer(A, end="reset", chunked=True)]) as server:
        outcome = face.read(server.url, options=options)
    assert outcome.data == ["a"]
    assert isinstance(outcome.error, ConnectionLost)


def test_cursor_in_the_query(face) -> None:
    """The cursor can also go into the URL, where it replaces the one that is there."""
    options = Options(resume=Resume(query="after"))
    with BadServer([Answer(b"id: a b&\ndata: a\n\n"), OVER]) as server:
        face.read(f"{server.url}?after=0&x=1", last_event_id="9", options=options)
    assert [request.target for request in server.requests] == ["/events?x=1&after=9", "/events?x=1&after=a+b%26"]


def test_headers_from_a_function(face) -> None:
    """A function gives the headers of each attempt: for tokens that expire."""
    tokens = iter("abc")
    with BadServer([Answer(A), OVER]) as server:
        face.read(server.url, headers=lambda: {"authorization": next(tokens)})
    assert [request.headers["authorization"] for request in server.requests] == [b"a", b"b"]


@pytest.mark.parametrize("body", [None, "x"], ids=["GET", "POST"])
def test_a_function_may_give_a_fresh_token_after_a_401(face, body: str | None) -> None:
    """After a 401 the functions are called again at once, behind the hook, which can drop the old token."""
    heard: list[tuple[int, float | None]] = []
    token = "old"

    def error(error: BadStatus, wait: float | None) -> None:
        nonlocal token
        heard.append((error.status, wait))
        token = "new"

    options = Options(hooks=Hooks(error=error), limits=Limits(attempts=1))
    with BadServer([Answer(status=401), Answer(A + b"event: newswire.end\ndata: {}\n\n")]) as server:
        outcome = face.read(server.url, body=body, headers=lambda: {"authorization": token}, options=options)
    assert outcome.data == ["a"]
    assert [request.headers["authorization"] for request in server.requests] == [b"old", b"new"]
    assert heard == [(401, 0.0)]


def test_a_401_ends_a_source_that_has_nothing_new_to_say(face) -> None:
    """Two in a row, the same fields once more, or no function: the source ends with the 401 and asks no more."""
    tokens = iter("abcdef")
    for headers, requests in (
        (lambda: {"authorization": next(tokens)}, 2),
        (lambda: {"authorization": "same"}, 1),
        ({"authorization": "fixed"}, 1),
    ):
        with BadServer([Answer(b"who?", status=401)]) as server:
            outcome = face.read(server.url, headers=headers)
        assert isinstance(outcome.error, BadStatus)
        assert (outcome.error.status, outcome.error.body) == (401, b"who?")
        assert len(server.requests) == outcome.stats.attempts == requests


def test_a_stream_between_two_401_makes_each_the_first(face) -> None:
    """Each token that was good for a while may expire."""
    tokens = iter("aabbcc")
    with BadServer([Answer(A), Answer(status=401), Answer(B), Answer(status=401), OVER]) as server:
        outcome = face.read(server.url, headers=lambda: {"authorization": next(tokens)})
    assert outcome.data == ["a", "b"]
    assert [request.headers["authorization"] for request in server.requests] == [b"a", b"a", b"b", b"b", b"c"]


def test_functions_are_called_once_an_attempt(face) -> None:
    """A redirect is a part of an attempt: the functions for address and headers are not called again for it."""
    tokens, numbers = iter("abc"), iter("123")
    with BadServer([Answer(status=307, headers={"location": "/x"}), Answer(A), OVER]) as server:
        outcome = face.read(lambda: f"{server.url}?n={next(numbers)}", headers=lambda: {"authorization": next(tokens)})
    assert outcome.data == ["a"]
    assert [(request.target, request.headers["authorization"]) for request in server.requests] == [
        ("/events?n=1", b"a"),
        ("/x", b"a"),
        ("/events?n=2", b"b"),
    ]


def test_post_goes_on_with_get(face) -> None:
    """After the first id a POST is not sent again: the source goes on with GET, without the body."""
    with BadServer([Answer(A, end="reset", chunked=True), Answer(B), OVER]) as server:
        outcome = face.read(server.url, body={"prompt": "hi"})
    assert outcome.data == ["a", "b"]
    first, second, _ = server.requests
    assert (first.method, first.body, first.headers["content-type"]) == (
        "POST",
        b'{"prompt":"hi"}',
        b"application/json",
    )
    assert (second.method, second.body, second.headers["last-event-id"]) == ("GET", b"", b"1")
    assert "content-type" not in second.headers


@pytest.mark.parametrize("name", ["content-location", "location"])
def test_post_goes_on_at_the_resume_address(face, name: str) -> None:
    """A `Content-Location` or `Location` on the answer to a POST is where the source goes on."""
    with BadServer([Answer(A, headers={name: "/runs/7"}), Answer(B), OVER]) as server:
        face.read(server.url, body=b"x")
    assert [(request.method, request.target) for request in server.requests] == [
        ("POST", "/events"),
        ("GET", "/runs/7"),
        ("GET", "/runs/7"),
    ]


def test_resume_address_elsewhere_gets_no_credentials(face) -> None:
    """A request to a resume address on another origin carries no credentials for this one."""
    with BadServer([Answer(B), OVER]) as other, BadServer([Answer(A, headers={"location": other.url})]) as server:
        outcome = face.read(server.url, body=b"x", headers={"authorization": "t"})
    assert outcome.data == ["a", "b"]
    assert "authorization" not in other.requests[0].headers


def test_post_without_id_is_not_sent_twice(face) -> None:
    """A POST whose stream broke before any id is an error with the cause, not a second POST."""
    with BadServer([Answer(b"data: a\n\n", end="reset", chunked=True)]) as server:
        outcome = face.read(server.url, body=b"x")
    assert outcome.data == ["a"]
    assert isinstance(outcome.error, NotResumable)
    assert isinstance(outcome.error.__cause__, ConnectionLost)
    assert len(server.requests) == 1


def test_post_that_may_have_been_taken_is_not_sent_twice(face) -> None:
    """No answer to a POST leaves open whether it was taken."""
    with BadServer([Answer(status=0)]) as server:
        outcome = face.read(server.url, body=b"x")
    assert isinstance(outcome.error, NotResumable)
    assert len(server.requests) == 1


def test_post_that_ends_in_order_ends_the_loop(face) -> None:
    """A POST's stream without ids is over at its end: there is nothing to go on to."""
    with BadServer([Answer(b"data: a\n\ndata: [DONE]\n\n")]) as server:
        outcome = face.read(server.url, body=b"x")
    assert outcome.ended
    assert outcome.data == ["a", "[DONE]"]


@pytest.mark.parametrize("retry_after", ["0", None])
@pytest.mark.parametrize(("status", "requests"), [(429, 2), (503, 2), (500, 1), (502, 1)])
def test_refused_post_is_sent_again(face, status: int, requests: int, retry_after: str | None) -> None:
    """A POST is sent again only where the server says that it has not taken it, and when to come back."""
    requests, headers = (1, {}) if retry_after is None else (requests, {"retry-after": retry_after})
    with BadServer([Answer(status=status, headers=headers), Answer(b"data: a\n\n")]) as server:
        outcome = face.read(server.url, body=b"x")
    assert len(server.requests) == requests
    assert isinstance(outcome.error, BadStatus) is (requests == 1)


def test_idempotent_post_is_sent_again(face) -> None:
    """A POST that the user calls idempotent is sent again, body, cursor and all."""
    options = Options(resume=Resume(idempotent=True))
    with BadServer([Answer(A), Answer(B), OVER]) as server:
        face.read(server.url, body=b"x", options=options)
    assert [(request.method, request.body) for request in server.requests] == [("POST", b"x")] * 3
    assert server.requests[1].headers["last-event-id"] == b"1"


def test_gap_is_yielded(face) -> None:
    """A gap comes as an event by default, in its place, and the hook hears of it."""
    heard: list[Event] = []
    stream = A + b'event: newswire.gap\ndata: {"reason":"trimmed"}\n\n' + B
    with BadServer([Answer(stream), OVER]) as server:
        outcome = face.read(server.url, options=Options(hooks=Hooks(gap=heard.append)))
    assert [event.event for event in outcome.events] == ["message", "newswire.gap", "message"]
    assert heard == outcome.events[1:2]
    assert outcome.stats.gaps == 1


def test_gap_is_raised(face) -> None:
    """A gap is an error if the user wants that; what came before it is given first."""
    stream = A + b'event: newswire.gap\ndata: {"reason":"trimmed"}\n\n' + B
    with BadServer([Answer(stream), OVER]) as server:
        outcome = face.read(server.url, options=Options(on_gap="raise"))
    assert outcome.data == ["a"]
    assert isinstance(outcome.error, EventsLost)
    assert outcome.error.event.json() == {"reason": "trimmed"}


def test_end_ends_the_loop(face) -> None:
    """`newswire.end` ends the loop: what is behind it is not read, and no request follows."""
    with BadServer([Answer(A + b"event: newswire.end\ndata: {}\n\n" + B)]) as server:
        outcome = face.read(server.url)
    assert outcome.ended
    assert outcome.data == ["a"]
    assert len(server.requests) == 1


def test_goodbye_reconnects_soon(face) -> None:
    """`newswire.goodbye` drops the connection without waiting for its end, and comes back when it says."""
    heard: list[Event] = []
    goodbye = b'retry: 1700\nevent: newswire.goodbye\ndata: {"retry":1700}\n\n'
    with BadServer([Answer(A + goodbye, end="hang"), Answer(B), OVER]) as server:
        outcome = face.read(server.url, options=Options(hooks=Hooks(goodbye=heard.append)))
    assert outcome.data == ["a", "b"]
    assert outcome.waits[0] == pytest.approx(1.7)
    assert len(heard) == 1
    assert outcome.failures == []


def test_raw_bytes(face) -> None:
    """The raw hook sees every byte of the stream, comments too."""
    raw: list[bytes] = []
    with BadServer([Answer(b": hello\n" + A), OVER]) as server:
        outcome = face.read(server.url, options=Options(hooks=Hooks(raw=raw.append)))
    assert b"".join(raw) == b": hello\n" + A
    assert outcome.stats.bytes == len(b": hello\n" + A)


def test_retries_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A source that can't connect says so in the log, with when it tries next, unless a hook hears of it."""
    heard: list[object] = []
    for hooks in (Hooks(), Hooks(error=lambda error, seconds: heard.append((error, seconds)))):
        options = Options(clock=FakeClock(), hooks=hooks)
        with BadServer([Answer(status=503), OVER]) as server, EventSource(server.url, options=options) as source:
            assert list(source) == []
    (record,) = [record for record in caplog.records if record.name == "newswire.client"]
    assert "answered 503" in record.message
    assert "next attempt in" in record.message
    assert len(heard) == 1


def test_channel_is_read(face) -> None:
    """Streams of many channels say each event's channel."""
    with BadServer([Answer(b"id: 1\nchannel: news\ndata: a\n\n"), OVER]) as server:
        assert face.read(server.url).events[0].channel == "news"


def test_nothing_listens(face) -> None:
    """A refused connection is tried again, also with a POST: it was never sent."""
    with BadServer([OVER]) as server:
        url = server.url
    outcome = face.read(url, body=b"x", options=Options(limits=Limits(attempts=3)))
    assert isinstance(outcome.error, TooManyAttempts)
    assert len(outcome.waits) == 2


@pytest.mark.parametrize(
    "given",
    [{"url": "ws://x/"}, {"url": "/events"}, {"method": "G T"}, {"headers": {"a b": "c"}}, {"headers": {"a": "b\n"}}],
)
def test_impossible_requests_are_refused(face, given: dict[str, object]) -> None:
    """What HTTP can't carry is refused where the source is made."""
    arguments = {"url": "http://x/", **given}
    with pytest.raises(ValueError, match=r"HTTP|URL"):
        face.read(**arguments)
