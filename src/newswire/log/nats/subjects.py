"""Which subject a channel has, and which subjects a pattern means. A message's subject says whose event it is.

All subjects of a log begin with its namespace and its birth, the name of its first epoch: what is sent to a stream that
was deleted and made again meanwhile finds no receiver, and is stored nowhere.

    newswire.9k2mx4tq.c.orders.42   an event of the channel orders.42
    newswire.9k2mx4tq.i.$runs.42    the same, of an internal channel: a pattern's `>` does not match it
    newswire.9k2mx4tq.d.orders.42   up to where the channel was dropped: its text is the offset
    newswire.9k2mx4tq.f             the floor: see `newswire.log.nats.drops`
    newswire.9k2mx4tq.h             an offset that belongs to no event, until it is removed
    newswire.9k2mx4tq.l             the newest life of the log: see `newswire.log.nats.stream`

The rules for channels' names are NATS's, so a name is part of a subject as it is, and a pattern is a filter.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from newswire.log.channels import is_internal
from newswire.log.engine import Entry

EVENT: Final = "Newswire-Event"  # the header that has an event's type, unless it is `message`
COUNT: Final = "Newswire-Count"  # how many events a batch with a token has, unless it is one
TIME: Final = "Newswire-Time"  # when an event was stored, if it was copied from another log
_BREAKS: Final = re.compile(r"[\r\n\0]")
_SAFE: Final = "!#$&'()*+,/:;=?@[]~ "


class Subjects:
    """The subjects of a log.

    Attributes:
        birth: the name of its first epoch.
        all: what its stream takes.
        marks: of all channels that were dropped in part.
        floor, hole, life: see the module.
    """

    def __init__(self, namespace: str, birth: str) -> None:
        base = f"{namespace}.{birth}."
        self.birth = birth
        self.all: str = base + ">"
        self.marks: str = base + "d.>"
        self.floor: str = base + "f"
        self.hole: str = base + "h"
        self.life: str = base + "l"
        self._public = base + "c."
        self._internal = base + "i."
        self._mark = base + "d."
        self._at = len(self._public)

    def of(self, channel: str) -> str:
        """The subject of a channel, or the filter of a pattern."""
        return (self._internal if is_internal(channel) else self._public) + channel

    def mark(self, channel: str) -> str:
        """The subject that has up to where a channel was dropped; of a pattern, the filter of these."""
        return self._mark + channel

    def channel(self, subject: str) -> str | None:
        """The channel of an event's subject; None if it is no event's."""
        if subject.startswith((self._public, self._internal)):
            return subject[self._at :]
        return None

    def marked(self, subject: str) -> str:
        """The channel of a mark's subject."""
        return subject[len(self._mark) :]


def type_as_header(event: str) -> str:
    """An event's type as the value of a header."""
    plain = event.isascii() and event.isprintable() and "%" not in event and event == event.strip()
    return event if plain and event else quote(event, safe=_SAFE.strip())


def entry(offset: int, channel: str, headers: dict[str, str] | None, data: bytes, time_ns: int) -> Entry:
    """What a stored message is."""
    event = headers.get(EVENT) if headers else None
    if event is None:
        event = "message"
    elif "%" in event:
        event = _BREAKS.sub(" ", unquote(event))
    # Any client with the right can publish to the stream: what is no text must not stop the readers.
    text = data.decode("utf-8", "replace")
    time = headers.get(TIME) if headers else None
    return Entry(offset, channel, event, text, time_ns / 1e9 if time is None else _number(time, time_ns / 1e9))


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def nanoseconds(text: str) -> int:
    """The time that a server writes as `2026-11-26T21:56:32.459474504Z`, since the Unix epoch."""
    return _seconds(text[:19]) * 10**9 + int(text[20:-1].ljust(9, "0") if len(text) > 20 else 0)


@lru_cache(64)
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
