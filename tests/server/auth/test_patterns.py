"""What a pattern covers: whatever a request names, a credential never opens more than it grants."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.log.channels import Channels, name_or_pattern
from newswire.server.auth.patterns import covers, first_uncovered, read_grants

TOKENS = st.sampled_from(["a", "b", "$x", "*"])
NAMES = st.lists(st.sampled_from(["a", "b", "$x"]), min_size=1, max_size=4).map(".".join)
ENDS = st.sampled_from([[], [">"]])
PATTERNS = st.just(">") | st.builds(
    lambda tokens, end: ".".join([*tokens, *end]), st.lists(TOKENS, min_size=1, max_size=3), ENDS
)


@given(PATTERNS, PATTERNS, NAMES)
def test_what_is_covered_is_matched(granted: str, wanted: str, name: str) -> None:
    """Each channel of a pattern that is covered is a channel of the pattern that covers it."""
    if covers(granted, wanted) and name in Channels([name_or_pattern(wanted)]):
        assert name in Channels([name_or_pattern(granted)])


@given(PATTERNS, NAMES)
def test_a_name_is_covered_if_it_is_matched(granted: str, name: str) -> None:
    """For one name, covering and matching are the same."""
    assert covers(granted, name) == (name in Channels([name_or_pattern(granted)]))


@pytest.mark.parametrize(
    ("granted", "wanted", "yes"),
    [
        ("room.*", "room.1", True),
        ("room.*", "room.*", True),
        ("room.*", "room.>", False),
        ("room.*", "room", False),
        ("room.*", "room.1.x", False),
        ("room.*", "*.1", False),
        ("room.*", ">", False),
        ("room.>", "room.*", True),
        ("room.>", "room.>", True),
        ("room.>", "room.*.x.>", True),
        ("room.>", "room", False),
        (">", "room.*", True),
        (">", ">", True),
        (">", "*", True),
        (">", "$runs.out.1", False),
        ("*.x", "$runs.x", False),
        ("$runs.>", "$runs.x", True),
        ("*", ">", False),
        ("*.*", "*.>", False),
        ("room.1", "room.*", False),
        ("room.1", "ROOM.1", False),
        ("room.1", "room.1", True),
    ],
)
def test_by_example(granted: str, wanted: str, yes: bool) -> None:
    """Wildcards on both sides."""
    assert covers(granted, wanted) is yes


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
