"""The small chat's page in Chromium: Markdown of an answer that survives refreshes, a second tab and a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.browser.pages.conftest import LIVE, App, strange
from tests.fixtures.serve import ROOT

pytestmark = pytest.mark.browser
QUESTION = "What is a <i>log</i>?"
STATE = "document.querySelector('.answer')?.dataset.state"
TEXT = "(document.querySelector('.text')?.innerText ?? '')"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The model of the large chat, which the small one finds in its environment."""
    command = [sys.executable, "-m", "examples.chat.model"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        monkeypatch.setenv("CHAT_MODEL_URL", process.stdout.readline().strip())
        yield
        process.stdin.close()


def ask(page: Any, url: str, question: str) -> None:
    """Ask by the keyboard, in a new conversation."""
    page.order(goto=url)
    page.until(f"{LIVE} && document.getElementById('start').checkVisibility()")
    page.evaluate("document.getElementById('question').focus()")
    page.order(type=question)
    page.order(press="Enter")


def test_an_answer_survives_everything(app: Callable[[str], App], page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refreshed in the middle, killed in the middle, read by two tabs: one whole answer, once."""
    monkeypatch.setenv("CHAT_PACE", "0.1")
    server = app("chat")
    ask(page, server.url, QUESTION)
    page.until(f"{TEXT}.includes(`Refresh`)")
    assert page.evaluate(STATE) == "live"
    page.order(reload=True)
    page.until(f"{TEXT}.includes(`second tab`)")
    server.kill()
    page.until(f"!({LIVE})")
    assert page.evaluate(STATE) == "live"
    server.start_with(CHAT_PACE="0")
    second = page.second()
    second.order(goto=page.evaluate("location.href"))
    for tab in (page, second):
        tab.until(f"{STATE} === 'done'")
        assert (
            tab.evaluate("document.querySelector('.text h4, .text h3, .text h2').textContent")
            == "This answer is a script"
        )
        assert tab.evaluate("document.querySelectorAll('.text ol li').length") == 3
        assert tab.evaluate("document.querySelectorAll('.text ul li').length") == 3
        assert tab.evaluate("document.querySelector('.text pre').textContent").startswith("@runs.producer\n")
        assert tab.evaluate("document.querySelector('.text strong').textContent") == QUESTION
        assert tab.evaluate("document.querySelectorAll('.turn').length") == 1
    assert page.evaluate(TEXT) == second.evaluate(TEXT)
    script = (ROOT / "examples" / "pages" / "chat.md").read_text()
    assert len(page.evaluate(TEXT)) > len(script) * 0.9
    assert page.errors == strange(page) == []


def test_a_model_answers_and_is_stopped(model: None, app: Callable[[str], App], page: Any) -> None:
    """A real model's words come; Stop ends them."""
    server = app("chat")
    ask(page, server.url, "Tell me a story about a lighthouse keeper.")
    page.until(f"{TEXT}.length > 40", seconds=60)
    page.evaluate("document.querySelector('.foot .button').click()")
    page.until(f"{STATE} === 'stopped'")
    told = page.evaluate(TEXT)
    page.order(reload=True)
    page.until(f"{STATE} === 'stopped'")
    assert page.evaluate(TEXT) == told
    assert page.errors == page.console == []
