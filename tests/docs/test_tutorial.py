"""docs/tutorial.md, done as a reader does it: its files, its commands, a real Chromium, and a kill -9."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest
from tests.browser.conftest import Page
from tests.docs.test_docs import blocks
from tests.fixtures.serve import free_port

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "tutorial.md"
NEWSWIRE: Final = Path(sys.executable).with_name("newswire")
pytestmark = pytest.mark.browser


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The page's command, on a port of its own."""
    process = subprocess.Popen(
        [NEWSWIRE, "run", "app:app", "--port", str(port)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/")
            return process
        except httpx2.TransportError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)


def publish(folder: Path, port: int) -> list[str]:
    """The page's curl commands, in their order; returns the titles that they published."""
    titles = []
    for path, body in re.findall(r"^\$ curl localhost:8000(\S+) --json '(.*)'$", PAGE.read_text(), re.MULTILINE):
        headers = {"content-type": "application/json"}
        answer = httpx2.post(f"http://127.0.0.1:{port}{path}", content=body, headers=headers)
        assert re.fullmatch(r"\w+-\d+", answer.json()["id"])
        titles.append(re.search(r'"title": "(.*?)"', body)[1])  # type: ignore[index]
    return titles


def test_a_reader_gets_what_the_page_promises(tmp_path: Path, page: Page) -> None:
    """What is published is shown; a kill -9 loses nothing and doubles nothing."""
    (tmp_path / "app.py").write_text(blocks(PAGE, "python")[0].lstrip())
    (tmp_path / "page.html").write_text(blocks(PAGE, "html")[0].lstrip())
    shown = "[...document.querySelectorAll('li')].map((item) => item.textContent.replace(/ \\(.*/, ''))"
    state = "document.querySelector('#state').textContent"

    port = free_port()
    server = start(tmp_path, port)
    try:
        page.order(goto=f"http://127.0.0.1:{port}/")
        page.until(f"{state} === 'live'")
        titles = publish(tmp_path, port)
        assert len(titles) == 3
        page.until(f"{shown}.length === 3")
        server.kill()
        server.communicate()
        page.until(f"{state}.startsWith('the server is away')")
        server = start(tmp_path, port)
        titles += publish(tmp_path, port)
        page.until(f"{shown}.length >= 6")
        assert page.evaluate(shown) == titles
    finally:
        server.terminate()
        server.communicate()
