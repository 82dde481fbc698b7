"""What a pattern covers: names, and other patterns. Credentials, rules for states and the console rely on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.log.channels import Channels, covers, name_or_pattern

TOKENS = st.sampled_from(["a", "b", "$x", "*"])
NAMES = st.lists(st.sampled_from(["a", "b", "$x"]), min_size=1, max_size=4).map(".".join)
ENDS = st.sampled_from([[], [">"]])
PATTERNS = st.just(">") | st.builds(
    lambda tokens, end: ".".join([*tokens, *end]), st.lists(TOKENS, min_size=1, max_size=3), ENDS
)


@given(PATTERNS, PATTERNS, NAMES)
def test_what_is_covered_is_matched(pattern: str, other: str, name: str) -> None:
    """Each channel of a pattern that is covered is a channel of the pattern that covers it."""
    if covers(pattern, other) and name in Channels([name_or_pattern(other)]):
        assert name in Channels([name_or_pattern(pattern)])


@given(PATTERNS, NAMES)
def test_a_name_is_covered_if_it_is_matched(pattern: str, name: str) -> None:
    """For one name, covering and matching are the same."""
    assert covers(pattern, name) == (name in Channels([name_or_pattern(pattern)]))


@pytest.mark.parametrize(
    ("pattern", "other", "yes"),
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
def test_by_example(pattern: str, other: str, yes: bool) -> None:
    """Wildcards on both sides."""
    assert covers(pattern, other) is yes
