"""The code in README.md and docs/runs.md runs: a page's Python in order, as one program; its JavaScript in Chromium."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from tests.browser.conftest import Page
from tests.fixtures.serve import running

from newswire import Decoder
from newswire.errors import RunNotFound
from newswire.runs import DIALECTS, RunOptions, WorkerOptions

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
RUNS: Final = ROOT / "docs" / "runs.md"
ADDRESS: Final = "http://127.0.0.1:8000"  # of the page's program
FENCE: Final = re.compile(r"^```(\w*)[^\n`]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)  # perhaps with a title
pytestmark = pytest.mark.anyio


def blocks(path: Path, language: str) -> list[str]:
    """The code of a page in one language, in order; each begins at its line of the file, for tracebacks."""
    text = path.read_text()
    found = [fence for fence in FENCE.finditer(text) if fence[1] == language]
    return ["\n" * text.count("\n", 0, fence.start(2)) + fence[2] for fence in found]


async def execute(block: str, names: dict[str, Any]) -> None:
    """Run a block, which may await at its top level."""
    code = compile(block, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The application on a free port; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@pytest.fixture
async def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """What the page's Python defines, once all of it has run."""
    monkeypatch.chdir(tmp_path)
    first, *others = blocks(RUNS, "python")
    names: dict[str, Any] = {"__name__": "page"}
    await execute(first, names)
    async with names["hub"], names["runs"], serving(names["app"]) as names["url"]:
        for block in others:
            await execute(block.replace(ADDRESS, names["url"]), names)
        yield names


def test_the_readmes_programs(tmp_path: Path) -> None:
    """Pasted into files and started as the README says, they do what it says; each is a whole program."""
    first, second = blocks(README, "python")
    (tmp_path / "app.py").write_text(first.lstrip())
    (tmp_path / "answer.py").write_text(second.lstrip())
    with running("app:app", tmp_path) as (url, _):
        stored = httpx2.post(f"{url}/news", json={"title": "It works"}).json()["id"]
        later = httpx2.post(f"{url}/news", json={"title": "And again"}).json()["id"]
        with httpx2.stream("GET", f"{url}/events", headers={"last-event-id": stored}) as answer:
            decoder = Decoder()
            events = next(found for data in answer.iter_raw() if (found := decoder.feed(data)))
        assert [(event.event, event.json(), event.id) for event in events] == [
            ("headline", {"title": "And again"}, later)
        ]
        for room in ("a", "*", "%3E", "a.b"):
            with httpx2.stream("GET", f"{url}/rooms/{room}") as answer:
                assert answer.status_code == 200
    with running("answer:app", tmp_path) as (url, _):
        asked = httpx2.post(f"{url}/answers", content="why?")
        read = httpx2.get(f"{url}{asked.headers['content-location']}")
        for answer in (asked, read):
            told = [event.data for event in Decoder().feed(answer.content)]
            assert ("".join(told[:-1]), told[-1]) == ("You asked: why? ", '{"reason":"done"}')
        assert httpx2.post(f"{url}{asked.headers['content-location']}/stop").json() == {"stopped": False}


def test_every_block_is_one_that_is_run() -> None:
    """The page has code in the two languages that these tests run, and in no other; its commands are the README's."""
    found = [language for language, _ in FENCE.findall(RUNS.read_text()) if language != "console"]
    assert set(found) == {"python", "js"}
    assert found.count("js") == 2


async def test_the_python_of_the_page(program: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Each run that the page starts ends as it says, with the text that it says."""
    runs = program["runs"]

    async def ended(name: str) -> tuple[str, str, Any]:
        run = await runs.get(name=name, owner="ada" if name == "chat.43" else None)
        end = await run.wait()
        return end.reason, await run.text(), end.result

    assert await ended("chat.42") == ("done", "You asked: how? ", None)
    assert await ended("chat.43") == ("done", "You asked: mine? ", None)
    assert await ended("chat.44") == ("done", "You asked: still there? ", {"model": "none"})
    assert await ended("report.7") == ("done", "".join(f"page {page} " for page in range(5)), None)
    with pytest.raises(RunNotFound):
        await runs.get(name="chat.43")


async def test_what_the_page_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client prints the answer and how it ended, and the handle the same."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    app, client, handle = blocks(RUNS, "python")[:3]
    await execute(app, names)
    async with names["hub"], names["runs"], serving(names["app"]) as names["url"]:
        await execute(client.replace(ADDRESS, names["url"]), names)
        told = capsys.readouterr().out.splitlines()
        await execute(handle, names)
        first, *events = capsys.readouterr().out.splitlines()
    assert told == ["message You ", "message asked: ", "message why? ", "done"]
    assert first == "done You asked: how? "
    assert [event.partition(" ")[2] for event in events] == ["You ", "asked: ", "how? ", '{"reason":"done"}']


async def test_a_taken_over_answer_goes_on(program: dict[str, Any]) -> None:
    """The page's producer leaves out what its run has already."""
    written: list[str] = []

    class Half:
        taken_over = True

        async def text(self) -> str:
            return "You asked: "

        async def write(self, token: str) -> None:
            written.append(token)

    await program["answer"](Half(), "still there?")
    assert written == ["still ", "there? "]


async def test_the_dialects_of_the_page(program: dict[str, Any]) -> None:
    """The page's table names each dialect, and there is nothing to resume where no answer goes on."""
    table = RUNS.read_text().partition("| `dialect=` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)) == set(DIALECTS)
    app = Starlette(
        routes=[Route("/api/chat/{id}/stream", program["resume"]), Route("/mine/{id}", program["read_mine"])]
    )
    mine = await program["runs"].get(name="chat.43", owner="ada")
    public = await program["runs"].get(name="chat.44")
    async with serving(app) as url, httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/api/chat/42/stream")).status_code == 204
        assert (await client.get(f"/mine/{mine.id}")).status_code == 200
        assert (await client.get(f"/mine/{public.id}")).status_code == 404


def test_the_options_of_the_page() -> None:
    """The page's tables name each option."""
    text = RUNS.read_text()
    for kind in (RunOptions, WorkerOptions):
        table = text.partition(f"| `{kind.__name__}` |")[2].partition("\n\n")[0]
        assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(kind.__dataclass_fields__)


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


@pytest.mark.browser
async def test_the_javascript_of_the_page(program: dict[str, Any], page: Page) -> None:
    """EventSource and fetch both read the answer to its end, from the FastAPI application of the page."""
    async with serving(program["api"]) as url:
        await asyncio.to_thread(page.order, goto=f"{url}/docs/oauth2-redirect")
        told = [
            await asyncio.to_thread(page.evaluate, f"(async () => {{ {block}\nreturn [text, end]; }})()")
            for block in blocks(RUNS, "js")
        ]
    assert told == [["You asked: why? ", "done"], ["You asked: how? ", "done"]]
