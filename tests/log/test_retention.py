"""The rules of retention, as a person reads them."""

from __future__ import annotations

import pytest

from newswire.log.retention import DEFAULT_RETENTION, KEEP_ALL, Retention, RetentionRules, Rules


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
