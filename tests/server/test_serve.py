"""`newswire serve` as a user runs it: a real process on a real file, kill -9 and all."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import PATIENCE, Reader, Serve, call_newswire

from newswire.wire import Decoder, Event


@pytest.mark.slow
def test_publish_then_read(server: Serve) -> None:
    """What was published is in the history, and streams from any start."""
    first = server.publish("one", "It works", event="headline")
    second = server.publish("one", "ü")
    with Reader(f"{server.url}/channels/one?from=earliest") as reader:
        assert reader.read(2) == [Event("It works", "headline", first), Event("ü", id=second)]
    with Reader(f"{server.url}/channels/one", {"last-event-id": first}) as reader:
        assert reader.read(1)[0].data == "ü"
    page = httpx2.get(f"{server.url}/channels/one/events?limit=1").json()
    assert page["events"][0]["data"] == "It works"
    assert httpx2.get(f"{server.url}/channels/one/events?after={page['next']}").json()["events"][0]["id"] == second


def test_many_channels_come_in_the_order_of_the_log(server: Serve) -> None:
    """Each event says its channel, in a field that the standard ignores."""
    for channel in ("m.a", "m.b", "m.b.c", "m.a"):
        server.publish(channel, channel)
    with Reader(f"{server.url}/stream?channel=m.a&channel=m.b.*&channel=m.b&from=earliest") as reader:
        assert [event.channel for event in reader.read(4)] == ["m.a", "m.b", "m.b.c", "m.a"]


@pytest.mark.slow
def test_kill_9_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Five kills while 200 events a second come: a reader that resumes by id sees each stored event once, in order."""
    server = Serve(tmp_path)
    stop = threading.Event()
    acknowledged: list[str] = []

    def publish() -> None:
        with httpx2.Client() as client:
            while not stop.wait(0.005):
                try:
                    acknowledged.append(client.post(f"{server.url}/channels/t", content="tick").json()["id"])
                except (httpx2.TransportError, ValueError):
                    time.sleep(0.02)

    seen: list[str] = []

    def watch() -> None:
        decoder = Decoder()
        while not stop.is_set():
            decoder = Decoder(last_event_id=decoder.last_event_id)
            headers = {"last-event-id": decoder.last_event_id} if decoder.last_event_id else {}
            try:
                url = f"{server.url}/channels/t?from=earliest"
                with httpx2.stream("GET", url, headers=headers, timeout=5) as answer:
                    for data in answer.iter_raw():
                        events = decoder.feed(data)
                        assert all(event.event == "message" for event in events)
                        seen.extend(event.id or "" for event in events)
                        if stop.is_set():
                            break
            except httpx2.TransportError:
                time.sleep(0.02)

    threads = [threading.Thread(target=publish), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    for kills in range(1, 6):
        already = len(seen)
        deadline = time.monotonic() + 20
        while len(seen) < already + 100:
            assert time.monotonic() < deadline, f"no events after kill {kills - 1}"
            time.sleep(0.01)
        server.stop(signal.SIGKILL)
        server.start()
    stop.set()
    for thread in threads:
        thread.join()
    last = acknowledged[-1]
    stored: list[str] = []
    after = ""
    more = True
    while more:
        page = httpx2.get(f"{server.url}/channels/t/events?limit=1000&after={after}").json()
        stored += [event["id"] for event in page["events"]]
        after, more = page["next"], page["more"]
    server.stop(signal.SIGKILL)
    assert set(acknowledged) <= set(stored)
    assert last in stored
    assert seen == stored[: len(seen)]
    assert len(seen) >= 500


@pytest.mark.slow
def test_an_edge_starts_while_its_origin_is_away(tmp_path: Path) -> None:
    """It is live, and answers 503 to what needs the origin; when that is there, all is as ever. A wrong key ends it."""
    folders = [tmp_path / name for name in ("origin", "edge")]
    for folder in folders:
        folder.mkdir()
    with Serve(folders[0], "--edge-key", "k") as origin:
        url = origin.url.replace("//", "//:{}@")
        with Serve(folders[1], "--log", url.format("k"), "--jwt-secret", "s" * 32, "--anonymous", ">") as edge:
            origin.publish("news", "before")
            edge.stop(signal.SIGKILL)
            origin.stop()
            edge.start("/health/live")
            answers = [httpx2.get(edge.url + path) for path in ("/channels/news", "/health/ready", "/health/live")]
            assert [answer.status_code for answer in answers] == [503, 503, 200]
            assert answers[0].json()["code"] == "log_unavailable"
            assert "retry-after" in answers[0].headers
            origin.start()
            deadline = time.monotonic() + PATIENCE
            while httpx2.get(f"{edge.url}/health/ready").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with Reader(f"{edge.url}/channels/news?from=earliest") as reader:
                origin.publish("news", "after")
                assert [event.data for event in reader.read(2)] == ["before", "after"]
            assert edge.stop() == 0
        origin.stop()
        origin.start()
        refused = call_newswire("serve", "--log", url.format("wrong"), "--port", "0", folder=folders[1])
        assert refused.returncode == 1
        assert "refuses this edge (401)" in refused.stderr.decode()
