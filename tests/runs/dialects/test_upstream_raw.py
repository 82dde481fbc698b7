"""Raw events of upstreams that no reader of ours knows: kept as they came, and never a part of the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.dialects.scripts import PLAIN
from tests.runs.dialects.wire import told

from newswire.runs.dialects import DIALECTS, PARSERS, End, Head, dialect_for, parser_named
from newswire.runs.dialects.upstream import RAW, storable, unwrapped, wrapped
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, event_of
from newswire.wire.event import Event

UPSTREAM = Head("up-1", created=1_700_000_000, meta={"model": "large-2"})
ODD = [
    Event('{"choices": [{"delta": {"content": "cut'),
    Event('{"choices": [{"delta": {"content": "x"}, "logprob": NaN}]}'),
    Event('{"vendor": "a shape that nobody knows"}'),
    Event("plain words"),
    Event("[1, 2]", "vendor.note"),
    Event('{"type": "vendor.note"}', "vendor.note"),
    Event('{"input_tokens": 1}', "usage"),
    Event("thoughts?", "reasoning"),
    Event('{"type": "error", "error": {}}', "delta"),
]


def head(name: str) -> Head:
    """The run that stores raw events of this format."""
    return Head("run-9", created=1_790_000_000, meta={"raw": name})


def answer(name: str) -> list[Event]:
    """What an upstream sends."""
    return [event for group in told(DIALECTS[name](UPSTREAM), PLAIN["text"]) for event in group]


def stored(name: str, event: Event) -> Event:
    """An event as a relay stores it."""
    return storable(event.event, event.data, understood=PARSERS[name]().take(event) is not None)


def flat(groups: Sequence[Sequence[Event]]) -> list[Event]:
    """The events of all groups."""
    return [event for group in groups for event in group]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("odd", ODD)
def test_a_client_of_the_same_format_gets_what_nobody_understands(name: str, odd: Event) -> None:
    """Live and in the prelude, between the events that are understood."""
    events = answer(name)
    events.insert(3, odd)
    kept = [stored(name, event) for event in events]
    assert flat(told(dialect_for(name, head(name)), kept)) == events
    for cut in range(len(events) + 1):
        assert odd in flat(told(dialect_for(name, head(name)), kept, cut))


@pytest.mark.slow
@pytest.mark.parametrize("other", DIALECTS)
@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("odd", ODD)
def test_it_is_no_part_of_the_answer_for_others(name: str, other: str, odd: Event) -> None:
    """Other clients get what they would get without it."""
    if other == name or PARSERS[name]().take(odd) is not None:
        return
    events = answer(name)
    wanted = flat(told(dialect_for(other, head(name)), events))
    events.insert(3, stored(name, odd))
    assert flat(told(dialect_for(other, head(name)), events)) == wanted


@pytest.mark.parametrize("other", DIALECTS)
@pytest.mark.parametrize("name", PARSERS)
def test_a_producer_that_stores_unread_json_itself_says_no_text_by_it(name: str, other: str) -> None:
    """Also an event that was stored under its own name is no text, whatever it looks like."""
    odd = Event('{"vendor": "unknown"}')
    got = flat(told(dialect_for(other, head(name)), [*answer(name)[:3], odd, *answer(name)[3:]]))
    assert (odd in got) == (name == other)
    assert name == other or not any("vendor" in event.data for event in got)


@given(event=st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1), data=st.text())
def test_any_event_can_be_stored_and_comes_back(event: str, data: str) -> None:
    """Names that newswire keeps for itself among them."""
    data = data.encode("utf-8", "replace").decode()
    held = wrapped(event, data)
    assert held.event == RAW
    assert unwrapped(*event_of(held)[1::-1]) == Event(data, event)


# -- halves of surrogate pairs


def chat(delta: dict[str, Any], finish: str | None = None) -> Event:
    return Event(json.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))


def typed(type: str, **fields: Any) -> Event:
    return Event(json.dumps({"type": type, **fields}), type)


def block_delta(**delta: Any) -> Event:
    return typed("content_block_delta", index=0, delta=delta)


def call_of(name: str) -> list[Event]:
    """What begins a call of a tool."""
    if name == "openai-chat":
        return [chat({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]})]
    if name == "anthropic":
        return [typed("content_block_start", index=0, content_block={"type": "tool_use", "id": "a", "name": "f"})]
    item = {"type": "function_call", "call_id": "a", "name": "f"}
    return [typed("response.output_item.added", output_index=0, item=item)]


def piece_of(name: str, kind: type[Part], text: str) -> Event:
    """A delta."""
    if name == "openai-chat":
        if kind is ToolInput:
            return chat({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        return chat({"content" if kind is Text else "reasoning_content": text})
    if name == "anthropic":
        type, field = {
            Text: ("text_delta", "text"),
            Reasoning: ("thinking_delta", "thinking"),
            ToolInput: ("input_json_delta", "partial_json"),
        }[kind]  # type: ignore[index]
        return block_delta(type=type, **{field: text})
    type = {
        Text: "response.output_text.delta",
        Reasoning: "response.reasoning_summary_text.delta",
        ToolInput: "response.function_call_arguments.delta",
    }[kind]  # type: ignore[index]
    return typed(type, output_index=0 if kind is ToolInput else 1, delta=text)


def finish_of(name: str) -> Event:
    """What says that the answer is whole."""
    if name == "openai-chat":
        return chat({}, "stop")
    if name == "anthropic":
        return typed("message_delta", delta={"stop_reason": "end_turn"})
    return typed("response.completed", response={})


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Text, Reasoning, ToolInput])
@pytest.mark.parametrize("name", PARSERS)
@given(pieces=st.lists(st.text("a\U0001f600é", max_size=4), min_size=1, max_size=5), cuts=st.lists(st.integers(0, 40)))
def test_a_text_that_was_cut_anywhere_is_the_same_text(
    name: str, kind: type[Part], pieces: list[str], cuts: list[int]
) -> None:
    """Also between the halves of a surrogate pair, with other texts between."""
    text = "".join(pieces)
    units = text.encode("utf-16-le")
    places = sorted({0, len(units), *(cut * 2 for cut in cuts if cut * 2 < len(units))})
    deltas = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(places)]
    reader = PARSERS[name]()
    parts: list[Part] = []
    between = piece_of(name, Reasoning if kind is Text else Text, "-")
    for event in [*call_of(name), *(e for d in deltas for e in (piece_of(name, kind, d), between)), finish_of(name)]:
        parts += reader.take(event) or []
    assert "".join(part.text for part in parts if isinstance(part, kind)) == text  # type: ignore[attr-defined]
    assert "\ufffd" not in "".join(event_of(part).data for part in parts)


@pytest.mark.parametrize("kind", [Text, Reasoning, ToolInput])
@pytest.mark.parametrize("name", PARSERS)
def test_a_half_without_its_other_half_is_no_character(name: str, kind: type[Part]) -> None:
    """It becomes U+FFFD once, whether another text follows or none."""
    for rest, wanted in ((["x"], "a\ufffdx"), ([], "a\ufffd"), (["\ude00"], "a\U0001f600")):
        reader = PARSERS[name]()
        parts: list[Part] = []
        for event in [
            *call_of(name),
            piece_of(name, kind, "a\ud83d"),
            *(piece_of(name, kind, text) for text in rest),
            finish_of(name),
        ]:
            parts += reader.take(event) or []
        assert "".join(part.text for part in parts if isinstance(part, kind)) == wanted  # type: ignore[attr-defined]
        assert isinstance(parts[-1], Finish)


# -- junk

_names = st.sampled_from(
    [
        *("type", "index", "delta", "text", "content", "content_block", "message", "usage", "id", "choices"),
        *("tool_calls", "function", "arguments", "name", "finish_reason", "error", "item", "output_index", "response"),
        *("status", "reason", "input", "output", "call_id", "stop_reason", "partial_json", "incomplete_details"),
        *("sequence_number", "summary_index", "reasoning", "logprobs"),
    ]
)
_types = st.sampled_from(
    [
        *("message", "error", "ping", "message_start", "message_delta", "message_stop", "content_block_start"),
        *("content_block_delta", "response.created", "response.output_item.added", "response.output_item.done"),
        *("response.output_text.delta", "response.function_call_arguments.delta", "response.completed"),
        *("response.incomplete", "response.failed", "usage", "tool"),
    ]
)

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=5),
    max_leaves=20,
)


@st.composite
def junk(draw: st.DrawFn) -> Event:
    """An event that looks like one of an upstream's, more or less."""
    kind = draw(_types)
    fields = draw(st.dictionaries(_names, _json, max_size=6))
    if draw(st.booleans()):
        fields["type"] = kind
    data = json.dumps(fields)
    return Event(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data, kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60)
