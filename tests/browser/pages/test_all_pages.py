"""What holds for every page of examples/pages: size, a phone, the dark, labels and the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.browser.pages.conftest import LIVE, PAGES, App
from tests.fixtures.looks import CONTROLS, CUT, FAINT, FOCUSED, OUTSIDE, RING, TIGHT, WIDE
from tests.fixtures.serve import ROOT

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_small(name: str) -> None:
    """Fewer than 100 lines of Python, and one HTML file that loads nothing from elsewhere."""
    folder = ROOT / "examples" / "pages"
    assert len((folder / f"{name}.py").read_text().splitlines()) < 100
    assert "//" not in (folder / f"{name}.html").read_text().replace("// ", "").replace("<!--", "")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_for_everybody(app: Callable[[str], App], page: Any, name: str) -> None:
    """Every control has a name and is reached by Tab, in order and with a ring; nothing is cut; light is not dark."""
    page.order(goto=app(name).url, media={"colorScheme": "light"})
    page.until(LIVE)
    controls = page.evaluate(CONTROLS)
    assert len(controls) > 1
    assert all(words for _, words in controls), controls
    reached = []
    for _ in controls:
        page.order(press="Tab")
        reached.append(page.evaluate(FOCUSED))
        assert page.evaluate(RING), reached[-1]
    assert reached == [element for element, _ in controls]
    for width, height in ((360, 740), (1280, 800)):
        page.order(size={"width": width, "height": height})
        page.until(f"innerWidth === {width}")
        assert page.evaluate(WIDE) == 0
        assert page.evaluate(CUT) == []
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(TIGHT) == []
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    assert page.evaluate(FAINT) == []
    page.order(media={"colorScheme": "dark"})
    page.until(f"{background} !== '{light}'")
    assert page.evaluate(FAINT) == []
    assert page.errors == page.console == []
