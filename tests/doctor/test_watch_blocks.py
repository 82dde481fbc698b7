"""The blocks of a stream, however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from newswire.doctor.watch import blocks_of
from newswire.wire.decoder import Decoder

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
