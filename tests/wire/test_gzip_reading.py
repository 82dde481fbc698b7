"""Compressed bodies, however they are cut: the same bytes, in pieces of bounded size."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.wire.gzip import PIECE, Inflater, is_readable


def _bare(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


WAYS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in two members": ("x-gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "deflate": ("Deflate", zlib.compress),
    "deflate without a wrapper": ("deflate", _bare),
    "identity": (" identity ", bytes),
    "none": ("", bytes),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@given(data=st.binary(max_size=300), times=st.integers(0, 900), cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_any_cut_gives_the_same_bytes(way: str, data: bytes, times: int, cuts: list[int]) -> None:
    """In pieces that are none of them empty, nor larger than said."""
    encoding, compress = WAYS[way]
    body = data * times
    sent = compress(body)
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    inflater = Inflater(encoding)
    pieces = [
        piece
        for first, last in zip(places, places[1:], strict=False)  # noqa: RUF007
        for piece in inflater.feed(sent[first:last])
    ]
    assert b"".join(pieces) == body
    assert all(pieces)
    assert compress is bytes or all(len(piece) <= PIECE for piece in pieces)


@pytest.mark.slow
def test_what_is_unknown_or_broken_is_refused() -> None:
    """By a `ValueError` that says what it is."""
    for encoding in ("br", "zstd", "gzip, gzip"):
        assert not is_readable(encoding)
        with pytest.raises(ValueError, match="which can't be read"):
            Inflater(encoding)
    with pytest.raises(ValueError, match="can't be decompressed"):
        list(Inflater("gzip").feed(b"plain text"))
