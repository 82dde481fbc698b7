"""The htmx page in Chromium: a hidden tab has no stream, and one that is seen again goes on after its last id."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.browser.pages.conftest import LIVE, App, strange
from tests.fixtures.serve import ROOT, Serve

pytestmark = pytest.mark.browser
DISHES = "[...document.querySelectorAll('#orders p')].map(each => each.textContent)"
DONE = "document.querySelectorAll('#orders .chip').length"
OPENED = "document.getElementById('cursor').textContent"
HIDE = """(hidden => {
  Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
  Object.defineProperty(document, 'visibilityState', { configurable: true, value: hidden ? 'hidden' : 'visible' });
  document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
})"""


def order(url: str, *dishes: str) -> None:
    """Order by another client."""
    for dish in dishes:
        httpx2.post(f"{url}/orders", data={"dish": dish}).raise_for_status()


def until_readers(url: str, count: int) -> None:
    """Wait until the server has so many streams open."""
    deadline = time.monotonic() + 30
    while (found := httpx2.get(f"{url}/readers").json()) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_orders_by_the_keyboard(app: Callable[[str], App], page: Any) -> None:
    """A dish that is typed comes to both tabs, as text whatever it is, and is done in both; so after a refresh."""
    url = app("orders").url
    tabs = [page, page.second()]
    for tab in tabs:
        tab.order(goto=url)
        tab.until(LIVE)
    page.evaluate("document.querySelector('input').focus()")
    page.order(type="Soup & <b>bread</b>")
    page.order(press="Enter")
    for tab in tabs:
        tab.until(f"{DISHES}.length === 1")
        assert tab.evaluate(DISHES) == ["Soup & <b>bread</b>"]
    page.until("document.querySelector('input').value === ''")
    order(url, "Curry")
    tabs[1].until(f"{DISHES}.length === 2")
    tabs[1].evaluate("document.querySelector('#orders button').click()")
    page.until(f"{DONE} === 1")
    page.order(reload=True)
    page.until(f"{DISHES}.length === 2 && {DONE} === 1")
    assert page.evaluate("document.querySelector('#orders li:has(.chip) p').textContent") == "Curry"
    assert page.errors == page.console == []


def test_each_switch_of_tabs(tmp_path: Path, page: Any) -> None:
    """Five times hidden and seen again: the server has no stream meanwhile, and each order is shown once, in order."""
    flags = ("tests.browser.pages.watched_orders:app", "--app-dir", str(ROOT))
    with Serve(tmp_path, *flags, command="run") as server:
        page.order(goto=server.url)
        page.until(LIVE)
        expected: list[str] = []
        for turn in range(5):
            order(server.url, f"seen {turn}")
            page.until(f"{DISHES}[0] === 'seen {turn}'")
            page.evaluate(f"{HIDE}(true)")
            until_readers(server.url, 0)
            order(server.url, f"unseen {turn}", f"unseen {turn} too")
            assert page.evaluate(f"{DISHES}[0]") == f"seen {turn}"
            page.evaluate(f"{HIDE}(false)")
            page.until(f"{DISHES}[0] === 'unseen {turn} too'")
            until_readers(server.url, 1)
            expected += [f"seen {turn}", f"unseen {turn}", f"unseen {turn} too"]
        assert page.evaluate(DISHES) == expected[::-1]
        assert "opened 6 times" in page.evaluate(OPENED)
        assert page.errors == page.console == []


def test_a_kill(app: Callable[[str], App], page: Any) -> None:
    """The server is killed and started again: what was ordered meanwhile comes, and nothing twice."""
    server = app("orders")
    page.order(goto=server.url)
    page.until(LIVE)
    order(server.url, "one")
    page.until(f"{DISHES}.length === 1")
    server.kill()
    page.until(f"!({LIVE})")
    server.start()
    order(server.url, "two", "three")
    page.until(f"{DISHES}.length === 3")
    assert page.evaluate(DISHES) == ["three", "two", "one"]
    assert [text for text in strange(page) if "htmx:sse:error" not in text] == []  # which is htmx's own word for it
    assert page.errors == []
