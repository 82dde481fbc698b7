"""The folded form: what is in it, and that every cut is exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from newswire.log.engine import Entry
from newswire.runs.parts import Progress, Usage, event_of
from newswire.runs.store.store import Piece, compacted, expanded
from newswire.wire.event import Event

EVENTS = st.lists(st.tuples(st.sampled_from(["message", "reasoning", "tool", "custom"]), st.text(max_size=5)))


@given(EVENTS, st.lists(st.integers(1, 5), min_size=40))
def test_every_cut_of_a_folded_run_is_exact(events: list[tuple[str, str]], steps: list[int]) -> None:
    """Whatever a run said, and wherever a reader was, it gets what comes after, with the old offsets."""
    offset = 0
    entries = []
    for (event, data), step in zip(events, steps, strict=False):
        offset += step
        entries.append(Entry(offset, "c", event, data, 0.0))
    pieces = [Piece(entry.offset, entry.event, entry.data) for entry in entries]
    folded = compacted(entries)
    for after in range(offset + 1):
        assert list(expanded(folded, after)) == [piece for piece in pieces if piece.offset > after]


def test_the_last_progress_is_kept() -> None:
    """Of progress and usage only the last one counts, and is where it was. An application's own events all stay."""
    told = [event_of(item) for item in (Progress(1), "a", Progress(2), Usage(1, 2), "b", Progress(3))]
    own = [Event('{"file":"a.csv"}', "progress"), Event('{"file":"b.csv"}', "progress"), Event("9", "usage")]
    entries = [Entry(offset, "c", event, data, 0.0) for offset, (data, event, *_) in enumerate([*told, *own], 1)]
    pieces = [Piece(entry.offset, entry.event, entry.data) for entry in entries]
    assert list(expanded(compacted(entries), 0)) == [*pieces[1:2], *pieces[3:]]
