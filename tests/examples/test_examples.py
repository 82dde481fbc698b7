"""Each example runs as its docstring says, on a real server, and does what it says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import running

from newswire import Decoder, Event
from newswire.contract.check import StreamChecker

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "__init__.py")


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


def test_contract_app() -> None:
    """The stream has the events that the application's own OpenAPI document declares."""
    with running("examples.contract_app:app") as (url, _):
        events = read(f"{url}/reports/sales", 2)
        document = httpx2.get(f"{url}/openapi.json").json()
    assert [event.event for event in events] == ["step", "report"]
    assert StreamChecker(document, "/reports/{name}").check(events) == []


def test_tokens_end_by_themselves() -> None:
    """A finished generator ends the stream, with its last event."""
    with running("examples.tokens:app") as (url, process):
        events = read(f"{url}/answer?text=a+b", 3)
        assert [event.json() for event in events[:2]] == [{"token": "a"}, {"token": "b"}]
        assert (events[2].event, events[2].data) == ("end", "[DONE]")
        assert process.stdout is not None
        assert process.stdout.readline() == "the generator is closed\n"


def test_tokens_stop_when_the_client_leaves() -> None:
    """A generator that would go on for minutes is closed as soon as its reader has left."""
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


def test_answer_is_read_again_and_stopped() -> None:
    """The POST streams the answer and says where it is; a reader that comes later gets the same, and DELETE ends it."""
    with running("examples.answer:app") as (url, _):
        with httpx2.stream("POST", f"{url}/answers", content="a b c") as answer:
            place = answer.headers["content-location"]
            told = Decoder().feed(answer.read())
        assert [event.data for event in told[:-1]] == ["a ", "b ", "c "]
        assert (told[-1].event, told[-1].json()) == ("newswire.end", {"reason": "done"})
        assert read(f"{url}{place}", 4) == told
        assert read(f"{url}{place}", 2, after=told[1].id) == told[2:]
        with httpx2.stream("POST", f"{url}/answers", content="word " * 2000) as answer:
            place = answer.headers["content-location"]
        assert httpx2.delete(f"{url}{place}").json() == {"stopped": True}
        with httpx2.stream("GET", f"{url}{place}", timeout=20) as answer:
            assert Decoder().feed(answer.read())[-1].json() == {"reason": "stopped"}
        assert httpx2.delete(f"{url}{place}").json() == {"stopped": False}


def test_answer_is_started_once_a_key() -> None:
    """The same Idempotency-Key gives the same answer, not another one."""
    with running("examples.answer:app") as (url, _):
        ask = partial(httpx2.post, f"{url}/answers", headers={"idempotency-key": "1"}, timeout=20)
        first, second = ask(content="one two"), ask(content="something else")
        assert Decoder().feed(first.content) == Decoder().feed(second.content)


def test_job_progress() -> None:
    """A watcher that comes back gets the rest of the job, once, and the result in the end."""
    with running("examples.job_progress:app") as (url, _):
        accepted = httpx2.post(f"{url}/jobs")
        assert accepted.status_code == 202
        place = f"{url}{accepted.headers['location']}"
        with httpx2.stream("GET", place, timeout=20) as answer:
            events = Decoder().feed(answer.read())
        *progress, end = events
        assert progress[-1].json() == {"done": 5, "total": 5, "message": "hashing"}
        assert end.json() == {"reason": "done", "result": {"sha256": hashlib.sha256(bytes(range(5))).hexdigest()}}
        assert read(place, len(events) - 2, after=events[1].id) == events[2:]
        assert httpx2.get(place, headers={"last-event-id": str(end.id)}).status_code == 204


def test_worker_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process writes, the reader of the first gets, and the end of the worker's block ends the run."""
    monkeypatch.setenv("SHOUTS_LOG", f"sqlite:///{tmp_path}/shouts.db")
    with running("examples.worker_process:app") as (url, process):
        events = Decoder().feed(httpx2.post(f"{url}/shouts", content="it works", timeout=30).content)
        text = "".join(event.data for event in events if event.event == "message")
        assert text.startswith("IT WORKS (process ")
        assert str(process.pid) not in text
        assert events[-1].json() == {"reason": "done"}


def test_ai_sdk_chat() -> None:
    """An answer comes in the SDK's stream and is resumed while it goes on; then there is nothing to resume."""
    with running("examples.ai_sdk_chat:app") as (url, _):
        message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "word " * 20}]}
        body = {"id": "c1", "messages": [message], "trigger": "submit-message"}
        with httpx2.stream("POST", f"{url}/api/chat", json=body, timeout=20) as answer:
            assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
            next(answer.iter_raw())
        resumed = httpx2.get(f"{url}/api/chat/c1/stream", timeout=20)
        *chunks, done = [event.data for event in Decoder().feed(resumed.content)]
        assert done == "[DONE]"
        deltas = [chunk["delta"] for chunk in map(json.loads, chunks) if chunk["type"] == "text-delta"]
        assert "".join(deltas) == f"You asked: {'word ' * 20} "
        assert httpx2.get(f"{url}/api/chat/c1/stream").status_code == 204
        assert httpx2.get(f"{url}/api/chat/another/stream").status_code == 204