@given(events=st.lists(junk(), max_size=12), cut=st.integers(0, 12))
def test_junk_of_an_upstream_harms_nobody(name: str, events: list[Event], cut: int) -> None:
    """Nothing raises; clients of the same format get every event, others no raw JSON as text."""
    kept = [stored(name, event) for event in events]
    assert flat(told(dialect_for(name, head(name)), kept)[:-1]) == events
    for other in DIALECTS:
        for event in flat(told(dialect_for(other, head(name)), kept, min(cut, len(kept)))):
            assert event.data or other == name


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("depth", [100, 500, 900, 950, 980, 990, 3_000, 100_000])
def test_deep_json_of_an_upstream_harms_nobody(name: str, depth: int) -> None:
    """In every place that a reader looks at."""
    deep = "[" * depth + "]" * depth
    for template in (
        '{"choices":[{"index":0,"delta":{"content":"x"},"odd":%s}],"odd":%s}',
        '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","input":%s}}',
        '{"type":"content_block_delta","index":%s,"delta":{"type":"text_delta","text":"x"}}',
        '{"type":"response.output_text.delta","output_index":0,"delta":"x","odd":%s}',
        '{"type":"response.output_item.done","item":{"type":"function_call_output","call_id":"a","output":%s}}',
    ):
        data = template.replace("%s", deep)
        kind = json.loads(template.replace("%s", "0")).get("type", "message")
        event = Event(data, kind)
        for other in DIALECTS:
            told(dialect_for(other, head(name)), [stored(name, event)])
            told(dialect_for(other, head(name)), [stored(name, event)] * 2, 2)


