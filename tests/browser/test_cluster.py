"""`make cluster` as a person meets it: two servers on a Valkey, a real Chromium, and kill -9 of each of the three."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.demo import Cluster
from tests.fixtures.looks import CONTROLS, CUT, FAINT, FOCUSED, OUTSIDE, RING, WIDE

# Words of a process that its button covers, and of a number that stick out of its tile.
UNDER = """[...document.querySelectorAll('.process h2, .stats dt')].filter(each => {
  const words = document.createRange();
  words.selectNodeContents(each);
  const beside = each.parentElement.querySelector('.button');
  const { width } = document.documentElement.getBoundingClientRect();
  const under = beside && beside.getBoundingClientRect().top < each.getBoundingClientRect().bottom;
  const end = under ? beside.getBoundingClientRect().left : each.parentElement.getBoundingClientRect().right;
  return words.getBoundingClientRect().right > Math.min(width, end) + 1;
}).map(each => each.textContent)"""

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180), pytest.mark.slow]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The page's address; the cluster runs until the test ends."""
    with Cluster(tmp_path) as cluster:
        yield f"{cluster.url}/cluster/"


def test_the_page_is_for_everybody(url: str, page: Any) -> None:
    """All can be read in both themes, reached with the keyboard, and seen on a phone."""
    page.order(goto=url, media={"colorScheme": "light"})
    page.until("document.getElementById('audit').dataset.result === 'good'")
    for control, name in page.evaluate(CONTROLS):
        page.order(press="Tab")
        assert name
        assert page.evaluate(FOCUSED) == control
        assert page.evaluate(RING)
    for theme in ("light", "dark"):
        page.order(media={"colorScheme": theme})
        for width in (320, 390, 1280, 1440):
            page.order(size={"width": width, "height": 844})
            page.until(f"innerWidth === {width}")
            assert page.evaluate(WIDE) == 0
            assert page.evaluate(UNDER) == []
            assert page.evaluate(CUT) == page.evaluate(OUTSIDE) == page.evaluate(FAINT) == []
    assert page.errors == []


def test_each_of_the_three_may_die(url: str, page: Any) -> None:
    """The page gets each event once, in order, while its buttons kill one server, the other, and Valkey, twice."""
    page.order(goto=url)
    page.until("globalThis.cluster?.feed.counts.received > 100")
    for name in ("one", "two", "valkey") * 2:
        dead = page.evaluate(f"document.querySelector('[data-name={name}] p').textContent")
        page.evaluate(f"document.querySelector('[data-name={name}] button').click()")
        page.until(
            f"(text => text !== {dead!r} && !text.endsWith('dead'))"
            f"(document.querySelector('[data-name={name}] p').textContent)"
        )
        received = page.evaluate("cluster.feed.counts.received")
        page.until(f"cluster.feed.counts.received > {received} + 200")
    page.until("cluster.feed.counts.reconnects >= 4")
    counts = page.evaluate("cluster.feed.counts")
    zero = {"lost": 0, "doubled": 0, "disordered": 0, "gaps": 0, "resent": 0}
    assert {name: counts[name] for name in zero} == zero
    audit = page.until("cluster.feed.audit().catch(() => null)")
    assert (audit["missing"], audit["extra"]) == (0, 0)
    ids = [int(id.partition("-")[2]) for id in page.evaluate("recorded.map(([id]) => id)")]
    assert ids == sorted(set(ids))
    assert page.errors == []
