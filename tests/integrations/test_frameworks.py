"""The same application in each framework, under its usual servers: stream, resume, leave, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from tests.fixtures.apart import installed_apart
from tests.fixtures.ports import free_port
from tests.fixtures.serve import Reader, clean_environment

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
APP = "examples.frameworks.{}_app:app"
GUNICORN = ["-m", "gunicorn", "--worker-class", "gthread", "--threads", "40", "--bind"]
GEVENT = ["-m", "gunicorn", "--worker-class", "gevent", "--bind"]
SERVERS = {
    "flask, gunicorn": lambda port: [*GUNICORN, f"127.0.0.1:{port}", APP.format("flask")],
    "flask, gunicorn gevent": lambda port: [*GEVENT, f"127.0.0.1:{port}", APP.format("flask")],
    "flask, granian": lambda port: [
        "-m", "granian", "--interface", "wsgi", "--blocking-threads", "20", "--port", port, APP.format("flask"),
    ],
    "django, uvicorn": lambda port: ["-m", "uvicorn", "--ws", "none", "--port", port, APP.format("django")],
    "django, daphne": lambda port: ["-m", "daphne", "-b", "127.0.0.1", "-p", port, APP.format("django")],
    "quart, hypercorn": lambda port: ["-m", "hypercorn", "--bind", f"127.0.0.1:{port}", APP.format("quart")],
    "starlette, newswire run": lambda port: [
        "-m", "newswire", "run", "--port", port, APP.format("starlette"),
    ],
    "starlette, granian": lambda port: [
        "-m", "granian", "--interface", "asgi", "--port", port, APP.format("starlette"),
    ],
    "fastapi, uvicorn": lambda port: ["-m", "uvicorn", "--ws", "none", "--port", port, APP.format("fastapi")],
    "litestar, uvicorn": lambda port: ["-m", "uvicorn", "--ws", "none", "--port", port, APP.format("litestar")],
    "sanic": lambda port: ["-m", "sanic", APP.format("sanic"), "--single-process", "--port", port],
    "aiohttp": lambda port: [
        "-m", "aiohttp.web", "-H", "127.0.0.1", "-P", port, "examples.frameworks.aiohttp_app:make_app",
    ],
}  # fmt: skip
pytestmark = pytest.mark.slow


class Running:
    """One application under one server.

    Attributes:
        name: of both.
        url: of its stream.
        process: the server.
    """

    def __init__(self, name: str, folder: Path) -> None:
        port = free_port()
        self.name = name
        self.url = f"http://127.0.0.1:{port}/events/news"
        log = f"sqlite:///{folder}/newswire.db"
        command = [sys.executable, *SERVERS[name](str(port))]
        with (folder / "output").open("wb") as output:
            # Sanic's multidict is another than aiohttp's.
            path = f"{ROOT}:{installed_apart('sanic', 'sanic>=25.3')}" if name == "sanic" else str(ROOT)
            environment = clean_environment({"NEWSWIRE_LOG": log, "PYTHONPATH": path})
            self.process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=environment)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            assert self.process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, (folder / "output").read_text()
            time.sleep(0.05)

    def publish(self, data: str, channel: str = "news") -> str:
        answer = httpx2.post(self.url.replace("news", channel), content=data, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def files(self) -> int:
        """How many sockets the server and its workers have open."""
        workers = psutil.Process(self.process.pid).children(recursive=True)
        count = 0
        for pid in (self.process.pid, *(worker.pid for worker in workers)):
            with contextlib.suppress(OSError):
                folder = f"/proc/{pid}/fd"
                count += sum(os.readlink(f"{folder}/{name}").startswith("socket") for name in os.listdir(folder))
        return count


@pytest.fixture(params=SERVERS)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    running = Running(request.param, tmp_path)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            workers = psutil.Process(running.process.pid).children(recursive=True)
            for process in (running.process, *workers):  # a failed test must leave none behind
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            running.process.wait(PATIENCE)


def test_a_framework(app: Running) -> None:
    """One server for all of it, since each start costs a second."""
    # A stream, and resuming it.
    with Reader(app.url) as reader:
        begin = reader.opened()
        first = app.publish("one")
        (event,) = reader.read(1)
        assert (event.data, event.id) == ("one", first)
        assert reader.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.answer.headers["x-accel-buffering"] == "no"
        assert reader.answer.headers["incremental"] == "?1"
    second = app.publish("two")
    with Reader(app.url, {"Last-Event-ID": first}) as reader:
        assert [event.id for event in reader.read(1)] == [second]
    with Reader(app.url, {"Last-Event-ID": begin}) as reader:
        assert [event.data for event in reader.read(2)] == ["one", "two"]
    with Reader(app.url, {"Last-Event-ID": "nonsense"}) as reader:
        assert [event.event for event in reader.read(3)] == ["newswire.gap", "message", "message"]
    # What is no channel's name is the client's fault, and says so.
    bad = app.url.replace("news", "a%20b")
    for answer in (httpx2.get(bad, timeout=PATIENCE), httpx2.post(bad, content="x", timeout=PATIENCE)):
        assert answer.status_code == 400
        if app.name in ("aiohttp", "sanic"):  # by newswire's own line in the application
            assert answer.json()["code"] == "invalid_channel"
    # HEAD ends.
    assert httpx2.head(app.url, timeout=PATIENCE).status_code in (200, 405)
    # The server notices that clients leave, though it sends nothing.
    quiet = app.url.replace("news", "quiet")
    deadline = time.monotonic() + PATIENCE
    before = app.files()
    readers = [Reader(quiet) for _ in range(10)]
    for reader in readers:
        reader.__enter__()
        reader.opened()
    assert app.files() >= before + 10
    for reader in readers:
        reader.__exit__(None, None, None)
    while app.files() > before + 5:
        assert time.monotonic() < deadline, "the server keeps connections of clients that have left"
        if app.name.startswith("flask"):  # WSGI: a server notices when it writes; else that is the next heartbeat
            app.publish("wake", "quiet")
        time.sleep(0.1)
    # The server stops while a stream is open, and the client hears of it.
    with Reader(app.url) as reader:
        reader.opened()
        app.process.send_signal(signal.SIGTERM)
        assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
        assert app.process.wait(PATIENCE) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
