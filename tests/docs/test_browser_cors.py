"""docs/browser.md, "A page that another server sends": its page and its commands, in Chromium."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.browser.conftest import Page
from tests.docs.test_docs import ROOT
from tests.fixtures.ports import free_port, wait_for
from tests.fixtures.serve import PATIENCE, Serve, run_newswire

PAGE = (
    (ROOT / "docs" / "browser.md").read_text().partition("## A page that another server sends")[2].partition("\n## ")[0]
)
pytestmark = pytest.mark.browser


@pytest.fixture
def browser() -> Iterator[Page]:
    """A browser."""
    browser = Page()
    yield browser
    browser.close()


def test_a_page_of_another_origin(browser: Page, tmp_path: Path) -> None:
    """It imports the package from the server, and shows what is published there."""
    serve, files, publish = re.findall(r"^\$ ([^#\n]*)", PAGE, re.MULTILINE)
    [title, code] = re.findall(r'```html title="(.*?)"\n(.*?)```', PAGE, re.DOTALL)[0]
    port = free_port()
    flags = serve.replace("9000", str(port)).split()[2:]
    with Serve(tmp_path, *flags) as server:
        (tmp_path / title).write_text(
            code.replace("http://localhost:8000", server.url.replace("127.0.0.1", "localhost"))
        )
        command = files.replace("9000", str(port)).split()[1:]
        other = subprocess.Popen([sys.executable, *command], cwd=tmp_path, stderr=subprocess.DEVNULL)
        try:
            wait_for(port, other, PATIENCE, lambda: "")
            [address] = re.findall(r"Open <(.*?)>", PAGE)
            browser.order(goto=address.replace("9000", str(port)))
            while not httpx2.get(f"{server.url}/console/stats").json()["subscribers"]:
                time.sleep(0.02)
            done = run_newswire(*shlex.split(publish)[1:], "--url", server.url, folder=tmp_path)
            assert done.returncode == 0, done.stderr
            browser.until("document.querySelector('li')?.textContent === 'A 1.5'")
        finally:
            other.kill()
            other.wait()
