"""docs/frameworks: each page as a newcomer follows it, in an empty folder, with the commands that it shows."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from tests.fixtures.apart import installed_apart
from tests.fixtures.ports import free_port, wait_for
from tests.fixtures.serve import Reader, clean_environment

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "frameworks").glob("*.md"))
PATIENCE = 60.0
# The option of each server for another port than the page's 8000: tests run side by side.
PORT = {
    "aiohttp.web": "--port {}",
    "gunicorn": "--bind 127.0.0.1:{}",
    "hypercorn": "--bind 127.0.0.1:{}",
    "newswire": "--port {}",
    "sanic": "--port {}",
    "uvicorn": "--port {}",
}
pytestmark = pytest.mark.slow


def commands(page: Path) -> list[list[str]]:
    """What is typed, in its order."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return [shlex.split(line[2:]) for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def example(page: Path) -> str:
    """The file that the page includes as app.py."""
    [path] = re.findall(r'title="app.py"\n--8<-- "(.*?)"', page.read_text())
    return (ROOT / path).read_text()


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[str]:
    """The page's server on another port, once it listens; gives what stands for `localhost:8000`."""
    port = free_port()
    name = command[2] if command[:2] == ["python", "-m"] else command[0]
    # A script of the environment's, or the module of the same name: Sanic is installed apart.
    program = command[1:] if command[0] == "python" else ["-m", *command]
    environment = clean_environment()
    if name == "sanic":
        environment["PYTHONPATH"] = str(installed_apart("sanic", "sanic>=25.3"))
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *program, *PORT[name].format(port).split()],
            cwd=folder,
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        wait_for(port, process, PATIENCE, (folder / "output").read_text)
        yield f"127.0.0.1:{port}"
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        for child in (process, *children):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                child.kill()
        process.wait(PATIENCE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_word_for_word(page: Path, tmp_path: Path) -> None:
    """What it installs is what it takes; the server starts; `curl -N` reads what the other curl publishes."""
    install, server, read, publish = commands(page)
    assert install[:2] == ["pip", "install"]
    wanted = {re.split(r"[\[>]", each)[0] for each in install[2:]}
    assert "newswire" in wanted
    for name in wanted - {"sanic"}:
        metadata.version(name)
    (tmp_path / "app.py").write_text(example(page))
    with serving(server, tmp_path) as place:
        url = read[-1].replace("localhost:8000", place)
        with Reader(f"http://{url}") as reader:
            reader.opened()
            curl = [each.replace("localhost:8000", place) for each in publish]
            done = subprocess.run([*curl, "--silent", "--fail"], capture_output=True, text=True, timeout=PATIENCE)
            assert done.returncode == 0, done.stderr
            [event] = reader.read(1)
            assert (event.data, f'"{event.id}"' in done.stdout) == (publish[publish.index("-d") + 1], True)
