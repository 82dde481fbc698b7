"""Reading upstreams: what the dialects write comes back as parts, and nothing that an upstream sends can do harm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.dialects.scripts import HEAD, PLAIN
from tests.runs.dialects.wire import told

from newswire.runs.dialects import DIALECTS, PARSERS, End, UpstreamParser, parser_named
from newswire.runs.parts import (
    Finish,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolInput,
    ToolOutput,
    Usage,
    event_of,
)
from newswire.wire.event import Event


def fold(parts: Sequence[Part]) -> dict[str, Any]:
    """What parts say in the end, as far as the formats of upstreams can say it."""
    calls: dict[str, list[str]] = {}
    found: dict[str, Any] = {"text": "", "reasoning": "", "calls": calls, "usage": None}
    for part in parts:
        if isinstance(part, Text):
            found["text"] += part.text
        elif isinstance(part, Reasoning):
            found["reasoning"] += part.text
        elif isinstance(part, ToolCall):
            calls[part.id] = [part.name, ""]
        elif isinstance(part, ToolInput):
            calls[part.id][1] += part.text
        elif isinstance(part, Usage):
            found["usage"] = part
    for call in calls.values():
        call[1] = call[1] or "{}"
    return found


def read(reader: UpstreamParser, events: Sequence[Event]) -> list[Part]:
    """The parts that a reader makes of events, each of which can be stored."""
    parts = [part for event in events for part in reader.feed(event)]
    for part in parts:
        event_of(part)
    return parts


@pytest.mark.parametrize("script", PLAIN)
@pytest.mark.parametrize("name", PARSERS)
def test_what_a_dialect_writes_is_read_back(name: str, script: str) -> None:
    """Text, reasoning, calls and usage survive the way through another's format, and the end is known."""
    reader = PARSERS[name]()
    events = [event for group in told(DIALECTS[name](HEAD), PLAIN[script]) for event in group]
    found = fold(read(reader, events[:-1]))
    if name != "openai-chat":  # there `[DONE]` says nothing new
        assert not reader.finished
    found = fold([*read(PARSERS[name](), events)])
    read(reader, events[-1:])
    assert (reader.finished, reader.error) == (True, None)
    assert (reader.id, reader.model) == ("run-7f3a", "small-1")
    wanted = fold(PLAIN[script])
    if name == "anthropic":  # which always says what was used
        wanted["usage"] = wanted["usage"] or found["usage"]
    assert found == wanted


@pytest.mark.parametrize("name", PARSERS)
def test_the_reason_is_read_back(name: str) -> None:
    """A call to answer, and an answer that was cut short, keep their reason."""
    for run, reason in ((PLAIN["call"], "tool_calls"), ([Text("x"), Finish("length")], "length")):
        events = [event for group in told(DIALECTS[name](HEAD), run) for event in group]
        assert [part for part in read(PARSERS[name](), events) if isinstance(part, Finish)] == [Finish(reason)]


def test_outputs_are_read_back() -> None:
    """The Responses API has a place for a tool's output."""
    events = [event for group in told(DIALECTS["openai-responses"](HEAD), PLAIN["tools"]) for event in group]
    outputs = [part for part in read(PARSERS["openai-responses"](), events) if isinstance(part, ToolOutput)]
    assert outputs == [part for part in PLAIN["tools"] if isinstance(part, ToolOutput)]


@pytest.mark.parametrize("end", [End("failed", {"type": "T", "message": "no"}), End("stopped"), None])
@pytest.mark.parametrize("name", PARSERS)
def test_an_error_is_read_and_is_no_end(name: str, end: End | None) -> None:
    """An upstream that reports an error has not finished its answer."""
    reader = PARSERS[name]()
    read(reader, [event for group in told(DIALECTS[name](HEAD), PLAIN["text"][:3], end=end) for event in group])
    assert not reader.finished
    assert reader.error is not None
    if end is not None and end.error is not None:
        assert reader.error["message"] == "no"


def chunk(delta: Any, **more: Any) -> Event:
    """A chunk of a chat completion as some server sends it."""
    return Event(json.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, **more}]}))


def test_an_error_event_without_an_error_in_it() -> None:
    """Some servers send the error itself as an event `error`, and `[DONE]` after it: the answer is not whole."""
    reader = parser_named("openai-chat")()
    reader.feed(chunk({"content": "a"}))
    reader.feed(Event(json.dumps({"type": "overloaded", "message": "no"}), "error"))
    assert reader.error == {"type": "overloaded", "message": "no"}
    reader = parser_named("openai-chat")()
    reader.feed(Event(json.dumps({"message": "no"})))  # any other event that has a message is none
    assert reader.error is None


