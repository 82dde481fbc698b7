"""`ag-ui`, read by AG-UI's own TypeScript client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from tests.runs.dialects.conftest import Streams, run_node
from tests.runs.dialects.ends import ENDS
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import DONE, cuts, stream

from newswire.runs.dialects import End, Head, dialect_for
from newswire.runs.parts import Part, Text

CUTS = cuts(SCRIPTS, 150)
BROKEN = [(name, cut) for name in ENDS for cut in (0, 9)]


@dataclass
class Read:
    """What the agent made of each stream."""

    whole: dict[str, Any]
    resumed: list[Any]
    broken: dict[tuple[str, int], Any]
    result: Any


@pytest.fixture(scope="module")
def read(streams: Streams) -> Read:
    """All streams of this module, read by one node process."""

    def url(parts: list[Part], cut: int = 0, end: End | None = DONE, seed: int = 0) -> str:
        return streams.serve(stream(dialect_for("ag-ui", HEAD), parts, cut, end, seed=seed))

    found = run_node(
        "read_ag_ui.mjs",
        [
            *(url(parts) for parts in SCRIPTS.values()),
            *(url(SCRIPTS[name], cut, seed=seed) for name, cut, seed in CUTS),
            *(url(SCRIPTS["reasoning"], cut, ENDS[name][0]) for name, cut in BROKEN),
            url([Text("Counted.")], end=End("done", result={"rows": 3})),
        ],
    )
    first, second = len(SCRIPTS), len(SCRIPTS) + len(CUTS)
    return Read(
        dict(zip(SCRIPTS, found[:first], strict=True)),
        found[first:second],
        dict(zip(BROKEN, found[second:-1], strict=True)),
        found[-1],
    )


@pytest.mark.slow
def test_a_client_cut_off_anywhere_ends_with_the_same_messages(read: Read) -> None:
    """Prelude and tail make what the whole makes, at every cut, and break no rule of the protocol."""
    for (name, cut, seed), found in zip(CUTS, read.resumed, strict=True):
        assert (found["thrown"], found["failed"], found["warnings"]) == (None, None, []), (name, cut, seed)
        assert found == read.whole[name], (name, cut, seed)


def test_the_messages_say_what_the_run_said(read: Read) -> None:
    """Text, reasoning, calls, outputs and usage arrive as written; calls belong to the message before them."""
    found = read.whole["tools"]
    messages = [
        (
            message["role"],
            message.get("content"),
            [(call["id"], call["function"]["arguments"]) for call in message.get("toolCalls", [])],
        )
        for message in found["messages"]
    ]
    assert messages == [
        ("reasoning", "I have to look.", []),
        (
            "assistant",
            "I look it up.",
            [("call-a", '{"city": "Paris", "days": [1, 2]}'), ("call-b", '{"city": "Köln {sic}", "days": []}')],
        ),
        ("tool", '{"sky":"grey","degrees":4.5}', []),
        ("tool", "sunny", []),
        ("assistant", "One more thing.", [("call-c", "{}")]),
        ("tool", '{"why":"no clock"}', []),
        ("reasoning", "No matter.", []),
        ("assistant", "Sun in Paris, clouds in Köln.", []),
    ]
    assert found["calls"][0] == ["call-a", "weather", {"city": "Paris", "days": [1, 2]}]
    (usage,) = found["finished"]["usage"]
    assert usage == {"model": "small-1", "inputTokens": 64, "outputTokens": 32, "totalTokens": 96}
    assert (found["finished"]["threadId"], found["finished"]["runId"]) == ("run-7f3a", "run-7f3a")
    assert found["finished"]["metadata"] == {"finishReason": "stop"}
    assert read.whole["call"]["finished"]["metadata"] == {"finishReason": "tool_calls"}
    assert read.result["result"] == {"rows": 3}


def test_progress_and_other_data_are_custom_events(read: Read) -> None:
    """The last progress is the job's; other data arrive each once, JSON where they are."""
    found = read.whole["job"]
    assert found["progress"] == {"done": 10, "total": 10}
    assert found["custom"] == [
        ["chart", {"points": [[1, 2.5], [2, None]]}],
        ["note", "not JSON: NaN"],
        ["note", "NaN"],
    ]


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_is_an_error(read: Read, name: str, cut: int) -> None:
    """The agent reports RUN_ERROR, which says why, and no finished run; what came so far is there."""
    found = read.broken[name, cut]
    assert (found["finished"], found["thrown"]) == (None, None)
    assert found["failed"]["code"] == ENDS[name][1]
    assert ENDS[name][2] in found["failed"]["message"]
    assert found["messages"][-1]["content"] == "It is four, of course."


def test_the_thread_is_the_one_that_the_run_was_started_with() -> None:
    """A run's thread is in its first event, also when it is resumed."""
    dialect = dialect_for("ag-ui", Head("r", meta={"thread": "t"}))
    dialect.skip(Text("x"))
    assert dialect.prelude()[0].json() == {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
