"""`connect(url, { transport: "native" })` in Chromium: the browser's own EventSource, which does not give up."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from tests.browser.test_connect import LOAD, connect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

NATIVE = '{ transport: "native", backoff: { first: 50, cap: 200 } }'


@pytest.fixture
def there(server: Any, page: Any) -> Any:
    """A page of the server's with the package loaded."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate(LOAD)
    return page


def test_it_outlives_its_server(server: Any, there: Any) -> None:
    """Named events too; kill -9, events meanwhile, start: each event once, in order, as from the other transport."""
    connect(there, "/channels/news?from=earliest", NATIVE)
    there.evaluate("void source.on('price', () => {})")
    there.until("source.state === 'open'")
    ids = [server.publish(json.dumps({"n": number})) for number in range(3)]
    httpx2.post(f"{server.url}/channels/news?event=price", content="4").raise_for_status()
    there.until("events.length === 4")
    server.kill()
    there.until("told.some(([what]) => what === 'error')")
    server.start()
    ids += [server.publish(json.dumps({"n": number})) for number in range(3, 6)]
    there.until("events.length >= 7")
    seen = there.evaluate("events.map((e) => [e.event, e.data.n ?? e.data])")
    assert seen == [*(["message", n] for n in range(3)), ["price", 4], *(["message", n] for n in range(3, 6))]
    assert there.evaluate("source.lastEventId") == ids[-1]
    assert there.evaluate("told.filter(([what]) => what === 'open')") == [["open", False, None], ["open", True, None]]
    there.evaluate("source.close()")
    assert there.evaluate("source.state") == "closed"


def test_a_wrong_answer_is_not_the_end(server: Any, there: Any) -> None:
    """A browser gives up at a 404; here it is tried again, from the cursor, as often as the page asks."""
    connect(there, "/nowhere", NATIVE.replace("{", "{ attempts: 3,", 1))
    there.until("source.state === 'closed'")
    assert there.evaluate("told.length") == 3
    assert there.evaluate("told.at(-1)") == ["error", "attempts", True, 0]


def test_a_refused_connection_is_an_attempt_too(server: Any, there: Any) -> None:
    """The browser tries it again by itself, and says so; the page's limit counts it."""
    server.kill()
    connect(there, "/channels/news", NATIVE.replace("{", "{ attempts: 1,", 1))
    there.until("source.state === 'closed'")
    assert there.evaluate("told") == [["error", "attempts", True, 0]]


def test_a_worker(server: Any, there: Any) -> None:
    """A worker has no document, and reads all the same."""
    there.evaluate(f"""void (() => {{
      const script = `import {{ connect }} from "{server.url}/newswire.js";
        const source = connect("{server.url}/channels/news?from=earliest", {{ transport: "native" }});
        source.on("*", ({{ data }}) => postMessage(data));
        source.closed.catch((error) => postMessage(String(error)));`;
      globalThis.said = [];
      const url = URL.createObjectURL(new Blob([script], {{ type: "text/javascript" }}));
      new Worker(url, {{ type: "module" }}).onmessage = ({{ data }}) => said.push(data);
    }})()""")
    server.publish("1")
    there.until("said.length === 1")
    assert there.evaluate("said") == [1]


def test_a_gap_is_told(server: Any, there: Any) -> None:
    """A cursor that is no position of this log."""
    server.publish("1")
    connect(there, "/channels/news", NATIVE.replace("{", '{ lastEventId: "zzzzzzzz-5",', 1))
    there.until("told.some(([what]) => what === 'gap') && events.length === 1")


def test_without_reconnecting(server: Any, there: Any) -> None:
    """The end of the stream closes it, with an error: nothing says whether it ended or broke."""
    connect(there, "/channels/news", NATIVE.replace("{", "{ reconnect: false,", 1))
    there.until("source.state === 'open'")
    server.kill()
    there.until("source.state === 'closed'")
    server.start()
    assert there.evaluate("told.filter(([what]) => what === 'error')") == [["error", "network", True, 0]]
    assert there.evaluate("told.filter(([what]) => what === 'open').length") == 1
