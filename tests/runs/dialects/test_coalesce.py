"""As few parts as say what many said."""

from __future__ import annotations

import pytest
from tests.runs.dialects.scripts import HEAD, SCRIPTS, at_random

from newswire.runs.dialects import DIALECTS
from newswire.runs.dialects.coalesce import Coalescer
from newswire.runs.parts import Data, Finish, Part, Progress, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage


def condensed(*parts: Part) -> list[Part]:
    found = Coalescer()
    for part in parts:
        found.add(part)
    return found.parts()


def test_what_stands_between_pieces_of_text() -> None:
    """Progress, usage and data interrupt no text; of progress and usage the last word stands where the first stood."""
    assert condensed(
        Text("a"), Progress(1), Text("b"), Usage(1), Data("d", "1"), Text("c"), Progress(2), Usage(2), Data("d", "2")
    ) == [Text("abc"), Progress(2), Usage(2), Data("d", "1"), Data("d", "2")]


def test_inputs_that_came_in_turns() -> None:
    """Each call has its input in one piece, which comes when its last piece came."""
    assert condensed(
        *(ToolCall("a", "f"), ToolInput("a", "1"), ToolCall("b", "f"), ToolInput("b", "2"), ToolInput("a", "3")),
        *(ToolInput("b", "4"), ToolOutput("a"), ToolInput("b", "5")),
    ) == [
        *(ToolCall("a", "f"), ToolCall("b", "f"), ToolInput("a", "13"), ToolInput("b", "24")),
        *(ToolOutput("a"), ToolInput("b", "5")),
    ]


def test_an_input_before_its_call_is_none() -> None:
    """No client gets it where it stands, so it is not put before the input that comes later either."""
    call = [ToolCall("a", "f"), ToolInput("a", "{}")]
    assert condensed(ToolInput("a", "1"), *call) == call


def test_what_is_not_joined() -> None:
    """A part never moves over one that a reader can tell it from."""
    for parts in (
        [Text("a"), Reasoning("b"), Text("c")],
        [Text("a"), ToolCall("x", "f"), Text("b")],
        [Text("a"), Finish(), Text("b")],
        [ToolCall("x", "f"), ToolInput("x", "1"), Text("a"), ToolInput("x", "2")],
    ):
        assert condensed(*parts) == parts


def test_asked_twice() -> None:
    """Parts can be added after a caller has read them."""
    found = Coalescer()
    for text in "abc":
        found.add(Text(text))
        found.parts()
    assert found.parts() == [Text("abc")]


@pytest.mark.parametrize("name", DIALECTS)
def test_a_prelude_is_short(name: str) -> None:
    """A reader that resumes a long answer gets it in a handful of blocks."""
    dialect = DIALECTS[name](HEAD)
    for number in range(1000):
        dialect.skip(Text("word "))
        dialect.skip(Progress(number, 1000))
        dialect.skip(Usage(1, number))
    assert len(dialect.prelude()) <= 6


@pytest.mark.parametrize("name", DIALECTS)
def test_a_prelude_has_as_many_blocks_as_it_needs(name: str) -> None:
    """The prelude of any run is no longer than the run itself, and says something."""
    for run in [*SCRIPTS.values(), *(at_random(seed) for seed in range(100, 150))]:
        whole, resumed = DIALECTS[name](HEAD), DIALECTS[name](HEAD)
        begun = len(whole.prelude())
        written = sum(len(whole.write(part)) for part in run)
        for part in run:
            resumed.skip(part)
        assert begun <= len(resumed.prelude()) <= begun + written
