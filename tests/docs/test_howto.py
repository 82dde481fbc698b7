"""The code of the pages in docs/howto runs, with the real tools that the pages name."""

from __future__ import annotations

import asyncio
import re
import runpy
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from tests.docs.test_all_blocks import NO_PLUGINS
from tests.docs.test_docs import ROOT, blocks, execute
from tests.fixtures.serve import PATIENCE, clean_environment, running

from newswire import Hub

PAGES: Final = ROOT / "docs" / "howto"
FILE: Final = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.anyio
# A broker of files in the folder, in place of Redis.
BROKER: Final = """
from tasks import app
app.conf.broker_transport_options = dict.fromkeys(["data_folder_in", "data_folder_out", "control_folder"], "broker")
app.conf.worker_hijack_root_logger = False
"""


def files_of(page: str, folder: Path) -> None:
    """Write the page's files."""
    for name, text in FILE.findall((PAGES / page).read_text()):
        (folder / name).write_text(text)


async def test_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It publishes; a key keeps one of two events."""
    monkeypatch.chdir(tmp_path)
    script, _, key = blocks(PAGES / "threads.md", "python")
    names: dict[str, Any] = {}
    await asyncio.to_thread(exec, script, names)
    for _ in range(2):
        await asyncio.to_thread(exec, key, names)
    await asyncio.to_thread(names["hub"].sync.close)
    async with Hub("sqlite:///events.db") as hub:
        jobs, _ = await hub.history("jobs")
        assert [entry.data for entry in jobs.entries] == ['{"step":1}', '{"step":2}', '{"step":3}']
        report, _ = await hub.history("report.7")
        assert [entry.data for entry in report.entries] == ['{"page":1}']


@pytest.mark.slow
async def test_celery_in_a_process_that_forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with prefork runs the page's task, and readers get its events."""
    monkeypatch.chdir(tmp_path)
    files_of("threads.md", tmp_path)
    (tmp_path / "broker").mkdir()
    (tmp_path / "with_files.py").write_text(BROKER)
    environment = {**clean_environment(), "BROKER": "filesystem://", "C_FORCE_ROOT": "1"}
    command = [sys.executable, "-m", "celery", "-A", "with_files", "worker", "--pool", "prefork", "-c", "1"]
    with (tmp_path / "output").open("wb") as output:
        worker = subprocess.Popen(
            [*command, "--without-mingle", "--without-gossip"],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        [delay] = re.findall(r"python -c '(.*)'", (PAGES / "threads.md").read_text())
        send = f"from with_files import app; {delay}"
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", send], cwd=tmp_path, env=environment, check=True, timeout=PATIENCE
        )
        async with Hub("sqlite:///events.db") as hub, asyncio.timeout(2 * PATIENCE):
            found = []
            async for event in hub.subscribe("report.7", start="earliest"):
                found.append(event.event)
                if event.event == "ready":
                    break
        assert found == ["progress", "progress", "progress", "ready"]
    finally:
        worker.terminate()
        await asyncio.to_thread(worker.wait, PATIENCE)


@pytest.mark.slow
def test_the_tests_of_the_page(tmp_path: Path) -> None:
    """They pass in a folder of their own. The last one would see the others' events if they had one hub."""
    files_of("testing.md", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "anyio"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**NO_PLUGINS, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr


async def test_the_test_client_of_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's test passes with the application of Flask's page."""
    monkeypatch.setenv("NEWSWIRE_LOG", "memory://")
    names = runpy.run_path(str(ROOT / "examples" / "frameworks" / "flask_app.py"))
    monkeypatch.setitem(sys.modules, "app", types.SimpleNamespace(**names))  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    await execute(blocks(PAGES / "testing.md", "python")[-1], found)
    await asyncio.to_thread(found["test_a_reader_gets_what_is_published"])
    await asyncio.to_thread(names["hub"].sync.close)


async def test_a_hub_on_a_server() -> None:
    """Its URL is one that a hub takes."""
    names: dict[str, Any] = {}
    [code] = blocks(PAGES / "workers.md", "python")
    await execute(code, names)
    assert isinstance(names["hub"], Hub)


def test_answers(tmp_path: Path) -> None:
    """An answer is started once for a key, and can be read after it has ended."""
    files_of("ai-answers.md", tmp_path)
    with running("answers:app", tmp_path) as (url, _):
        asked = [
            httpx2.post(f"{url}/answers", content="why?", headers={"idempotency-key": "1"}, timeout=PATIENCE)
            for _ in range(2)
        ]
        assert [answer.status_code for answer in asked] == [202, 202]
        first, second = (answer.headers["location"] for answer in asked)
        assert first == second
        deadline = time.monotonic() + PATIENCE
        while "newswire.end" not in (text := httpx2.get(f"{url}{first}", timeout=PATIENCE).text):
            assert time.monotonic() < deadline
        assert "data: asked: " in text
        assert httpx2.post(f"{url}{first}/stop", timeout=PATIENCE).json() == {"stopped": False}
