"""The programs on the pages about moving over run, and do what the pages say.

A diff is two programs. What it takes away is Python or JavaScript that can be read; what it leaves runs here.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from fastapi.testclient import TestClient
from tests.browser.conftest import Page
from tests.docs.test_docs import ROOT, blocks
from tests.fixtures.apart import installed_apart
from tests.fixtures.ports import free_port
from tests.fixtures.serve import NEWSWIRE, PATIENCE, Reader, Serve, clean_environment

PAGES: Final = ROOT / "docs" / "moving"
PYTHON: Final = [sys.executable, "-m"]
DJANGO: Final = """
import django
from django.conf import settings
settings.configure(ROOT_URLCONF="urls", SECRET_KEY="of the test", ALLOWED_HOSTS=["*"])
django.setup()
from django.core.asgi import get_asgi_application
app = get_asgi_application()
"""


def program(page: str, number: int) -> dict[str, Any]:
    """What one of a page's programs defines."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(blocks(PAGES / page, "python")[number], page, "exec"), names)
    return names


def side(page: str, number: int, sign: str) -> str:
    """One of the two programs of a diff: with the lines that it takes away (-), or with those that it brings (+)."""
    lines = blocks(PAGES / page, "diff")[number].lstrip("\n").splitlines()
    assert all(line[:1] in (" ", "-", "+") for line in lines)
    return "\n".join(line[1:] for line in lines if line[0] in (" ", sign)) + "\n"


