"""Each example runs as its docstring says, on a real server, and does what it says."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from newswire import Decoder, Event

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "__init__.py")


@contextmanager
def running(app: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run an example's application as a user does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "newswire.cli.main", "run", app, "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    httpx2.get(f"{url}/is-it-there")
                    break
                except httpx2.TransportError:
                    assert process.poll() is None, "the server ended"
                    assert time.monotonic() < deadline, "the server does not answer"
                    time.sleep(0.05)
            yield url, process
        finally:
            process.terminate()


def read(url: str, count: int, after: str | None = None) -> list[Event]:
    """The first events of a stream."""
    decoder = Decoder()
    events: list[Event] = []
    headers = {"last-event-id": after} if after else {}
    with httpx2.stream("GET", url, headers=headers, timeout=20) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        for data in answer.iter_raw():
            events += decoder.feed(data)
            if len(events) >= count:
                break
    return events[:count]


def run(module: str) -> list[str]:
    """The lines that an example prints."""
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    """An example fits a screen: fewer than 50 lines."""
    assert len(path.read_text().splitlines()) < 50


def test_quickstart() -> None:
    """What one request publishes, a stream that is resumed brings."""
    with running("examples.quickstart:app") as (url, _):
        first = httpx2.post(f"{url}/news", content="one").json()["id"]
        second = httpx2.post(f"{url}/news", content="It works").json()["id"]
        assert read(f"{url}/events", 1, after=first) == [Event("It works", "headline", second)]


def test_fastapi_app() -> None:
    """Each room has its own events, in order."""
    with running("examples.fastapi_app:app") as (url, _):
        for room, text in (("tea", "hello"), ("coffee", "elsewhere"), ("tea", "again")):
            httpx2.post(f"{url}/rooms/{room}", json={"name": "Ada", "text": text}).raise_for_status()
        assert [event.json()["text"] for event in read(f"{url}/rooms/tea", 2)] == ["hello", "again"]
        assert httpx2.post(f"{url}/rooms/tea", json={"name": "Ada"}).status_code == 422


def test_tokens_end_by_themselves() -> None:
    """A finished generator ends the stream, with its last event."""
    with running("examples.tokens:app") as (url, process):
        events = read(f"{url}/answer?text=a+b", 3)
        assert [event.json() for event in events[:2]] == [{"token": "a"}, {"token": "b"}]
        assert (events[2].event, events[2].data) == ("end", "[DONE]")
        assert process.stdout is not None
        assert process.stdout.readline() == "the generator is closed\n"


def test_tokens_stop_when_the_client_leaves() -> None:
    """A generator that would go on for minutes is closed as soon as nobody listens."""
    with running("examples.tokens:app") as (url, process):
        read(f"{url}/answer?text={'+'.join(['word'] * 2000)}", 1)
        assert process.stdout is not None
        assert process.stdout.readline() == "the generator is closed\n"


def test_publish_from_thread() -> None:
    """Events of all threads arrive."""
    assert sorted(run("examples.publish_from_thread")) == [
        'sensor.1 {"value":10}', 'sensor.2 {"value":20}', 'sensor.3 {"value":30}',
    ]  # fmt: skip


def test_in_process() -> None:
    """The second reading begins where the first ended."""
    assert run("examples.in_process") == [
        "orders.eu.1 {'items': 2}",
        "orders.us.7 {'items': 1}",
        "going on",
        "orders.eu.2 {'items': 5}",
        "orders.eu.3 {'items': 8}",
    ]


def test_progress() -> None:
    """A watcher that comes back gets the rest of the job, once."""
    with running("examples.progress:app") as (url, _):
        job = httpx2.post(f"{url}/jobs").json()["job"]
        events = read(f"{url}/jobs/{job}", 6)
        assert [event.json() for event in events[:5]] == [{"done": step, "of": 5} for step in range(1, 6)]
        assert (events[5].event, events[5].json()) == ("finished", {"result": 42})
        assert read(f"{url}/jobs/{job}", 3, after=events[2].id) == events[3:]
