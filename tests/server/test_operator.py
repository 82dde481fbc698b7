"""History, health, metrics, the console and origins."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fixtures.serve import Reader, Serve

from newswire import Hub


def metrics(server: Serve) -> dict[str, float]:
    """Every sample without labels, by name."""
    text = httpx2.get(f"{server.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if not sample.labels}


@pytest.mark.slow
def test_history_is_read_page_by_page(server: Serve) -> None:
    """Each page says where to go on; the last one that there is no more."""
    ids = [server.publish("pages", str(n)) for n in range(7)]
    found, after, pages = [], "", 0
    while True:
        page = httpx2.get(f"{server.url}/channels/pages/events", params={"limit": 3, "after": after}).json()
        found += [event["id"] for event in page["events"]]
        after, pages = page["next"], pages + 1
        if not page["more"]:
            break
    assert found == ids
    assert pages == 3


@pytest.mark.slow
def test_history_tells_what_retention_removed(tmp_path: Path) -> None:
    """A reader that goes on from a position gets the gap; one that begins at the start does not."""
    with Serve(tmp_path, "--log", "memory://", "--retention", ">:max_events=2") as server:
        first = server.publish("kept", "1")
        for data in "2345":
            server.publish("kept", data)
        page = httpx2.get(f"{server.url}/channels/kept/events", params={"after": first}).json()
        assert [event["data"] for event in page["events"]] == ["4", "5"]
        assert (page["gap"]["reason"], page["gap"]["after"]) == ("trimmed", first)
        assert "gap" not in httpx2.get(f"{server.url}/channels/kept/events").json()


@pytest.mark.slow
@pytest.mark.anyio
async def test_history_of_a_log_that_was_restored(tmp_path: Path) -> None:
    """A position from before goes on; one past what the copy had is answered with a gap, and from the beginning."""
    path = tmp_path / "events.db"
    async with Hub(f"sqlite:///{path}") as hub:
        early = await hub.publish("a", "1")
    copy = path.read_bytes()
    async with Hub(f"sqlite:///{path}") as hub:
        late = await hub.publish("a", "lost")
    path.write_bytes(copy)
    with Serve(tmp_path, "--log", f"sqlite:///{path}") as server:
        new = server.publish("a", "2")
        url = f"{server.url}/channels/a/events"
        page = httpx2.get(url, params={"after": str(early)}).json()
        assert ([event["id"] for event in page["events"]], "gap" in page) == ([new], False)
        page = httpx2.get(url, params={"after": str(late)}).json()
        assert [event["id"] for event in page["events"]] == [str(early), new]
        assert page["gap"] == {"reason": "future", "after": f"{new.partition('-')[0]}-1", "through": None}


def test_history_after_the_end_of_the_log(server: Serve) -> None:
    """A position that the log has not come to is a gap, as on a stream; the end of the log is none."""
    last = server.publish("ahead", "1")
    epoch, _, offset = last.partition("-")
    url = f"{server.url}/channels/ahead/events"
    page = httpx2.get(url, params={"after": f"{epoch}-{int(offset) + 1000}"}).json()
    assert [event["id"] for event in page["events"]] == [last]
    assert page["gap"] == {"reason": "future", "after": None, "through": None}
    assert "gap" not in httpx2.get(url, params={"after": last}).json()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=٣",
        "after=junk",
        "after=zzzzzzzz-1",
        "x=1",
        "last=0",
        "last=5&limit=5",
    ],
)
def test_history_refuses_what_it_does_not_know(server: Serve, query: str) -> None:
    """No stream that must not break: a wrong position is an error here."""
    answer = httpx2.get(f"{server.url}/channels/pages/events?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/channels/", 404),
        ("PUT", "/channels/x", 405),
        ("POST", "/stream", 405),
        ("PUT", "/newswire.js", 405),
    ],
)
def test_routing_errors_are_problems_too(server: Serve, method: str, path: str, status: int) -> None:
    """Whatever the error, the answer has one form."""
    answer = httpx2.request(method, server.url + path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/session", "DELETE, POST"), ("/connections", "DELETE, GET, HEAD"), ("/channels/x", "GET, HEAD, POST"),
     ("/newswire.css", "GET, HEAD"), ("/log/span", "POST")],
)  # fmt: skip
def test_a_method_that_is_not_possible_is_told_which_are(server: Serve, path: str, allowed: str) -> None:
    """All of the path: two of its routes may have it."""
    answer = httpx2.patch(server.url + path)
    assert answer.headers["allow"] == allowed
    assert answer.json()["detail"] == f"PATCH is not possible at {path}; what is: {allowed}"


@pytest.mark.slow
def test_the_newest_are_no_more_than_a_page(server: Serve) -> None:
    """Large events are fewer than asked for: what one request makes the server hold has a bound, however it asks."""
    large = "x" * 1_000_000
    ids = [server.publish("large", large) for _ in range(8)]
    for last in (3, 4, 5, 8, 1000):
        page = httpx2.get(f"{server.url}/channels/large/events?last={last}").json()
        assert [event["id"] for event in page["events"]] == ids[-min(last, 4) :]
        assert page["next"] == ids[-1]
    answer = httpx2.post(f"{server.url}/log/newest", json={"channels": ["large"] * 1000})
    assert len(answer.content) < 20_000_000


@pytest.mark.parametrize("after", [2**63, -(2**63), "junk", None, []])
def test_what_is_no_offset(server: Serve, after: object) -> None:
    """No engine gets it."""
    asked = {"channels": {"names": ["a"], "patterns": []}, "after": after, "limit": 1}
    answer = httpx2.post(f"{server.url}/log/read", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_call")


@pytest.mark.slow
def test_history_gives_the_newest(server: Serve) -> None:
    """The newest few of one channel, oldest first, however many others lie between; then `next` is the log's end."""
    published: dict[str, list[str]] = {"rare": [], "often": [], "never": []}
    for n in range(60):
        channel = "rare" if n % 7 == 3 else "often"
        published[channel].append(server.publish(channel, str(n)))
    for channel, ids in published.items():
        for last in (1, 2, 7, 8, 9, 50, 1000):
            page = httpx2.get(f"{server.url}/channels/{channel}/events", params={"last": last}).json()
            assert [event["id"] for event in page["events"]] == ids[-last:]
            assert page["next"] == published["rare"][-1]
            assert not page["more"]


