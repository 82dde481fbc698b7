"""The program of docs/latest.md runs, and prints what the page says."""

from __future__ import annotations

import subprocess
import sys

from tests.docs.test_docs import ROOT, blocks


def test_the_page_runs() -> None:
    """The newest price of each share, once."""
    [program] = blocks(ROOT / "docs" / "latest.md", "python")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["prices.AAPL", "12"], ["prices.GOOG", "7"]]
