"""`newswire serve` as a user runs it: a real process on a real file, kill -9 and all."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from newswire.wire import Decoder, Event

NEWSWIRE = Path(sys.executable).with_name("newswire")


class Serve:
    """A server that can be killed and started again on the same port and file."""

    def __init__(self, folder: Path, *flags: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.flags = flags
        self.start()

    def start(self) -> None:
        command = [str(NEWSWIRE), "serve", "--port", str(self.port), *self.flags]
        self.process = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                if httpx2.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(20)

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(NEWSWIRE), *command, "--url", self.url], input=stdin, capture_output=True, text=True, timeout=30
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    server = Serve(tmp_path_factory.mktemp("serve"))
    yield server
    server.kill()


def read(url: str, count: int, **headers: str) -> list[Event]:
    decoder = Decoder()
    events: list[Event] = []
    with httpx2.stream("GET", url, headers=headers, timeout=10) as answer:
        assert answer.status_code == 200
        for data in answer.iter_raw():
            events += decoder.feed(data)
            if len(events) >= count:
                break
    return events[:count]


def test_publish_then_read(server: Serve) -> None:
    """What was published is in the history, and streams from any start."""
    first = httpx2.post(f"{server.url}/channels/one?event=headline", content="It works").json()["id"]
    second = httpx2.post(f"{server.url}/channels/one", content="ü".encode()).json()["id"]
    assert read(f"{server.url}/channels/one?from=earliest", 2) == [
        Event("It works", "headline", first),
        Event("ü", id=second),
    ]
    assert read(f"{server.url}/channels/one", 1, **{"last-event-id": first})[0].data == "ü"
    page = httpx2.get(f"{server.url}/channels/one/events?limit=1").json()
    assert page["events"][0]["data"] == "It works"
    assert httpx2.get(f"{server.url}/channels/one/events?after={page['next']}").json()["events"][0]["id"] == second


def test_many_channels_on_one_stream(server: Serve) -> None:
    """Each event says its channel; the envelope says it in JSON."""
    for channel in ("m.a", "m.b", "m.b.c"):
        httpx2.post(f"{server.url}/channels/{channel}", content=channel)
    stream = f"{server.url}/stream?channel=m.a&channel=m.b.*&channel=m.b&from=earliest"
    assert [event.channel for event in read(stream, 3)] == ["m.a", "m.b", "m.b.c"]
    assert [event.json()["channel"] for event in read(stream + "&envelope=json", 3)] == ["m.a", "m.b", "m.b.c"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/nothing", b"", 404, "/channels/NAME"),
        ("DELETE", "/channels/x", b"", 405, "not possible"),
        ("GET", "/stream", b"", 400, "at least one channel"),
        ("GET", "/stream?channel=a..b", b"", 400, "empty token"),
        ("GET", "/stream?" + "&".join(["channel=x"] * 101), b"", 400, "use a pattern"),
        ("GET", "/channels/x?from=now", b"", 400, "earliest"),
        ("GET", "/channels/x?envelope=xml", b"", 400, "json"),
        ("GET", "/channels/x/events?limit=0", b"", 400, "limit"),
        ("GET", "/channels/x/events?after=junk", b"", 400, "not a position"),
        ("POST", "/channels/a%20b", b"x", 400, "forbidden"),
        ("POST", "/channels/a.*", b"x", 400, "wildcards"),
        ("POST", "/channels/x?event=error", b"x", 400, "reserved"),
        ("POST", "/channels/x?event=a%0Ab", b"x", 400, "line feed"),
        ("POST", "/channels/x", b"\xff", 400, "UTF-8"),
        ("POST", "/channels/x", b"x" * (2**20 + 1), 413, "limit"),
    ],
)
def test_bad_input_gets_a_clear_answer(
    server: Serve, method: str, path: str, body: bytes, status: int, says: str
) -> None:
    """A problem+json with the status and what to do; nothing is stored."""
    answer = httpx2.request(method, server.url + path, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]
    assert httpx2.get(f"{server.url}/channels/x/events").json()["events"] == []


def test_a_batch_is_stored_whole_or_not_at_all(server: Serve) -> None:
    """A bad line is named, and the good ones before it are not stored."""
    headers = {"content-type": "application/x-ndjson"}
    answer = httpx2.post(f"{server.url}/channels/n", content=b'{"data": "1"}\n{"dat": 2}\n', headers=headers)
    assert answer.status_code == 400
    assert "line 2" in answer.json()["detail"]
    answer = httpx2.post(f"{server.url}/channels/n", content=b'{"data": "1"}\n{"data": {"n": 2}}\n', headers=headers)
    assert len(answer.json()["ids"]) == 2
    stored = httpx2.get(f"{server.url}/channels/n/events").json()["events"]
    assert [event["data"] for event in stored] == ["1", '{"n":2}']


def test_a_megabyte_of_garbage_as_cursor(server: Serve) -> None:
    """Even that is answered with a stream and a gap."""
    httpx2.post(f"{server.url}/channels/g", content="kept")
    events = read(f"{server.url}/channels/g", 2, **{"last-event-id": "x" * 2**20})
    assert [event.event for event in events] == ["newswire.gap", "message"]


def test_console_metrics_and_health(server: Serve) -> None:
    """What the operator looks at."""
    assert "<title>newswire</title>" in httpx2.get(server.url).text
    assert "newswire_delivered_total" in httpx2.get(f"{server.url}/metrics").text
    assert httpx2.get(f"{server.url}/health/live").json() == {"status": "live"}


def test_publish_and_tail_commands(server: Serve) -> None:
    """`publish` takes an argument or lines; `tail` prints one JSON object a line."""
    command = [str(NEWSWIRE), "tail", "cli", "--from", "earliest", "--json", "--url", server.url]
    assert server.run("publish", "cli", "first", "--event", "note").stdout.strip()
    assert "2 events stored" in server.run("publish", "cli", stdin="second\nthird\n").stderr
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        lines = [json.loads(tail.stdout.readline()) for _ in range(3)]
        tail.terminate()
    assert [(line["event"], line["data"]) for line in lines] == [
        ("note", "first"), ("message", "second"), ("message", "third"),
    ]  # fmt: skip
    bad = server.run("publish", "bad name", "x")
    assert bad.returncode == 1
    assert "forbidden" in bad.stderr


def test_serve_refuses_a_public_address(tmp_path: Path) -> None:
    """Without auth, only on purpose."""
    done = subprocess.run([str(NEWSWIRE), "serve", "--host", "0.0.0.0"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "--insecure" in done.stderr


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
        server.kill()
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
    server.kill()
    assert set(acknowledged) <= set(stored)
    assert last in stored
    assert seen == stored[: len(seen)]
    assert len(seen) >= 500
