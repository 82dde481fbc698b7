"""What a pattern covers: whatever a request names, a credential never opens more than it grants."""

from __future__ import annotations

from typing import Any

import pytest

from newswire.server.auth.patterns import first_uncovered, read_grants


def test_each_needs_a_pattern_of_its_own() -> None:
    """The first of several that nothing covers is named; two patterns together grant no third."""
    assert first_uncovered(["a.*", "b"], ["a.1", "b", "c", "d"]) == "c"
    assert first_uncovered(["a.*", "a.*.>"], ["a.>"]) == "a.>"
    assert first_uncovered(["a.*"], ["a.1", "a.2"]) is None


@pytest.mark.parametrize("value", [5, {"a": 1}, ["a", 5], [None], ["a..b"], [""], ["a.**"], ["a b"], ["a"] * 1001])
def test_what_is_no_list_of_patterns(value: Any) -> None:
    """It is refused as a whole; nothing of it counts."""
    with pytest.raises(ValueError, match=r"has|is no"):
        read_grants(value)


def test_what_is_one() -> None:
    """A list, one text, or nothing."""
    assert read_grants(["a.*", "b", "b"]) == ("a.*", "b")
    assert read_grants("a.>") == ("a.>",)
    assert read_grants(None) == ()
