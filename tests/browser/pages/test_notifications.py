"""The notifications' page in Chromium: one count in all tabs, and the right one after whatever was missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.browser.pages.conftest import LIVE, App, strange

from newswire import Hub

pytestmark = pytest.mark.browser
COUNT = "Number(document.getElementById('unread').dataset.count)"
TEXTS = "[...document.querySelectorAll('#rows p')].map(each => each.textContent)"
UNREAD = "document.querySelectorAll('#rows .unread').length"


def notify(url: str, *texts: str) -> None:
    """Something happens elsewhere in the application."""
    with httpx2.Client() as client:
        for text in texts:
            client.post(f"{url}/notify", content=text).raise_for_status()


def test_a_row_stays_in_its_card(app: Callable[[str], App], page: Any) -> None:
    """The background of the last one ends at the card's round corner."""
    server = app("notifications")
    page.order(goto=server.url)
    page.until(LIVE)
    notify(server.url, "one")
    page.until(f"{UNREAD} === 1")
    corner = "(box => document.elementFromPoint(box.left + 2, box.bottom - 2).tagName)"
    assert page.evaluate(f"{corner}(document.querySelector('#rows li').getBoundingClientRect())") != "LI"


def test_one_count_in_all_tabs(app: Callable[[str], App], page: Any) -> None:
    """What is sent by the keyboard comes to both tabs, and what one tab marks as read is read in the other."""
    url = app("notifications").url
    tabs = [page, page.second()]
    for tab in tabs:
        tab.order(goto=url)
        tab.until(LIVE)
    page.evaluate("(document.getElementById('text').focus(), document.getElementById('text').select())")
    page.order(type="the <b>first</b>")
    page.order(press="Enter")
    for tab in tabs:
        tab.until(f"{COUNT} === 1")
        assert tab.evaluate(TEXTS) == ["the <b>first</b>"]
        assert tab.evaluate("document.title") == "(1) Inbox"
    notify(url, "second")
    tabs[1].until(f"{COUNT} === 2")
    tabs[1].evaluate("document.getElementById('all').click()")
    page.until(f"{COUNT} === 0")
    assert page.evaluate(UNREAD) == 0
    page.order(reload=True)
    page.until(LIVE)
    assert page.evaluate(TEXTS) == ["second", "the <b>first</b>"]
    assert page.evaluate(COUNT) == 0
    assert page.errors == page.console == []


def test_after_a_kill(app: Callable[[str], App], page: Any) -> None:
    """The server is killed; what comes before the page is back is counted and shown, once."""
    server = app("notifications")
    page.order(goto=server.url)
    page.until(LIVE)
    notify(server.url, "one")
    page.until(f"{COUNT} === 1")
    page.order(offline=True)
    server.kill()
    server.start()
    notify(server.url, "two", "three")
    page.order(offline=False)
    page.until(f"{COUNT} === 3")
    assert page.evaluate(TEXTS) == ["three", "two", "one"]
    assert page.errors == strange(page) == []


async def forget(log: str) -> None:
    """Remove the events of the week, as retention does."""
    async with Hub(log) as hub:
        _, end = await hub.history("inbox.ada", limit=1000)
        await hub.log.drop({"inbox.ada": end.offset - 5})


def test_after_a_week(app: Callable[[str], App], page: Any, tmp_path: Path) -> None:
    """More came than the log keeps: a page that was away and one that is opened then have the same, right count."""
    server = app("notifications")
    page.order(goto=server.url)
    page.until(LIVE)
    notify(server.url, "before")
    page.until(f"{COUNT} === 1")
    server.kill()
    page.until(f"!({LIVE})")
    page.order(offline=True)
    server.start()
    notify(server.url, *(f"notification {number}" for number in range(60)))
    asyncio.run(forget(f"sqlite:///{tmp_path}/notifications.db"))
    page.order(offline=False)
    page.until(f"{COUNT} === 61")
    second = page.second()
    second.order(goto=server.url)
    second.until(f"{COUNT} === 61")
    assert page.evaluate(TEXTS) == second.evaluate(TEXTS)
    assert len(page.evaluate(TEXTS)) == 50
    assert page.errors == strange(page) == []


def test_eight_tabs(app: Callable[[str], App], page: Any) -> None:
    """More tabs than a browser has connections to a host: all are live, and all have the count."""
    url = app("notifications").url
    tabs = page.tabs(8)
    for tab in tabs:
        tab.order(goto=url)
        tab.until(LIVE)
    notify(url, "for all")
    for tab in tabs:
        tab.until(f"{COUNT} === 1")
    assert page.errors == page.console == []
