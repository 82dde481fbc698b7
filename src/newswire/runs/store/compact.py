"""The compact form of an ended run: one event in the log instead of thousands, and every cut still exact.

A run of 2,000 tokens is 2,000 rows in a log. Compacted, neighbouring pieces of text are one text, with the offsets and
lengths of the pieces beside it. So readers get the same events with the same ids, and a reader whose cursor is any of
these ids gets exactly what comes after it. Of progress and usage only the last is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

from newswire.log.engine import Entry
from newswire.wire.reserved import FOLDED

MAX_BYTES: Final = 16 * 2**20  # of data; a larger run stays as it is

_TEXTS: Final = ("message", "reasoning")  # stored as they are, so that two pieces are one piece of both
_LAST_COUNTS: Final = ("progress", "usage")


class Piece(NamedTuple):
    """One event of a run."""

    offset: int
    event: str
    data: str


def compacted(found: Iterable[Entry | Piece]) -> str:
    """The data of the one event that stands for all of `found`: JSON, a list of groups.

    A group is `[type, data, offset]`; or for text `[type, data, [first offset, steps between offsets …], [lengths …]]`,
    with lengths in characters.
    """
    groups: list[list[Any]] = []
    last: dict[str, int] = {}  # where in `groups` the last progress is; an earlier one is emptied
    for entry in found:
        if entry.event in _TEXTS:
            if groups and groups[-1][0] == entry.event:
                groups[-1][1].append(entry.data)
                groups[-1][2].append(entry.offset)
            else:
                groups.append([entry.event, [entry.data], [entry.offset]])
            continue
        if entry.event in _LAST_COUNTS:
            if entry.event in last:
                groups[last[entry.event]] = []
            last[entry.event] = len(groups)
        groups.append([entry.event, entry.data, entry.offset])
    made = [_text(*group) if isinstance(group[1], list) else group for group in groups if group]
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"))


def _text(event: str, texts: list[str], offsets: list[int]) -> list[Any]:
    steps = [offsets[0], *(after - before for before, after in pairwise(offsets))]
    return [event, "".join(texts), steps, [len(text) for text in texts]]


def expanded(data: str, after: int) -> Iterator[Piece]:
    """The pieces of a compact run after offset `after`."""
    for event, text, *place in json.loads(data):
        if len(place) == 1:
            found: Iterable[tuple[int, str]] = [(place[0], text)]
        else:
            offsets, ends = accumulate(place[0]), accumulate(place[1])
            found = (
                (offset, text[end - length : end]) for offset, end, length in zip(offsets, ends, place[1], strict=True)
            )
        for offset, piece in found:
            if offset > after:
                yield Piece(offset, event, piece)


def pieces(entries: Iterable[Entry]) -> Iterator[Piece]:
    """The pieces of a run's entries, compact or not."""
    for entry in entries:
        if entry.event == FOLDED:
            yield from expanded(entry.data, 0)
        else:
            yield Piece(entry.offset, entry.event, entry.data)
