"""docs/tutorial.md, followed word for word: its files, its commands in three terminals, their output, and Chromium.

A test can't have port 8000, so 8000 is another port here, and `newswire run` says which. Your ids look different, says
the page: each id of the page stands for the one that came in its place.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from starlette.applications import Starlette
from tests.browser.conftest import Page
from tests.docs.test_docs import ROOT, blocks, execute
from tests.fixtures.ports import free_port
from tests.fixtures.serve import running

from newswire import Hub, last_event_id
from newswire.browser import FILES

PAGE: Final = ROOT / "docs" / "tutorial.md"
BLOCK: Final = re.compile(r'^```(\w+)(?: title="([^"]+)")?[^\n]*\n(.*?)^```$', re.MULTILINE | re.DOTALL)
ID: Final = re.compile(r"\b[a-z0-9]{8}-\d+\b")
PATIENCE: Final = 60.0  # seconds until a test gives up
SHOWN: Final = "[...document.querySelectorAll('li')].map((item) => item.textContent)"
STATE: Final = "document.querySelector('#state').textContent"


class Terminal:
    """A shell in a folder, with what it has printed."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder.parent / f"{name}.txt"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        with self._file.open("wb") as output:
            self._shell = subprocess.Popen(
                ["bash", "--norc"],
                cwd=folder,
                env={**os.environ, "PATH": path},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._read = 0

    def enter(self, command: str) -> None:
        """Type a line."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(command.encode() + b"\n")
        self._shell.stdin.flush()

    def wait_for(self, found: Callable[[str], Any]) -> Any:
        """Wait for something in what came since the last time."""
        deadline = time.monotonic() + PATIENCE
        while not (value := found(text := self._file.read_text()[self._read :])):
            assert time.monotonic() < deadline, text
            time.sleep(0.02)
        self._read += len(text)
        return value

    def interrupt(self) -> None:
        """Ctrl-C: for what runs in the terminal, not for the shell."""
        children = subprocess.run(["pgrep", "-P", str(self._shell.pid)], capture_output=True, text=True).stdout.split()
        for child in children:
            os.kill(int(child), signal.SIGINT)
        self.enter("echo back at the prompt")
        self.wait_for(lambda text: "back at the prompt" in text)

    def close(self) -> None:
        """End the shell and all that it has started."""
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()


class Reader:
    """Somebody who does what the page says.

    Attributes:
        folder: was empty.
        browser: what they look at the page with.
        done: the commands that they have run.
    """

    def __init__(self, folder: Path, browser: Page) -> None:
        self.folder = folder
        self.browser = browser
        self.done: list[str] = []
        self._port = str(free_port())
        self._ids: dict[str, str] = {}
        self._terminals = {name: Terminal(folder, name) for name in ("first", "second", "third")}

    def follow(self, text: str) -> None:
        """Do what is between two places of the page, in order."""
        for step in re.finditer(rf"{BLOCK.pattern}|Ctrl-C|Open <(\S+)>\.", text, re.MULTILINE | re.DOTALL):
            language, title, code, address = step.groups()
            if address:
                self.browser.order(goto=address.replace("8000", self._port))
                self.browser.until(f"{STATE} === 'live'")
            elif language is None:
                before = text[: step.start()].rpartition("\n\n")[2]
                self._terminals["second" if "curl" in before else "first"].interrupt()
            elif language == "console" and title:
                self._type(title.partition(" ")[0], code)
            elif title:
                (self.folder / title).write_text(code)

    def _type(self, name: str, text: str) -> None:
        terminal = self._terminals[name]
        wanted = text
        if text.startswith("$ "):
            command, _, wanted = text.removeprefix("$ ").partition("\n")
            self.done.append(command)
            for theirs, ours in self._ids.items():
                command = command.replace(theirs, ours)
            command = command.replace("8000", self._port).replace("curl ", "curl -s ")
            terminal.enter(command.replace("newswire run app:app", f"newswire run app:app --port {self._port}"))
        if name == "first":
            terminal.wait_for(lambda said: f"on http://127.0.0.1:{self._port}" in said)
        elif wanted:
            self._compare(wanted, terminal.wait_for(lambda said: self._matches(wanted, said)))

    def _matches(self, wanted: str, said: str) -> re.Match[str] | None:
        """Whether the text of the page came, where each id may be any; heartbeats may come between."""
        said = re.sub(r"^:\n", "", said, flags=re.MULTILINE)
        exact = re.escape(wanted.rstrip("\n")).replace(r"\-", "-")
        return re.search(ID.sub(lambda _: ID.pattern, exact), said)

    def _compare(self, wanted: str, came: re.Match[str]) -> None:
        """Each id of the page always stands for the same id."""
        for theirs, ours in zip(ID.findall(wanted), ID.findall(came[0]), strict=True):
            assert self._ids.setdefault(theirs, ours) == ours

    def close(self) -> None:
        """Close the terminals."""
        for terminal in self._terminals.values():
            terminal.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with an empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    browser = Page()
    reader = Reader(folder, browser)
    yield reader
    reader.close()
    browser.close()


@pytest.mark.browser
def test_word_for_word(reader: Reader) -> None:
    """The page survives `kill -9`: it shows each event that was published since it was opened, once."""
    begin, live, killed, rest = re.split(r"^The title appears on the page\.$|^The page says that the server is away\.|"
                                         r"^The page is live again", PAGE.read_text(), flags=re.MULTILINE)  # fmt: skip
    reader.follow(begin)
    reader.browser.until(f"{SHOWN}.length === 1")
    assert reader.browser.evaluate(SHOWN) == ["On the page"]
    reader.follow(live)
    reader.browser.until(f"{STATE}.startsWith('the server is away')")
    reader.follow(killed)
    reader.browser.until(f"{SHOWN}.length >= 2")
    assert reader.browser.evaluate(SHOWN) == ["On the page", "Still here"]
    assert reader.browser.evaluate(STATE) == "live"
    assert "```console" not in rest
    assert len(reader.done) == len(re.findall(r"^\$ (?!pip)", PAGE.read_text(), re.MULTILINE)) == 10


@pytest.mark.browser
def test_with_the_package(tmp_path: Path) -> None:
    """With the lines of docs/browser.md the same page reads by newswire.js."""
    files = {title: code for _, title, code in BLOCK.findall(PAGE.read_text()) if title.endswith((".py", ".html"))}
    more = {title: code for _, title, code in BLOCK.findall(PAGE.with_name("browser.md").read_text()) if "," in title}
    script = more["page.html, its script"]
    page, script_count = re.subn(r"<script>.*</script>\n", lambda _: script, files["page.html"], flags=re.DOTALL)
    assert script_count == 1
    (tmp_path / "app.py").write_text(files["app.py"] + more["app.py, at its end"])
    (tmp_path / "page.html").write_text(page)
    browser = Page()
    try:
        with running("app:app", tmp_path) as (url, _):
            browser.order(goto=url)
            browser.until(f"{STATE} === 'live'")
            httpx2.post(f"{url}/news", json={"title": "It works"}, timeout=PATIENCE).raise_for_status()
            browser.until(f"{SHOWN}.length === 1")
            assert browser.evaluate(SHOWN) == ["It works"]
    finally:
        browser.close()


def test_the_files_of_the_package() -> None:
    """The programs of docs/browser.md add a route for each file."""
    for block in blocks(PAGE.with_name("browser.md"), "python"):
        names: dict[str, Any] = {"__name__": "page", "app": Starlette()}
        exec(block, names)
        routes = {route.path for route in names["app"].routes}
        assert "/newswire.js" in routes
        assert routes in ({"/newswire.js"}, set(FILES))


@pytest.mark.anyio
async def test_the_last_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key stores one event; a user's name makes a channel."""
    monkeypatch.chdir(tmp_path)
    program = next(code for _, title, code in BLOCK.findall(PAGE.read_text()) if title == "app.py")
    names: dict[str, Any] = {"__name__": "page"}
    await execute(program, names)
    *_, key, user = blocks(PAGE, "python")
    async with names["hub"] as hub:
        for _ in range(2):
            await execute(key, names)
        page, _ = await hub.history("orders")
        assert [entry.data for entry in page.entries] == ['{"id":42,"state":"paid"}']
        await execute(user, names)
        assert names["channel"]("user", "ada") == "user.ada"


@pytest.mark.anyio
async def test_what_a_reload_would_show() -> None:
    """The call in the sentence begins with the oldest event, and with no gap."""
    [call] = re.findall(r'`(hub\.subscribe\([^`]*"earliest"\))`', PAGE.read_text())
    async with Hub("memory://") as hub:
        await hub.publish("news", "old")
        names = {"hub": hub, "request": {"headers": [], "query_string": b""}, "last_event_id": last_event_id}
        async with aclosing(aiter(eval(call, names))) as events:
            assert (await anext(events)).data == "old"
