"""`newswire serve --compress`: real clients read it event by event, across kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.serve import PATIENCE, Serve

from newswire.wire import Decoder, Event

ROWS = [{"id": number, "name": "ada", "ok": True} for number in range(25)]
ACCEPTS = {"accept-encoding": "gzip"}


def rows(number: int) -> str:
    """A kilobyte of JSON."""
    return json.dumps({"number": number, "rows": ROWS})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(tmp_path_factory.mktemp("serve"), "--compress", "--heartbeat", "0.2", "--retry", "100") as running:
        yield running


def numbers(events: list[Event]) -> list[int]:
    return [json.loads(event.data)["number"] for event in events if event.event == "message"]


def test_the_head(server: Serve) -> None:
    """Says what it is, and that it depends on the request; HEAD has the same."""
    for headers, encoding in ((ACCEPTS, "gzip"), ({"accept-encoding": "gzip;q=0"}, None), ({}, "gzip")):
        for method in ("GET", "HEAD"):  # httpx2 takes gzip by itself
            with httpx2.stream(method, f"{server.url}/channels/news", headers=headers) as answer:
                assert answer.headers.get("content-encoding") == encoding
                assert "accept-encoding" in answer.headers["vary"].lower()
                assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_events_come_one_by_one(server: Serve) -> None:
    """Each is there as soon as it was published, and an idle stream has heartbeats."""
    decoder, events = Decoder(), list[Event]()
    with httpx2.stream("GET", f"{server.url}/channels/one", headers=ACCEPTS, timeout=PATIENCE) as answer:
        chunks = answer.iter_bytes()
        seen = b""
        while seen.count(b"\n:\n") < 2:
            seen += next(chunks)
        decoder.feed(seen)
        for number in range(5):
            server.publish("one", rows(number))
            while len(events) <= number:
                events += decoder.feed(next(chunks))
        assert numbers(events) == [0, 1, 2, 3, 4]
        assert answer.num_bytes_downloaded < 0.5 * len(rows(0)) * 5


def test_curl_across_kill_9(tmp_path: Path) -> None:
    """curl decodes what came and goes on from the last id. A stream that ends in order has a right trailer."""
    with Serve(tmp_path, "--compress", "--retry", "100") as server:
        for number in range(10):
            server.publish("news", rows(number))
        address = f"{server.url}/channels/news?from=earliest"
        with subprocess.Popen(["curl", "-sN", "--compressed", address], stdout=subprocess.PIPE) as curl:
            first = read(curl, 10)
            server.stop(signal.SIGKILL)
            assert curl.wait(PATIENCE) == 18  # curl's "partial file"
        server.start()
        for number in range(10, 20):
            server.publish("news", rows(number))
        after = ["-H", f"Last-Event-ID: {first[-1].id}"]
        with subprocess.Popen(["curl", "-sN", "--compressed", *after, address], stdout=subprocess.PIPE) as curl:
            second = read(curl, 10)
            server.stop()
            assert curl.stdout is not None
            assert b"newswire.goodbye" in curl.stdout.read()
            assert curl.wait(PATIENCE) == 0
        assert numbers(first + second) == list(range(20))


def read(process: Any, count: int) -> list[Event]:
    decoder, events = Decoder(), list[Event]()
    while len([event for event in events if event.event == "message"]) < count:
        events += decoder.feed(process.stdout.read1(65536))
    return events