def test_metrics_count_what_happened(server: Serve) -> None:
    """Events, deliveries and streams; the server's own counting is not among them."""
    before = metrics(server)
    with Reader(f"{server.url}/channels/metered") as reader:
        reader.opened()
        server.publish("metered", "x")
        reader.read(1)
        after = metrics(server)
    assert after["newswire_published_total"] - before["newswire_published_total"] == 1
    assert after["newswire_delivered_total"] - before["newswire_delivered_total"] == 1
    assert after["newswire_subscribers"] - before["newswire_subscribers"] == 1
    assert after["newswire_publish_seconds_count"] - before["newswire_publish_seconds_count"] == 1
    assert after["newswire_workers"] == 1


def test_the_console_shows_channels_and_lets_nothing_foreign_in(server: Serve) -> None:
    """Numbers by channel; files with a strict policy, and no others."""
    server.publish("shown", "x")
    with Reader(f"{server.url}/stream?channel=quiet.*") as reader:
        reader.opened()
        numbers = httpx2.get(f"{server.url}/console/stats").json()
    channels = {channel["name"]: channel for channel in numbers["channels"]}
    assert (channels["shown"]["events"], channels["shown"]["subscribers"]) == (1, 0)
    assert numbers["patterns"] == [{"name": "quiet.*", "subscribers": 1}]
    assert not [name for name in channels if {"*", ">"} & set(name)]
    for name, kind in (
        ("", "text/html"),
        ("console/console.js", "text/javascript"),
        ("console/console.css", "text/css"),
    ):
        answer = httpx2.get(f"{server.url}/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        again = httpx2.get(f"{server.url}/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304
    assert httpx2.get(f"{server.url}/console/..%2Fapp.py").status_code == 404


def test_the_console_counts_neither_itself_nor_internals(server: Serve) -> None:
    """A tail of the console's own is no subscriber, of nothing; a stream beside it is one."""
    server.publish("seen", "x")
    with Reader(f"{server.url}/console/tail") as tail, Reader(f"{server.url}/console/tail?channel=seen") as one:
        tail.opened()
        one.opened()
        with Reader(f"{server.url}/channels/seen") as reader:
            reader.opened()
            numbers = httpx2.get(f"{server.url}/console/stats").json()
        assert (numbers["subscribers"], numbers["pages"], numbers["patterns"]) == (1, 2, [])
        assert [c["subscribers"] for c in numbers["channels"] if c["name"] == "seen"] == [1]
        server.publish("seen", "y")
        for own in (tail, one):
            [event] = own.read(1)
            assert (event.json()["channel"], event.json()["data"]) == ("seen", "y")
    while httpx2.get(f"{server.url}/console/stats").json()["pages"]:
        pass
    assert not [name for name in (c["name"] for c in numbers["channels"]) if name.startswith("$") or name == ">"]


@pytest.mark.slow
def test_the_console_knows_what_was_kept_before_a_start(tmp_path: Path) -> None:
    """After a restart a channel has as many events as the log keeps of it, and its newest has its own time."""
    with Serve(tmp_path) as server:
        for channel, events in (("many", 700), ("few", 3), ("many", 700)):
            content = "\n".join(['{"data": "old"}'] * events)
            kind = {"content-type": "application/x-ndjson"}
            httpx2.post(f"{server.url}/channels/{channel}", content=content, headers=kind).raise_for_status()
        newest = httpx2.get(f"{server.url}/channels/few/events?last=1").json()["events"][0]["time"]
        server.stop()
        server.start()
        while not (numbers := httpx2.get(f"{server.url}/console/stats").json())["complete"]:
            pass
        channels = {channel["name"]: channel for channel in numbers["channels"]}
        assert {name: channel["events"] for name, channel in channels.items()} == {"many": 1400, "few": 3}
        assert channels["few"]["last"] == newest
        assert sum(events for _, events in numbers["recent"]) == numbers["kept"] == 1403


@pytest.mark.slow
def test_the_console_counts_what_retention_leaves(tmp_path: Path) -> None:
    """A channel's events are those that are kept, also when retention takes some; those without any are gone."""
    with Serve(
        tmp_path, "--log", "memory://", "--retention", "few:max_events=3", "--retention", "brief:max_age=1"
    ) as server:
        for n in range(8):
            server.publish("few", str(n))
            server.publish("many", str(n))
        server.publish("brief", "x")
        kept = 0

        def counts() -> dict[str, int]:
            nonlocal kept
            numbers = httpx2.get(f"{server.url}/console/stats").json()
            kept = numbers["kept"]
            assert all(channel["seen"] >= channel["events"] for channel in numbers["channels"])
            return {channel["name"]: channel["events"] for channel in numbers["channels"]}

        while (found := counts()).get("few") != 3 or "brief" in found:
            pass
        assert found == {"few": 3, "many": 8}
        assert kept == 11


@pytest.mark.slow
def test_a_foreign_page_may_not_publish(server: Serve) -> None:
    """Any page in a browser can send a plain POST; a program has no origin and is not asked."""
    url = f"{server.url}/channels/page"
    own = server.url
    for headers, status in (
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": own, "sec-fetch-site": "cross-site"}, 403),
        ({"origin": own}, 200),
        ({"origin": "https://public.example", "sec-fetch-site": "same-origin"}, 200),
        ({}, 200),
    ):
        assert httpx2.post(url, content=b"x", headers=headers).status_code == status, headers
    preflight = httpx2.options(url, headers={"origin": "https://evil.example", "access-control-request-method": "POST"})
    assert preflight.json()["code"] == "foreign_origin"


@pytest.mark.slow
def test_configured_origins_may(tmp_path: Path) -> None:
    """Preflight, publish and stream carry the headers that let the page read; others get none."""
    with Serve(tmp_path, "--cors-origins", "https://a.example") as server:
        url = f"{server.url}/channels/page"
        headers = {"origin": "https://a.example"}
        preflight = httpx2.options(url, headers={**headers, "access-control-request-method": "POST"})
        assert preflight.status_code == 204
        assert "Last-Event-ID" in preflight.headers["access-control-allow-headers"]
        for answer in (
            preflight,
            httpx2.post(url, content=b"x", headers=headers),
            httpx2.post(url, content=b"\xff", headers=headers),
        ):
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
            assert answer.headers["vary"] == "Origin"
        with Reader(url, headers) as reader:
            assert reader.answer.headers["access-control-allow-origin"] == "https://a.example"
        foreign = httpx2.get(f"{url}/events", headers={"origin": "https://b.example"})
        assert "access-control-allow-origin" not in foreign.headers
