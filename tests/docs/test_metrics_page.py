"""docs/metrics.md has each metric, with its help."""

from __future__ import annotations

import runpy

from tests.docs.test_docs import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text()


def test_the_tables_are_those_of_the_metrics() -> None:
    """What `python scripts/metrics_tables.py` writes: no metric is missing, and none is there that is not."""
    written = runpy.run_path(str(ROOT / "scripts" / "metrics_tables.py"))["written"]
    assert written(PAGE) == PAGE
