"""The applications of examples/pages, each as a process in a folder of its own, and what their tests ask a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.browser.conftest import Page
from tests.fixtures.serve import ROOT, Serve, clean_environment

LIVE = "document.getElementById('state').dataset.state === 'live'"  # the page's stream is open
PAGES = sorted(path.stem for path in (ROOT / "examples" / "pages").glob("*.html"))


def strange(page: Page) -> list[str]:
    """What the console has beside the failures that a killed server, or a network that is off, can't but cause."""
    return [text for text in page.console if "net::ERR_" not in text]


class App(Serve):
    """One of them, run as its docstring says."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(folder, f"examples.pages.{name}:app", "--app-dir", str(ROOT), command="run")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def start_with(self, **environment: str) -> None:
        """Start again, with these variables in the environment."""
        self._environment = clean_environment(environment)
        self.start()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Callable[[str], App]]:
    """Starts an application by its name."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(App(name, tmp_path))


@pytest.fixture
def another() -> Iterator[Page]:
    """Another person's browser."""
    page = Page()
    yield page
    page.close()
