"""The encoder, to the byte; comments, openings and headers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.errors import InvalidEvent
from newswire.wire import Decoder, Event, encode
from newswire.wire.encoder import HEARTBEAT, comment, encode_entry, opening
from newswire.wire.headers import STREAM_HEADERS, is_event_stream, read_last_event_id

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LINE = TEXT.filter(lambda text: not set(text) & set("\r\n\0"))


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (Event(), b"data: \n\n"),
        (Event("a"), b"data: a\n\n"),
        (Event(" a "), b"data:  a \n\n"),
        (Event("a\nb"), b"data: a\ndata: b\n\n"),
        (Event("a\rb\r\nc\n"), b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        (Event("\n"), b"data: \ndata: \n\n"),
        (Event("a\u2028b\x85c\x0bd\0"), "data: a\u2028b\x85c\x0bd\0\n\n".encode()),
        (Event("é", "kind"), "event: kind\ndata: é\n\n".encode()),
        (Event("a", id=""), b"id: \ndata: a\n\n"),
        (Event("a", "k", "1", 5, "c"), b"retry: 5\nid: 1\nevent: k\nchannel: c\ndata: a\n\n"),
        (Event("a", retry=0), b"retry: 0\ndata: a\n\n"),
        (Event("data: x\n\nevent: evil"), b"data: data: x\ndata: \ndata: event: evil\n\n"),
    ],
)
def test_what_goes_onto_the_wire(event: Event, wire: bytes) -> None:
    """Field by field; LF only; a message is not named; line ends in data can't end anything else."""
    assert encode(event) == wire


@given(TEXT, LINE.filter(bool), LINE.filter(bool), st.none() | LINE)
def test_a_stored_event_is_encoded_like_any_other(data: str, event: str, id: str, channel: str | None) -> None:
    """The hub's hot path gives the same bytes."""
    assert encode_entry(id, event, data, channel) == encode(Event(data, event, id, None, channel))


@given(TEXT)
def test_no_comment_is_an_event(text: str) -> None:
    """Whatever is in it, a comment is one, is ended, and changes nothing."""
    text = text.replace("\0", "")
    decoder = Decoder(last_event_id="7")
    assert decoder.feed(comment(text) + b"\n") == []
    assert decoder.feed(b"data: a\n\n") == [Event("a", id="7")]
    assert comment(text).endswith(b"\n")
    assert not comment(text).endswith(b"\n\n")


def test_a_heartbeat_is_a_comment_of_one_line() -> None:
    """No blank line follows, at which clients of others would dispatch something."""
    assert HEARTBEAT == comment() == b":\n"


@pytest.mark.parametrize(
    ("retry", "id", "wire", "cursor"),
    [
        (3000, "e-1", b"retry: 3000\nid: e-1\n\n", "e-1"),
        (None, "e-1", b"id: e-1\n\n", "e-1"),
        (0, None, b"retry: 0\n\n", ""),
        (None, None, b"\n", ""),
    ],
)
def test_an_opening_dispatches_nothing(retry: int | None, id: str | None, wire: bytes, cursor: str) -> None:
    """It gives a cursor and a reconnection time before the first event."""
    decoder = Decoder()
    assert opening(retry, id) == wire
    assert decoder.feed(wire) == []
    assert (decoder.retry, decoder.last_event_id) == (retry, cursor)


def test_an_opening_announces_heartbeats() -> None:
    """The comment stands behind the block, where heartbeats stand: inside the block, other clients would crash."""
    comments: list[str] = []
    decoder = Decoder(on_comment=comments.append)
    assert opening(3000, "e-1", heartbeat=15.0) == b"retry: 3000\nid: e-1\n\n: heartbeat 15\n"
    assert opening(3000, "e-1", whole=False, heartbeat=15.0) == b"retry: 3000\nid: e-1\n"
    assert decoder.feed(opening(None, None, heartbeat=0.25)) == []
    assert comments == ["heartbeat 0.25"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"data": b"x"}, "data"), ({"data": None}, "data"), ({"data": "\ud800"}, "data"), ({"event": ""}, "event"),
        ({"event": None}, "event"), ({"event": b"x"}, "event"), ({"id": 7}, "id"), ({"channel": 1}, "channel"),
        ({"retry": -1}, "retry"), ({"retry": 1.0}, "retry"), ({"retry": True}, "retry"), ({"id": "\n"}, "id"),
    ],
)  # fmt: skip
def test_an_event_is_refused_where_it_is_made(fields: dict[str, object], field: str) -> None:
    """The error names the field, and is a ValueError too."""
    with pytest.raises(InvalidEvent) as caught:
        Event(**fields)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)


def test_an_event_is_a_value() -> None:
    """Equal by what is in it, hashable, never changed."""
    assert Event("a", id="1") == Event("a", id="1") != Event("a", id="2")
    assert len({Event("a"), Event("a")}) == 1
    with pytest.raises(AttributeError):
        Event("a").data = "b"  # type: ignore[misc]
    assert Event('{"a": [1]}').json() == {"a": [1]}
    with pytest.raises(ValueError, match="Expecting"):
        Event("no").json()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"e-1", "e-1"), ("e-1", "e-1"), (b"", ""), ("é€".encode(), "é€"), ("é€".encode().decode("latin-1"), "é€"),
        (b"\xff\xfe", "\ufffd\ufffd"), (b"a\0b", "a\0b"), ("€", "?"), (b"x" * 10**6, "x" * 256),
        ("😀".encode() * 1000, "😀" * 256),
    ],
)  # fmt: skip
def test_a_cursor_of_any_bytes_is_read(raw: bytes | str, text: str) -> None:
    """As UTF-8, whatever an HTTP library made of it; what is longer than any cursor is cut."""
    assert read_last_event_id(raw) == text


@given(st.binary() | st.text())
def test_reading_a_cursor_never_raises(raw: bytes | str) -> None:
    """A client whose cursor is refused is lost for good."""
    assert len(read_last_event_id(raw)) <= 256


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        ("text/event-stream", True), ("text/event-stream; charset=utf-8", True), ("Text/Event-Stream;x", True),
        (" text/event-stream ", True), ("text/event-stream;charset=latin-1", True), ("text/html", False), ("", False),
        (None, False), ("text/event-streams", False), ("application/json; text/event-stream", False),
    ],
)  # fmt: skip
def test_what_is_an_event_stream(content_type: str | None, answer: bool) -> None:
    """The type alone counts, in any case, with any parameters."""
    assert is_event_stream(content_type) is answer


def test_stream_headers() -> None:
    """What proxies need to hear, and nothing that HTTP/2 forbids."""
    headers = dict(STREAM_HEADERS)
    assert headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache, no-transform",
        b"x-accel-buffering": b"no",
        b"incremental": b"?1",
    }


@pytest.mark.parametrize("value", ["data", b"data", None, 3])
def test_what_is_no_event(value: Any) -> None:
    """It is named, and not taken apart."""
    with pytest.raises(TypeError, match="encode takes an Event, not "):
        encode(value)
    if not isinstance(value, str):
        with pytest.raises(TypeError, match="text is a str, not "):
            comment(value)
