"""Numbers of an open hub: counted where it happens, and shown by `Hub.stats` for metrics, consoles and benchmarks.

Counting costs some additions a round, whatever its number of readers, and nothing a delivery. Streams are those that go
to a connection. Iterators in process and the server's own sinks are no streams: no beginning, byte or end of theirs
counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from newswire.log.histogram import LOG_BOUNDS, Histogram

LogState: TypeAlias = Literal["up", "behind", "down"]


@dataclass(slots=True)
class Counts:
    """The counts of one hub.

    Attributes:
        followed: events that came from the log.
        delivered: events given to subscribers, counted once for each.
        replayed: those of `delivered` that a subscriber was given while it caught up: after it came back, or was slow.
        streams: streams that are open now.
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
    replayed: int = 0
    streams: int = 0
    stream_bytes: int = 0
    compressed_from: int = 0
    compressed_to: int = 0
    heartbeats: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    resumes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class HubStats:
    """What a hub has done since it was opened, and what it holds now.

    Attributes:
        followed: events that came from the log.
        delivered: events given to subscribers, counted once for each.
        subscribers: streams and iterations that are open.
        stalled: those of them whose connection can take no more now.
        gaps: gap events sent.
        pages_read: pages read from the log for subscribers behind the window.
        window_events, window_bytes: what the window holds.
        log: `up`; `behind`: older events are still on their way here; `down`: the log can't be used now.
        lag: how many events the log had a moment ago that have not come here.
        outages: how often the log could not be used.
        retries: failed attempts to use it.
        epochs: how often it was another log than before: wiped, put back, taken over by another server.
        streams: those of the subscribers that go to connections.
        replayed: events that subscribers got while they caught up; they are among `delivered`.
        stream_bytes: bytes of the streams to connections, before transfer coding and compression.
        compressed_from, compressed_to: bytes of compressed streams, before and after compression.
        heartbeats: comments sent to silent streams.
        gap_reasons: `gaps` by reason.
        resumes: streams to connections by where they began: `new`, `current`, `window`, `log`, `gap`.
        ends: streams to connections by how they ended: `client`, `slow`, `goodbye`, `max_age`, `expired`, `revoked`,
            `closed`, `cut`, `failed`.
        members, visitors: of the channels with presence, those with a stream in this process.
        presence_changes: those that this process has stored, by kind: `join`, `update`, `leave`, `expire`.
        append, read: how long the log took to answer to batches (not measured in memory), and to read pages.
    """

    followed: int
    delivered: int
    subscribers: int
    stalled: int
    gaps: int
    pages_read: int
    window_events: int
    window_bytes: int
    log: LogState = "up"
    lag: int = 0
    outages: int = 0
    retries: int = 0
    epochs: int = 0
    streams: int = 0
    replayed: int = 0
    stream_bytes: int = 0
    compressed_from: int = 0
    compressed_to: int = 0
    heartbeats: int = 0
    gap_reasons: Mapping[str, int] = field(default_factory=dict)
    resumes: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)
    members: int = 0
    visitors: int = 0
    presence_changes: Mapping[str, int] = field(default_factory=dict)
    append: Histogram = field(default_factory=lambda: Histogram(LOG_BOUNDS))
    read: Histogram = field(default_factory=lambda: Histogram(LOG_BOUNDS))
