"""Every page with a program has a test that runs it: the pages below in this file, all others as `RUN_BY` says."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg
import certifi
import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request
from tests.docs.test_docs import ROOT, blocks, execute
from tests.fixtures.engines import Postgres
from tests.fixtures.serve import PATIENCE, Serve, running

from newswire import AsyncEventSource, Event, EventSource, EventSourceResponse, Hub, Retention, open_log
from newswire.testing import asgi_client, next_event

DOCS: Final = ROOT / "docs"
pytestmark = pytest.mark.anyio

# Programs, not output: the languages of a block that has to run.
PROGRAMS: Final = ("python", "js", "ts", "tsx", "html", "toml", "sql", "diff")
# For a pytest of its own, which starts three times as fast without the plugins of all that is installed.
NO_PLUGINS: Final = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
HERE: Final = "tests/docs/test_all_blocks.py"
RUN_BY: Final = {
    "auth.md": "tests/server/test_auth.py",
    "browser.md": "tests/docs/test_tutorial.py",
    "client.md": HERE,
    "contracts.md": "tests/docs/test_contracts_page.py",
    "dialects.md": "tests/docs/test_dialects_page.py",
    "doctor.md": HERE,
    "engines.md": HERE,
    "explain/following-the-log.md": HERE,
    "explain/log-engines.md": HERE,
    "explain/outbox.md": HERE,
    "explain/retention.md": HERE,
    "frameworks.md": HERE,
    "howto/ai-answers.md": "tests/docs/test_howto.py",
    "howto/testing.md": "tests/docs/test_howto.py",
    "howto/threads.md": "tests/docs/test_howto.py",
    "howto/workers.md": "tests/docs/test_howto.py",
    "index.md": HERE,
    "latest.md": "tests/docs/test_latest_page.py",
    "metrics.md": HERE,
    "outbox.md": "tests/docs/test_outbox_page.py",
    "presence.md": "tests/docs/test_presence_page.py",
    "relay.md": "tests/docs/test_relay_page.py",
    "runs.md": "tests/docs/test_docs.py",
    "server.md": HERE,
    "streams.md": HERE,
    "tutorial.md": "tests/docs/test_tutorial.py",
}


def test_every_page_with_a_program_is_run() -> None:
    """A page that is new here needs a test, and a line in the table above."""
    found = set()
    for path in DOCS.rglob("*.md"):
        text = textwrap.dedent(path.read_text())
        if any(f"```{language}\n" in text or f"```{language} " in text for language in PROGRAMS):
            found.add(path.relative_to(DOCS).as_posix())
    others = {page for page in found if not page.startswith(("moving/", "frameworks/"))}  # see test_moving.py and below
    assert others == set(RUN_BY)
    for page, test in RUN_BY.items():
        assert Path(page).name in (ROOT / test).read_text(), page


def test_the_page_of_a_framework_has_its_example() -> None:
    """A whole application, which tests run under its servers."""
    tested = (ROOT / "tests" / "integrations" / "test_frameworks.py").read_text()
    for path in (DOCS / "frameworks").glob("*.md"):
        [block] = blocks(path, "python")
        example = ROOT / block.strip().removeprefix('--8<-- "').removesuffix('"')
        assert example.is_file(), path
        assert path.stem in tested, path


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stream that has an order and then ends."""
    with Serve(tmp_path_factory.mktemp("stream")) as server:
        server.publish("orders", json.dumps({"number": 1, "total": 2.5}), event="order")
        yield f"{server.url}/channels/orders"


async def one_event(code: str, names: dict[str, Any], last: str) -> None:
    """Run a loop over a stream up to its first event: `last` is the last line of its body."""
    assert last in code
    indent = code[: code.index(last)].rpartition("\n")[2]
    await execute(code.replace(last, f"{last}\n{indent}break", 1), names)


