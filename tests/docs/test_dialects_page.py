"""What docs/dialects.md says is so: its code runs, and its table tells what becomes of each part."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from tests.docs.test_docs import FENCE, ROOT, blocks, execute

from newswire import Decoder, Event, Hub
from newswire.runs import (
    DIALECTS,
    Data,
    Finish,
    Progress,
    Reasoning,
    Runs,
    Text,
    ToolCall,
    ToolInput,
    ToolOutput,
    Usage,
)
from newswire.runs.dialects import PARSERS, End, Head, dialect_for
from newswire.runs.parts import Part
from newswire.testing import asgi_client

PAGE: Final = ROOT / "docs" / "dialects.md"
RECORDED: Final = ROOT / "tests" / "client" / "recorded"
pytestmark = pytest.mark.anyio

CALLED: Final[list[Part]] = [ToolCall("1", "look"), ToolInput("1", "{}")]
# What a run has to say for each row of the table.
ROWS: Final[dict[str, list[Part]]] = {
    "`Text`, str": [Text("a")],
    "`Reasoning`": [Reasoning("a")],
    "`ToolCall`, `ToolInput`": CALLED,
    "`ToolOutput`": [*CALLED, ToolOutput("1", "found")],
    "`Usage`, the last": [Text("a"), Usage(1, 2), Usage(11, 22)],
    "`Finish`": [Text("a"), Finish("length")],
    "`Progress`, the last": [Progress(1, 2), Progress(2, 2)],
    "`Data`, other events": [Data("mine", "{}")],
    "the result": [],
}


def recorded(name: str) -> list[Event]:
    """The events that a real API sent."""
    return Decoder().feed((RECORDED / f"{name}.1.sse").read_bytes())


@pytest.fixture
async def runs() -> AsyncIterator[Runs]:
    """Runs in memory."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        yield runs


async def follow(events: list[Event]) -> AsyncIterator[Event]:
    """An upstream."""
    for event in events:
        yield event


async def told(runs: Runs, run_id: str, dialect: str) -> list[Event]:
    """What a client of a dialect gets of a run that has ended."""
    app = Starlette(routes=[Route("/", lambda request: runs.response(request, run_id, dialect=dialect))])
    async with asgi_client(app) as client:
        return Decoder().feed((await client.get("/")).content)


def said(events: list[Event]) -> str:
    """The text that chat completion chunks say."""
    chunks = [json.loads(event.data) for event in events if event.data.startswith('{"id"')]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_every_block_is_one_that_is_run() -> None:
    """The page has Python alone."""
    assert {language for language, _ in FENCE.findall(PAGE.read_text())} == {"python"}


async def test_the_code_of_the_page(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """It copies an upstream: its format's clients get its events unchanged, all others the parts, which are printed."""
    events = recorded("anthropic_messages")
    names: dict[str, Any] = {"runs": runs, "upstream": follow(events)}
    for block in blocks(PAGE, "python"):
        await execute(block, names)
    run = names["run"]
    assert await run.wait() == End("done", result={"whole": True})
    assert capsys.readouterr().out.splitlines()[1:3] == ["Text(text='Hello')", "Text(text='!')"]
    unchanged = await told(runs, run.id, "anthropic")
    assert [(event.event, event.data) for event in unchanged] == [(event.event, event.data) for event in events]
    others = await told(runs, run.id, "openai-chat")
    assert (said(others), others[-1].data) == ("Hello!", "[DONE]")


@pytest.mark.parametrize("events", [recorded("anthropic_overloaded"), recorded("anthropic_messages")[:5]])
async def test_an_upstream_that_gives_no_whole_answer(runs: Runs, events: list[Event]) -> None:
    """One that reports an error fails the run in its words; one that breaks off ends it as interrupted."""
    names: dict[str, Any] = {"runs": runs, "upstream": follow(events)}
    for block in blocks(PAGE, "python"):
        await execute(block, names)
    end = await names["run"].wait()
    last = (await told(runs, names["run"].id, "anthropic"))[-1]
    assert last.event == "error"
    if events[-1].event == "error":
        assert end == End("failed", {"type": "RunFailed", "message": "Overloaded"})
        assert "Overloaded" in last.data
    else:
        assert end == End("done", result={"whole": False})
        assert "ended before its answer was whole" in last.data


def test_the_formats_of_the_page() -> None:
    """The page names each format that can be stored as it came, and every dialect in both tables."""
    text = PAGE.read_text()
    raw = text.partition('`meta={"raw": ')[2].partition(", and write")[0]
    assert set(re.findall(r"[a-z]+(?:-[a-z]+)*", raw)) - {"or"} == PARSERS.keys()
    ends = text.partition("| dialect |")[2].partition("\n\n")[0]
    assert {"native", *re.findall(r"^\| `([\w-]+)`", ends, re.MULTILINE)} == set(DIALECTS)
    assert {"native", *table()} == set(DIALECTS)


def table() -> dict[str, dict[str, str]]:
    """What the page says becomes of each part, by dialect."""
    lines = PAGE.read_text().partition("| part |")[2].partition("\n\n")[0].splitlines()
    names = re.findall(r"`([\w-]+)`", lines[0])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[0] for row in rows] == list(ROWS)
    return {name: {row[0]: row[number] for row in rows} for number, name in enumerate(names, 1)}


def cells() -> Iterator[Any]:
    for dialect, column in table().items():
        for row, cell in column.items():
            yield pytest.param(dialect, row, cell, id=f"{dialect}: {row}")


@pytest.mark.parametrize(("dialect", "row", "cell"), list(cells()))
def test_what_becomes_of_each_part(dialect: str, row: str, cell: str) -> None:
    """What the table names is in the stream, and was not without the part; what it says is not told is not."""

    def stream(parts: list[Part], result: Any = None) -> str:
        made = dialect_for(dialect, Head("run-1", 1.5, {}))
        events = [*made.prelude(), *(event for part in parts for event in made.write(part))]
        events += made.end(End("done", result=result))
        return "\n".join(f"{event.event} {event.data}" for event in events)

    parts = ROWS[row]
    result = {"key": "of the result"} if row == "the result" else None
    with_it = stream(parts, result)
    without = stream([Text("a")] if Text("a") in parts[:-1] else CALLED if parts[:2] == CALLED and parts[2:] else [])
    if cell == "not told" and row == "`ToolOutput`":
        assert "found" not in with_it  # that there is one is: its client has nothing to answer
    elif cell == "not told":
        assert with_it == without
    else:
        assert with_it != without
    for words in re.findall(r"`([^`]+)`", cell):
        for word in words.removesuffix("…").replace("NAME", "mine").split("."):
            assert word.lower() in with_it.lower()  # `metadata` comes as `messageMetadata`
