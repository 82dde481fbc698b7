"""The event types that are reserved: newswire's own, and those that a browser uses itself.

An application can't publish them, since a reader could not tell newswire's events from the publisher's. Every floor
takes the names from here; no other module spells them.
"""

from __future__ import annotations

from typing import Final

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
