"""The JavaScript client in Chromium: what `/newswire.js` makes of a real server, and of everything that goes wrong."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

LOAD = "import('/newswire.js').then((loaded) => { globalThis.newswire = loaded; return Object.keys(loaded).sort(); })"
CONNECT = """void (() => {
  globalThis.events = []; globalThis.told = [];
  const note = (what) => (value, more) => told.push([what, value?.message ?? value?.id ?? null, more ?? null]);
  globalThis.source = newswire.connect(%s, {
    onOpen: ({ reconnected }) => told.push(["open", reconnected, null]),
    onError: (error, wait) => told.push(["error", error.code, wait === null]),
    onGap: note("gap"), onGoodbye: note("goodbye"), onEnd: note("end"), onCaughtUp: note("live"),
    ...%s,
  });
  source.on("*", (event) => events.push(event));
})()"""


def connect(page: Any, url: str, options: str = "{}") -> None:
    """Connect, and collect events in `events` and all callbacks in `told`."""
    page.evaluate(CONNECT % (json.dumps(url), options))


def test_a_stream_outlives_its_server(server: Any, page: Any) -> None:
    """Data is parsed; kill -9, events meanwhile, start: each event once, in order."""
    page.order(goto=f"{server.url}/health/live")
    assert "connect" in page.evaluate(LOAD)
    connect(page, "/channels/news?from=earliest")
    page.until("source.state === 'open'")
    ids = [server.publish(json.dumps({"n": number})) for number in range(5)]
    page.until("events.length === 5")
    server.kill()
    page.until("told.some(([what]) => what === 'error')")
    assert page.evaluate("source.state") == "connecting"
    server.start()
    ids += [server.publish(json.dumps({"n": number})) for number in range(5, 10)]
    page.until("events.length >= 10")
    assert page.evaluate("events.map((e) => [e.event, e.data.n, e.id, e.channel])") == [
        ["message", number, id, None] for number, id in enumerate(ids)
    ]
    assert page.evaluate("told.filter(([what]) => what === 'open')") == [["open", False, None], ["open", True, None]]
    page.evaluate("source.close()")
    assert page.evaluate("source.state") == "closed"


def test_the_script_is_fresh_and_kept_by_browsers(server: Any) -> None:
    """`/newswire.js` may be imported by pages of any origin, and is sent again only when it has changed."""
    answer = httpx2.get(f"{server.url}/newswire.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    again = httpx2.get(f"{server.url}/newswire.js", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
