"""Tool calls, told one after the other to clients that expect it."""

from __future__ import annotations

import random

import pytest
from tests.runs.dialects.scripts import at_random

from newswire.runs.dialects.tool_calls import Call, SerializedToolCalls, ToolCalls
from newswire.runs.parts import Finish, Part, Progress, Text, ToolCall, ToolInput, ToolOutput


def fed(*parts: Part) -> list[Part]:
    turns = SerializedToolCalls()
    return [told for part in parts for told in turns.feed(part)] + turns.rest()


def test_a_call_waits_until_the_input_of_the_one_before_is_whole() -> None:
    """A JSON object says where it ends, so the next call begins as soon as it can."""
    turns = SerializedToolCalls()
    assert turns.feed(ToolCall("a", "f")) == [ToolCall("a", "f")]
    assert turns.feed(ToolInput("a", '{"x": "}')) == [ToolInput("a", '{"x": "}')]
    assert turns.feed(ToolCall("b", "f")) == []
    assert turns.feed(ToolInput("b", '{"y"')) == []
    assert turns.feed(Progress(1)) == [Progress(1)]
    assert turns.feed(Text("held")) == []
    assert turns.feed(ToolInput("a", "\\")) == [ToolInput("a", "\\")]
    told = turns.feed(ToolInput("a", '""}  \n'))
    assert told == [ToolInput("a", '""}'), ToolCall("b", "f"), ToolInput("b", '{"y"')]
    assert turns.feed(ToolInput("b", ": 1}")) == [ToolInput("b", ": 1}"), Text("held")]
    assert turns.rest() == []


def test_an_input_that_never_came_is_an_empty_object() -> None:
    """Clients parse each input; a model that speaks again, is answered or stops has said it."""
    for after in (Text("x"), ToolOutput("a", 1), Finish()):
        assert fed(ToolCall("a", "f"), after) == [ToolCall("a", "f"), ToolInput("a", "{}"), after]
    assert fed(ToolCall("a", "f")) == [ToolCall("a", "f"), ToolInput("a", "{}")]


def test_text_is_not_held_by_an_input_that_may_be_whole() -> None:
    """Only the middle of an object is sure to go on."""
    assert fed(ToolCall("a", "f"), ToolInput("a", "SELECT 1"), Text("x"))[-1] == Text("x")


@pytest.mark.parametrize("text", ['{"a": "}{\\\\"}', '{"a": {"b": "\\""}, "c": ["{"]}', "{}", ' {"é": "\\\\\\""}'])
def test_the_end_of_an_object_is_seen_however_it_is_cut(text: str) -> None:
    """Braces in strings, quotes that are escaped and what follows the end change nothing."""
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            calls = ToolCalls()
            call = calls.begin(ToolCall("a", "f"))
            assert call is not None
            cut = [text[:first], text[first:second], text[second:] + "  }rest"]
            told = [more[1] for piece in cut if (more := calls.more(ToolInput("a", piece))) is not None]
            assert ("".join(told), call.whole, call.text) == (text, True, text)


@pytest.mark.parametrize("text", ["[{}]", "{a}", '"{}"', "x{}", '{"a": "'])
def test_what_is_no_object_has_no_end_of_its_own(text: str) -> None:
    """It is whole when the model stops, or is answered."""
    call = Call("a", "f", 0)
    assert "".join(map(call.add, text)) == text
    assert not call.whole


def test_what_makes_no_sense_is_left_out() -> None:
    """Inputs and outputs of no call, and second beginnings and answers, reach no client."""
    assert fed(ToolInput("a", "{}"), ToolOutput("a"), Text("x")) == [Text("x")]
    assert fed(
        ToolCall("a", "f"), ToolInput("a", "{}"), ToolCall("a", "g"), ToolOutput("a", 1), ToolOutput("a", 2)
    ) == [
        *(ToolCall("a", "f"), ToolInput("a", "{}"), ToolOutput("a", 1)),
    ]


def test_no_input_is_ever_interrupted() -> None:
    """Whatever the order, the pieces of an input follow their call, and nothing of the inputs is lost."""
    for seed in range(300):
        run = at_random(seed)
        random.Random(seed).shuffle(run)
        last: str | None = None
        for part in fed(*run):
            if isinstance(part, ToolCall):
                last = part.id
            elif isinstance(part, ToolInput):
                assert part.id == last
            elif not isinstance(part, Progress) and last is not None and isinstance(part, (Text, Finish, ToolOutput)):
                last = None


def test_why_the_model_stopped() -> None:
    """A stream asks a client to answer calls only if there are some to answer."""
    calls = ToolCalls()
    assert [calls.reason(said) for said in (None, "stop", "tool_calls", "length", "because")] == [
        *("stop", "stop", "stop", "length", "because"),
    ]
    calls.begin(ToolCall("a", "f"))
    assert [calls.reason(said) for said in (None, "stop", "tool_calls", "content_filter")] == [
        *("tool_calls", "stop", "tool_calls", "content_filter"),
    ]
    calls.answer(ToolOutput("a"))
    assert calls.reason("tool_calls") == "stop"
