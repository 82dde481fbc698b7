"""The goodbye: the event that ends a stream and tells its client when to come back.

A server that ends streams of a hub, an iterable or a run sends this event, so one rule draws the waiting time. Clients
obey the `retry:` field. The data repeats it for programs that can't see that field. Nothing here sends anything.
"""

from __future__ import annotations

import json
import random
from typing import Final

from newswire.wire.event import Event
from newswire.wire.reserved import GOODBYE

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
