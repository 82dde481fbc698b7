"""What single checks find."""

from __future__ import annotations

import pytest

from newswire.doctor.checks import _retries
from newswire.doctor.watch import Block


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (["3000"], []),
        (["9" * 5000], []),
        (["1000500"], []),
        (["499"], ["retry-storm"]),
        (["0" * 5000 + "10"], ["retry-storm"]),
        (["", "-1", "x" * 5000], ["bad-retry"]),
        (["3000", "\u0663", "0"], ["bad-retry", "retry-storm"]),
        ([], ["retry-none"]),
    ],
)
def test_retry(values: list[str], codes: list[str]) -> None:
    """Any digits are a number, however many."""
    found = _retries([Block([f"retry: {value}" for value in values], 0.0)])
    assert [each.code for each in found] == codes
    assert all(len(each.what) < 80 for each in found)
