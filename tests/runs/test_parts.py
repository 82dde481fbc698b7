"""Parts and the events that they are stored as."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.errors import InvalidEvent
from newswire.runs.dialects.coalesce import merged
from newswire.runs.parts import (
    Data,
    Finish,
    Part,
    Progress,
    Reasoning,
    Text,
    ToolCall,
    ToolInput,
    ToolOutput,
    Usage,
    event_of,
    json_or_text,
    part_of,
    write_json,
)
from newswire.wire.event import Event

PARTS: list[Part] = [
    Text("a\u2028b"),
    Reasoning("because"),
    ToolCall("id", "name"),
    ToolInput("id", '{"a":'),
    ToolOutput("id", {"deep": [1, None, "é"]}, True),
    Usage(1, 2),
    Finish("length"),
    Progress(0.5),
    Progress(1, 2, "half"),
    Data("mine", "anything"),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_a_part_comes_back_from_its_event(part: Part) -> None:
    """What was stored is what is read."""
    event = event_of(part)
    assert part_of(event.event, event.data) == part


def test_what_a_producer_may_yield() -> None:
    """Text, bytes, events and JSON are stored as they are."""
    assert event_of("a") == event_of(b"a") == event_of(Text("a")) == Event("a")
    assert event_of({"a": 1}) == Event('{"a":1}')
    assert event_of(Event("x", "mine")) == Event("x", "mine")


@pytest.mark.parametrize(
    "item", [ToolOutput("x", float("nan")), ToolOutput("x", object()), Data("error", "x"), object()]
)
def test_what_cannot_be_stored_is_refused(item: Any) -> None:
    """JSON that no browser could read, and reserved types, are refused where they are made."""
    with pytest.raises(InvalidEvent):
        event_of(item)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (ToolCall("x", 3), "ToolCall.name must be str, not 3"),  # type: ignore[arg-type]
        (ToolInput("x", {"a": 1}), "ToolInput.text must be str, not {'a': 1}"),  # type: ignore[arg-type]
        (ToolOutput("x", "y", error="no"), "ToolOutput.error must be bool, not 'no'"),  # type: ignore[arg-type]
        (Usage("3", 4), "Usage.input_tokens must be int, not '3'"),  # type: ignore[arg-type]
        (Finish(None), "Finish.reason must be str, not None"),  # type: ignore[arg-type]
        (Progress("3"), "Progress.done must be int or float, not '3'"),  # type: ignore[arg-type]
        (Progress(1, message=3), "Progress.message must be str or None, not 3"),  # type: ignore[arg-type]
    ],
)
def test_a_part_with_a_field_of_another_kind(part: Part, text: str) -> None:
    """Its readers would not take it for a part, so it is refused."""
    with pytest.raises(InvalidEvent, match=re.escape(text)):
        event_of(part)


def test_nesting_without_end_is_refused() -> None:
    """An output that JSON can't say because it holds itself is refused like any other."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidEvent):
        event_of(ToolOutput("x", loop))


@pytest.mark.parametrize(
    "data",
    [
        "not JSON",
        "[1]",
        "{}",
        '{"input_tokens":"many"}',
        '{"input_tokens":true}',
        '{"input_tokens":1,"more":2}',
        '{"input_tokens":NaN}',
        "[" * 100_000,
    ],
    ids=lambda data: data[:30],
)
def test_an_events_own_data_may_be_anything(data: str) -> None:
    """An application's event that has the name of a part, and is none, is its own."""
    assert part_of("usage", data) == (Usage() if data == "{}" else Data("usage", data))


@given(st.sampled_from(["message", "reasoning", "tool", "tool.output", "usage", "progress", "mine"]), st.text())
def test_reading_never_raises(event: str, data: str) -> None:
    """Whatever is stored is some part."""
    part_of(event, data)


def test_numbers_that_json_has_no_words_for_are_text() -> None:
    """A value that would be written as `NaN` or `Infinity` again is not read as a number."""
    assert [json_or_text(text) for text in ("1e3", "NaN", "1e999", "-Infinity")] == [
        1000.0,
        "NaN",
        "1e999",
        "-Infinity",
    ]
    assert json_or_text('{"a":[1e999]}') == '{"a":[1e999]}'


def test_half_a_character_is_escaped() -> None:
    """A lone surrogate, which UTF-8 can't carry, is written as JSON's escape."""
    assert write_json("é") == '"é"'
    assert json.loads(write_json("é\ud83d")) == "é\ud83d"
    assert write_json("é\ud83d").isascii()


def test_neighbours_that_one_part_can_say() -> None:
    """Text is joined, of progress and usage the last one counts, and nothing else is touched."""
    run = [
        Text("a"),
        Text("b"),
        ToolInput("x", "1"),
        ToolInput("x", "2"),
        ToolInput("y", "3"),
        Progress(1),
        Progress(2),
    ]
    run += [Data("d", "1"), Data("d", "1"), Usage(1), Usage(2), Reasoning("r"), Text("c")]
    assert merged(enumerate(run)) == [
        (1, Text("ab")),
        (3, ToolInput("x", "12")),
        (4, ToolInput("y", "3")),
        (6, Progress(2)),
        (7, Data("d", "1")),
        (8, Data("d", "1")),
        (10, Usage(2)),
        (11, Reasoning("r")),
        (12, Text("c")),
    ]
