"""200 open streams of each framework hold nothing of a pool of five connections."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import psutil
import pytest
from tests.fixtures.ports import free_port
from tests.fixtures.serve import clean_environment

HERE = Path(__file__).parent
PATIENCE = 60.0
STREAMS = 200
POOL = 5
UVICORN = ["-m", "uvicorn", "--ws", "none", "--factory", "pooled_apps:app", "--port"]
HYPERCORN = ["-m", "hypercorn", "pooled_apps:app()", "--bind"]
FLASK = "pooled_apps:app()"
GTHREAD = ["--worker-class", "gthread", "--threads", str(STREAMS + 20), FLASK]
COMMANDS = {
    "starlette, uvicorn": [*UVICORN, "{port}"],
    "fastapi, uvicorn": [*UVICORN, "{port}"],
    "fastapi yield, uvicorn": [*UVICORN, "{port}"],
    "litestar, uvicorn": [*UVICORN, "{port}"],
    "django, uvicorn": ["-m", "uvicorn", "--ws", "none", "pooled_apps:django_app", "--port", "{port}"],
    "django, daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "pooled_apps:django_app"],
    "quart, hypercorn": [*HYPERCORN, "127.0.0.1:{port}"],
    "flask, gunicorn": ["-m", "gunicorn", "--bind", "127.0.0.1:{port}", *GTHREAD],
    "flask, gunicorn gevent": ["-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "gevent", FLASK],
    "aiohttp": ["-m", "aiohttp.web", "-H", "127.0.0.1", "-P", "{port}", "pooled_apps:aiohttp"],
}
pytestmark = pytest.mark.slow


def start(command: list[str], framework: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A server, once it listens."""
    environment = clean_environment({"SITE": str(folder), "PYTHONPATH": str(HERE), "FRAMEWORK": framework})
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in command)],
            cwd=folder,
            stdout=file,
            stderr=file,
            env=environment,
        )
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("name", COMMANDS)
def test_many_streams_on_a_small_pool(name: str, tmp_path: Path) -> None:
    """All of them begin, none holds a connection, and a query still gets one."""
    framework = name.split(",")[0].split()[0]
    path = "/yielded" if "yield" in name else "/events"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = start(COMMANDS[name], framework, port, tmp_path)
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(STREAMS):  # one after the other: a server's backlog is 100 at most
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
                connection.settimeout(PATIENCE)
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = connection.recv(4096)
                    assert piece, (tmp_path / "output").read_text()
                    head += piece
                assert head.startswith(b"HTTP/1.1 200"), head
            assert int(httpx2.get(f"{url}/held", timeout=PATIENCE).text) == 0
            for _ in range(2 * POOL):
                assert httpx2.get(f"{url}/rows", timeout=PATIENCE).text == "row"
    finally:
        workers = psutil.Process(server.pid).children(recursive=True)
        for process in (server, *workers):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        server.wait(PATIENCE)
