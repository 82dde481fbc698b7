"""The code of docs/contracts.md runs, in order, as one program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.docs.test_docs import ROOT, blocks, execute
from tests.fixtures.serve import run_newswire

pytestmark = pytest.mark.anyio


async def test_the_page_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events go out and come back as values. The module of the contract is one that `newswire types` takes."""
    module, *others = blocks(ROOT / "docs" / "contracts.md", "python")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "events.py").write_text(module)
    done = run_newswire("types", "shop.events:events", folder=tmp_path)
    assert b"export type ShopEvent" in done.stdout, done.stderr.decode()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    monkeypatch.delitem(sys.modules, "shop.events", raising=False)
    names: dict[str, Any] = {"__name__": "page"}
    await execute(module, names)
    for block in others:
        await execute(block, names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["price", "price", "done"]
    event = names["TypedEvent"]("price", names["Price"](symbol="A", value=1.0))
    assert names["show"](event) == "A: 1.0"
    await names["hub"].close()
