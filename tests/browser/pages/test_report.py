"""The report in Chromium: progress that goes on after a refresh and a kill, and a download with every row once."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.browser.pages.conftest import App, strange

pytestmark = pytest.mark.browser
DONE = "Number(document.getElementById('bar').value)"
STATE = "document.getElementById('job').dataset.state"


def start(page: Any, url: str) -> None:
    """Start a report by the keyboard."""
    page.order(goto=url)
    page.evaluate("document.getElementById('start').focus()")
    page.order(press="Enter")
    page.until(f"{DONE} > 5")


def test_a_report_survives_everything(app: Callable[[str], App], page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refreshed, then its worker is killed: another process goes on after the last row; every module has one row."""
    monkeypatch.setenv("REPORT_PACE", "0.1")
    server = app("report")
    start(page, server.url)
    page.order(reload=True)
    page.until(f"{DONE} > 15")
    server.kill()
    page.until("document.getElementById('state').dataset.state === 'dead'")
    assert page.evaluate(STATE) == "running"
    server.start_with(REPORT_PACE="0")
    page.until(f"{STATE} === 'done'", seconds=60)
    address = page.evaluate("document.getElementById('download').href")
    answer = httpx2.get(address)
    assert answer.headers["content-disposition"] == 'attachment; filename="standard-library.csv"'
    rows = list(csv.DictReader(answer.text.splitlines()))
    names = [row["module"] for row in rows]
    assert names == sorted(set(names))
    assert len(names) == page.evaluate("Number(document.getElementById('bar').max)") == page.evaluate(DONE)
    assert "argparse.py" in names
    shown = page.evaluate("document.querySelector('#table tr').textContent")
    largest = max(rows, key=lambda row: int(row["lines"]))
    assert shown.startswith(largest["module"])
    page.order(reload=True)
    page.until(f"{STATE} === 'done' && document.getElementById('download').checkVisibility()")
    assert page.errors == strange(page) == []


def test_a_report_is_stopped(app: Callable[[str], App], page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop ends it in every tab; the rows so far can be downloaded. An address of no report says so."""
    monkeypatch.setenv("REPORT_PACE", "0.1")
    server = app("report")
    start(page, server.url)
    second = page.second()
    second.order(goto=page.evaluate("location.href"))
    second.until(f"{DONE} > 5")
    second.evaluate("document.getElementById('stop').click()")
    for tab in (page, second):
        tab.until(f"{STATE} === 'stopped'")
    address = page.evaluate("document.getElementById('download').href")
    assert httpx2.get(address).text.splitlines()[1].startswith("abc.py,")
    assert page.errors == page.console == []
    page.order(goto=f"{server.url}/?again#nothing")
    page.until(f"{STATE} === 'not found'")
    assert httpx2.get(f"{server.url}/runs/nothing/report.csv").status_code == 404
