"""Blocks of gzip bodies: whatever is cut where, a reader gets the same bytes, and a right trailer."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.wire.encoder import heartbeat
from newswire.wire.gzip import HEAD, GzipBody, Inflater, block

ROWS = json.dumps([{"id": number, "name": "ada", "ok": True} for number in range(40)]).encode()
PIECES = st.lists(st.one_of(st.binary(max_size=300), st.sampled_from([ROWS, b":\n", b"", ROWS * 60])), max_size=12)


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[first:last] for first, last in zip(places, places[1:], strict=False)]  # noqa: RUF007


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 2**20), max_size=8))
def test_any_split_of_events_decodes_to_the_same(pieces: list[bytes], cuts: list[int]) -> None:
    """However they are grouped into blocks, and however the body is cut on its way."""
    body = GzipBody()
    sent = b"".join([body.encode(piece) for piece in pieces]) + body.end(b"bye")
    whole = b"".join(pieces) + b"bye"
    assert gzip.decompress(sent) == whole  # it checks CRC and length
    inflater = Inflater("gzip")
    assert b"".join(piece for part in split(sent, cuts) for piece in inflater.feed(part)) == whole


@given(pieces=PIECES, order=st.randoms())
def test_a_block_stands_by_itself(pieces: list[bytes], order: st.DataObject) -> None:
    """Any block may come after any other, and all of it is there when its last byte is."""
    order.shuffle(pieces)  # type: ignore[attr-defined]
    reader = zlib.decompressobj(31)
    assert reader.decompress(HEAD) == b""
    for piece in pieces:
        assert reader.decompress(block(piece)) == piece
    assert not reader.eof


@pytest.mark.parametrize("data", [b":\n", b"x" * 127, bytes(range(256)), bytes(range(256)) * 700])
def test_what_gains_nothing_is_sent_as_it_is(data: bytes) -> None:
    """Small data and such that can't be made smaller cost ten bytes more, and five more in each 64 KB."""
    packed = block(data)
    assert len(packed) <= len(data) + 10 + 5 * (len(data) // 65535)
    if len(data) < 65536:
        assert packed[5:-5] == data


@given(piece=st.one_of(st.binary(max_size=300), st.sampled_from([ROWS, b":\n", ROWS * 60])))
def test_each_block_ends_as_a_flush_does(piece: bytes) -> None:
    """With an empty stored block: Go's decoder keeps what came before until then."""
    assert block(piece).endswith(b"\0\0\xff\xff")


def test_padding_stays() -> None:
    """A heartbeat is as long as it is meant to be."""
    assert block(heartbeat(4096))[5:-5] == heartbeat(4096)


def test_a_kilobyte_of_json_is_half_of_it_or_less() -> None:
    """That is what it is for."""
    assert len(block(ROWS)) < len(ROWS) / 2


def test_an_empty_body_is_a_body() -> None:
    """A stream that ends before its first event."""
    assert gzip.decompress(GzipBody().end()) == b""
