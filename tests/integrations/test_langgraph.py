"""langgraph-api on our `sse_starlette`, read by its official client.

Its pins (protobuf below 7, jsonschema-rs below 0.45) fit no environment of ours, so it is installed apart.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fixtures.apart import installed_apart
from tests.fixtures.ports import free_port, wait_for
from tests.fixtures.serve import ROOT, clean_environment

HERE = Path(__file__).parent
PACKAGES = ("langgraph-cli[inmem]==0.4.40", "langgraph-api==0.16.7", "langgraph-sdk==0.4.14")  # 181 MB
PATIENCE = 120.0
INSTALLATION = 600.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALLATION + 2 * PATIENCE)]


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """The server, once it listens. In the end it is stopped, and has to stop. What it prints is in `output`."""
    port = free_port()
    command = [sys.executable, str(HERE / "langgraph_server.py"), str(port)]
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, env=environment)
    try:
        wait_for(port, process, PATIENCE, output.read_text)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_langgraph_streams_on_it(tmp_path: Path) -> None:
    """A run is streamed, and a stream that is joined later goes on after an event's id."""
    packages = installed_apart("langgraph", *PACKAGES, seconds=INSTALLATION)
    settings = {"LANGSMITH_TRACING": "false", "LANGGRAPH_NO_VERSION_CHECK": "true", "PYTHONUNBUFFERED": "1"}
    # Its packages come before ours, which have other versions of the same; newswire itself needs few.
    environment = clean_environment({**settings, "PYTHONPATH": f"{packages}:{ROOT / 'src'}"})
    with serving(tmp_path, environment) as url:
        command = [sys.executable, str(HERE / "langgraph_client.py"), url]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
        output = (tmp_path / "output").read_text()
    assert "streams by newswire.integrations.sse_starlette.sse" in output
    expected = ["streamed 1", "streamed 2", "streamed 3", "joined [1, 2, 3]", "resumed 2", "resumed 3"]
    assert done.stdout.splitlines() == expected, done.stderr + output
