"""The dashboard's page in Chromium: each point of the chart once, and the state of each turbine after any absence."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.browser.pages.conftest import LIVE, App, strange

from newswire import Hub

pytestmark = pytest.mark.browser
TIMES = "dashboard.power.map(([time]) => time)"
COUNT = "Number(document.getElementById('events').textContent)"
TURBINES = "document.querySelectorAll('#turbines li').length"
CAUGHT = "document.getElementById('caught').textContent"
PAUSE = "document.getElementById('pause')"


async def stored(folder: Path) -> list[int]:
    """The times of the chart's points, as the log has them."""
    async with Hub(f"sqlite:///{folder}/dashboard.db") as hub:
        page, _ = await hub.history("park", limit=1000)
        return [json.loads(entry.data)["time"] for entry in page.entries]


def test_the_chart_has_each_point_once(app: Callable[[str], App], page: Any, tmp_path: Path) -> None:
    """The server is killed while the page looks: the chart has what the log has. So has a page that is loaded again."""
    server = app("dashboard")
    page.order(goto=server.url)
    page.until(f"{LIVE} && {TURBINES} === 24 && dashboard.power.length > 3")
    server.kill()
    page.until(f"!({LIVE})")
    server.start()
    before = page.evaluate("dashboard.power.length")
    page.until(f"{LIVE} && dashboard.power.length > {before} + 3")
    for _ in range(2):
        times = page.evaluate(TIMES)
        known = asyncio.run(stored(tmp_path))
        assert times == known[known.index(times[0]) : known.index(times[-1]) + 1]
        page.order(reload=True)
        page.until(f"{LIVE} && {TURBINES} === 24 && dashboard.power.length > {before} + 3")
    assert page.errors == strange(page) == []


def test_a_turbine_that_stands_still_on_a_small_phone(app: Callable[[str], App], page: Any) -> None:
    """Its name and its state are two words."""
    page.order(goto=app("dashboard").url, size={"width": 360, "height": 740})
    page.until(f"{LIVE} && {TURBINES} === 24")
    gap = page.evaluate(
        "(tile => { tile.className = 'stopped'; const [name, state] = tile.querySelectorAll('b, span');"
        "state.textContent = 'stopped';"
        "return state.getBoundingClientRect().left - name.getBoundingClientRect().right })"
        "(document.querySelector('#turbines li'))"
    )
    assert gap >= 4


def test_a_page_that_was_away_gets_the_newest(app: Callable[[str], App], page: Any) -> None:
    """A pause by the keyboard, and back: the newest of each turbine and the points of the chart, not every event."""
    server = app("dashboard")
    other = page.second()
    for tab in (page, other):
        tab.order(goto=server.url)
        tab.until(f"{LIVE} && {TURBINES} === 24")
    page.evaluate(f"{PAUSE}.focus()")
    page.order(press="Space")
    page.until("document.getElementById('state').textContent === 'paused'")
    [had, points] = [other.evaluate(COUNT), page.evaluate("dashboard.power.length")]
    other.until(f"{COUNT} > {had} + 150")
    page.order(press="Space")
    page.until(f"{LIVE} && {CAUGHT}.includes('after')")
    caught = re.search(r"with (\d+) events", page.evaluate(CAUGHT))
    assert caught is not None
    assert int(caught[1]) < 150
    assert int(caught[1]) >= 24
    assert page.evaluate("dashboard.power.length") >= points + 6
    assert page.errors == page.console == []
