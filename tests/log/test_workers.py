"""A log in memory in one of several worker processes: the others' readers would lose events, so the hub refuses it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from tests.fixtures.ports import free_port
from tests.fixtures.serve import NEWSWIRE, PATIENCE, clean_environment

from newswire.log.workers import workers

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from newswire import Hub

hub = Hub({log!r})

async def publish(request):
    return PlainTextResponse(str(await hub.publish("a", "x")))

app = Starlette(routes=[Route("/", publish)])

def wsgi(environ, start_response):
    position = hub.sync.publish("a", "x")
    start_response("200 OK", [])
    return [position.encode()]
"""
SERVERS = {
    "newswire run": [str(NEWSWIRE), "run", "app:app", "--port", "{port}"],
    "uvicorn": [sys.executable, "-m", "uvicorn", "app:app", "--port", "{port}"],
    "hypercorn": [sys.executable, "-m", "hypercorn", "app:app", "--bind", "127.0.0.1:{port}"],
    "gunicorn": [str(NEWSWIRE.with_name("gunicorn")), "app:wsgi", "--bind", "127.0.0.1:{port}"],
    "granian": [str(NEWSWIRE.with_name("granian")), "--interface", "asgi", "app:app", "--port", "{port}"],
}


def said(
    tmp_path: Path, server: str, *flags: str, log: str = "memory://", status: int = 200, **environment: str
) -> str:
    """Start it, publish, stop it. Returns what it wrote."""
    (tmp_path / "app.py").write_text(APP.format(log=log))
    port = free_port()
    command = [part.format(port=port) for part in SERVERS[server]] + list(flags)
    with (tmp_path / "said").open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=file,
            stderr=file,
            env=clean_environment({"PYTHONPATH": ".", **environment}),
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + PATIENCE
            answered = False
            while not answered:
                assert time.monotonic() < deadline
                assert process.poll() is None, (tmp_path / "said").read_text()
                with contextlib.suppress(httpx2.TransportError):
                    answered = httpx2.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).status_code == status
                if server == "granian":  # one that is stopped while a worker starts waits for that worker for ever
                    text = (tmp_path / "said").read_text()
                    answered = answered and text.count("Started worker-") == int(flags[-1] if flags else 1)
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:  # one that didn't stop, and its workers, must not stay behind for the tests after this
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return (tmp_path / "said").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_one_of_several_workers_is_refused(tmp_path: Path, server: str) -> None:
    """With the server's name and what to do; a log that is shared is not."""
    text = said(tmp_path, server, "--workers", "2", status=500)
    assert re.search(r"one of several workers of \w+, and its log is in memory \(memory://\)", text), text
    assert "Use a log that they share, such as sqlite:///events.db, or one worker" in text
    assert "several workers" not in said(tmp_path, server, "--workers", "2", log="sqlite:///x.db")


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_worker_by_itself_is_not(tmp_path: Path, server: str) -> None:
    """Also where the server starts a process for it."""
    assert "several workers" not in said(tmp_path, server, "--workers", "1")


@pytest.mark.slow
def test_the_variable_that_servers_read(tmp_path: Path) -> None:
    """WEB_CONCURRENCY, as platforms set it."""
    assert "several workers of uvicorn" in said(tmp_path, "uvicorn", status=500, WEB_CONCURRENCY="2")


@pytest.mark.parametrize(
    ("variables", "arguments", "found"),
    [
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0"}, ["-w", "4", "app:app"], "gunicorn"),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0"}, ["--workers=4", "app:app"], "gunicorn"),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0", "GUNICORN_CMD_ARGS": "--bind=x -w2"}, ["app:app"], "gunicorn"),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0", "WEB_CONCURRENCY": "3"}, ["app:app"], "gunicorn"),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0"}, ["app:app"], None),
        ({"SERVER_SOFTWARE": "gunicorn/23.0.0"}, ["-w", "1", "app:app"], None),
        ({"WEB_CONCURRENCY": "3"}, ["app.py"], None),
    ],
)
def test_signs(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], arguments: list[str], found: str | None
) -> None:
    """What gunicorn leaves in its workers; a variable alone, in a process that is no worker, is none."""
    for name in ("SERVER_SOFTWARE", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["gunicorn", *arguments])
    assert workers() == found


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["/usr/bin/celery", "-A", "tasks", "worker", "-c1"], "celery"),
        (["/site-packages/celery/__main__.py", "-A", "tasks", "worker"], "celery"),
        (["/usr/bin/celery", "-A", "tasks", "beat"], None),
        (["/usr/bin/rq", "worker-pool", "-n", "2"], "rq"),
        (["/usr/bin/rq", "info"], None),
        (["/usr/bin/dramatiq", "tasks"], "dramatiq"),
        (["app.py", "worker"], None),
    ],
)
def test_signs_of_job_queues(monkeypatch: pytest.MonkeyPatch, command: list[str], found: str | None) -> None:
    """A worker that Celery, RQ or Dramatiq has started is none that readers are connected to."""
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    monkeypatch.setattr(sys, "argv", command)
    assert workers() == found


@pytest.mark.parametrize(("processes", "found"), [(1, None), (2, "uWSGI")])
def test_signs_of_uwsgi(monkeypatch: pytest.MonkeyPatch, processes: int, found: str | None) -> None:
    """The module that it makes in its workers says how many they are."""
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(numproc=processes))  # type: ignore[arg-type]
    assert workers() == found
