"""The ways in which people start programs that have a hub in a module.

A `TestClient` for each test, several event loops, threads and `os.fork` are in `test_lifecycle`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.fixtures.ports import free_port
from tests.fixtures.serve import Reader, clean_environment

HERE = Path(__file__).parent
PATIENCE = 60.0


@contextmanager
def program(command: list[str], folder: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with `programs` on its path; its output is in the folder."""
    environment = clean_environment({"SITE": str(folder), "PYTHONPATH": f"{folder}:{HERE}", **more})
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, stdout=output, stderr=output, env=environment
        )
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        for child in (process, *children):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                child.kill()
        process.wait(PATIENCE)


def until(condition: Any, folder: Path, process: subprocess.Popen[bytes]) -> Any:
    """Wait until a condition is something; errors of a connection count as not yet."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if found := condition():
                return found
        assert process.poll() is None, (folder / "output").read_text()
        assert time.monotonic() < deadline, (folder / "output").read_text()
        time.sleep(0.05)


def run(code: str, folder: Path, **more: str) -> list[str]:
    """The lines that a script prints."""
    environment = clean_environment({"SITE": str(folder), "PYTHONPATH": str(HERE), **more})
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_gunicorn_with_preload(tmp_path: Path) -> None:
    """The module is imported before the fork; each worker opens the hub for itself, on one log."""
    port = free_port()
    command = ["-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}", "programs:app"]
    with program(command, tmp_path) as process:
        answered: set[str] = set()

        def both() -> bool:
            answered.add(httpx2.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).text)
            return len(answered) == 2

        until(both, tmp_path, process)
    assert set(run("import programs; print(*programs.published('pids'), sep='\\n')", tmp_path)) == answered


@pytest.mark.slow
def test_celery_with_prefork(tmp_path: Path) -> None:
    """Tasks publish from the worker's processes, which are forks."""
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    run("import programs; [programs.celery().send_task('publish', [str(n)]) for n in range(6)]", tmp_path)
    code = "import programs; programs.celery().worker_main(['worker', '--pool=prefork', '-c2', '--without-mingle'])"
    with program(["-c", code], tmp_path) as process:
        reading = "import programs; print(*programs.published('tasks'), sep='\\n')"
        found = until(lambda: (lines := run(reading, tmp_path)) and len(lines) == 6 and lines, tmp_path, process)
        assert sorted(line.split()[0] for line in found) == [str(number) for number in range(6)]
        assert str(process.pid) not in {line.split()[1] for line in found}


@pytest.mark.slow
def test_celery_eager(tmp_path: Path) -> None:
    """As in an application's own tests: tasks run where they are called."""
    code = """
import programs
tasks = programs.celery()
print(tasks.tasks["publish"].delay("one").get() != "")
print(*programs.published("tasks"))
"""
    first, second = run(code, tmp_path, EAGER="1")
    assert first == "True"
    assert second.startswith("one ")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    """A pool's processes publish to one log."""
    code = f"""
import multiprocessing, os, programs

def publish(number):
    programs.hub.sync.publish("numbers", str(number))
    return os.getpid()

if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(os.getpid() in pool.map(publish, range(4)))
    print(*sorted(programs.published("numbers")))
"""
    (tmp_path / "main.py").write_text(code)
    environment = clean_environment({"SITE": str(tmp_path), "PYTHONPATH": str(HERE)})
    command = [sys.executable, str(tmp_path / "main.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    assert done.stdout.splitlines() == ["False", "0 1 2 3"], done.stderr


RELOADED = """
import programs
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from newswire import EventSourceResponse, last_event_id

VERSION = 1

async def version(request):
    await programs.hub.publish("versions", str(VERSION))
    return PlainTextResponse(str(VERSION))

async def events(request):
    return EventSourceResponse(programs.hub.subscribe("versions", after=last_event_id(request)))

routes = [Route("/", version), Route("/events", events)]
app = Starlette(routes=routes, lifespan=programs.hub.lifespan)
"""


@contextmanager
def changing(path: Path, text: str) -> Iterator[None]:
    """Write a file, and again from time to time: uvicorn does not see a change that comes before its first look."""
    over = threading.Event()

    def write() -> None:
        while True:
            new = path.with_suffix(".new")
            new.write_text(text)
            new.replace(path)  # at once: a program that is loaded meanwhile is whole
            if over.wait(5):
                return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_uvicorn_with_reload(tmp_path: Path) -> None:
    """A stream that is open says goodbye, and its client comes back to the new program without a gap."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    source = tmp_path / "source"
    source.mkdir()
    (source / "reloaded.py").write_text(RELOADED)
    command = ["-m", "uvicorn", "--reload", "--reload-dir", str(source), "--app-dir", str(source), "--port", str(port)]
    with program([*command, "reloaded:app"], tmp_path) as process:
        assert until(lambda: httpx2.get(url, timeout=PATIENCE).text, tmp_path, process) == "1"
        with Reader(f"{url}/events") as reader:
            begin = reader.opened()
            # Not of the same length: Python takes kept bytecode for that of a file of the same second and length.
            with changing(source / "reloaded.py", RELOADED.replace("VERSION = 1", "VERSION = 1 + 1")):
                assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
        until(lambda: httpx2.get(url, timeout=PATIENCE).text == "2", tmp_path, process)
        with Reader(f"{url}/events", {"Last-Event-ID": begin}) as reader:
            while (found := reader.read(1)[0].data) != "2":
                assert found == "1"  # and no gap


CELLS = [
    "from newswire import Hub\nhub = Hub('memory://')\nsubscription = hub.subscribe('news', start='earliest')",
    "await hub.publish('news', 'one')",
    "first = await anext(aiter(subscription))",
    "try:\n    hub.sync.publish('news', 'two')\nexcept RuntimeError as error:\n    said = str(error)",
    "import asyncio\nawait asyncio.to_thread(hub.sync.publish, 'news', 'three')",
    "async with hub:\n    pass",
    "await hub.open()\nagain = await hub.publish('news', 'four')\nawait hub.close()",
]


def test_a_notebook() -> None:
    """Cells with `await` run in an event loop that always runs, as in Jupyter: `hub.sync` says what to do there."""
    names: dict[str, Any] = {}

    async def kernel() -> None:
        for cell in CELLS:
            code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = types.FunctionType(code, names)()
            if inspect.isawaitable(result):
                await result

    asyncio.run(kernel())
    assert names["first"].data == "one"
    assert "await the hub's own method" in names["said"]
    assert names["again"]
