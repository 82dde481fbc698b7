"""The code of docs/contracts.md runs, in order, as one program."""

from __future__ import annotations

from typing import Any

import pytest
from tests.docs.test_docs import ROOT, blocks, execute

pytestmark = pytest.mark.anyio


async def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Events go out and come back as values."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(ROOT / "docs" / "contracts.md", "python"):
        await execute(block, names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["price", "price", "done"]
    event = names["TypedEvent"]("price", names["Price"](symbol="A", value=1.0))
    assert names["show"](event) == "A: 1.0"
    await names["hub"].close()
