"""What a native EventSource makes of our streams: silent ids, invisible heartbeats, resuming, and what ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.browser.conftest import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

OPEN = """new Promise((done) => {
  globalThis.events = []; globalThis.errors = 0; globalThis.opens = 0;
  globalThis.source = new EventSource("%s");
  source.onmessage = ({ data, lastEventId }) => events.push([data, lastEventId]);
  source.onerror = () => { errors++; done("error"); };
  source.onopen = () => { opens++; done("open"); };
})"""


def test_the_opening_is_silent_and_sets_the_cursor(server: Any, page: Any) -> None:
    """A stream that has brought no event yet is resumed from where it began, and its opening fires no message."""
    page.order(goto=f"{server.url}/health/live")
    assert page.evaluate(OPEN % "/channels/news") == "open"
    server.kill()
    page.until("errors > 0")
    server.start()
    # published while the browser may not be back yet: without the cursor it would begin after it
    missed = server.publish("while away")
    page.until("opens > 1")
    page.until("events.length > 0")
    assert page.evaluate("events") == [["while away", missed]]


def test_heartbeats_are_invisible(server: Any, page: Any) -> None:
    """The wire has heartbeats; JavaScript sees the one event, and no error."""
    page.order(goto=f"{server.url}/health/live")
    assert page.evaluate(OPEN % "/channels/news") == "open"
    heard = b""
    with httpx2.stream("GET", f"{server.url}/channels/news") as answer:
        for data in answer.iter_raw():
            heard += data
            if heard.count(b":\n") >= 5:
                break
    first = server.publish("one")
    page.until("events.length > 0")
    assert page.evaluate("[events, errors, source.readyState]") == [[["one", first]], 0, 1]


def test_a_reconnect_goes_on_with_the_next_event(server: Any, page: Any) -> None:
    """kill -9, events meanwhile, start: each event once, in order, by the browser's own Last-Event-ID."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate(OPEN % "/channels/news?from=earliest")
    ids = [server.publish(f"event {number}") for number in range(5)]
    page.until("events.length === 5")
    server.kill()
    page.until("errors > 0")
    server.start()
    ids += [server.publish(f"event {number}") for number in range(5, 10)]
    page.until("events.length >= 10")
    assert page.evaluate("events") == [[f"event {number}", id] for number, id in enumerate(ids)]


@pytest.mark.parametrize("cursor", ["garbage", "aaaaaaaa-5", "%00", "-1", "%F0%9F%98%80"])
def test_no_cursor_ends_an_eventsource(server: Any, page: Any, cursor: str) -> None:
    """Whatever the cursor, the EventSource opens, hears of a gap, and gets what is kept."""
    kept = server.publish("kept")
    page.order(goto=f"{server.url}/health/live")
    assert page.evaluate(OPEN % f"/stream?channel=news&envelope=json&last_event_id={cursor}") == "open"
    page.until("events.length >= 2")
    gap, event = page.evaluate("events")
    assert '"newswire.gap"' in gap[0]
    assert event[1] == kept


def test_a_wrong_answer_ends_it_for_good(server: Any, page: Any) -> None:
    """A 400 closes the EventSource, which is why the demo's page watches over its own."""
    page.order(goto=f"{server.url}/health/live")
    assert page.evaluate(OPEN % "/stream") == "error"
    assert page.evaluate("source.readyState") == 2


@pytest.fixture
def compressing(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, "compress = true\n")
    yield server
    server.kill()


# Reads a stream by fetch, once. `got` has the numbers of its events; `end` says how it ended.
FETCH = """(() => {
  globalThis.got = []; globalThis.end = "";
  (async () => {
    const answer = await fetch("%s");
    globalThis.encoding = answer.headers.get("content-encoding");
    let text = "";
    try {
      for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
        text += piece;
        got = [...text.matchAll(/^data: ({.*})\\n\\n/gm)].map((found) => JSON.parse(found[1]).number);
      }
      globalThis.end = "end";
    } catch (error) { globalThis.end = String(error); }
  })();
})()"""


def test_compressed_streams(compressing: Server, page: Any) -> None:
    """EventSource and fetch decode each event as it comes, and the EventSource goes on after kill -9."""
    server, ids = compressing, list[str]()

    def publish(number: int) -> None:
        ids.append(server.publish(json.dumps({"number": number, "rows": [{"name": "ada"}] * 60})))

    page.order(goto=f"{server.url}/health/live")
    page.evaluate(OPEN % "/channels/news?from=earliest")
    page.evaluate(FETCH % "/channels/news?from=earliest")
    for number in range(5):
        publish(number)
        page.until(f"events.length === {number + 1} && got.length === {number + 1}")
    assert page.evaluate("[encoding, errors]") == ["gzip", 0]
    server.kill()
    page.until("errors > 0 && end !== ''")
    assert "network error" in page.evaluate("end")
    server.start()
    for number in range(5, 10):
        publish(number)
    page.until("events.length >= 10")
    assert page.evaluate("events.map(([data]) => JSON.parse(data).number)") == list(range(10))
    assert page.evaluate("events.map(([, id]) => id)") == ids
    page.evaluate(FETCH % "/channels/news?from=earliest")
    page.until("got.length === 10")
    server.process.terminate()
    page.until("end !== ''")
    assert page.evaluate("end") == "end"
