"""The programs on the pages about moving over run, and do what the pages say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.docs.test_docs import ROOT, blocks

PAGES = ROOT / "docs" / "moving"


def program(page: str, number: int) -> dict[str, Any]:
    """What one of a page's programs defines."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(blocks(PAGES / page, "python")[number], page, "exec"), names)
    return names


def test_one_import() -> None:
    """The program with only the import replaced."""
    with TestClient(program("sse-starlette.md", 0)["app"]) as client:
        assert client.get("/progress").text.startswith("id: 1\r\nevent: step\r\ndata: 1\r\n\r\n")


def test_streams_that_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader gets what was published after its position."""
    monkeypatch.chdir(tmp_path)
    names = program("sse-starlette.md", 2)
    with TestClient(names["app"]) as client:
        first, second = (client.post("/progress/7", params={"done": done}).json()["id"] for done in (1, 2))
        page, _ = client.portal.call(lambda: names["hub"].history("job.7", after=first))  # type: ignore[union-attr]
        assert [entry.data for entry in page.entries] == ['{"done":2}']
        assert second.endswith("-2")
