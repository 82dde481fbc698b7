"""A position: a place in a log, and the text of it that travels as the SSE `id:`.

`(epoch, offset)`. The offset grows over the whole log, so one position serves any number of channels. The epoch
names the log's lifetime: a log that was wiped must not look like the old one. Everything that hands out or takes
back a cursor goes through this file; it never touches a log.
"""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

from newswire.errors import InvalidPosition

_TEXT: Final = re.compile(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,18})", re.ASCII)
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no look-alikes
MAX_OFFSET: Final = 2**63 - 1  # what SQLite, Redis, JetStream and PostgreSQL can all count to


class Position(NamedTuple):
    """A place in a log: every event up to and including `offset` lies before it.

    Positions of one epoch compare by offset. `str(position)` is the SSE `id:`, such as `9k2mx4tq-1042`;
    `Position.parse` reads it back.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text of a position, strictly.

        Raises:
            InvalidPosition: `text` is anything that `str(position)` can't give.
        """
        match = _TEXT.fullmatch(text[:64]) if len(text) <= 64 else None
        if match is None or int(match[2]) > MAX_OFFSET:
            raise InvalidPosition(f"{text[:40]!r} is not a position: expected an event's id, such as '9k2mx4tq-1042'")
        return cls(match[1], int(match[2]))


def positions(epoch: str, first: int, count: int) -> list[Position]:
    """The positions of `count` events that were stored in a row."""
    new = tuple.__new__  # half the price of a named tuple's own constructor
    return [new(Position, (epoch, offset)) for offset in range(first, first + count)]


def new_epoch() -> str:
    """Name a new log: 8 random characters of `0-9a-z`, 40 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))
