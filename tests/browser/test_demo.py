"""The demo as a person meets it: a real server, real publishers, a real Chromium, and kill -9."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.demo import RATE, Demo, offset

KILLS = 10
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """The demo as `make demo` runs it."""
    with Demo(tmp_path, rate=20) as demo:
        yield demo


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Demo]:
    """The demo with ten times the events."""
    with Demo(tmp_path) as demo:
        yield demo


def test_ten_kills_under_load_lose_and_double_nothing(loaded: Demo, page: Any) -> None:
    """kill -9 ten times under 200 events a second: the page, and a native EventSource, get each stored event once."""
    page.order(goto=f"{loaded.url}/demo/")
    page.evaluate("void (globalThis.native = new EventSource('/stream?channel=>&envelope=json'))")
    page.until("demo.feed.counts.received > 100 && recorded.length > 100")
    for kills in range(1, KILLS + 1):
        already = page.evaluate("demo.feed.counts.received")
        loaded.kill()
        page.until(f"demo.feed.counts.reconnects >= {kills} && demo.feed.counts.received > {already} + {RATE}")
    demo_counts = page.evaluate("demo.feed.counts")
    page.evaluate("native.close()")
    recorded = page.evaluate("recorded.map(([id]) => id)")

    first, last = offset(recorded[0]), offset(recorded[-1])
    channels = ("machine", "server", "job", "log", "room", "notices", "ticks")
    stored = sorted(offset(event["id"]) for channel in channels for event in loaded.history(channel))
    assert [offset(id) for id in recorded] == [at for at in stored if first <= at <= last]
    assert len(recorded) > KILLS * RATE
    assert demo_counts["reconnects"] >= KILLS
    zero = {"lost": 0, "doubled": 0, "disordered": 0, "gaps": 0, "resent": 0}
    assert {name: demo_counts[name] for name in zero} == zero
    audit = page.evaluate("demo.feed.audit()")
    assert (audit["missing"], audit["extra"]) == (0, 0)
    assert page.errors == []


def test_publishers_lose_and_double_nothing(loaded: Demo) -> None:
    """The numbers of the ticks in the log are 1, 2, 3 …, though the server died between storing and answering."""
    for _ in range(3):
        before = len(loaded.history("ticks"))
        deadline = time.monotonic() + 30
        while len(loaded.history("ticks")) < before + RATE:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        loaded.kill()
    numbers = [int(event["data"].partition('"n": ')[2].partition(",")[0]) for event in loaded.history("ticks")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_word_in_the_room_survives_a_kill(demo: Demo, page: Any) -> None:
    """A message sent while the server is dead is on the page at once, and in the log, once, when the server is back."""
    page.order(goto=f"{demo.url}/demo/")
    page.until('demo.feed.state === "live"')
    page.evaluate("document.getElementById('kill').click()")
    page.until('demo.feed.state === "dead"')
    page.evaluate(
        "(() => { const { name, text } = document.forms.say.elements; name.value = 'Ada'; text.value = 'still here';"
        " document.forms.say.requestSubmit(); })()"
    )
    assert page.evaluate("document.querySelector('#room li.pending') !== null")
    page.until("document.querySelector('#room li') && !document.querySelector('#room li.pending')")
    assert [event["event"] for event in demo.history("room")] == ["say"]
    assert "Ada still here" in page.evaluate("document.querySelector('#room li').textContent")


def test_two_tabs_are_two_people(demo: Demo, page: Any) -> None:
    """Each tab has a name of its own, also the copy of a tab; a refresh keeps it; the empty room says what to do."""
    page.order(goto=f"{demo.url}/demo/")
    name = "document.forms.say.elements.name.value"
    first = page.until(name)
    assert page.evaluate("document.querySelector('.room .empty').checkVisibility()")
    second = page.second()
    second.order(goto=f"{demo.url}/demo/")
    assert second.until(name) != first
    # a tab that this one opens begins with a copy of its storage
    page.evaluate("(globalThis.copy = window.open('/demo/', 'copy'), null)")
    copied = page.until("copy.document.forms.say?.elements.name.value")
    assert copied not in (first, second.evaluate(name))
    page.order(reload=True)
    assert page.until(name) == first


def test_a_kill_is_said_where_nothing_is_pressed(demo: Demo, page: Any) -> None:
    """The comparison with the log is there before one looks; what a kill makes the page say covers no button."""
    page.order(goto=f"{demo.url}/demo/", size={"width": 1280, "height": 800})
    page.until("document.getElementById('audit').dataset.result === 'good'", seconds=10)
    assert page.evaluate("document.querySelector('.legend').getBoundingClientRect().bottom < innerHeight")
    page.evaluate("document.getElementById('kill').click()")
    page.until("document.querySelector('#toasts p.bad')")
    page.until("document.querySelector('#toasts p.good')")
    covered = """[...document.querySelectorAll('button, input')].filter(each => {
      const one = each.getBoundingClientRect();
      return [...document.querySelectorAll('#toasts p')].some(toast => {
        const other = toast.getBoundingClientRect();
        return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
      });
    }).map(each => each.outerHTML)"""
    assert page.evaluate(covered) == []


def test_an_answer_of_the_chat_survives_the_kill_button(demo: Demo, page: Any) -> None:
    """The dashboard leads to the chat; its button kills the server in mid-answer, and the answer goes on."""
    page.order(goto=f"{demo.url}/demo/")
    page.evaluate("document.querySelector('a[href=\"/chat/\"]').click()")
    page.until("globalThis.chat?.cursor")
    page.evaluate("document.querySelector('.idea').click()")
    turn = "[...chat.turns.values()][0]"
    page.until(f"chat.turns.size && {turn}.tokens > 10")
    before = page.evaluate(f"{turn}.text")
    page.evaluate("document.getElementById('kill').click()")
    demo.ready()
    page.until("document.querySelector('.seam')")
    page.until(f"{turn}.text.length > {len(before)} + 40")
    page.evaluate("document.getElementById('stop').click()")
    page.until(f"{turn}.end?.reason === 'stopped'")
    after = page.evaluate(f"{turn}.text")
    assert after.startswith(before)
    [told] = httpx2.get(f"{demo.url}/chat/chats/{page.evaluate('location.hash.slice(1)')}").json()["turns"]
    assert told["text"] == after
    assert page.errors == []


def test_the_kill_button_is_for_this_page_only(demo: Demo) -> None:
    """A form on another site can't send the header, so it can't kill the server."""
    for place in ("/demo/kill", "/chat/kill"):
        assert httpx2.post(f"{demo.url}{place}").status_code == 403
    assert httpx2.get(f"{demo.url}/health/live").status_code == 200
