"""A position: a place in a log, its text that travels as the SSE `id:`, and the lives of a log that it belongs to.

`(epoch, offset)`. The offset grows over the whole log, so one position serves any number of channels. The epoch
names the log's lifetime: a log that was wiped must not look like the old one. Everything that hands out or takes
back a cursor goes through this file; it never touches a log.

A log begins another life, with another epoch, when it may have lost its newest events: it was restored from a copy, or
a replica took over that had not got all. The new life begins after the newest event that is there. What lies up to
there is common to both, so a cursor of the old life goes on if it lies up to there; beyond it has seen events that are
no more. Engines store the lives with the events. See docs/explain/log-lives.md.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from newswire.errors import InvalidPosition, LogCorrupt
from newswire.validate import is_whole, shown

_TEXT: Final = re.compile(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,18})", re.ASCII)
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no look-alikes
MAX_OFFSET: Final = 2**63 - 1  # what SQLite, Redis, JetStream and PostgreSQL can all count to


def check_offset(name: str, value: object) -> None:
    """Check that an argument is an offset. Less than 0 is allowed: it is before all events.

    Raises:
        ValueError: it is not.
    """
    if not is_whole(value) or value > MAX_OFFSET:
        raise ValueError(f"{name} is an offset, a whole number up to 2**63 - 1, not {shown(value)}")


class Position(str):
    """A place in a log: every event up to and including `offset` lies before it.

    It is its own text, the SSE `id:`, such as `9k2mx4tq-1042`, so that it can be sent, stored and put into JSON as it
    is; `Position.parse` reads it back. Positions of one epoch compare by offset.

    Args:
        epoch: the name of the log's present life: a log that was wiped or replaced begins another.
        offset: the number of the newest event that lies before the place; 0: none does.

    Raises:
        InvalidPosition: `offset` is no integer, or less than 0; or `epoch` is no text.
    """

    __slots__ = ()

    def __new__(cls, epoch: str, offset: int) -> Position:
        if type(offset) is not int or offset < 0 or not isinstance(epoch, str):
            raise InvalidPosition(f"an epoch and an offset make a position, not {shown(epoch)} and {shown(offset)}")
        return super().__new__(cls, f"{epoch}-{offset}")

    def __getnewargs__(self) -> tuple[str, int]:  # type: ignore[override]  # what copies and pickles call `__new__` with
        return (self.epoch, self.offset)

    @property
    def epoch(self) -> str:
        """The log's life: a log that was wiped must not look like the old one."""
        return self.rpartition("-")[0]

    @property
    def offset(self) -> int:
        """The place in the log: one number, which grows over all of its channels."""
        return int(self.rpartition("-")[2])

    @property
    def stored(self) -> bool:
        """False if publishing returned this position and stored nothing: the event was there before, or a newer one."""
        return True

    def __repr__(self) -> str:
        return f"Position(epoch={self.epoch!r}, offset={self.offset})"

    def __lt__(self, other: str) -> bool:
        return _order(self) < _order(other) if isinstance(other, Position) else str.__lt__(self, other)

    def __le__(self, other: str) -> bool:
        return _order(self) <= _order(other) if isinstance(other, Position) else str.__le__(self, other)

    def __gt__(self, other: str) -> bool:
        return _order(self) > _order(other) if isinstance(other, Position) else str.__gt__(self, other)

    def __ge__(self, other: str) -> bool:
        return _order(self) >= _order(other) if isinstance(other, Position) else str.__ge__(self, other)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Callable[[type[str]], Any]) -> Any:
        """What pydantic and FastAPI ask of a type in an annotation: a str that `parse` reads."""
        from pydantic_core import core_schema  # it is there: pydantic calls

        return core_schema.no_info_after_validator_function(cls.parse, handler(str))

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text of a position, strictly.

        Raises:
            InvalidPosition: `text` is anything that `str(position)` can't give.
            TypeError: it is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"a position, or the text of one, is a str, not {shown(text)}")
        match = _TEXT.fullmatch(text[:64]) if len(text) <= 64 else None
        if match is None or int(match[2]) > MAX_OFFSET:
            raise InvalidPosition(f"{text[:40]!r} is not a position: expected an event's id, such as '9k2mx4tq-1042'")
        return cls(match[1], int(match[2]))


