"""History, health, metrics, the console and origins."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fixtures.serve import Reader, Serve


def metrics(server: Serve) -> dict[str, float]:
    """Every sample without labels, by name."""
    text = httpx2.get(f"{server.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if not sample.labels}


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


def test_history_tells_what_retention_removed(tmp_path: Path) -> None:
    """A reader that goes on from a position is told of the gap; one that begins anew is not."""
    with Serve(tmp_path, "--log", "memory://", "--retention", ">:max_events=2") as server:
        first = server.publish("kept", "1")
        for data in "2345":
            server.publish("kept", data)
        page = httpx2.get(f"{server.url}/channels/kept/events", params={"after": first}).json()
        assert [event["data"] for event in page["events"]] == ["4", "5"]
        assert (page["gap"]["reason"], page["gap"]["after"]) == ("trimmed", first)
        assert "gap" not in httpx2.get(f"{server.url}/channels/kept/events").json()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=٣", "after=junk", "after=zzzzzzzz-1", "x=1"]
)
def test_history_refuses_what_it_does_not_know(server: Serve, query: str) -> None:
    """No stream that must not break: a wrong position is an error here."""
    answer = httpx2.get(f"{server.url}/channels/pages/events?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/channels/", 404), ("PUT", "/channels/x", 405), ("POST", "/stream", 405)],
)
def test_routing_errors_are_problems_too(server: Serve, method: str, path: str, status: int) -> None:
    """Whatever the error, the answer has one form."""
    answer = httpx2.request(method, server.url + path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert "GET" in answer.headers["allow"]


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
    assert channels["quiet.*"]["subscribers"] == 1
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