# -- why the model stopped

CHAT_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "function_call": "stop",  # there was no call
    "tool_calls": "stop",
    "insufficient_system_resource": "insufficient_system_resource",
    "because": "because",
}
ANTHROPIC_REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "pause_turn": "pause_turn",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
    "because": "because",
}
RESPONSES_REASONS = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "because": "because",
}


def ended(name: str, reason: str) -> list[Event]:
    """A whole answer that ended for this reason."""
    if name == "openai-chat":
        return [chat({"content": "x"}), chat({}, reason), Event("[DONE]")]
    if name == "anthropic":
        return [
            typed("message_start", message={"id": "m"}),
            block_delta(type="text_delta", text="x"),
            typed("message_delta", delta={"stop_reason": reason}),
            typed("message_stop"),
        ]
    details = {"incomplete_details": {"reason": reason}}
    return [typed("response.output_text.delta", delta="x"), typed("response.incomplete", response=details)]


def reason_in(dialect: str, events: Sequence[Event]) -> str:
    """Why the model stopped, as a client of this format reads it."""
    found = [json.loads(event.data) for event in events if event.data != "[DONE]"]
    if dialect == "openai-chat":
        return str(next(c["choices"][0]["finish_reason"] for c in reversed(found) if c["choices"]))
    if dialect == "anthropic":
        return str(next(e["delta"]["stop_reason"] for e in found if e["type"] == "message_delta"))
    if dialect == "openai-responses":
        details = found[-1]["response"]["incomplete_details"]
        return "completed" if details is None else str(details["reason"])
    if dialect == "ai-sdk":
        return str(found[-1]["messageMetadata"]["finishReason"])
    if dialect == "ag-ui":
        return str(found[-1]["metadata"]["finishReason"])
    return str(next(event.json()["reason"] for event in events if event.event == "finish"))


WORDS = {
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
    "openai-responses": {"stop": "completed", "length": "max_output_tokens"},
    "ai-sdk": {"content_filter": "content-filter"},
}


@pytest.mark.parametrize("other", [name for name in DIALECTS if name != "native"])
@pytest.mark.parametrize(
    ("name", "reason", "wanted"),
    [
        (name, reason, wanted)
        for name, reasons in (
            ("openai-chat", CHAT_REASONS),
            ("anthropic", ANTHROPIC_REASONS),
            ("openai-responses", RESPONSES_REASONS),
        )
        for reason, wanted in reasons.items()
    ],
)
def test_every_reason_of_every_format_reaches_every_client(name: str, other: str, reason: str, wanted: str) -> None:
    """In the words of the client's own format where it has some, else as the upstream said it."""
    events = ended(name, reason)
    got = flat(told(dialect_for(other, head(name)), events, end=End("done")))
    if name == other:
        assert got == events
    else:
        assert reason_in(other, got) == WORDS.get(other, {}).get(wanted, wanted)


def test_calls_of_the_time_before_tools_are_calls() -> None:
    """`function_call` is a call like those of `tool_calls`."""
    reader = parser_named("openai-chat")()
    parts: list[Part] = []
    for event in (
        chat({"function_call": {"name": "f", "arguments": ""}}),
        chat({"function_call": {"arguments": '{"a":1}'}}),
        chat({}, "function_call"),
    ):
        parts += reader.take(event) or []
    assert parts == [ToolCall("call_0", "f"), ToolInput("call_0", '{"a":1}'), Finish("tool_calls")]


def test_an_empty_reason_is_none() -> None:
    """Servers that send `finish_reason: ""` with each chunk have not finished."""
    reader = parser_named("openai-chat")()
    assert reader.take(chat({"content": "x"}, "")) == [Text("x")]
    assert not reader.finished


def test_an_error_with_a_type_of_its_own_is_read() -> None:
    """Some servers that speak OpenAI's format name the event."""
    reader = parser_named("openai-chat")()
    event = Event('{"error": {"message": "overloaded", "type": "server_error"}}', "error")
    assert reader.take(event) == []
    assert reader.error == {"type": "server_error", "message": "overloaded"}
    assert storable(event.event, event.data, understood=True).event == RAW
    assert parser_named("openai-chat")().take(Event('{"choices": []}', "error")) is None
