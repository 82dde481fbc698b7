"""The three pages on a phone, a small and a large screen: nothing is cut, all have one look and one theme."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.fixtures.demo import Demo
from tests.fixtures.looks import CONTROLS, CUT, FAINT, FOCUSED, OUTSIDE, RING, WIDE
from tests.fixtures.serve import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

READY = {
    "/": "document.querySelectorAll('#channels tr').length > 5 && document.querySelectorAll('#tail .row').length > 5",
    "/demo/": "demo.feed.state === 'live' && document.getElementById('audit').dataset.result === 'good'",
    "/chat/": "globalThis.chat?.cursor && document.getElementById('empty').checkVisibility()",
}


def rules(sheet: str) -> set[tuple[str, str]]:
    """Each declaration of a style sheet, with its selector."""
    sheet = re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)
    return {
        (selector.strip(), declaration.strip())
        for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet)
        for declaration in body.split(";")
        if declaration.strip()
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("demo"), rate=20) as demo:  # a page that is looked at, not loaded
        yield demo


@pytest.mark.parametrize("place", READY)
def test_nothing_is_cut(demo: Demo, page: Any, place: str) -> None:
    """No sideways scrolling, no text without its end, no button outside of the window; in a state of many words too."""
    page.order(goto=demo.url + place)
    page.until(READY[place])
    for width, height in ((320, 568), (390, 844), (701, 800), (800, 600), (1181, 800), (1280, 800), (1440, 900)):
        page.order(size={"width": width, "height": height})
        page.until(f"innerWidth === {width}")
        assert page.evaluate(WIDE) == 0
        assert page.evaluate(CUT) == []
        assert page.evaluate(OUTSIDE) == []
        page.evaluate("void (document.getElementById('state').textContent = 'the server is away')")
        assert page.evaluate(WIDE) == 0
        assert page.evaluate(OUTSIDE) == []
    assert page.errors == page.console == []


@pytest.mark.parametrize("place", READY)
def test_all_can_be_read_in_both_themes(demo: Demo, page: Any, place: str) -> None:
    """Text has the contrast that WCAG 2.2 AA asks for, and so have the borders of fields and the lines of charts."""
    page.order(goto=demo.url + place, media={"colorScheme": "light"})
    page.until(READY[place])
    assert page.evaluate(FAINT) == []
    page.order(media={"colorScheme": "dark"})
    page.until("getComputedStyle(document.body).backgroundColor !== 'rgb(244, 246, 250)'")
    assert page.evaluate(FAINT) == []


@pytest.mark.parametrize("place", READY)
def test_all_can_be_reached_with_the_keyboard(demo: Demo, page: Any, place: str) -> None:
    """The Tab key goes through every control in the order of the page; each has a name, and gets a ring."""
    page.order(goto=demo.url + place)
    page.until(READY[place])
    page.evaluate("document.querySelector('[data-sort=name]')?.click()")  # the console's rows keep their places then
    controls = page.evaluate(CONTROLS)
    assert all(name for _, name in controls), controls
    for control, _ in controls:
        page.order(press="Tab")
        assert page.evaluate(FOCUSED) == control
        assert page.evaluate(RING), control


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
    """No page has a colour, a picture or a chart of its own, or a rule that newswire.css has."""
    shared = rules((ROOT / "src/newswire/browser/newswire.css").read_text())
    pages = [*ROOT.glob("examples/*/page/*"), *ROOT.glob("src/newswire/server/static/*")]
    assert not [path for path in pages if path.suffix == ".svg" or "chart" in path.name]
    for path in pages:
        if path.suffix == ".css":
            assert not re.findall("#[0-9a-fA-F]{3,8}(?=[;,) ])", path.read_text()), path
            assert not shared & rules(path.read_text()), path
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