@contextlib.contextmanager
def serving(folder: Path, command: list[str], port: int) -> Iterator[str]:
    """A server in a folder, until it listens; gives its address."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=clean_environment(), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE
        url = f"http://127.0.0.1:{port}"
        while True:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(f"{url}/is-it-there", timeout=PATIENCE)
                break
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, (folder / "output").read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def assert_it_resumes(read: str, publish: str, event: str, *bodies: Any) -> None:
    """A reader gets what is published, and after a reconnect what it missed."""

    def post(body: Any) -> None:
        answer = httpx2.post(publish, timeout=PATIENCE, **({"content": body} if type(body) is str else {"json": body}))
        assert answer.status_code < 300, answer.text

    first, second = bodies
    with Reader(read) as reader:
        assert reader.answer.status_code == 200
        reader.opened()
        post(first)
        [got] = reader.read(1)
        assert got.event == event
        assert (got.data if type(first) is str else got.json()) == first
    post(second)
    with Reader(read, {"last-event-id": got.id}) as reader:
        [missed] = reader.read(1)
        assert (missed.data if type(second) is str else missed.json()) == second


def test_one_import() -> None:
    """The program with only the import replaced."""
    with TestClient(program("sse-starlette.md", 0)["app"]) as client:
        assert client.get("/progress").text.startswith("id: 1\r\nevent: step\r\ndata: 1\r\n\r\n")


def test_streams_that_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader gets what was published after its position."""
    monkeypatch.chdir(tmp_path)
    names = program("sse-starlette.md", 2)
    with TestClient(names["app"]) as client:
        first, second = (client.post("/progress/7", params={"done": done}).json()["id"] for done in (1, 2))
        page, _ = client.portal.call(lambda: names["hub"].history("job.7", after=first))  # type: ignore[union-attr]
        assert [entry.data for entry in page.entries] == ['{"done":2}']
        assert second.endswith("-2")


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md") if "\n```diff\n" in path.read_text()))
def test_what_a_diff_takes_away_is_a_program(page: str) -> None:
    """And so is what it leaves."""
    for number, diff in enumerate(blocks(PAGES / page, "diff")):
        for sign in "-+":
            text = side(page, number, sign)
            if "const " not in diff:
                compile(text, page, "exec")


# Of the pages whose library is not among the packages of the tests: it is installed apart, in the version of the page.
LIBRARIES: Final = {
    "aiohttp-sse": "aiohttp-sse==3.0",
    "django-eventstream": "django-eventstream==5.3.4",
    "flask-sse": "Flask-SSE==1.0.0",
    "socketio": "python-socketio==5.18.1",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(LIBRARIES))
def test_the_program_before(page: str, tmp_path: Path) -> None:
    """What a page's diff begins with is a program for the library that the page is about."""
    packages = installed_apart(page, LIBRARIES[page])
    (tmp_path / "before.py").write_text(side(f"{page}.md", 0, "-"))
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"]
    settings = f"import django.conf\ndjango.conf.settings.configure(INSTALLED_APPS={apps})\ndjango.setup()\n"
    program = ("import django\n" + settings if page.startswith("django") else "") + "import before"
    environment = clean_environment() | {"PYTHONPATH": str(packages)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=PATIENCE)


def test_fastapi(tmp_path: Path) -> None:
    """Both programs run; the new one resumes."""
    (tmp_path / "before.py").write_text(side("fastapi.md", 0, "-"))
    subprocess.run([sys.executable, "-c", "import before"], cwd=tmp_path, check=True)
    (tmp_path / "app.py").write_text(side("fastapi.md", 0, "+"))
    port = free_port()
    with serving(tmp_path, [str(NEWSWIRE), "run", "app:app", "--port", str(port)], port) as url:
        assert_it_resumes(f"{url}/news", f"{url}/news", "headline", {"title": "one"}, {"title": "two"})


def test_socketio(tmp_path: Path) -> None:
    """The new program, and its page in Chromium."""
    (tmp_path / "app.py").write_text(side("socketio.md", 0, "+"))
    port = free_port()
    with serving(tmp_path, [str(NEWSWIRE), "run", "app:app", "--port", str(port)], port) as url:
        assert_it_resumes(f"{url}/rooms/lobby", f"{url}/rooms/lobby", "said", {"text": "one"}, {"text": "two"})
        with shown(f"{url}/is-it-there", side("socketio.md", 1, "+")) as page:
            page.until("source.readyState === 1")
            httpx2.post(f"{url}/rooms/lobby", json={"text": "three"}).raise_for_status()
            page.until("seen.join() === 'three'")


def test_flask_sse(tmp_path: Path) -> None:
    """Under gunicorn's threads."""
    (tmp_path / "app.py").write_text(side("flask-sse.md", 0, "+"))
    port = free_port()
    command = [*PYTHON, "gunicorn", "--worker-class", "gthread", "--threads", "8", "--graceful-timeout", "1"]
    with serving(tmp_path, [*command, "--bind", f"127.0.0.1:{port}", "app:app"], port) as url:
        hello = {"message": "Hello!"}
        assert_it_resumes(f"{url}/stream", f"{url}/hello", "greeting", hello, hello)


def test_django_eventstream(tmp_path: Path) -> None:
    """Under uvicorn."""
    (tmp_path / "urls.py").write_text(side("django-eventstream.md", 0, "+"))
    (tmp_path / "project.py").write_text(DJANGO)
    port = free_port()
    command = [*PYTHON, "uvicorn", "--timeout-graceful-shutdown", "2", "--port", str(port), "project:app"]
    with serving(tmp_path, command, port) as url:
        hello = {"text": "hello world"}
        assert_it_resumes(f"{url}/events/", f"{url}/hello/", "message", hello, hello)


def test_aiohttp_sse(tmp_path: Path) -> None:
    """Under aiohttp's own server."""
    (tmp_path / "app.py").write_text(side("aiohttp-sse.md", 0, "+"))
    port = free_port()
    command = [*PYTHON, "aiohttp.web", "--hostname", "127.0.0.1", "--port", str(port), "app:make_app"]
    with serving(tmp_path, command, port) as url:
        assert_it_resumes(f"{url}/news", f"{url}/news", "headline", "one", "two")


@contextlib.contextmanager
def shown(url: str, script: str) -> Iterator[Page]:
    """A page that runs a script, where `show` notes what it gets in `seen`."""
    page = Page()
    try:
        page.order(goto=url)
        script = "const seen = [], show = (text) => seen.push(text);\n" + script
        for name in ("seen", "source", "news"):
            script += f"\nglobalThis.{name} = typeof {name} === 'undefined' ? null : {name};"
        page.evaluate(
            f"""new Promise((done, fail) => {{
              const script = Object.assign(document.createElement("script"), {{ type: "module" }});
              script.onerror = fail;
              globalThis.ready = done;
              script.textContent = {script!r} + "\\nglobalThis.ready();";
              document.head.append(script);
            }})"""
        )
        yield page
    finally:
        page.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("page", "call", "open_"),
    [
        ("mercure.md", lambda names: names["changed"](1, "Emma", "none"), "source.readyState === 1"),
        ("centrifugo.md", lambda names: names["publish"]("news", "Emma", "none"), "news.state === 'open'"),
    ],
    ids=["mercure", "centrifugo"],
)
def test_hubs_beside_the_application(tmp_path: Path, page: str, call: Any, open_: str) -> None:
    """The publisher publishes to `newswire serve`, and the page shows it."""
    with Serve(tmp_path) as server:
        names: dict[str, Any] = {}
        exec(side(page, 0, "+").replace("http://127.0.0.1:8000", server.url), names)
        with shown(f"{server.url}/health/live", side(page, 1, "+")) as browser:
            browser.until(open_)
            assert "-" in call(names)
            browser.until("seen.join() === 'Emma'")
