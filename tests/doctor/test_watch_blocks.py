"""The blocks of a stream, however its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.doctor import checks
from newswire.doctor.watch import Block, BlockParser, Watched
from newswire.wire.decoder import Decoder


def blocks_of(chunks: Iterable[tuple[float, bytes]]) -> list[Block]:
    """The blocks of a stream, by when each chunk came."""
    parser, at = BlockParser(), 0.0
    for at, chunk in chunks:
        parser.feed(at, chunk)
    return parser.blocks(at)


pieces = st.lists(st.sampled_from(["data: a", "id: 1", ": c", "\n", "\r", "\r\n", "event: e", "data:b", "\n\n"]))


@given(pieces, st.lists(st.integers(0, 60)))
def test_events_are_those_of_the_decoder(text: list[str], cuts: list[int]) -> None:
    """Any line ends, any chunks."""
    body = "".join(text).encode()
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    chunks = [(float(number), body[a:b]) for number, (a, b) in enumerate(pairwise(places))]
    events = [(block.kind, block.data) for block in blocks_of(chunks) if block.is_event]
    assert events == [(event.event, event.data) for event in Decoder().feed(body)]


def test_times() -> None:
    """A block knows when it began, when each line was whole, and when it ended."""
    (block,) = blocks_of([(1.0, b"id: 1\nda"), (2.0, b"ta: x\n"), (3.0, b"\n")])
    assert (block.began, block.arrivals, block.ended) == (1.0, [1.0, 2.0], 3.0)


@given(pieces, st.lists(st.integers(0, 60)))
def test_blocks_of_a_stream_that_goes_on(text: list[str], cuts: list[int]) -> None:
    """Each chunk is read once, and a look in between changes nothing."""
    body = "".join(text).encode()
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    watched = Watched()
    for number, (a, b) in enumerate(pairwise(places)):
        watched.chunks.append((float(number), body[a:b]))
        assert watched.blocks == blocks_of(watched.chunks)
        assert watched.events == [block for block in watched.blocks if block.is_event]


def test_each_event_of_a_burst_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that begins at the earliest of a million events is judged in the time that it takes to read them."""
    looked: list[Block] = []
    monkeypatch.setattr(checks, "stamp_of", looked.append)
    watched = Watched(head_at=0.0, seconds=2.0, ended=True, chunks=[(1.0, b"id: 1\ndata: x\n\n" * 100)] * 3)
    list(checks.silence(watched))
    assert len(looked) == len(watched.events) == 300
