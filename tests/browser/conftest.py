"""A page in a real Chromium, driven by `page.mjs` over its stdin and stdout."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.node import node
from tests.fixtures.ports import free_port

HERE = Path(__file__).parent


class Tab:
    """One page.

    Args:
        browser: whose page it is.
        number: the first is 0.
    """

    def __init__(self, browser: Page, number: int) -> None:
        self._browser = browser
        self._number = number

    def order(self, **what: Any) -> Any:
        """Do one thing in the page, and return the result."""
        return self._browser.tell(tab=self._number, **what)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        return self.order(evaluate=script)

    def until(self, condition: str, *, seconds: float = 30) -> Any:
        """Wait until an expression is true in the page, or in the one it leads to, and return its value."""
        deadline = time.monotonic() + seconds
        while not (value := self._evaluate_once_there(condition)):
            assert time.monotonic() < deadline, f"not in {seconds} s: {condition}"
            time.sleep(0.05)
        return value

    def _evaluate_once_there(self, condition: str) -> Any:
        try:
            return self.evaluate(condition)
        except AssertionError as error:
            # The page is on its way to another, or has not yet what the expression looks for.
            if "Execution context was destroyed" in str(error) or "Cannot read properties of null" in str(error):
                return None
            raise


class Browser:
    """A Chromium and the program that drives it.

    Args:
        driver: the program: `page.mjs`, or `devtools.mjs` for pages that are to be hidden or frozen.

    Attributes:
        pages: those that are open, by the number of their context.
    """

    _shared: Browser | None = None

    def __init__(self, driver: str) -> None:
        self._process = subprocess.Popen(
            [node(), str(HERE / driver)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._asked = False  # an answer is still to come
        self.pages: dict[int, Page] = {}
        self._opened = 0
        self.version = self._answer()

    @classmethod
    def shared(cls) -> Browser:
        """The one that all tests of this process share, until it is closed."""
        if cls._shared is None:
            cls._shared = cls("page.mjs")
            atexit.register(cls.close_shared)
        return cls._shared

    @classmethod
    def close_shared(cls) -> None:
        """Close it, if it is there; the next test gets another."""
        if cls._shared is not None:
            found, cls._shared = cls._shared, None
            atexit.unregister(cls.close_shared)
            found.close()

    def number(self, page: Page) -> int:
        """The number of a new page's context."""
        self._opened += 1
        self.pages[self._opened] = page
        return self._opened

    def tell(self, **what: Any) -> Any:
        """Do one thing, and return the result."""
        assert self._process.stdin is not None
        self._asked = True
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            answer = json.loads(line)
            page = self.pages.get(answer.get("context", 0))
            if "pageerror" in answer:
                if page is not None:
                    page.errors.append(answer["pageerror"])
                continue
            if "console" in answer:
                if page is not None:
                    page.console.append(answer["console"])
                continue
            self._asked = False
            assert "error" not in answer, answer["error"]
            return answer["value"]
        raise AssertionError("the browser's driver ended")

    def shut(self, number: int) -> None:
        """Close a page's context, and the browser if it still works on what a test has given up."""
        del self.pages[number]
        if self._asked:
            self._process.kill()
            self.close_shared()
        else:
            self.tell(context=number, shut=True)

    def close(self) -> None:
        """Close the browser."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Page(Tab):
    """The first page of a person: nothing that another page has stored, opened or connected is there.

    Args:
        driver: see `Browser`; with `devtools.mjs` the page has a browser of its own.
        context: options of the browser's context, for `page.mjs`.

    Attributes:
        errors: exceptions that no script has caught.
        console: errors that the browser has written to its console.
    """

    def __init__(self, driver: str = "page.mjs", context: Mapping[str, Any] | None = None) -> None:
        super().__init__(self, 0)
        self.errors: list[str] = []
        self.console: list[str] = []
        self._own = driver != "page.mjs"
        self._at = Browser(driver) if self._own else Browser.shared()
        self._context = self._at.number(self)
        self.version = self._at.version
        if not self._own:
            self._at.tell(context=self._context, open=dict(context or {}))

    def second(self) -> Tab:
        """Another page of the same person."""
        return Tab(self, 1)

    def tabs(self, count: int) -> list[Tab]:
        """The first pages of the person."""
        return [self, *(Tab(self, number) for number in range(1, count))]

    def tell(self, **what: Any) -> Any:
        """See `Tab.order`."""
        return self._at.tell(context=self._context, **what)

    def close(self) -> None:
        """Close all its pages."""
        if self._own:
            self._at.close()
        else:
            self._at.shut(self._context)


@pytest.fixture
def page() -> Iterator[Page]:
    """A new page, of somebody whom no other test knows."""
    page = Page()
    yield page
    page.close()


class Server:
    """`newswire serve` with a short heartbeat and a short `retry:`, started again on the same port and file.

    Args:
        folder: for its files.
        more: more lines of `newswire.toml`.
    """

    def __init__(self, folder: Path, more: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "newswire.toml"
        self.config.write_text(f'log = "sqlite:///{folder}/events.db"\nheartbeat = 0.2\nretry = 100\n{more}')
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ("--port", str(self.port), "--config", str(self.config))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "newswire.cli.main", "serve", *options], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx2.get(f"{self.url}/health/ready").raise_for_status()
                return
            except (httpx2.TransportError, httpx2.HTTPStatusError):
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def publish(self, text: str) -> str:
        """Publish to the one channel of these tests; returns the id."""
        answer = httpx2.post(f"{self.url}/channels/news", content=text)
        return str(answer.json()["id"])


@pytest.fixture
def pages() -> Iterator[Page]:
    """Pages that the browser may hide, freeze and lose."""
    page = Page("devtools.mjs")
    yield page
    page.close()


@pytest.fixture(scope="session")
def bundle() -> Callable[[str], bytes]:
    """Makes one file for a browser of a script in this folder and all that it imports."""

    def make(name: str) -> bytes:
        return subprocess.run(
            [node(), str(HERE / "bundle.mjs"), str(HERE / name)], capture_output=True, check=True
        ).stdout

    return make


@pytest.fixture
def fill() -> Callable[[str, str], None]:
    """Compares a part of docs/browser.md with what came out; with NEWSWIRE_FILL in the environment it writes it."""
    docs = HERE.parents[1] / "docs" / "browser.md"

    def fill(name: str, text: str) -> None:
        page = docs.read_text()
        start, end = f"<!-- {name}: filled by tests -->\n", "\n<!-- end -->"
        found = re.search(re.escape(start) + "(.*?)" + re.escape(end), page, re.DOTALL)
        assert found is not None
        if os.environ.get("NEWSWIRE_FILL"):
            docs.write_text(page[: found.start(1)] + text + page[found.end(1) :])
        else:
            assert found[1] == text, f"docs/browser.md has another table {name}: run this test with NEWSWIRE_FILL=1"

    return fill


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()
