"""Every finding has a cure, and a line on the doctor's page."""

from __future__ import annotations

import re

from tests.docs.test_docs import ROOT

from newswire.doctor.findings import CURES


def test_the_page_lists_all() -> None:
    """And no other."""
    table = (ROOT / "docs" / "doctor.md").read_text().partition("## What it finds")[2]
    assert set(re.findall(r"`([\w-]+)`", table)) == set(CURES) - {"unreachable"}


def test_cures_have_no_holes() -> None:
    """No placeholder is left, and no cure is empty."""
    assert all(cure.strip() and "{buffering}" not in cure and "[" not in cure[:1] for cure in CURES.values())
