"""What a log takes: the check that every `append` makes before anything is queued or stored.

A batch that gets past here can't fail for what is in it, so one publisher's mistake never costs another's events.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from newswire.errors import InvalidEvent, LimitExceeded
from newswire.log.channels import check_channel
from newswire.wire.event import Event

# Far above what a stream should carry, far below what SQLite (1 GB a row) and Redis (512 MB a string) can hold.
MAX_EVENT_BYTES: Final = 64 * 2**20


def weight(data: str) -> int:
    """The size that `Retention.max_bytes` counts: UTF-8 bytes of data."""
    return len(data) if data.isascii() else len(data.encode())


def weigh_batch(events: Sequence[tuple[str, Event]], known: Container[str]) -> list[int]:
    """Weigh the data of each event of a batch, and refuse a batch that no log may store.

    Args:
        events: what `Log.append` was given.
        known: names of channels that were checked before; they are not checked again.

    Raises:
        InvalidChannel, InvalidEvent: see `Log.append`.
        LimitExceeded: an event has more than `MAX_EVENT_BYTES`.
    """
    weights = []
    for channel, event in events:
        if type(channel) is not str or channel not in known:
            check_channel(channel)
        data, _, id_, retry, _ = event
        if id_ is not None:
            raise InvalidEvent("id", "the log gives events their ids: publish without one")
        if retry is not None:
            raise InvalidEvent("retry", "retry is a setting of a stream and is not stored: publish without it")
        size = len(data) if data.isascii() else len(data.encode())
        if size > MAX_EVENT_BYTES:
            hint = "store it elsewhere and publish where it is"
            raise LimitExceeded("an event's size in bytes", limit=MAX_EVENT_BYTES, actual=size, hint=hint)
        weights.append(size)
    return weights
