"""Numbers of an open hub, for metrics, consoles and benchmarks. `Hub.stats` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from newswire.hub.monitor import LogState


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
