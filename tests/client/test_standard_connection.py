"""WHATWG HTML 9.2.1 to 9.2.4: how a client connects, reconnects and gives up, sentence by sentence, by both faces."""

from __future__ import annotations

import pytest

from newswire.client import Backoff, Options, ReadyState
from newswire.errors import BadRedirect, BadStatus, WrongContentType
from newswire.testing import Answer, BadServer

A = b"id: 1\ndata: a\n\n"
B = b"id: 2\ndata: b\n\n"
OVER = Answer(status=204)


def test_accept(face) -> None:
    """'Set (`Accept`, `text/event-stream`) in request's header list', and 'set request's cache mode to "no-store"'."""
    with BadServer([Answer(A), OVER]) as server:
        face.read(server.url)
    for request in server.requests:
        assert request.method == "GET"
        assert request.headers["accept"] == b"text/event-stream"
        assert request.headers["cache-control"] == b"no-cache"
        assert request.headers["accept-encoding"] == b"identity"


def test_no_last_event_id_at_first(face) -> None:
    """'If the EventSource object's last event ID string is not the empty string': otherwise there is no header."""
    with BadServer([Answer(b"data: a\n\n"), OVER]) as server:
        face.read(server.url)
    assert ["last-event-id" in request.headers for request in server.requests] == [False, False]


def test_last_event_id_is_utf_8(face) -> None:
    """'Let lastEventIDValue be the EventSource object's last event ID string, encoded as UTF-8.'"""
    with BadServer([Answer("id: ü€𝄞\ndata: a\n\n".encode()), OVER]) as server:
        outcome = face.read(server.url)
    assert server.requests[1].headers["last-event-id"] == "ü€𝄞".encode()
    assert outcome.last_event_id == "ü€𝄞"


@pytest.mark.parametrize("id", ["a\x0bb", "a\x7f", " a", "x" * 5000], ids=["control", "delete", "blank", "long"])
def test_unsendable_id_is_left_out(face, id: str) -> None:
    """An id that no header can carry doesn't stop the reconnect: it is left out."""
    with BadServer([Answer(f"id: {id}\ndata: a\n\n".encode()), Answer(b"id:\ndata: b\n\n"), OVER]) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a", "b"]
    assert "last-event-id" not in server.requests[1].headers


def test_end_of_body_reestablishes(face) -> None:
    """'processEventSourceEndOfBody: if res is not a network error, then reestablish the connection.'"""
    with BadServer([Answer(A), Answer(B), OVER]) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a", "b"]
    assert [request.headers.get("last-event-id") for request in server.requests] == [None, b"1", b"2"]


def test_network_error_reestablishes(face) -> None:
    """'if res is a network error, then reestablish the connection, unless the user agent knows that to be futile'."""
    answers = [Answer(A, end="reset", chunked=True), Answer(status=0), Answer(status=0, end="reset"), Answer(B), OVER]
    with BadServer(answers) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a", "b"]
    assert len(outcome.failures) == 3


def test_204_stops(face) -> None:
    """'A client can be told to stop reconnecting using the HTTP 204 No Content response code.'"""  # prose: ok
    with BadServer([OVER]) as server:
        outcome = face.read(server.url)
    assert outcome.ended
    assert outcome.error is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [205, 300, 304, 400, 401, 403, 404, 410, 451])
def test_other_statuses_fail(face, status: int) -> None:
    """'if res's status is not 200 […] then fail the connection.'"""
    with BadServer([Answer(b"why" * 1000, status, {"x-reason": "none", "content-type": "text/plain"})]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, BadStatus)
    assert outcome.error.status == status
    assert outcome.error.header("X-Reason") == "none"
    assert outcome.error.body == (b"why" * 1000)[:1024] or status in (205, 304)  # these have no body
    assert len(server.requests) == 1
    assert outcome.states[-1] is ReadyState.CLOSED


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/event-streams", ""])
def test_wrong_content_type_fails(face, kind: str) -> None:
    """'or if res's `Content-Type` is not `text/event-stream`, then fail the connection.'"""
    with BadServer([Answer(A, headers={"content-type": kind})]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, WrongContentType)
    assert outcome.error.body == A
    assert outcome.events == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["text/event-stream;charset=latin-1", "TEXT/Event-Stream ; x=y"])
def test_content_type_parameters(face, kind: str) -> None:
    """'Event streams in this format must always be encoded as UTF-8': parameters of the type say nothing."""
    with BadServer([Answer("data: é\n\n".encode(), headers={"content-type": kind}), OVER]) as server:
        assert face.read(server.url).data == ["é"]


def test_failed_connection_stays_failed(face) -> None:
    """'Once the user agent has failed the connection, it does not attempt to reconnect.'"""
    with BadServer([Answer(status=404), Answer(A)]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, BadStatus)
    assert len(server.requests) == 1


