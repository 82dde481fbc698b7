"""The chat in a real Chromium, with a real model: refreshes, a second tab, stop, and kill -9 in mid-answer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.gate import Gate
from tests.fixtures.looks import FAINT
from tests.fixtures.ports import free_port

from newswire import Hub
from newswire.runs import Runs

ROOT = Path(__file__).parents[2]
CHAT = "lighthouse"
QUESTION = "Tell me a story about a lighthouse keeper."  # it makes the model talk for more than 400 tokens
TOKENS = 60  # the model makes all of them, whatever the gate lets through
LEASE = 1.0
pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TURN = "[...chat.turns.values()].at(-1)"
ASK = f"(document.getElementById('question').value = {json.dumps(QUESTION)}, document.forms.ask.requestSubmit())"


class Web:
    """The chat's web server, on a port of its own.

    Args:
        log: the URL of its log.
        settings: what the environment says.
    """

    def __init__(self, log: str, **settings: str) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.page = f"{self.url}/chat/#{CHAT}"
        self._log = log
        self._environment = os.environ | {"CHAT_LOG": log, "CHAT_LEASE": str(LEASE)} | settings
        self.start()

    def start(self) -> None:
        """Start, again after a kill, and wait until it answers."""
        command = [sys.executable, "-m", "newswire.cli.main", "run", "examples.chat.app:app", "--port", str(self._port)]
        self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx2.get(f"{self.url}/chat/").raise_for_status()
                return
            except httpx2.TransportError:
                assert self._process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(30)

    def text(self, run_id: str) -> str:
        """An answer as the log has it."""

        async def read() -> str:
            async with Hub(self._log) as hub:
                return await (await Runs(hub, public=True).get(run_id)).text()

        return asyncio.run(read())

    def ended(self, run_id: str) -> float:
        """When an answer ended, as the log has it, by the wall clock."""

        async def read() -> float:
            async with Hub(self._log) as hub:
                page, _ = await hub.history(f"$runs.out.{run_id}", limit=1000)
                return page.entries[-1].time

        return asyncio.run(read())


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """The chat's model, as `make demo` runs it."""
    command = [sys.executable, "-m", "examples.chat.model"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture
def gate(model: str) -> Iterator[Gate]:
    with Gate(model) as gate:
        yield gate


@pytest.fixture
def webs() -> Iterator[list[Web]]:
    """The web servers of a test, to be killed in the end."""
    started: list[Web] = []
    yield started
    for web in started:
        web.kill()


@pytest.fixture
def web(tmp_path: Path, gate: Gate, webs: list[Web]) -> Web:
    """A web server whose model is behind the gate."""
    webs.append(Web(f"sqlite:///{tmp_path}/chat.db", CHAT_MODEL_URL=gate.url, CHAT_MAX_TOKENS=str(TOKENS)))
    return webs[-1]


def shown(tab: Any) -> str:
    """The last answer as the page has it, which has to be what a person sees."""
    text = str(tab.evaluate(f"{TURN}.text"))
    seen = str(tab.evaluate(f"({TURN}.show(), {TURN}.body.textContent)"))
    assert re.sub(r"\W", "", seen) == re.sub(r"\W", "", text)
    return text


def until_tokens(tab: Any, count: int) -> None:
    """Wait until the last answer has come to exactly so many tokens."""
    tab.until(f"chat.turns.size && {TURN}.tokens >= {count}")
    assert tab.evaluate(f"{TURN}.tokens") == count


def until_end(tab: Any, reason: str) -> str:
    """Wait for the end of the last answer, which has to be this one, and return its run."""
    assert tab.until(f"chat.turns.size && {TURN}.end")["reason"] == reason
    assert tab.evaluate(f"{TURN}.element.dataset.state") == reason
    return str(tab.evaluate(f"{TURN}.run"))


def test_refreshes_and_a_late_tab_show_the_answer_of_the_log(web: Web, gate: Gate, page: Any) -> None:
    """Five refreshes in mid-answer and a late second tab: both show the log's text, and the model got one request."""
    gate.let_through(10)
    page.order(goto=web.page)
    page.until("chat.cursor")
    page.evaluate(ASK)
    before = ""
    for count in range(10, 60, 10):
        gate.let_through(count)
        until_tokens(page, count)
        assert shown(page).startswith(before)
        before = shown(page)
        page.order(reload=True)
        until_tokens(page, count)
        assert shown(page) == before
    second = page.second()
    second.order(goto=web.page)
    until_tokens(second, 50)
    gate.let_through(TOKENS)
    run = until_end(page, "done")
    assert until_end(second, "done") == run
    stored = web.text(run)
    assert stored.startswith(before)
    assert shown(page).encode() == shown(second).encode() == stored.encode()
    assert [tab.evaluate(f"{TURN}.tokens") for tab in (page, second)] == [TOKENS, TOKENS]
    assert len(gate.asked) == 1
    assert page.errors == []


def at_the_end(tab: Any) -> bool:
    """Whether the newest text is in view."""
    place = "document.getElementById('scroll')"
    return bool(tab.evaluate(f"{place}.scrollHeight - {place}.scrollTop - {place}.clientHeight < 40"))


def test_the_view_follows_the_answer_after_a_refresh(web: Web, gate: Gate, page: Any) -> None:
    """A refresh in the middle of the second answer shows where it goes on; somebody who scrolls up is left alone."""
    page.order(goto=web.page, size={"width": 400, "height": 360})
    page.until("chat.cursor")
    gate.let_through(20)
    page.evaluate(ASK)
    until_tokens(page, 20)
    page.evaluate("document.getElementById('stop').click()")
    until_end(page, "stopped")
    gate.let_through(30)
    page.evaluate(ASK)
    page.until("chat.turns.size === 2")
    until_tokens(page, 30)
    page.order(reload=True)
    page.until("chat.turns.size === 2")
    until_tokens(page, 30)
    page.until("document.getElementById('scroll').scrollTop > 0")
    assert at_the_end(page)
    gate.let_through(40)
    until_tokens(page, 40)
    shown(page)
    page.until("document.getElementById('newest').hidden")
    assert at_the_end(page)
    page.evaluate("document.getElementById('scroll').scrollTop = 0")
    page.until("document.getElementById('newest').checkVisibility()")
    gate.let_through(50)
    until_tokens(page, 50)
    shown(page)
    assert page.evaluate("document.getElementById('scroll').scrollTop") == 0
    page.evaluate("document.getElementById('newest').click()")
    page.until("document.getElementById('newest').hidden")
    assert at_the_end(page)
    gate.let_through(TOKENS)
    until_end(page, "done")
    assert at_the_end(page)
    assert page.errors == []


def test_one_button_stops(web: Web, gate: Gate, page: Any) -> None:
    """In mid-answer there is one button to stop it, as the Escape key does, and none to ask again."""
    gate.let_through(10)
    page.order(goto=web.page)
    page.until("chat.cursor")
    page.evaluate(ASK)
    until_tokens(page, 10)
    buttons = (
        "[...document.querySelectorAll('button')].filter(each => each.checkVisibility()).map(each => each.textContent)"
    )
    words = page.evaluate(buttons)
    assert words.count("Stop") == 1
    assert not {"Send", "Ask again"} & set(words)
    page.order(press="Escape")
    until_end(page, "stopped")
    assert page.evaluate(FAINT) == []
    page.evaluate("document.getElementById('question').focus()")
    page.order(type="And by the Enter key?")
    page.order(press="Enter")
    page.until("chat.turns.size === 2")
    assert page.errors == page.console == []


# Strings of what Markdown is made of, drawn in the page.
DRAWN = Path(__file__).with_name("markdown.js").read_text()


def test_markdown_is_drawn_with_nodes_and_loses_nothing(web: Web, page: Any) -> None:
    """Whatever a model writes becomes text in a few harmless elements, the same as it comes and whole."""
    page.order(goto=web.page)
    page.until("chat.cursor")
    assert page.evaluate(DRAWN) == []
    text = "Use **`add`** so:\n\n```python\nadd(1, 2)\n```\n\n1. one\n2. two"
    drawn = page.evaluate(
        '(async () => { const { draw } = await import("/chat/markdown.js"); const body = document.createElement("div");'
        f" draw(body, {json.dumps(text)}); return body.innerHTML; }})()"
    )
    assert drawn == (
        "<p>Use <strong><code>add</code></strong> so:</p>"
        '<pre data-language="python" tabindex="0"><code>add(1, 2)</code></pre><ol><li>one</li><li>two</li></ol>'
    )
    assert page.errors == []


def test_a_question_of_one_tab_appears_in_the_other(web: Web, gate: Gate, page: Any) -> None:
    """What one tab asks, the other shows as it comes; a refresh after the end shows it from the log."""
    gate.let_through(10)
    second = page.second()
    for tab in (page, second):
        tab.order(goto=web.page)
        tab.until("chat.cursor")
    page.evaluate(ASK)
    for tab in (page, second):
        until_tokens(tab, 10)
        assert tab.evaluate("document.querySelectorAll('.turn').length") == 1
        assert tab.evaluate("document.querySelector('.question').textContent") == QUESTION
    gate.let_through(TOKENS)
    run = until_end(second, "done")
    second.order(reload=True)
    assert until_end(second, "done") == run
    assert shown(second) == web.text(run)
    assert "tokens/s" in second.evaluate(f"{TURN}.numbers.textContent")


@pytest.mark.parametrize("takeover", [False, True], ids=["interrupted", "taken over"])
def test_readers_of_another_server_get_an_end_when_the_first_is_killed(
    web: Web, webs: list[Web], gate: Gate, page: Any, tmp_path: Path, *, takeover: bool
) -> None:
    """kill -9 of the server that makes the answer: another's readers get `interrupted`, or the rest of the answer."""
    other = Web(f"sqlite:///{tmp_path}/chat.db", CHAT_MODEL_URL=gate.url, CHAT_MAX_TOKENS=str(TOKENS))
    webs.append(other)
    gate.let_through(30)
    page.order(goto=web.page)
    page.until("chat.cursor")
    page.evaluate(f"document.getElementById('takeover').checked = {json.dumps(takeover)}")
    page.evaluate(ASK)
    second = page.second()
    second.order(goto=other.page)
    for tab in (page, second):
        until_tokens(tab, 30)
    before = shown(second)
    killed = time.time()
    web.kill()
    if takeover:
        gate.let_through(TOKENS)
    run = until_end(second, "done" if takeover else "interrupted")
    stored = web.text(run)
    assert shown(second) == stored
    if takeover:
        assert gate.asked[1]["messages"][-1] == {"role": "assistant", "content": before}
        assert stored.startswith(before)
        assert len(stored) > len(before)
        assert second.evaluate("document.querySelectorAll('.seam').length") == 1
    else:
        assert stored == before
        assert web.ended(run) - killed < LEASE + 0.5  # the half second is this machine's, which does much else
    assert len(gate.asked) == 1 + takeover
    web.start()
    assert until_end(page, "done" if takeover else "interrupted") == run
    assert shown(page) == stored


def test_a_server_that_comes_back_goes_on_with_the_answer(web: Web, gate: Gate, page: Any) -> None:
    """kill -9 and a new start: the page reads on, the answer ends as it would have, and the page shows where it was."""
    gate.let_through(40)
    page.order(goto=web.page)
    page.until("chat.cursor")
    page.evaluate(ASK)
    until_tokens(page, 40)
    before = shown(page)
    web.kill()
    page.until("document.getElementById('state').dataset.state === 'dead'")
    gate.let_through(TOKENS)
    web.start()
    run = until_end(page, "done")
    stored = web.text(run)
    assert shown(page) == stored
    assert stored.startswith(before)
    assert page.evaluate(f"{TURN}.tokens") == TOKENS
    mark = page.evaluate("document.querySelector('.seam').dataset.words")
    assert re.fullmatch(rf"process {web.pid} went on from here after \d+\.\d s", mark)
    assert "without a process" in page.evaluate(f"{TURN}.numbers.textContent")
    assert [asked["messages"][-1] for asked in gate.asked] == [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": before},
    ]
    page.order(reload=True)
    assert until_end(page, "done") == run
    assert shown(page) == stored
    assert page.evaluate("document.querySelectorAll('.seam').length") == 1
    assert page.evaluate("document.querySelector('.seam').dataset.words") == mark
    assert "without a process" in page.evaluate(f"{TURN}.numbers.textContent")
    assert page.errors == []


def predicted(model: str) -> tuple[int, int]:
    """How many requests the model works on, and how many tokens it has made so far."""
    found = dict(line.rsplit(" ", 1) for line in httpx2.get(f"{model}/metrics").text.splitlines() if line[0] != "#")
    return int(found["llamacpp:requests_processing"]), int(float(found["llamacpp:tokens_predicted_total"]))


def test_stop_from_the_second_tab(model: str, webs: list[Web], page: Any, tmp_path: Path) -> None:
    """Stop in one tab ends the answer in both, and the model stops thinking; that a tab is closed stops nothing."""
    web = Web(f"sqlite:///{tmp_path}/chat.db", CHAT_MODEL_URL=model, CHAT_MAX_TOKENS="400")
    webs.append(web)
    page.order(goto=web.page)
    page.until("chat.cursor")
    _, before = predicted(model)
    page.evaluate(ASK)
    page.until(f"chat.turns.size && {TURN}.tokens > 5")
    second = page.second()
    second.order(goto=web.page)
    second.until(f"chat.turns.size && {TURN}.tokens > 10")
    second.order(goto="about:blank")
    second.order(goto=web.page)
    second.until(f"chat.turns.size && {TURN}.tokens > 20")
    assert predicted(model)[0] == 1
    second.evaluate("document.getElementById('stop').click()")
    run = until_end(page, "stopped")
    assert until_end(second, "stopped") == run
    deadline = time.monotonic() + 10
    while predicted(model)[0]:
        assert time.monotonic() < deadline
    assert 20 < predicted(model)[1] - before < 400
    assert page.evaluate(f"{TURN}.tokens") < 400
    assert shown(page) == shown(second) == web.text(run)


def test_stop_while_the_server_is_away(web: Web, gate: Gate, page: Any) -> None:
    """A stop that a reader sends while the server is dead reaches the next server, before the answer is whole."""
    gate.let_through(40)
    page.order(goto=web.page)
    page.until("chat.cursor")
    page.evaluate(ASK)
    until_tokens(page, 40)
    web.kill()
    page.until("document.getElementById('state').dataset.state === 'dead'")
    page.evaluate("document.getElementById('stop').click()")
    web.start()
    run = until_end(page, "stopped")
    assert shown(page) == web.text(run)


def test_a_hidden_tab_holds_no_connection(web: Web, gate: Gate, page: Any) -> None:
    """A hidden tab closes its streams; when it is visible again, it shows what came meanwhile, once."""
    gate.let_through(40)
    page.order(goto=web.page)
    page.until("chat.cursor")
    page.evaluate(ASK)
    until_tokens(page, 40)
    hide = (
        "(() => { Object.defineProperty(document, 'hidden', { configurable: true, value: %s });"
        " document.dispatchEvent(new Event('visibilitychange')); })()"
    )
    page.evaluate(hide % "true")
    assert page.evaluate("[...chat.streams.values()].map(({ source }) => source)") == [None]
    gate.let_through(TOKENS)
    second = page.second()
    second.order(goto=web.page)
    run = until_end(second, "done")
    assert page.evaluate(f"{TURN}.tokens") == 40
    page.evaluate(hide % "false")
    assert until_end(page, "done") == run
    assert shown(page) == shown(second) == web.text(run)


def test_a_bare_eventsource_closes_after_the_end(web: Web, page: Any) -> None:
    """A native EventSource reads to the end, comes back once, gets 204, and stays closed."""
    asked = {"question": QUESTION, "key": "1"}
    run = httpx2.post(f"{web.url}/chat/chats/{CHAT}/questions", json=asked, timeout=30).json()["id"]
    page.order(goto=f"{web.url}/newswire.svg")
    page.evaluate(
        "(() => { globalThis.text = ''; globalThis.ends = []; globalThis.opens = globalThis.errors = 0;"
        f" globalThis.source = new EventSource('/chat/runs/{run}');"
        " source.onopen = () => opens++; source.onerror = () => errors++;"
        " source.onmessage = ({ data }) => { text += data; };"
        " source.addEventListener('newswire.end', ({ data }) => ends.push(JSON.parse(data).reason)); })()"
    )
    page.until("source.readyState === 2")
    assert page.evaluate("[opens, errors, ends]") == [1, 2, ["done"]]
    assert page.evaluate("text") == web.text(run)
    place = f"{web.url}/chat/runs/{run}"
    with httpx2.stream("GET", place) as answer:
        last = [line for line in answer.iter_lines() if line.startswith("id:")][-1].partition(":")[2].strip()
    assert httpx2.get(place, headers={"last-event-id": last}).status_code == 204
    assert page.evaluate("[source.readyState, opens, errors]") == [2, 1, 2]


def test_a_question_that_is_sent_twice_is_answered_once(web: Web, gate: Gate) -> None:
    """The same key gives the same run, and one turn of the conversation."""
    place = f"{web.url}/chat/chats/{CHAT}/questions"
    asked = {"question": QUESTION, "key": "1"}
    first, second = (httpx2.post(place, json=asked, timeout=30) for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    turns = httpx2.get(f"{web.url}/chat/chats/{CHAT}", timeout=30).json()["turns"]
    assert [turn["run"] for turn in turns] == [first.json()["id"]]
    assert httpx2.get(f"{web.url}{first.headers['location']}", timeout=60).status_code == 200
    assert len(gate.asked) == 1


def test_without_a_model_the_page_says_what_is_missing(webs: list[Web], page: Any, tmp_path: Path) -> None:
    """Where the model can't be installed the page tells what is missing, and an answer fails with the same words."""
    web = Web(f"sqlite:///{tmp_path}/chat.db", CHAT_MODEL_MISSING="xllamacpp not installed", CHAT_MODEL_URL="")
    webs.append(web)
    page.order(goto=web.page)
    page.until("chat.cursor")
    assert "xllamacpp not installed" in page.evaluate("document.getElementById('model').textContent")
    page.evaluate(ASK)
    until_end(page, "failed")
    assert "xllamacpp not installed" in page.evaluate(f"{TURN}.chip.textContent")
    assert page.errors == []
