"""The event types that are reserved: newswire's own, and those that a browser uses itself. And the goodbye.

An application can't publish them, since a reader could not tell newswire's events from the publisher's. Every floor
takes the names from here; no other module spells them.

A goodbye ends a stream and tells its client when to come back. A server that ends streams of a hub, an iterable or a
run sends it, so one rule draws the waiting time. Clients obey the `retry:` field. The data repeats it for programs that
can't see that field. Nothing here sends anything.
"""

from __future__ import annotations

import json
import random
from typing import Final

from newswire.wire.event import Event

PREFIX: Final = "newswire."

GAP: Final = "newswire.gap"  # events are missing; data: reason, after, through
GOODBYE: Final = "newswire.goodbye"  # the stream ends and its client should come back; data: retry, in milliseconds
END: Final = "newswire.end"  # the stream is over for good; data: reason, and what the reason brings
LIVE: Final = "newswire.live"  # all that was stored has been sent; it has no id of its own
PRESENCE: Final = "newswire.presence"  # who is on a channel has changed; data: channel, member, change, state
COUNT: Final = "newswire.count"  # how many are on a channel; data: channel, count; it has no id
ERROR: Final = "newswire.error"  # the stream's content failed
FOLDED: Final = "newswire.folded"  # in the log only: a run that has ended, in one event

# A browser delivers events of these types to the handlers of the connection itself (WHATWG HTML 9.2.4).
_BROWSERS_OWN: Final = frozenset({"error", "open"})


def is_reserved(event: str) -> bool:
    """Whether applications may not publish an event of this type."""
    return event in _BROWSERS_OWN or event.startswith(PREFIX)


DEFAULT_RETRY: Final = 3000  # milliseconds, for streams that set no reconnection time


def come_back(retry: int | None) -> int:
    """Draws how long a client should wait, between half and one and a half times `retry`.

    All streams of a server end at one moment. Without jitter their clients would come back at one moment too.

    Args:
        retry: the stream's reconnection time in milliseconds, or None if it has set none.

    Returns:
        milliseconds.
    """
    return round((DEFAULT_RETRY if retry is None else retry) * random.uniform(0.5, 1.5))


def goodbye(wait: int, reason: str | None = None) -> Event:
    """Returns the event that asks a client to come back after `wait` milliseconds (see `come_back`).

    Args:
        wait: milliseconds.
        reason: why the stream ends, if it is not that the server stops: `expired` or `revoked`.
    """
    data: dict[str, object] = {"retry": wait}
    if reason is not None:
        data["reason"] = reason
    return Event(json.dumps(data), GOODBYE, retry=wait)