def test_ready_state(face) -> None:
    """'announce the connection […] sets the readyState attribute to OPEN'; before that, it is CONNECTING."""
    with BadServer([Answer(A), OVER]) as server:
        outcome = face.read(server.url)
    assert outcome.states[:2] == [ReadyState.CONNECTING, ReadyState.OPEN]
    assert outcome.states[-1] is ReadyState.CLOSED


def test_reconnection_time_is_a_floor(face) -> None:
    """'Wait a delay equal to the reconnection time of the event source. Optionally, wait some more.'"""
    with BadServer([Answer(b"retry: 4000\ndata: a\n\n"), OVER]) as server:
        outcome = face.read(server.url, options=Options(backoff=Backoff(retry=1)))
    assert 4 <= outcome.waits[0] <= 8


def test_back_off(face) -> None:
    """'In particular, if the previous attempt failed, then user agents might introduce an exponential backoff […]'"""
    backoff = Backoff(retry=0, first=1, cap=8)
    with BadServer([*[Answer(status=503)] * 8, OVER]) as server:
        outcome = face.read(server.url, options=Options(backoff=backoff))
    assert len(outcome.waits) == 8
    for wait, most in zip(outcome.waits, [1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert 0 <= wait <= most


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed(face, status: int) -> None:
    """Fetch follows redirects; the `Last-Event-ID` goes with them."""
    answers = [Answer(A), Answer(status=status, headers={"location": "/elsewhere"}), Answer(B), OVER]
    with BadServer(answers) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a", "b"]
    assert server.requests[2].target == "/elsewhere"
    assert server.requests[2].headers["last-event-id"] == b"1"


def test_reconnect_goes_to_the_original_url(face) -> None:
    """'Queue a task […] to fetch request': a reconnect asks the URL that the user named, also after a redirect."""
    answers = [Answer(status=301, headers={"location": "/elsewhere"}), Answer(A), OVER]
    with BadServer(answers) as server:
        face.read(server.url)
    assert [request.target for request in server.requests] == ["/events", "/elsewhere", "/events"]


@pytest.mark.parametrize("headers", [{}, {"location": ""}, {"location": "ftp://x/"}, {"location": "http://[/"}])
def test_redirect_to_nowhere_fails(face, headers: dict[str, str]) -> None:
    """A redirect without a usable address fails the connection: it neither loops nor retries."""
    with BadServer([Answer(status=302, headers=headers)]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, BadRedirect)
    assert outcome.error.status == 302
    assert len(server.requests) == 1


def test_endless_redirects_fail(face) -> None:
    """Fetch: 'If request's redirect count is 20, then return a network error.' Ours is an error for good."""
    with BadServer([Answer(status=307, headers={"location": "/events"})]) as server:
        outcome = face.read(server.url)
    assert isinstance(outcome.error, BadRedirect)
    assert len(server.requests) == 21


def test_credentials_stay_with_their_origin(face) -> None:
    """Fetch: a redirect to another origin takes no `Authorization` and no cookies along."""
    secrets = {"Authorization": "Bearer t", "Cookie": "a=b", "X-Other": "y"}
    with BadServer([Answer(A), OVER]) as other:
        answers = [
            Answer(status=307, headers={"location": "/same"}),
            Answer(status=307, headers={"location": other.url}),
            OVER,
        ]
        with BadServer(answers) as server:
            outcome = face.read(server.url, headers=secrets)
    assert outcome.data == ["a"]
    assert server.requests[1].headers["authorization"] == b"Bearer t"
    assert other.requests[0].headers["x-other"] == b"y"
    assert not {"authorization", "cookie"} & set(other.requests[0].headers)
    assert server.requests[2].headers["cookie"] == b"a=b"  # the reconnect is to the origin that the user named


def test_unfinished_event_is_not_carried_over(face) -> None:
    """'any pending data must be discarded': an event cut in half doesn't leak into the next connection."""
    with BadServer([Answer(A + b"id: 9\ndata: half"), Answer(b"data: b\n\n"), OVER]) as server:
        outcome = face.read(server.url)
    assert outcome.data == ["a", "b"]
    assert server.requests[1].headers["last-event-id"] == b"1"


def test_last_event_id_survives_a_stream_without_ids(face) -> None:
    """'the last event ID string of the event source remains set to this value until the next time it is set'."""
    with BadServer([Answer(A), Answer(b"data: x\n\n"), OVER]) as server:
        outcome = face.read(server.url)
    assert [event.id for event in outcome.events] == ["1", "1"]
    assert server.requests[2].headers["last-event-id"] == b"1"
