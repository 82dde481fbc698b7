"""The console in a real Chromium: what it lists and counts, where its times come from, and its addresses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.looks import CUT, FAINT, WIDE
from tests.fixtures.serve import Reader, Serve

from newswire.server.auth import new_token

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

ROWS = "[...document.querySelectorAll('#channels tr')].map(row => row.dataset.channel)"
COUNTS = (
    "Object.fromEntries([...document.querySelectorAll('#channels tr')].map(row => [row.dataset.channel, "
    "[row.querySelector('.events').textContent, row.querySelector('.readers').textContent]]))"
)
TAIL = (
    "[...document.querySelectorAll('#tail .row')].map(row => [row.querySelector('time').dateTime, "
    "row.querySelector('.from').textContent, row.querySelector('.what').textContent])"
)


def moment(seconds: float) -> str:
    """A time as JavaScript writes it."""
    return datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def kept(server: Serve, channel: str) -> list[list[str]]:
    """The channel's events as the tail has to show them."""
    events = httpx2.get(f"{server.url}/channels/{channel}/events?limit=1000").json()["events"]
    return [[moment(event["time"]), event["channel"], event["data"]] for event in events]


def test_a_fresh_server_has_no_channels_and_no_subscribers(tmp_path: Path, page: Any) -> None:
    """The page's own stream is nothing that it lists or counts; it says what would be there."""
    with Serve(tmp_path) as server:
        page.order(goto=server.url)
        page.until("document.getElementById('state').textContent === 'live'")
        page.until("document.getElementById('subscribers-note').textContent.startsWith('1 console page')")
        assert page.evaluate(ROWS) == []
        assert page.evaluate("document.getElementById('subscribers').textContent") == "0"
        assert page.evaluate("document.getElementById('channels-empty').checkVisibility()")
        assert page.evaluate("document.getElementById('tail-empty').checkVisibility()")
    assert page.errors == []


def test_counts_and_times_are_those_of_the_log_after_a_restart(tmp_path: Path, page: Any) -> None:
    """Kept events have their count beside the channel, and the time at which each was published beside the event."""
    with Serve(tmp_path) as server:
        for n in range(3):
            server.publish("orders.eu", str(n))
        server.publish("news", "<img src=x onerror=alert(1)>")
        server.stop()
        server.start()
        with Reader(f"{server.url}/stream?channel=orders.*&channel=%24x") as refused:
            assert refused.answer.status_code == 400
        with Reader(f"{server.url}/stream?channel=orders.*") as reader:
            reader.opened()
            page.order(goto=server.url)
            page.until(f"JSON.stringify({COUNTS}['orders.eu']) === '[\"3\",\"1\"]'")
            assert page.evaluate(COUNTS) == {"orders.eu": ["3", "1"], "news": ["1", "0"]}
            assert "orders.* (1)" in page.evaluate("document.getElementById('channels-note').textContent")
        wanted = kept(server, "orders.eu") + kept(server, "news")
        page.until(f"{TAIL}.length === 4")
        assert page.evaluate(TAIL) == wanted
        server.publish("orders.eu", "live")
        page.until(f"{TAIL}.length === 5")
        assert page.evaluate(TAIL)[-1] == kept(server, "orders.eu")[-1]
        assert page.evaluate("document.querySelectorAll('#tail img').length") == 0
    assert page.errors == []


def test_a_chosen_channel_shows_its_last_events_and_has_an_address(tmp_path: Path, page: Any) -> None:
    """A click anywhere in the row chooses; the address can be loaded again, gone back from, and sent to somebody."""
    with Serve(tmp_path) as server:
        batch = "\n".join(json.dumps({"data": f"event {n}"}) for n in range(800))
        kind = {"content-type": "application/x-ndjson"}
        httpx2.post(f"{server.url}/channels/job", content=batch, headers=kind).raise_for_status()
        httpx2.post(f"{server.url}/channels/noise", content=batch, headers=kind).raise_for_status()
        page.order(goto=server.url)
        page.until(f"{ROWS}.length === 2")
        page.evaluate("document.querySelector('tr[data-channel=job] .events').click()")
        page.until("location.hash === '#channel=job'")
        newest = kept(server, "job")[-100:]
        page.until(f"{TAIL}.length === 100 && {TAIL}[0][1] === 'job'")
        assert page.evaluate(TAIL) == newest
        page.order(reload=True)
        page.until(f"{TAIL}.length === 100 && {TAIL}[0][1] === 'job'")
        assert page.evaluate("document.querySelector('tr.chosen').dataset.channel") == "job"
        server.publish("noise", "not here")
        server.publish("job", "live")
        page.until(f"{TAIL}.length === 101")
        assert page.evaluate(TAIL) == kept(server, "job")[-101:]
        page.evaluate("history.back()")
        page.until(f"location.hash === '' && {TAIL}.some(([, channel]) => channel === 'noise')")
        second = page.second()
        second.order(goto=f"{server.url}/#channel=nothing.yet")
        second.until("document.getElementById('tail-empty').textContent.includes('No event of nothing.yet is kept')")
        server.publish("nothing.yet", "now")
        second.until(f"{TAIL}.length === 1")
        second.order(goto=f"{server.url}/#channel=no%2Fslash")
        second.order(reload=True)
        second.until("document.getElementById('tail-empty').textContent.includes('slash')")
        second.order(goto=f"{server.url}/#channel=jo*")
        second.order(reload=True)
        second.until("document.getElementById('tail-empty').textContent.includes('pattern')")
    assert page.errors == []


