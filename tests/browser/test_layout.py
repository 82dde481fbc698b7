"""The three pages on a phone, a small and a large screen: nothing is cut, all have one look and one theme."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.test_demo import Demo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

READY = {
    "/": "document.querySelectorAll('#channels tr').length > 5 && document.querySelectorAll('#tail .row').length > 5",
    "/demo/": "demo.feed.state === 'live' && document.getElementById('audit').dataset.result === 'good'",
    "/chat/": "globalThis.chat?.cursor && document.getElementById('empty').checkVisibility()",
}
# What shows less than it has and can't be scrolled. The tail's rows are opened by a click.
CUT = """[...document.querySelectorAll('body *')].filter(each => {
  const { overflowX, overflowY } = getComputedStyle(each);
  const hidden = each.scrollWidth > each.clientWidth + 1 && /hidden|clip/.test(overflowX)
    || each.scrollHeight > each.clientHeight + 1 && /hidden|clip/.test(overflowY);
  return each.checkVisibility() && hidden && !each.closest('.spoken, #tail');
}).map(each => `${each.tagName}#${each.id}.${each.className}: ${each.textContent.slice(0, 60)}`)"""
WIDE = "document.documentElement.scrollWidth - innerWidth"
# Buttons and fields that stick out of the window, or lie under each other.
OUTSIDE = """[...document.querySelectorAll('.top button, .top a, form button, form input')].filter(each => {
  const { left, right, width } = each.getBoundingClientRect();
  return each.checkVisibility() && width && (left < 0 || right > innerWidth);
}).map(each => each.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.close()


@pytest.mark.parametrize("place", READY)
def test_nothing_is_cut(demo: Demo, page: Any, place: str) -> None:
    """No sideways scrolling, no text without its end, no button outside of the window."""
    page.order(goto=demo.url + place)
    page.until(READY[place])
    for width, height in ((390, 844), (1280, 800), (1440, 900)):
        page.order(size={"width": width, "height": height})
        page.until(f"innerWidth === {width}")
        assert page.evaluate(WIDE) == 0
        assert page.evaluate(CUT) == []
        assert page.evaluate(OUTSIDE) == []
    assert page.errors == []


def test_one_theme_for_all_pages(demo: Demo, page: Any) -> None:
    """The button goes round system, light and dark; other pages and tabs follow, and a page that is loaded again."""
    background = "getComputedStyle(document.body).backgroundColor"
    page.order(goto=f"{demo.url}/", media={"colorScheme": "light"})
    page.until(READY["/"])
    light = page.evaluate(background)
    second = page.second()
    second.order(goto=f"{demo.url}/chat/", media={"colorScheme": "light"})
    assert second.evaluate(background) == light
    click = "document.getElementById('theme').click()"
    labels = []
    for _ in range(3):
        page.evaluate(click)
        labels.append(page.evaluate("document.getElementById('theme').getAttribute('aria-label')"))
    assert labels == ["Colours: light", "Colours: dark", "Colours: as the system says"]
    page.order(media={"colorScheme": "dark"})
    dark = page.evaluate(background)
    assert dark != light
    page.evaluate(click)
    assert page.evaluate(background) == light
    page.evaluate(click)
    page.order(media={"colorScheme": "light"})
    assert page.evaluate(background) == dark
    second.until(f"{background} === '{dark}'")
    page.order(goto=f"{demo.url}/demo/")
    assert page.evaluate(background) == dark


def test_the_look_is_of_one_source(demo: Demo, page: Any) -> None:
    """The pages of the examples have no palette, no picture and no charts of their own."""
    files = [path for folder in ("chat", "demo") for path in Path("examples", folder, "page").iterdir()]
    assert not [path for path in files if path.suffix == ".svg" or path.name == "charts.js"]
    assert not [path for path in files if path.suffix == ".css" and "--accent:" in path.read_text()]
    for place in READY:
        page.order(goto=demo.url + place)
        assert page.evaluate("[...document.styleSheets].some(({ href }) => href.endsWith('/newswire.css'))")
        assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--accent') !== ''")


def test_the_dashboards_heads_and_charts_are_on_one_line(demo: Demo, page: Any) -> None:
    """CPU, memory, network and disk begin at the same height, in words and in drawing."""
    page.order(goto=f"{demo.url}/demo/", size={"width": 1280, "height": 800})
    page.until(READY["/demo/"])
    tops = (
        "[...document.querySelectorAll('.card:not(.stream) .chart %s')].map(each => each.getBoundingClientRect().top)"
    )
    for what in ("h2", "canvas"):
        found = page.evaluate(tops % what)
        assert len(found) == 4
        assert max(found) - min(found) < 1
