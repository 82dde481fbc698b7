"""Counts in messages: one thing is no plural."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from newswire.counted import counted
from newswire.errors import InactivityTimeout, TooManyAttempts

SOURCE = Path(__file__).parents[1] / "src" / "newswire"
# A variable in a message right before a plural. Constants (in capitals) are what they are.
PLURAL = re.compile(
    r"\{[a-z_.]*(?:limit|most|max|rate|seconds|timeout|attempts|per_\w+|len\([^{}]*\))[a-z_.]*(?::[^{}]*)?\} "
    r"(?:events|bytes|channels|streams|members|connections|parameters|iterables|attempts|seconds|entries|runs)\b"
)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 events"), (1, "1 event"), (1.0, "1 event"), (0.5, "0.5 events"), (2, "2 events"), (12345, "12,345 events")],
)
def test_counted(number: float, words: str) -> None:
    assert counted(number, "event") == words


def test_errors_count_in_the_singular() -> None:
    """As commands do."""
    assert "for 1 second, not" in str(InactivityTimeout(1.0))
    assert "after 1 attempt and" in str(TooManyAttempts(1, 2.0))


def test_no_message_counts_by_itself() -> None:
    """A limit that someone sets to 1 is no plural; `counted` knows."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if PLURAL.search(line) and ".1f" not in line and " > 1" not in line:
                found.append(f"{path.relative_to(SOURCE)}:{number}: {line.strip()}")
    assert found == []