def test_rows_keep_their_places_under_the_pointer(tmp_path: Path, page: Any) -> None:
    """While somebody points at the table its order stays, whatever comes; afterwards it is sorted again."""
    with Serve(tmp_path) as server:
        for channel, events in (("a", 3), ("b", 2)):
            for _ in range(events):
                server.publish(channel, "x")
        page.order(goto=server.url)
        page.until(f"{ROWS}.join() === 'a,b'")
        scroll = "document.querySelector('.channels .scroll')"
        page.evaluate(f"{scroll}.dispatchEvent(new PointerEvent('pointerenter'))")
        for count in range(3, 9):  # six looks at the numbers, a second apart: the order would be looked at after three
            server.publish("b", "x")
            page.until(f"{COUNTS}.b[0] === '{count}'")
            assert page.evaluate(ROWS) == ["a", "b"]
        page.evaluate(f"{scroll}.dispatchEvent(new PointerEvent('pointerleave'))")
        page.until(f"{ROWS}.join() === 'b,a'")


def test_the_keys(tmp_path: Path, page: Any) -> None:
    """A slash goes to the filter, Escape out of it; n to the form, Enter sends it; arrows and Enter read the tail."""
    with Serve(tmp_path) as server:
        for channel in ("orders.eu", "news"):
            server.publish(channel, "[1, 2]")
        page.order(goto=server.url)
        page.until(f"{ROWS}.length === 2 && {TAIL}.length === 2")
        page.order(press="/")
        page.order(type="zzz")
        page.until("document.getElementById('channels-empty').checkVisibility()")
        assert "zzz" in page.evaluate("document.getElementById('channels-empty').textContent")
        page.order(press="Escape")
        page.until(f"{ROWS}.length === 2 && document.activeElement.id === 'filter'")
        page.order(press="Escape")
        assert page.evaluate("document.activeElement === document.body")
        page.order(press="p")
        assert page.evaluate("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
        page.order(press="p")
        page.order(press="n")
        page.order(type="orders.eu")
        page.order(press="Tab")
        page.order(press="Tab")
        page.order(type="sent by a key")
        page.order(press="Enter")
        page.until("document.getElementById('answer').textContent.startsWith('stored as')")
        page.until(f"{TAIL}.length === 3")
        assert server.stored("orders.eu") == ["[1, 2]", "sent by a key"]
        page.evaluate("document.getElementById('tail').focus()")
        for key in ("Home", "ArrowDown", "Enter"):
            page.order(press=key)
        opened = page.evaluate("document.querySelector('#tail .row.open').textContent")
        assert "news" in opened
        assert "[\n  1,\n  2\n]" in opened
    assert page.errors == page.console == []


def test_streams_in_the_place_of_the_channels(tmp_path: Path, page: Any) -> None:
    """Each stream with its channels, live; of the chosen channel; filtered. Nothing sticks out, and all can be read."""
    rows = "[...document.querySelectorAll('#streams .reads')].map(cell => cell.textContent)"
    with Serve(tmp_path) as server:
        server.publish("orders.eu", "1")
        with (
            Reader(f"{server.url}/channels/orders.eu") as one,
            Reader(f"{server.url}/stream?channel=a.*&channel=b") as two,
        ):
            one.opened()
            two.opened()
            page.order(goto=server.url)
            page.until(f"{ROWS}.length === 2")
            page.evaluate("document.getElementById('show-streams').click()")
            page.until(f"{rows}.length === 3")  # with the page's own
            assert page.evaluate(rows) == ["orders.eu", "a.* b", ">"]
            assert page.evaluate("document.getElementById('channels-title').textContent") == "Streams"
            assert not page.evaluate("document.getElementById('channels-panel').checkVisibility()")
            assert page.evaluate("document.querySelector('#streams .from').textContent") == "127.0.0.1"
            for width in (390, 1280):
                page.order(size={"width": width, "height": 800})
                page.until(f"innerWidth === {width}")
                assert page.evaluate(WIDE) == 0
                assert page.evaluate(CUT) == []
                assert page.evaluate(FAINT) == []
            page.evaluate("location.hash = 'channel=b'")
            page.until(f"{rows}.join() === 'a.* b,b'")  # the page's tail shows this channel now
            page.evaluate("location.hash = 'channel=nothing'")
            page.until(f"{rows}.join() === 'nothing'")
            page.evaluate("history.back()")
            page.until(f"{rows}.length === 2")
            page.order(press="/")
            page.order(type="a.")
            page.until(f"{rows}.join() === 'a.* b'")
        page.until("document.getElementById('streams-empty').checkVisibility()")  # they have left
        page.evaluate("document.getElementById('show-streams').click()")
        assert page.evaluate("document.getElementById('channels-panel').checkVisibility()")
    assert page.errors == []


def test_a_long_name_pushes_nothing_out(tmp_path: Path, page: Any) -> None:
    """A channel of 200 letters, an event type and data as long: no sideways scrolling, and the name is there whole."""
    name = "a.channel.of." + "many" * 20 + ".tokens" * 15
    with Serve(tmp_path) as server:
        server.publish(name, "w" * 500, event="type." * 30)
        page.order(goto=server.url)
        page.until(f"{ROWS}.length === 1 && {TAIL}.length === 1")
        for width in (390, 1280):
            page.order(size={"width": width, "height": 800})
            page.until(f"innerWidth === {width}")
            assert page.evaluate(WIDE) == 0
            assert page.evaluate(CUT) == []
            assert page.evaluate(FAINT) == []
        assert page.evaluate(f"{TAIL}[0][1]") == name
        assert page.evaluate("document.querySelector('#tail .from').title") == name


def test_signing_in(tmp_path: Path, page: Any) -> None:
    """Where the server asks for a credential, the page says so and takes a token; then it shows all, and publishes."""
    secret = "a secret of thirty-two bytes, or more"
    with Serve(tmp_path, "--jwt-secret", secret) as server:
        page.order(goto=server.url.replace("127.0.0.1", "localhost"))
        page.until("document.getElementById('state').textContent === 'not allowed'")
        page.until("document.getElementById('sign-in').checkVisibility()")

        def sign_in(token: str) -> None:
            form = "document.getElementById('sign-in')"
            page.evaluate(f"{form}.token.value = '{token}'; {form}.requestSubmit()")

        sign_in(new_token(secret, subject="ada", ttl=-5))
        page.until("document.getElementById('signed').textContent === 'the token has expired'")
        sign_in(new_token(secret, subject="ada", subscribe=[">"]))
        page.until("document.getElementById('signed').textContent.includes('does not allow its holder')")
        sign_in(new_token(secret, subject="root", subscribe=[">"], publish=[">"], admin=True))
        page.until("document.getElementById('state').textContent === 'live'")
        assert not page.evaluate("document.getElementById('sign-in').checkVisibility()")
        assert page.evaluate("document.cookie") == ""
        form = "document.getElementById('publish')"
        page.evaluate(f"{form}.channel.value = 'news'; {form}.data.value = 'hello'; {form}.requestSubmit()")
        page.until(f"{ROWS}.includes('news')")


def test_more_channels_than_the_table_takes(tmp_path: Path, page: Any) -> None:
    """A hundred are shown, and how many are not; the filter finds the others too, and says if there are none."""
    with Serve(tmp_path) as server, httpx2.Client(base_url=server.url) as client:
        for number in range(210):
            client.post(f"/channels/user.{number}", content="1").raise_for_status()
        with Reader(f"{server.url}/channels/Quiet.one") as reader:
            reader.opened()
            page.order(goto=server.url)
            page.until(f"{ROWS}.length === 100")
            assert page.evaluate("document.getElementById('channels-note').textContent").startswith("110 more")
            type_filter(page, " USER.7 ")
            wanted = ",".join(["user.7", *(f"user.7{digit}" for digit in range(10))])
            page.until(f"{ROWS}.sort().join() === '{wanted}'")
            assert page.evaluate("document.getElementById('channels-note').textContent") == ""
            type_filter(page, "quiet")
            page.until(f'JSON.stringify({COUNTS}) === \'{{"Quiet.one":["0","1"]}}\'')
            client.post("/channels/user.0", content="1").raise_for_status()
            type_filter(page, "user.")
            page.until("document.getElementById('channels-note').textContent.startsWith('110 more')")
            type_filter(page, "nowhere")
            page.until("document.getElementById('channels-empty').textContent.startsWith('No channel with')")
            assert page.evaluate(ROWS) == []
            type_filter(page, "")
            page.until(f"{ROWS}.length === 100")
    assert page.errors == []


def type_filter(page: Any, text: str) -> None:
    """Write a text into the filter."""
    page.evaluate(f"""(() => {{
      const filter = document.getElementById("filter");
      filter.value = {json.dumps(text)};
      filter.dispatchEvent(new Event("input"));
    }})()""")