async def test_client(stream: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> None:
    """Both sources print, each option exists, a cursor is kept, models are made, other clients' answers are read."""
    monkeypatch.chdir(tmp_path)
    sync, asynchronous, options, cursor, functions, models, others = blocks(DOCS / "client.md", "python")
    names: dict[str, Any] = {"url": f"{stream}?from=earliest", "stream": stream, "handle": print}

    def here(code: str) -> str:
        return code.replace("http://127.0.0.1:8000/channels/news", names["url"])

    printed = "print(event.id, event.event, event.data)"
    await asyncio.to_thread(asyncio.run, one_event(here(sync), names, printed))
    program = here(asynchronous).replace(printed, f"{printed}\n            break")
    await asyncio.to_thread(exec, program, names)
    assert capsys.readouterr().out.count(' order {"number": 1, "total": 2.5}') == 2
    await execute(options, names)
    assert names["options"].on_gap == "raise"
    await asyncio.to_thread(asyncio.run, one_event(cursor, names, "handle(event)"))
    assert (tmp_path / "orders.cursor").read_text().strip().endswith("1")
    names |= {"offset": 0, "token": lambda: "none", "stream": f"{stream}?from=earliest", "EventSource": EventSource}
    await execute(functions, names)
    names["source"].close()

    def read_models() -> None:
        first, second = models.split("for value in ")
        found: list[Any] = []
        with EventSource(names["url"]) as source:
            names.update(source=source, found=found)
            exec(first.replace("    ...", "    found.append(order)\n    break"), names)
        with EventSource(names["url"]) as source:
            names.update(source=source, Refund=names["Order"])
            exec("for value in " + second.replace("    ...", "    found.append(value)\n    break"), names)
        assert found == [names["Order"](1, 2.5)] * 2

    await asyncio.to_thread(read_models)
    seen: list[Event] = []
    names["seen"] = seen
    await asyncio.to_thread(exec, others.replace("        ...", "        seen.append(event)\n        break"), names)
    assert [event.event for event in seen] == ["order"]


async def test_streams() -> None:
    """A subscription and an iterable are answers; a producer sends its last event when the server stops."""
    from newswire import last_event_id

    first, second = (textwrap.dedent(block).strip() for block in (blocks(DOCS / "streams.md", "python")[0], indented()))
    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []})
    subscribed, drawn = first.splitlines()

    async def tokens() -> Any:
        yield "a token"

    async def next_step(stopping: asyncio.Event) -> str:
        stopping.set()  # as the server does when it stops
        return "a step"

    async with Hub() as hub:
        names: dict[str, Any] = {
            "hub": hub, "request": request, "tokens": tokens, "EventSourceResponse": EventSourceResponse,
            "last_event_id": last_event_id, "asyncio": asyncio, "Event": Event, "next_step": next_step,
        }  # fmt: skip
        for line in (subscribed, drawn):
            assert isinstance(eval(line.removeprefix("return "), names), EventSourceResponse)
        *program, answer = second.splitlines()
        exec("\n".join(program), names)
        app = eval(answer.removeprefix("return "), names)
        async with asgi_client(app) as client:
            text = (await client.get("http://test/")).text
        assert "data: a step" in text
        assert "event: paused" in text


async def test_a_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/streams.md: a reader gets the orders that are large enough for it, and what newswire itself sends."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "streams.md").read_text()
    names: dict[str, Any] = {"__name__": "page"}
    await execute(text.partition('title="large.py"\n')[2].partition("```")[0], names)
    async with names["hub"] as hub, asgi_client(names["app"]) as client:
        url = "http://test/orders?least=100&last_event_id=no-position"  # so it begins with a gap, at the oldest event
        for order in (1, 100, 99, 250):
            await hub.publish("orders", {"total": order}, event="order")
        async with AsyncEventSource(url, client=client) as source:
            first, *large = [await next_event(source) for _ in range(3)]
        assert first.event == "newswire.gap"
        assert [event.json()["total"] for event in large] == [100, 250]


def indented() -> str:
    """The program of docs/streams.md that stands in a list."""
    text = (DOCS / "streams.md").read_text()
    return text.partition("  ```python\n")[2].partition("  ```")[0]


def test_engines() -> None:
    """Each URL is one that a hub takes; of certificates that are not there it says so."""
    for block in blocks(DOCS / "engines.md", "python"):
        for line in block.strip().splitlines():
            names: dict[str, Any] = {"Hub": Hub}
            exec(line.replace("/etc/ssl/ca.pem", certifi.where()), names)
            assert isinstance(names["hub"], Hub)
    with pytest.raises(ValueError, match=r"^ca=/nowhere/ca\.pem: these certificates can't be read: No such file"):
        Hub("tls://localhost?ca=/nowhere/ca.pem")


async def test_the_sql_of_engines(postgres: Postgres) -> None:
    """A user with the rights of the page can run the hubs, another one publish."""
    database = f"page_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"CREATE DATABASE {database}")
    url = postgres.url.rpartition("/")[0] + f"/{database}"
    log = open_log(url)
    await log.span()
    await log.close()
    connection = await asyncpg.connect(url)
    call, *grants = blocks(DOCS / "engines.md", "sql")
    users = {name: f"{name}_{database}" for name in ("hub", "app")}
    for name, user in users.items():
        await admin.execute(f"CREATE ROLE {user}")
        for grant in grants:
            if f"TO {name};" in grant:
                await connection.execute(grant.replace(f" TO {name};", f" TO {user};"))
    await connection.execute(f"SET ROLE {users['app']}")
    ticket = await connection.fetchval(call)
    assert ticket
    await connection.execute(f"SET ROLE {users['hub']}")
    assert await connection.fetchval("SELECT count(*) FROM newswire.outbox") >= 0
    await connection.close()
    await admin.close()


