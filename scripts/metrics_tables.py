"""Writes the tables of docs/metrics.md from the metrics themselves: `python scripts/metrics_tables.py`.

A test compares the page with what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from newswire.relay.served import FAMILIES as RELAY
from newswire.server.metrics import FAMILIES as SERVE
from newswire.serving.metrics import Family
from newswire.serving.served_app import SHARED

PAGE: Final = Path(__file__).parent.parent / "docs" / "metrics.md"


def table(families: Iterable[Family]) -> str:
    """The rows for these metrics."""
    rows = ["| metric | kind | labels | |", "| --- | --- | --- | --- |"]
    for one in sorted(families, key=lambda family: family.name):
        name = f"newswire_{one.name}" if one.kind == "histogram" else one.samples[0]
        labels = ", ".join(f"`{label}`" for label in one.labels)
        rows.append(f"| `{name}` | {one.kind} | {labels} | {one.help} |")
    return "\n".join(rows)


def written(page: str) -> str:
    """The page with its tables as they should be."""
    for name, families in (("serve", SERVE), ("relay", RELAY), ("shared", SHARED)):
        head = f"<!-- {name} -->\n"
        before, _, rest = page.partition(head)
        page = before + head + table(families) + "\n" + re.sub(r"\A(?:\|[^\n]*\n)*", "", rest)
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
