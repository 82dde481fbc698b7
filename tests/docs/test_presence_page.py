"""The program of docs/presence.md runs, and prints what the page says."""

from __future__ import annotations

import subprocess
import sys

from tests.docs.test_docs import ROOT, blocks


def test_the_page_runs() -> None:
    """Two members come, and both are there."""
    [program] = blocks(ROOT / "docs" / "presence.md", "python")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()) == [
        "ada join {'name': 'Ada'}",
        "bob join {'name': 'Bob'}",
        "{'ada': {'name': 'Ada'}, 'bob': {'name': 'Bob'}}",
    ]
