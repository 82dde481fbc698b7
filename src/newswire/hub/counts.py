"""What an open hub has done, counted where it happens. `Hub.stats` shows it to applications.

Counting costs some additions a round, whatever its number of readers, and nothing a delivery. Streams are those that go
to a connection. Iterators in process and the server's own sinks are no streams: no beginning, byte or end of theirs
counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """The counts of one hub.

    Attributes:
        followed: events that came from the log.
        delivered: events given to subscribers, counted once for each.
        streams: streams that are open now.
        replayed: those of them that a subscriber was given while it caught up: after it came back, or was slow.
        stream_bytes: bytes of the event streams, before any transfer coding or compression.
        compressed_from, compressed_to: bytes of compressed streams, before and after compression.
        heartbeats: comments sent to silent streams.
        gaps: gap events by their reason: `trimmed`, `epoch`, `future`, `invalid`, `slow`.
        resumes: streams by where they began: `new` (no cursor), `current` (a cursor that had missed nothing), `window`
            (the rest is in memory), `log` (the rest is read from the log), `gap` (the cursor can't be placed).
        ends: streams by how they ended: `client` (it left), `slow` (it took nothing), `failed` (writing to it raised),
            `goodbye` (the server stopped, or ended it and asked the client to come back), `max_age`, `expired` and
            `revoked` (its credential), `closed` (it was over), `cut` (the server dropped it).
    """

    followed: int = 0
    delivered: int = 0
    streams: int = 0
    replayed: int = 0
    stream_bytes: int = 0
    compressed_from: int = 0
    compressed_to: int = 0
    heartbeats: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    resumes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
