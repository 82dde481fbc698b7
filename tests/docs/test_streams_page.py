"""docs/streams.md: its application behind middleware, asked by a page of another origin in Chromium, with cookies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.conftest import Page
from tests.fixtures.serve import ROOT, Serve, running

from newswire import Hub

pytestmark = [pytest.mark.browser, pytest.mark.anyio]
PAGE = (ROOT / "docs" / "streams.md").read_text()


@pytest.fixture
def page() -> Iterator[Page]:
    """A browser."""
    page = Page()
    yield page
    page.close()


async def test_another_origin_reads_with_cookies(tmp_path: Path, page: Page) -> None:
    """The browser's EventSource and newswire's client get the events of the cookie's user; without cookies, none."""
    [block] = re.findall(r"## Behind middleware.*?```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "page").mkdir()
    with Serve(tmp_path / "page") as other:
        origin = other.url.replace("127.0.0.1", "localhost")
        assert "http://localhost:8001" in block
        (tmp_path / "behind_middleware.py").write_text(block.replace("http://localhost:8001", origin))
        with running("behind_middleware:app", tmp_path) as (url, _):
            events = f"{url.replace('127.0.0.1', 'localhost')}/events"
            page.order(goto=f"{origin}/newswire.svg")  # a page that allows every connection
            page.evaluate("document.cookie = 'user=ada'")
            page.evaluate(
                f"""(async () => {{
                  const {{ connect }} = await import("/newswire.js");
                  globalThis.got = {{ native: [], ours: [], strange: [], open: 0 }};
                  const native = new EventSource("{events}", {{ withCredentials: true }});
                  native.onmessage = ({{ data }}) => got.native.push(data);
                  native.onopen = () => got.open++;
                  for (const [name, credentials] of [["ours", "include"], ["strange", "omit"]])
                    connect("{events}", {{ credentials, json: false, onOpen: () => got.open++ }})
                      .on("message", ({{ text }}) => got[name].push(text));
                }})()"""
            )
            page.until("got.open === 3")
            async with Hub(f"sqlite:///{tmp_path}/events.db") as hub:
                first = await hub.publish("user.nobody", "for nobody")
                await hub.publish("user.ada", "for ada")
            page.until("got.native.length && got.ours.length && got.strange.length")
            found = page.evaluate("got")
            page.evaluate(
                f"""(async () => {{
                  const {{ connect }} = await import("/newswire.js");
                  const options = {{ credentials: "include", json: false, lastEventId: "{first}" }};
                  connect("{events}", options).on("message", ({{ text }}) => got.ours.push(text));
                }})()"""
            )
            page.until("got.ours.length > 1")
            assert page.evaluate("got.ours") == ["for ada", "for ada"]
    assert (found["native"], found["ours"], found["strange"]) == (["for ada"], ["for ada"], ["for nobody"])
