"""The rules of WHATWG HTML 9.2.5 and 9.2.6, each whole, byte by byte, at every two-way split, and with a tail."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.errors import DecodeLimitExceeded, InvalidEvent
from newswire.wire import Decoder, Event, encode

RULES = [
    ("a block of one data line", b"data: a\n\n", [Event("a")]),
    ("CR ends a line", b"data: a\r\r", [Event("a")]),
    ("CRLF ends a line once", b"data: a\r\n\r\ndata: b\r\n\r\n", [Event("a"), Event("b")]),
    ("data lines are joined with LF", b"data: a\ndata: b\n\n", [Event("a\nb")]),
    ("one leading space is removed", b"data:  a\n\ndata:b\n\n", [Event(" a"), Event("b")]),
    ("empty data is dispatched, no data is not", b"data:\n\ndata\n\nevent: x\n\n", [Event(""), Event("")]),
    ("a comment is ignored", b": hello\n:\ndata: a\n\n", [Event("a")]),
    ("one BOM is stripped", b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
    ("only one BOM", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [Event("b")]),
    ("the id stays in force", b"id: 1\ndata: a\n\ndata: b\n\n", [Event("a", id="1"), Event("b", id="1")]),
    ("an id commits without data", b"id: 7\n\ndata: b\n\n", [Event("b", id="7")]),
    ("an empty id resets", b"id: 1\ndata: a\n\nid\ndata: b\n\n", [Event("a", id="1"), Event("b")]),
    ("an id with NUL is ignored", b"id: 1\nid: a\0b\ndata: a\n\n", [Event("a", id="1")]),
    ("the type is for one event", b"event: x\ndata: a\n\ndata: b\n\n", [Event("a", "x"), Event("b")]),
    (
        "retry takes ASCII digits only",
        b"retry: +5\nretry: 1_0\nretry: \xd9\xa1\nretry: 12\ndata: a\n\n",
        [Event("a", retry=12)],
    ),
    ("field names are case-sensitive", b"Data: a\n data: b\n\ndata: c\n\n", [Event("c")]),
    (
        "U+2028, NEL, VT and FF are data",
        "data: a\u2028b\x85c\x0bd\x0ce\n\n".encode(),
        [Event("a\u2028b\x85c\x0bd\x0ce")],
    ),
    ("malformed UTF-8 becomes U+FFFD and swallows no LF", b"data: \xe2\x82\ndata: b\n\n", [Event("\ufffd\nb")]),
    ("our channel field", b"channel: c\ndata: a\n\ndata: b\n\n", [Event("a", channel="c"), Event("b")]),
]


def decode(*chunks: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize(("wire", "events"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_rule_at_every_split(wire: bytes, events: list[Event]) -> None:
    """Chunking changes nothing."""
    assert decode(wire) == events
    assert decode(*(wire[i : i + 1] for i in range(len(wire)))) == events
    for i in range(len(wire)):
        assert decode(wire[:i], b"", wire[i:]) == events
    assert decode(wire + b"data: unfinished\n") == events


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_line_in_any_number_of_chunks(end: bytes) -> None:
    """However many chunks a line comes in, and whether its end comes in the last or by itself, it is one line."""
    for count in range(200):
        pieces = [b"xyz"] * count
        for last in (b"", b"z"):
            events = decode(b"data: ", *pieces, last + end, b"data: next" + end)
            assert events == [Event((b"".join(pieces) + last).decode()), Event("next")], count


def test_cr_dispatches_at_once() -> None:
    """A CR ends its line without waiting for the byte after it, and swallows one LF later."""
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\r") == [Event("a")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\n\n") == [Event("b")]


def test_retry_and_id_are_visible() -> None:
    """The decoder tells the reconnection time and the last event ID."""
    decoder = Decoder()
    decoder.feed(b"retry: 10\nid: x\n\nid: y\n")
    assert (decoder.retry, decoder.last_event_id) == (10, "x")


def test_limits() -> None:
    """What is too large is refused with what, how much and the limit."""
    with pytest.raises(DecodeLimitExceeded, match="line length") as caught:
        decoder = Decoder(max_line=10)
        decoder.feed(b"data: 12345678")
    assert caught.value.limit == 10
    with pytest.raises(DecodeLimitExceeded, match="event size"):
        Decoder(max_event=10).feed(b"data: 123456\ndata: 123456\n\n")


def test_cost_is_linear_for_any_chunking() -> None:
    """A long line in small chunks is kept in few pieces, and copied a bounded number of times."""
    decoder = Decoder()
    for _ in range(1000):
        decoder.feed(b"x" * 100)
        assert len(decoder._pieces) < 32
    assert len(decoder._gathered) + sum(map(len, decoder._pieces)) == 100_000


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LINE = TEXT.filter(lambda text: not set(text) & set("\r\n\0"))
EVENTS = st.builds(
    Event, TEXT, LINE.filter(bool), st.none() | LINE.filter(bool), st.none() | st.integers(0, 10**9), st.none() | LINE
)


@given(EVENTS)
def test_decode_of_encode_is_the_event(event: Event) -> None:
    """What was encoded comes back, with CR and CRLF in the data as LF."""
    data = event.data.replace("\r\n", "\n").replace("\r", "\n")
    assert decode(encode(event)) == [Event(data, event.event, event.id, event.retry, event.channel)]


@given(st.binary(max_size=60) | TEXT.map(str.encode), st.lists(st.integers(0, 60)))
def test_any_split_of_any_bytes(wire: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, the events are the same."""
    places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    assert decode(*(wire[a:b] for a, b in pairwise(places))) == decode(wire)


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "a\ud800b"])
@pytest.mark.parametrize("field", ["id", "event", "channel"])
def test_hostile_fields_are_refused(field: str, bad: str) -> None:
    """A field that could inject another line is refused where the event is made, by name."""
    with pytest.raises(InvalidEvent, match=field) as caught:
        Event("data", **{field: bad})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("retry", [-1, True, 1.5, "3"])
def test_retry_is_a_number(retry: object) -> None:
    """Only whole milliseconds make a reconnection time."""
    with pytest.raises(InvalidEvent, match="retry"):
        Event("x", retry=retry)  # type: ignore[arg-type]
