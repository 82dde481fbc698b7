"""Streams in WSGI applications end in order when their server stops, and when the process does."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from types import FunctionType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psutil
import pytest
from tests.fixtures.ports import free_port, wait_for
from tests.fixtures.serve import Reader, clean_environment

from newswire import Hub
from newswire.integrations.wsgi import WsgiStream
from newswire.integrations.wsgi_stop import Teller, WsgiServer, teller

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
pytestmark = pytest.mark.anyio


class Stream:
    """Notes its end in a list."""

    def __init__(self, server: WsgiServer) -> None:
        self.ended = asyncio.Event()
        server.streams[self] = None
        self._server = server

    def end(self) -> None:
        self._server.streams.pop(self, None)
        self.ended.set()


async def test_streams_end_with_their_server_and_others_do_not() -> None:
    """Also one that comes too late. A server that has no streams is not looked at, and forgotten."""
    stopped, other = threading.Event(), threading.Event()
    tell = Teller(stopped, lambda event: not event.is_set())
    server, healthy = WsgiServer.of(tell), WsgiServer.of(Teller(other, tell.runs))
    assert WsgiServer.of(tell) is server is not healthy
    stream, elsewhere = Stream(server), Stream(healthy)
    server.watch()
    healthy.watch()
    stopped.set()
    await stream.ended.wait()
    late = Stream(server)
    server.watch()
    await late.ended.wait()
    assert not elsewhere.ended.is_set()
    elsewhere.end()
    async with asyncio.timeout(PATIENCE):
        while WsgiServer.of(tell) is server or WsgiServer.of(Teller(other, tell.runs)) is healthy:
            await asyncio.sleep(0.05)


class Threaded(socketserver.ThreadingMixIn, WSGIServer):
    """As Werkzeug's and Django's, but that it waits for its threads."""


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_a_server_that_stops_while_the_process_goes_on() -> None:
    """As in a test with `shutdown`, or after Ctrl-C: it would wait for its threads for ever."""
    hub = Hub("memory://")
    for _ in range(2):  # the next server's streams are not the last one's

        def app(environ: Any, start_response: Any) -> Any:
            return WsgiStream(hub, hub.subscribe("news"))(environ, start_response)

        with make_server("127.0.0.1", 0, app, Threaded, Quiet) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
            with contextlib.closing(connection):
                connection.request("GET", "/")
                with connection.getresponse() as answer:
                    assert answer.readline().startswith(b"retry: ")
                    server.shutdown()
                    assert b"event: newswire.goodbye" in answer.read()
            thread.join()
    hub.sync.close()


def test_granians_worker_is_asked_by_its_signals() -> None:
    """The worker's handler still reports to granian, and the streams' teller knows."""
    told: list[str] = []

    class Reported:
        def set(self) -> None:
            told.append("set")

    def made(signal_event: Any) -> Any:
        def signal_handler(number: int, frame: object) -> None:
            signal_event.set()

        return signal_handler

    handler: FunctionType = made(Reported())
    handler.__module__ = "granian._signals"
    before = signal.signal(signal.SIGTERM, handler)
    try:
        found = teller()
        assert found.found is teller().found, "each request asks the same"
        assert found.runs(found.found)
        signal.raise_signal(signal.SIGTERM)
        assert not found.runs(found.found)
        assert told == ["set"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_unknown_server_never_stops() -> None:
    """Then the streams end with the hub."""
    found = teller()
    assert found.runs(found.found)


@pytest.mark.slow
def test_a_worker_whose_parent_was_killed_says_goodbye(tmp_path: Path) -> None:
    """gunicorn's worker stops when its parent is gone. The port is free when its streams have ended."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "4", "--no-control-socket"]
    more = ["--graceful-timeout", "600", "--bind", f"127.0.0.1:{port}", "examples.frameworks.flask_app:app"]
    environment = clean_environment({"NEWSWIRE_LOG": f"sqlite:///{tmp_path}/newswire.db", "PYTHONPATH": str(ROOT)})
    process = subprocess.Popen([*command, *more], env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    workers: list[psutil.Process] = []
    try:
        wait_for(port, process, PATIENCE)
        with Reader(f"http://127.0.0.1:{port}/events/news") as reader:
            reader.opened()
            workers = psutil.Process(process.pid).children()
            process.kill()
            assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
        assert psutil.wait_procs(workers, PATIENCE)[1] == []
    finally:
        for left in (process, *workers):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()


@pytest.mark.slow
def test_flask_run_says_goodbye_at_ctrl_c(tmp_path: Path) -> None:
    """Its threads end with the process, which waits until each stream is written."""
    port = free_port()
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "flask", "--app", "examples.frameworks.flask_app"]
    environment = clean_environment({"NEWSWIRE_LOG": f"sqlite:///{tmp_path}/newswire.db", "PYTHONPATH": str(ROOT)})
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, "run", "--port", str(port)], env=environment, cwd=tmp_path, stdout=output, stderr=output
        )
    try:
        wait_for(port, process, PATIENCE)
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(Reader(f"http://127.0.0.1:{port}/events/news")) for _ in range(3)]
            for reader in readers:
                reader.opened()
            process.send_signal(signal.SIGINT)
            for reader in readers:
                assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
        assert process.wait(PATIENCE) == 0
        assert "ResourceWarning" not in (tmp_path / "output").read_text()
    finally:
        process.kill()
        process.wait()