def test_a_rule_of_your_own(tmp_path: Path) -> None:
    """docs/server.md: a token in the query, and no answer without it."""
    text = (DOCS / "server.md").read_text()
    program = textwrap.dedent("  " + text.partition("```python\n")[2].partition("  ```")[0].lstrip(" "))
    (tmp_path / "app.py").write_text(program)
    with running("app:app", tmp_path) as (url, _):
        refused = httpx2.get(f"{url}/channels/news/events", timeout=PATIENCE)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert httpx2.get(f"{url}/channels/news/events?token=secret", timeout=PATIENCE).status_code == 200


def test_index(tmp_path: Path) -> None:
    """docs/index.md: the stream of its application opens, and gets what is published."""
    (tmp_path / "app.py").write_text(blocks(DOCS / "index.md", "python")[0].lstrip())
    with running("app:app", tmp_path) as (url, _), httpx2.stream("GET", f"{url}/news", timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        came = answer.iter_lines()
        assert next(came).startswith("retry: ")
        assert httpx2.post(f"{url}/news", json={"title": "It works"}, timeout=PATIENCE).status_code == 200
        assert next(line for line in came if line.startswith("data: ")) == 'data: {"title":"It works"}'


async def test_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    """What explain/retention.md keeps, explain/following-the-log.md reads and explain/outbox.md does in two steps."""
    [retention] = blocks(DOCS / "explain" / "retention.md", "python")
    assert isinstance(eval(retention.strip(), {"Hub": Hub, "Retention": Retention}), Hub)
    [follow] = blocks(DOCS / "explain" / "following-the-log.md", "python")
    taken: list[Any] = []

    class Enough(Exception):
        pass

    def take(entries: Any) -> None:
        taken.extend(entries)
        raise Enough

    async with Hub() as hub:
        [save] = blocks(DOCS / "explain" / "outbox.md", "python")
        names: dict[str, Any] = {"log": hub.log, "after": 0, "take": take, "hub": hub, "order": {"number": 1}}

        async def saved(order: Any) -> None:
            names["saved"] = order

        names["save"] = saved
        await execute(save, names)
        await execute(follow, names)
        with pytest.raises(Enough):
            await names["follow"]()
    assert [entry.data for entry in taken] == ['{"number":1}']


@pytest.mark.slow
@pytest.mark.parametrize("page", ["explain/log-engines.md", "doctor.md"])
def test_tests(page: str, tmp_path: Path, stream: str) -> None:
    """A log's suite, with the engine of the tests as the page's; a stream that the doctor finds healthy."""
    code = blocks(DOCS / page, "python")[0].lstrip()
    if page == "doctor.md":
        code = code.replace("http://127.0.0.1:8000/events", stream).replace("seconds=20", "seconds=1")
        code += '\n\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
        chosen = "healthy"
    else:
        code = code.replace("MyEngine(", "JsonLines(").replace(
            "import pytest", "import pytest\nfrom tests.log.jsonl import JsonLines"
        )
        code += '\n    @pytest.fixture\n    def anyio_backend(self):\n        return "asyncio"\n'
        chosen = "positions or order"
    (tmp_path / "test_mine.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "anyio"]
    done = subprocess.run(
        [*command, "-k", chosen, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT,
        env=NO_PLUGINS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout


def test_frameworks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """docs/frameworks.md: routes that yield, a server at a prefix, and WSGI that sends readers elsewhere."""
    monkeypatch.chdir(tmp_path)
    found: list[dict[str, Any]] = []
    for block in blocks(DOCS / "frameworks.md", "python"):
        names: dict[str, Any] = {"__name__": "page"}
        exec(compile(block, "frameworks.md", "exec", dont_inherit=True), names)
        found.append(names)
    with TestClient(next(one["app"] for one in found if "ticks" in one)) as client:
        assert client.get("/ticks").text.count("data: {") == 3
    with TestClient(next(one["app"] for one in found if "newswire" in one)) as client:
        assert client.post("/live/channels/news", content="one").status_code == 200
    names = next(one for one in found if "WsgiStream" in one)
    heads: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/rooms/1",
        "HTTP_LAST_EVENT_ID": names["hub"].sync.publish("room.1", "a"),
    }
    answer = names["app"](environ, lambda status, _: heads.append(status))
    came = iter(answer)
    next(came)
    names["hub"].sync.publish("room.1", "b")
    assert b"data: b" in next(came)
    answer.close()
    names["hub"].sync.close()
    assert names["app"]({"PATH_INFO": "/"}, lambda status, _: heads.append(status)) == [b"no such page"]
    assert heads == ["200 OK", "404 Not Found"]


async def test_metrics() -> None:
    """docs/metrics.md: a hub that is instrumented publishes."""
    names: dict[str, Any] = {"__name__": "page"}
    [block] = blocks(DOCS / "metrics.md", "python")
    await execute(block, names)
    async with names["hub"] as hub:
        assert (await hub.publish("news", "one")).offset == 1
