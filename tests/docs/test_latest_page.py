"""The code of docs/latest.md runs."""

from __future__ import annotations

from typing import Any

import pytest
from tests.docs.test_docs import ROOT, blocks, execute

pytestmark = pytest.mark.anyio


async def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The newest price of each share, once."""
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "latest.md", "python"):
        await execute(block, names)
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["prices.AAPL", "12"],
        ["prices.GOOG", "7"],
    ]
    await names["hub"].close()
