"""What holds for every dialect."""

from __future__ import annotations

import pytest
from tests.runs.dialects.ends import ENDS
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import told

from newswire.runs.dialects import DIALECTS, End, Head, dialect_for, dialect_named
from newswire.runs.parts import Text

# Those that speak as others do; a plain one is newswire's own, whose clients know the standard.
FOREIGN = [name for name, kind in DIALECTS.items() if not kind.plain]


def test_a_dialect_that_does_not_exist() -> None:
    """The error names those that do."""
    with pytest.raises(ValueError, match=r"'klingon'.* ag-ui, ai-sdk, anthropic, .*openai-chat, openai-responses"):
        dialect_named("klingon")
    with pytest.raises(ValueError, match="ag-ui"):
        dialect_for("klingon", HEAD)
    assert {name: dialect_named(name).name for name in DIALECTS} == {name: name for name in DIALECTS}


@pytest.mark.parametrize("name", FOREIGN)
def test_no_block_is_empty(name: str) -> None:
    """Each event of a stream has data, and none has an id: those are the positions of the run."""
    for script, run in SCRIPTS.items():
        for end, _, _ in [(End("done"), "", ""), *ENDS.values()]:
            for cut in (0, len(run) // 2, len(run)):
                for group in told(dialect_for(name, HEAD), run, cut, end):
                    assert all(event.data and event.id is None and event.retry is None for event in group), script


@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_always_has_an_end(name: str) -> None:
    """However a run ends, something says so, and it is not the same for a whole answer and for another."""
    ends = [told(dialect_for(name, HEAD), SCRIPTS["text"], 3, end)[-1] for end, _, _ in ENDS.values()]
    whole = told(dialect_for(name, HEAD), SCRIPTS["text"], 3)[-1]
    assert all(end and end != whole for end in ends)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_run_without_a_model_has_an_unknown_one(name: str) -> None:
    """Whatever stands in `meta`, each dialect can write a stream."""
    for meta in ({}, {"model": None}, {"model": 5, "thread": 6, "raw": 7}, {"raw": "klingon"}):
        assert told(dialect_for(name, Head("r", meta=meta)), [Text("x")])[0]


@pytest.mark.parametrize("name", DIALECTS)
def test_a_result_that_json_cannot_say_is_left_out(name: str) -> None:
    """The answer is whole without it."""
    end = End("done", result=float("nan"))
    assert told(dialect_for(name, HEAD), [Text("x")], end=end) == told(dialect_for(name, HEAD), [Text("x")])
