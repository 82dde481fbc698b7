"""Which answers a request takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.wire.headers import read_last_event_id, takes_gzip


@pytest.mark.parametrize(
    ("accept", "takes"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),  # Chromium
        ("br;q=1.0, GZIP;Q=0.8, *;q=0.1", True),
        ("x-gzip", True),  # RFC 9110, section 8.4.1.3: equivalent to gzip
        ("gzip;q=0", False),
        ("gzip ; q=0.000", False),
        ("gzip;q=0.001", True),
        ("*", True),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
        ("br, zstd", False),
        ("deflate", False),
        ("identity", False),
        ("identity, gzip;q=0.5", False),  # it likes plain text better
        ("identity;q=0.5, gzip", True),
        ("identity;q=0, gzip;q=0.5", True),
        ("gzip;q=2", False),
        ("gzip;q=abc", False),
        ("gzip;level=9", False),
        ("gzip;q=0.1234", False),
        ("notgzip", False),
    ],
)
def test_accept_encoding(accept: str | None, takes: bool) -> None:
    """RFC 9110, section 12.5.3."""
    assert takes_gzip(accept) is takes


@given(st.text(max_size=60))
def test_any_text_is_an_answer(text: str) -> None:
    """Never an exception."""
    assert takes_gzip(text) in (True, False)


def test_a_header_that_is_not_there() -> None:
    """A request without a cursor has an empty one: `headers.get` gives None."""
    assert read_last_event_id(None) == ""