class KnownPosition(Position):
    """What publishing returns when it stored nothing: the position of an event that was there before."""

    __slots__ = ()

    @property
    def stored(self) -> bool:
        """False."""
        return False


def _order(position: Position) -> tuple[str, int]:
    return position.epoch, position.offset


def position(epoch: str, offset: int) -> Position:
    """`Position(epoch, offset)` of what a log says, which needs no checks."""
    return str.__new__(Position, f"{epoch}-{offset}")


def positions(epoch: str, first: int, count: int, kind: type[Position] = Position) -> list[Position]:
    """The positions of `count` events that were stored in a row."""
    new = str.__new__  # without the class's own constructor in between
    if count == 1:  # the most common, at half the price
        return [new(kind, f"{epoch}-{first}")]
    return [new(kind, f"{epoch}-{offset}") for offset in range(first, first + count)]


def new_epoch() -> str:
    """Name a new log: 8 random characters of `0-9a-z`, 40 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


class Life(NamedTuple):
    """One life of a log.

    Attributes:
        epoch: its name; the epoch of positions that are given out in it.
        after: the newest offset when it began; 0 for the first.
    """

    epoch: str
    after: int


class Resumed(NamedTuple):
    """Where a position of some life leads.

    Attributes:
        offset: the newest offset up to it that is common to its life and the present one.
        lost: whether the position lies beyond that: what its reader saw after `offset` is not in the log.
    """

    offset: int
    lost: bool


class Lives:
    """All lives of a log that are known.

    Args:
        lives: oldest first; the last one is the present.
        branches: others, which this process has seen before an older state was put back: up to where each is common to
            the present one.

    Attributes:
        all, branches: as given.
        epoch: the present one's.
    """

    __slots__ = ("_begins", "_ends", "_epochs", "all", "branches", "epoch")

    def __init__(self, lives: Sequence[Life], branches: Mapping[str, int] = {}) -> None:
        self.epoch: str = lives[-1].epoch
        self._epochs = [life.epoch for life in lives]
        # A later life may have lost what an earlier one began with: it counts from the lowest place after it.
        self.all: tuple[Life, ...] = tuple(lives)
        self._begins = [life.after for life in lives]
        for index in range(len(lives) - 2, -1, -1):
            self._begins[index] = min(self._begins[index], self._begins[index + 1])
        self.branches: dict[str, int] = dict(branches)
        self._ends = self.branches | dict(zip(self._epochs, self._begins[1:], strict=False))

    @classmethod
    def single(cls, epoch: str) -> Lives:
        """The lives of a log that has had one."""
        return cls([Life(epoch, 0)])

    def resume(self, epoch: str, offset: int) -> Resumed | None:
        """Find the place of a position.

        Returns:
            where it leads; None if the epoch is not one of this log's, or was forgotten. Whether an offset of the
            present life is past the log's end is not known here.
        """
        if epoch == self.epoch:
            return Resumed(offset, False)
        end = self._ends.get(epoch)
        return None if end is None else Resumed(min(offset, end), offset > end)

    def lost(self, epoch: str, offset: int) -> bool:
        """Whether the log began another life since, without the event at this position, or does not know the epoch."""
        place = self.resume(epoch, offset)
        return place is None or place.lost

    def epoch_at(self, offset: int) -> str:
        """The epoch in which an event was stored: the one that its position was given out with."""
        return self._epochs[max(bisect_left(self._begins, offset) - 1, 0)]


def parse_lives(text: str) -> list[Life]:
    """Lives as `lives_text` writes them.

    Raises:
        LogCorrupt: it is something else.
    """
    try:
        lives = [Life(life, int(after)) for life, _, after in (each.partition(":") for each in text.split(",") if each)]
    except ValueError:
        lives = []
    if not lives:
        raise LogCorrupt(f"what the log knows of its lives is damaged ({text[:50]!r}): put it back from a backup")
    return lives


def lives_text(lives: Sequence[Life], most: int = 2**31) -> str:
    """Lives as servers keep them: the newest, in at most so many characters."""
    text = ",".join(f"{life.epoch}:{life.after}" for life in lives)
    while len(text) > most:
        text = text.partition(",")[2]
    return text
