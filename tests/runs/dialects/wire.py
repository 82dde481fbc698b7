"""Bytes as a run's machinery sends them: ids, the reconnection time and heartbeats where clients can bear them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from newswire.runs.dialects import Dialect, End
from newswire.runs.dialects.coalesce import merged
from newswire.runs.parts import Part, event_of
from newswire.wire.encoder import HEARTBEAT, encode
from newswire.wire.event import Event

DONE = End("done")


def told(
    dialect: Dialect, run: Sequence[Part | Event], cut: int = 0, end: End | None = DONE, *, seed: int = 0
) -> list[list[Event]]:
    """The events that a reader gets after a cut, grouped by the part that they come from.

    Args:
        dialect: a new one.
        run: all parts, or raw events, of the run.
        cut: how many of them the reader has seen.
        end: how the run ends; None: the server goes away before it does.
        seed: chooses which neighbours of the tail are written as one.
    """
    choose = random.Random(seed)
    stored = [event_of(part) for part in run]
    for event in stored[:cut]:
        dialect.skip_event(event.event, event.data)
    groups = [dialect.prelude()]
    place = cut
    while place < len(stored):
        many = choose.randint(1, 4) if dialect.merges else 1
        if many == 1:
            groups.append(dialect.write_event(stored[place].event, stored[place].data))
        else:
            parts = [part for part in run[place : place + many] if not isinstance(part, Event)]
            groups += [dialect.write(part) for _, part in merged(enumerate(parts))]
        place += many
    return [*groups, dialect.goodbye(3000) if end is None else dialect.end(end)]


def encoded(groups: Sequence[Sequence[Event]], seed: int = 0) -> bytes:
    """The bytes of a stream; each group's last block has an id."""
    choose = random.Random(seed)
    blocks: list[bytes] = []
    for offset, group in enumerate(groups):
        for event in group:
            id = f"8b1f-{offset}" if event is group[-1] else None
            assert event.id is None
            assert event.data
            made = encode(Event(event.data, event.event, id, None if blocks else 3000))
            assert b"\r" not in made
            blocks.append(made + HEARTBEAT * choose.choice([0, 0, 0, 1, 2]))
    return b"".join(blocks)


def stream(
    dialect: Dialect, run: Sequence[Part | Event], cut: int = 0, end: End | None = DONE, *, seed: int = 0
) -> bytes:
    """What a reader who was cut off after so much is sent; see `told`."""
    return encoded(told(dialect, run, cut, end, seed=seed), seed)


def cuts(scripts: Mapping[str, Sequence[Part | Event]], at_least: int) -> list[tuple[str, int, int]]:
    """Every cut of every script, again and again with other seeds until there are enough: name, cut and seed."""
    found: list[tuple[str, int, int]] = []
    seed = 0
    while len(found) < at_least:
        seed += 1
        found += [(name, cut, seed) for name, run in scripts.items() for cut in range(len(run) + 1)]
    return found
