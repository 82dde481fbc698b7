"""`ai-sdk`, read by Vercel's own client in each of the versions that are in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from tests.runs.dialects.conftest import Streams, run_node
from tests.runs.dialects.ends import ENDS
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import DONE, cuts, stream, told

from newswire.runs.dialects import DIALECTS, End, dialect_for
from newswire.runs.parts import Part

VERSIONS = ("ai5", "ai6", "ai7")
CUTS = cuts(SCRIPTS, 150)


@dataclass
class Read:
    """What each version's client made of each stream."""

    whole: dict[str, dict[str, Any]]
    resumed: dict[str, list[Any]]
    broken: dict[str, dict[tuple[str, int], Any]]


@pytest.fixture(scope="module")
def read(streams: Streams) -> Read:
    """All streams of this module, read by one node process."""

    def url(parts: list[Part], cut: int = 0, end: End | None = DONE, seed: int = 0) -> str:
        body = stream(dialect_for("ai-sdk", HEAD), parts, cut, end, seed=seed)
        return streams.serve(body, dict(DIALECTS["ai-sdk"].headers))

    broken = [(name, cut) for name in ENDS for cut in (0, 9)]
    urls = [url(parts) for parts in SCRIPTS.values()]
    urls += [url(SCRIPTS[name], cut, seed=seed) for name, cut, seed in CUTS]
    urls += [url(SCRIPTS["reasoning"], cut, ENDS[name][0]) for name, cut in broken]
    found = run_node("read_ai_sdk.mjs", urls)
    first, second = len(SCRIPTS), len(SCRIPTS) + len(CUTS)
    return Read(
        {version: dict(zip(SCRIPTS, found[version][:first], strict=True)) for version in VERSIONS},
        {version: found[version][first:second] for version in VERSIONS},
        {version: dict(zip(broken, found[version][second:], strict=True)) for version in VERSIONS},
    )


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_cut_off_anywhere_ends_with_the_same_message(read: Read, version: str) -> None:
    """Prelude and tail make what the whole makes, at every cut, in every version."""
    for (name, cut, seed), found in zip(CUTS, read.resumed[version], strict=True):
        assert (found["status"], found["error"]) == ("ready", None), (name, cut, seed)
        assert found == read.whole[version][name], (name, cut, seed)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_message_says_what_the_run_said(read: Read, version: str) -> None:
    """Text, reasoning, calls and outputs arrive as they were written, in steps; every part is done."""
    found = read.whole[version]["tools"]
    message = found["message"]
    assert (message["id"], message["role"]) == ("run-7f3a", "assistant")
    assert message["metadata"] == {
        "finishReason": "stop",
        "usage": {"inputTokens": 64, "outputTokens": 32, "totalTokens": 96},
    }
    assert [(part["type"], part.get("state")) for part in message["parts"]] == [
        ("step-start", None),
        ("reasoning", "done"),
        ("text", "done"),
        ("tool-weather", "output-available"),
        ("tool-weather", "output-available"),
        ("step-start", None),
        ("text", "done"),
        ("tool-now", "output-error"),
        ("step-start", None),
        ("reasoning", "done"),
        ("text", "done"),
    ]
    first, second, third = (part for part in message["parts"] if part["type"].startswith("tool-"))
    assert (first["input"], first["output"]) == ({"city": "Paris", "days": [1, 2]}, "sunny")
    assert second["input"] == {"city": "Köln {sic}", "days": []}
    assert (third["input"], third["errorText"]) == ({}, '{"why":"no clock"}')
    assert found["calls"] == ["call-a", "call-b", "call-c"]
    (call,) = (part for part in read.whole[version]["call"]["message"]["parts"] if part["type"] == "tool-confirm")
    assert (call["state"], call["input"]) == ("input-available", {"question": "Sure?"})


@pytest.mark.parametrize("version", VERSIONS)
def test_progress_replaces_itself_and_other_data_stays(read: Read, version: str) -> None:
    """A job's progress is one part that holds the last word; other data are parts of their own, JSON where they are."""
    parts = read.whole[version]["job"]["message"]["parts"]
    data = [(part["type"], part["data"]) for part in parts if part["type"].startswith("data-")]
    assert data == [
        ("data-progress", {"done": 10, "total": 10}),
        ("data-chart", {"points": [[1, 2.5], [2, None]]}),
        ("data-note", "not JSON: NaN"),
        ("data-note", "NaN"),
    ]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_is_an_error(read: Read, version: str, name: str, cut: int) -> None:
    """The chat is in its error state and says why; what came so far is there, and is not said to be done."""
    found = read.broken[version][name, cut]
    assert found["status"] == "error"
    assert ENDS[name][2] in found["error"]
    assert found["failed"] is True
    assert found["message"]["parts"][-1] == {
        **found["message"]["parts"][-1],
        "text": "It is four, of course.",
        "state": "streaming",
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_what_makes_no_sense_breaks_no_client(read: Read, version: str) -> None:
    """Inputs and outputs of calls that never began are left out; an input that is no JSON becomes text."""
    found = read.whole[version]["odd"]
    assert (found["status"], found["error"]) == ("ready", None)
    calls = [part for part in found["message"]["parts"] if part["type"].startswith("tool-")]
    assert [(call["toolCallId"], call["input"], call.get("output")) for call in calls] == [
        ("a", "no JSON", None),
        ("b", [1, 2], None),
        ("c", {"n": 1}, None),
    ]


def test_the_steps_of_a_run() -> None:
    """What the model says after its calls were answered is a new step, and each part is opened and closed in it."""
    events = [event for group in told(dialect_for("ai-sdk", HEAD), SCRIPTS["tools"]) for event in group]
    assert events.pop().data == "[DONE]"
    kinds = [event.json()["type"] for event in events]
    assert [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before] == [
        *("start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end"),
        *("text-start", "text-delta", "text-end", "tool-input-start", "tool-input-delta", "tool-input-start"),
        *("tool-input-delta", "tool-input-available", "tool-input-delta", "tool-input-available"),
        *("tool-output-available", "finish-step"),
        *("start-step", "text-start", "text-delta", "text-end", "tool-input-start", "tool-input-available"),
        *("tool-output-error", "finish-step"),
        *("start-step", "reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta", "text-end"),
        *("finish-step", "finish"),
    ]
