"""OpenTelemetry as an extra: only where someone wants it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import Serve

from newswire.errors import InvalidSetting
from newswire.server import Settings


def test_nothing_imports_it_by_itself() -> None:
    """A hub, the server and the relay work without the package."""
    code = "import newswire.server.app, newswire.relay.served, newswire.runs, newswire.testing, sys; "
    done = subprocess.run([sys.executable, "-c", code + "print('opentelemetry' in sys.modules)"], capture_output=True)
    assert done.stdout.split() == [b"False"], done.stderr


def test_a_server_that_traces(tmp_path: Path) -> None:
    """`--otel` with the API alone, which goes nowhere: everything works."""
    with Serve(tmp_path, "--otel", "--workers", "2") as server:
        server.publish("news", "1")
        assert server.stored("news") == ["1"]
        assert httpx2.get(f"{server.url}/metrics").status_code == 200


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting says what to install."""
    for name in [name for name in sys.modules if name.startswith("newswire.otel")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    with pytest.raises(InvalidSetting, match=r"newswire\[otel\]"):
        Settings(log="memory://", otel=True)
