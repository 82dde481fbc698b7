"""The rules of retention, as a person reads them."""

from __future__ import annotations

import pytest

from newswire.log.retention import DEFAULT_RETENTION, KEEP_ALL, Retention, RetentionRules, Rules, surplus


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (None, ""),
        (DEFAULT_RETENTION, "each channel for 7 days"),
        ({"news": Retention(max_age=90, max_events=1000)}, "news for 90 seconds, at most 1,000 events"),
        (
            {"a.>": KEEP_ALL, ">": Retention(max_age=7200, max_bytes=10**6)},
            "a.> everything; each channel for 2 hours, at most 1,000,000 bytes",
        ),
        (Retention(max_age=86400), "each channel for 24 hours"),
    ],
)
def test_in_words(rules: RetentionRules, words: str) -> None:
    """What a log says when it opens."""
    assert Rules(rules).in_words == words


@pytest.mark.parametrize(
    ("rule", "lost"),
    [
        (KEEP_ALL, []),
        (Retention(max_age=1), []),
        (Retention(max_events=3), []),
        (Retention(max_events=2), [1]),
        (Retention(max_bytes=90), []),
        (Retention(max_bytes=60), [1, 5]),
        (Retention(max_events=2, max_bytes=20), [1, 5, 6]),
        (Retention(max_events=1, max_bytes=80), [1, 5]),
    ],
)
def test_what_is_over_a_limit(rule: Retention, lost: list[int]) -> None:
    """The oldest events go until both limits are kept."""
    assert surplus(rule, 3, 90, [(1, 20), (5, 40), (6, 30)]) == lost


def test_not_all_events_are_looked_at() -> None:
    """A channel that is far over its limit loses what was looked at; the rest comes next."""
    assert surplus(Retention(max_events=1), 100, 100, [(1, 1), (2, 1)]) == [1, 2]