def test_servers_that_are_not_openai() -> None:
    """ToolCalls without ids or indexes, with repeated names, or all at index 0, stay apart."""
    call = {"name": "f", "arguments": '{"a":'}
    events = [
        chunk({"role": "assistant", "content": None, "reasoning": "Hm. "}),
        chunk({"tool_calls": [{"index": 0, "function": call}]}),  # no id
        chunk({"tool_calls": [{"function": {"arguments": "1}"}}]}),  # no index either
        chunk({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "g", "arguments": "{}"}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "y", "function": {"name": "g", "arguments": '{"b"'}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "y", "function": {"name": "g", "arguments": ":2}"}}]}),
        chunk({"content": "half \ud83d"}),
        chunk({}, finish_reason="eos"),
    ]
    reader = parser_named("openai-chat")()
    parts = read(reader, events)
    assert fold(parts)["calls"] == {"call_0": ["f", '{"a":1}'], "x": ["g", "{}"], "y": ["g", '{"b":2}']}
    assert (fold(parts)["reasoning"], fold(parts)["text"]) == ("Hm. ", "half \ufffd")
    assert reader.finished
    assert list(reader.missing_tail()) == [Event("[DONE]")]


def test_tools_that_anthropic_runs() -> None:
    """A tool that the upstream runs by itself is a call with an output; a reason and usage come once more."""
    events = [
        (
            "content_block_start",
            {"index": 0, "content_block": {"type": "server_tool_use", "id": "s", "name": "search"}},
        ),
        ("content_block_delta", {"index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q":"x"}'}}),
        ("ping", {}),
        (
            "content_block_start",
            {"index": 1, "content_block": {"type": "web_search_tool_result", "tool_use_id": "s", "content": [1]}},
        ),
        ("content_block_delta", {"index": 2, "delta": {"type": "signature_delta", "signature": "s"}}),
        ("message_delta", {"delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 5}}),
    ]
    reader = parser_named("anthropic")()
    parts = read(reader, [Event(json.dumps({"type": kind, **data}), kind) for kind, data in events])
    assert parts == [
        ToolCall("s", "search"),
        ToolInput("s", '{"q":"x"}'),
        ToolOutput("s", [1]),
        Finish("length"),
        Usage(0, 5),
    ]


def test_items_that_come_whole() -> None:
    """A server of the Responses API that sends no deltas is read from its items."""
    items: list[dict[str, Any]] = [
        {"type": "reasoning", "summary": [{"text": "One."}, {"text": "Two."}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
    ]
    events = [
        Event(json.dumps({"type": "response.output_item.done", "output_index": place, "item": item}))
        for place, item in enumerate(items)
    ]
    parts = read(parser_named("openai-responses")(), events)
    assert parts == [Reasoning("One.\n\nTwo."), Text("Hi"), ToolCall("c", "f"), ToolInput("c", '{"a":1}')]


NAMES = [
    *("type", "index", "delta", "content", "choices", "id", "model", "usage", "error", "message", "finish_reason"),
    *("tool_calls", "function", "name", "arguments", "content_block", "partial_json", "text", "thinking", "input"),
    *("item", "output_index", "response", "output", "call_id", "code", "summary", "status", "input_tokens"),
]
WORDS = [
    *("message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "error"),
    *("tool_use", "text_delta", "thinking_delta", "input_json_delta", "web_search_tool_result", "function_call"),
    *("response.created", "response.output_item.added", "response.output_item.done", "response.output_text.delta"),
    *("response.function_call_arguments.delta", "response.completed", "response.failed", "response.incomplete"),
    *("message", "reasoning", "function_call_output", "[DONE]", "\ud83d"),
]
LEAVES = st.sampled_from(WORDS) | st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
HOSTILE = st.builds(
    lambda kind, data: (kind, data),
    st.sampled_from([word for word in WORDS if word != "\ud83d"]),
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, deadline=None)
@given(st.lists(HOSTILE, max_size=8), st.text(max_size=20))
def test_nothing_that_an_upstream_sends_makes_a_reader_raise(name: str, sent: list[Any], junk: str) -> None:
    """Malformed and unknown events are passed over; what is read can be stored."""
    reader = PARSERS[name]()
    for kind, data in sent:
        for event in (
            Event(json.dumps({"type": kind, **data}), kind),
            Event(json.dumps({"type": kind, **data, "choices": [data]})),
            Event(junk.encode("utf-8", "replace").decode(), kind),
        ):
            read(reader, [event])
            piece = reader.text_delta(event)
            assert piece is None or reader.text_delta(piece.with_text(piece.text)) is not None


def test_json_that_is_too_deep_is_passed_over() -> None:
    """A bomb of brackets is no event."""
    for name in PARSERS:
        assert PARSERS[name]().feed(Event("[" * 100_000)) == []


def test_a_reader_that_does_not_exist() -> None:
    """The error names those that do."""
    with pytest.raises(ValueError, match="anthropic, openai-chat, openai-responses"):
        parser_named("ai-sdk")
