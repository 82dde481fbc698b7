"""The state machine by itself: no I/O, no clock, no chance."""

from __future__ import annotations

import pytest

from newswire.client import Opened, Options, ReadyState
from newswire.client.protocol import Connect, Protocol, Read, ReadError, Stop, Wait
from newswire.client.request import make_request
from newswire.errors import BadStatus, ConnectionLost

URL = "http://x/events"


def machine(**given: object) -> Protocol:
    return Protocol(make_request(None, URL, None, None), Options(), now=0.0, **given)  # type: ignore[arg-type]


def head(status: int = 200, **headers: str) -> Opened:
    fields = {"content_type": "text/event-stream", **headers}
    return Opened(url=URL, status=status, headers=tuple((k.replace("_", "-"), v) for k, v in fields.items()))


def test_a_life() -> None:
    """Connect, read, lose the connection, wait, connect with the cursor, and hear that it is over."""
    protocol = machine()
    assert isinstance(protocol.step, Connect)
    assert protocol.state is ReadyState.CONNECTING

    protocol.receive_head(head(), now=1.0)
    assert protocol.step == Read()
    assert protocol.state is ReadyState.OPEN

    (event,) = protocol.receive_data(b"retry: 2000\nid: 7\ndata: a\n\n", now=2.0)
    assert (event.data, event.id) == ("a", "7")
    assert (protocol.last_event_id, protocol.attempts.retry) == ("7", 2.0)

    lost = ConnectionLost("cut")
    protocol.receive_failure(lost, now=30.0, chance=0.5)
    assert protocol.step == Wait(30.0 + 2.0 + 0.5 * 2.0, lost)  # it had been healthy: the reconnection time, and jitter
    assert protocol.state is ReadyState.CONNECTING

    protocol.woke()
    assert isinstance(protocol.step, Connect)
    assert dict(protocol.step.request.headers)[b"last-event-id"] == b"7"

    protocol.receive_head(head(204), now=40.0)
    assert protocol.step == Stop()
    assert protocol.state is ReadyState.CLOSED


def test_error_is_read_before_it_is_judged() -> None:
    """An answer that is no stream is judged once the start of its body is there."""
    protocol = machine()
    protocol.receive_head(head(404), now=0.0)
    assert protocol.step == ReadError(1024)
    protocol.receive_refusal(b"gone", now=0.0, chance=0.0)
    assert isinstance(protocol.step, Stop)
    assert isinstance(protocol.step.error, BadStatus)
    assert protocol.step.error.body == b"gone"


def test_start_of_a_cursor() -> None:
    """A source that is given a cursor sends it with its first request."""
    protocol = machine(last_event_id="é")
    assert isinstance(protocol.step, Connect)
    assert dict(protocol.step.request.headers)[b"last-event-id"] == "é".encode()


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/a", "http://x/a"),
        ("a?b=c", "http://x/a?b=c"),
        ("//y:81/z", "http://y:81/z"),
        ("https://y/#fragment", "https://y/"),
        ("/é ü".encode().decode("latin-1"), "http://x/%C3%A9%20%C3%BC"),
        ("/%41%20", "http://x/%41%20"),
    ],
)
def test_locations(location: str, url: str) -> None:
    """A `Location` is read against the address that sent it; raw bytes in it are percent-encoded."""
    protocol = machine()
    protocol.receive_head(head(307, location=location), now=0.0)
    assert isinstance(protocol.step, Connect)
    assert protocol.step.request.url == url


def test_credentials_do_not_come_back() -> None:
    """Credentials that were dropped on the way to another origin stay dropped when it redirects back."""
    request = make_request(None, URL, {"authorization": "t"}, None)
    protocol = Protocol(request, Options(), now=0.0)
    protocol.receive_head(head(302, location="http://evil/"), now=0.0)
    protocol.receive_head(head(302, location=URL), now=0.0)
    assert isinstance(protocol.step, Connect)
    assert protocol.step.request.foreign
    assert b"authorization" not in dict(protocol.step.request.headers)
