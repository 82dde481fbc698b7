"""WHATWG HTML 9.2.5 and 9.2.6: what a client reads out of a stream, sentence by sentence, at every split, by both faces."""

# ruff: noqa: E501  (quoted sentences stay whole)

from __future__ import annotations

from dataclasses import dataclass

import pytest

from newswire.wire.event import Event


@dataclass(frozen=True)
class Rule:
    """A sentence of the standard, a stream, and the events that it has to give."""

    name: str
    sentence: str
    stream: bytes
    events: tuple[tuple[str, str, str], ...]  # (type, data, last event ID)
    last_event_id: str = ""


def message(data: str, id: str = "") -> tuple[str, str, str]:
    return ("message", data, id)


RULES = [
    Rule(
        "utf-8",
        "Streams must be decoded using the UTF-8 decode algorithm.",
        "data: é €𝄞\n\n".encode(),
        (message("é €𝄞"),),
    ),
    Rule(
        "malformed",
        "The UTF-8 decode algorithm replaces malformed sequences with U+FFFD.",
        b"data: a\xe2\x82\ndata: \xffb\n\n",
        (message("a\ufffd\n\ufffdb"),),
    ),
    Rule(
        "bom",
        "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark (BOM), if any.",
        b"\xef\xbb\xbfdata: a\n\n",
        (message("a"),),
    ),
    Rule(
        "one-bom",
        "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark (BOM), if any.",
        b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
        (message("b"),),
    ),
    Rule(
        "inner-bom",
        "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark (BOM), if any.",
        b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: \xef\xbb\xbfc\n\n",
        (message("a"), message("\ufeffc")),
    ),
    Rule(
        "crlf",
        "with a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair […] being the ways in which a line can end.",
        b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n",
        (message("a\nb"), message("c")),
    ),
    Rule(
        "lf",
        "a single U+000A LINE FEED (LF) character not preceded by a U+000D CARRIAGE RETURN (CR) character […]",
        b"data: a\ndata: b\n\n",
        (message("a\nb"),),
    ),
    Rule(
        "cr",
        "and a single U+000D CARRIAGE RETURN (CR) character not followed by a U+000A LINE FEED (LF) character […]",
        b"data: a\rdata: b\r\rdata: c\r\r",
        (message("a\nb"), message("c")),
    ),
    Rule(
        "mixed",
        "being the ways in which a line can end.",
        b"data: a\rdata: b\r\n\rdata: c\n\r\ndata: d\r\r\n",
        (message("a\nb"), message("c"), message("d")),
    ),
    Rule(
        "only-these",
        "being the ways in which a line can end.",
        "data: a\u2028b\u2029c\x85d\x0be\x0cf\n\n".encode(),
        (message("a\u2028b\u2029c\x85d\x0be\x0cf"),),
    ),
    Rule(
        "blank",
        "If the line is empty (a blank line): Dispatch the event, as defined below.",
        b"data: a\n\n\n\ndata: b\n\n",
        (message("a"), message("b")),
    ),
    Rule(
        "comment",
        "If the line starts with a U+003A COLON character (:): Ignore the line.",
        b":data: no\n: ping\ndata: a\n:\n\n",
        (message("a"),),
    ),
    Rule(
        "comment-alone",
        "If the line starts with a U+003A COLON character (:): Ignore the line.",
        b"id: 1\ndata: a\n\n: ping\n\n:\n\n",
        (message("a", "1"),),
        "1",
    ),
    Rule(
        "before-first-colon",
        "Collect the characters on the line before the first U+003A COLON character (:), and let field be that string.",
        b"data:a:b\n\n data: no\ndata: c:d\n\n",
        (message("a:b"), message("c:d")),
    ),
    Rule(
        "one-space",
        "If value starts with a U+0020 SPACE character, remove it from value.",
        b"data:a\n\ndata: a\n\ndata:  a\n\ndata:\ta\n\n",
        (message("a"), message("a"), message(" a"), message("\ta")),
    ),
    Rule(
        "whole-line",
        "Process the field using the steps described below, using the whole line as the field name, and the empty string as the field value.",
        b"data\n\ndata\ndata\n\nid: 1\nid\ndata: x\n\n",
        (message(""), message("\n"), message("x")),
    ),
    Rule(
        "eof",
        "If the file ends in the middle of an event, before the final empty line, the incomplete event is not dispatched.",
        b"id: 1\ndata: a\n\nid: 2\ndata: b\n",
        (message("a", "1"),),
        "1",
    ),
    Rule(
        "literally",
        "Field names must be compared literally, with no case folding performed.",
        b"Data: no\nDATA: no\ndata: a\nEvent: no\nID: no\n\n",
        (message("a"),),
    ),
    Rule(
        "event",
        'If the field name is "event": Set the event type buffer to field value.',
        b"event: a\nevent: b\ndata: x\n\n",
        (("b", "x", ""),),
    ),
    Rule(
        "data",
        'If the field name is "data": Append the field value to the data buffer, then append a single LF to the data buffer.',
        b"data: a\ndata\ndata: b\n\n",
        (message("a\n\nb"),),
    ),
    Rule(
        "id",
        'If the field name is "id": If the field value does not contain U+0000 NULL, then set the last event ID buffer to the field value.',
        "id: 1\nid: ü€\ndata: a\n\n".encode(),
        (message("a", "ü€"),),
        "ü€",
    ),
    Rule(
        "id-nul",
        "Otherwise, ignore the field.",
        b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n",
        (message("a", "1"), message("b", "1")),
        "1",
    ),
    Rule(
        "retry-not-digits",
        'If the field name is "retry": […] Otherwise, ignore the field.',
        "retry: +5\nretry: -3\nretry: 1_000\nretry: ٣\nretry: 1.5\nretry\nretry: 5 \ndata: a\n\n".encode(),
        (message("a"),),
    ),
    Rule(
        "unknown",
        "Otherwise: The field is ignored.",
        b"foo: bar\ndata: a\nbaz\n\n",
        (message("a"),),
    ),
    Rule(
        "id-remains",
        "The buffer does not get reset, so the last event ID string of the event source remains set to this value until the next time it is set by the server.",
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n",
        (message("a", "1"), message("b", "1"), message("c", "2")),
        "2",
    ),
    Rule(
        "id-cleared",
        "Set the last event ID string of the event source to the value of the last event ID buffer.",
        b"id: 1\ndata: a\n\nid\ndata: b\n\n",
        (message("a", "1"), message("b")),
    ),
    Rule(
        "id-alone",
        "Set the last event ID string of the event source to the value of the last event ID buffer.",
        b"data: a\n\nid: 7\n\n",
        (message("a"),),
        "7",
    ),
    Rule(
        "no-data",
        "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty string and return.",
        b"event: a\n\ndata: b\n\n",
        (message("b"),),
    ),
    Rule(
        "empty-data",
        "If the data buffer's last character is a U+000A LINE FEED (LF) character, then remove the last character from the data buffer.",
        b"data:\n\ndata: \ndata:\n\n",
        (message(""), message("\n")),
    ),
    Rule(
        "message",
        "Initialize event's type attribute to 'message' […]",
        b"data: a\n\nevent:\ndata: b\n\n",
        (message("a"), message("b")),
    ),
    Rule(
        "type",
        "If the event type buffer has a value other than the empty string, change the type of the newly created event to equal the value of the event type buffer.",
        b"event: add\ndata: a\n\n",
        (("add", "a", ""),),
    ),
    Rule(
        "buffers-reset",
        "Set the data buffer and the event type buffer to the empty string.",
        b"event: add\ndata: a\n\ndata: b\n\n",
        (("add", "a", ""), message("b")),
    ),
]


def triples(events: list[Event]) -> tuple[tuple[str, str, str], ...]:
    return tuple((event.event, event.data, event.id or "") for event in events)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_at_every_split(face, rule: Rule) -> None:
    """Each sentence holds for both faces, with the stream whole, cut in two at every byte, and byte by byte."""
    stream = rule.stream
    ways = [[stream], [stream[n : n + 1] for n in range(len(stream))]]
    ways += [[stream[:n], stream[n:]] for n in range(1, len(stream))]
    for pieces in ways:
        outcome = face.feed(pieces)
        assert triples(outcome.events) == rule.events, (rule.sentence, pieces)
        assert outcome.last_event_id == rule.last_event_id, (rule.sentence, pieces)


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0.0), ("007", 0.007), ("2500", 2.5)], ids=["zero", "leading zeros", "plain"]
)
def test_retry_sets_the_reconnection_time(face, value: str, seconds: float) -> None:
    """'If the field value consists of only ASCII digits, then […] set the event stream's reconnection time to that
    integer.'"""
    outcome = face.feed([f"retry: {value}\ndata: a\n\n".encode()])
    assert seconds <= outcome.waits[0] <= 2 * seconds
