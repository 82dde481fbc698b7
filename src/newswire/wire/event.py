"""The event: what a publisher sends and a subscriber gets.

An `Event` is a value. Making one raises if `text/event-stream` can't carry it, so all other code can pass events on
without checks. It never encodes itself: `newswire.wire.encoder` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from newswire.errors import InvalidEvent

N = TypeVar("N", covariant=True)

# Two names that no event can have.
NoName: TypeAlias = Literal["\0", "\n"]


class Named(Generic[N]):
    """What has a name of the type N: so type checkers learn the names of a contract's events from a hub or a contract.

    A hub whose events are `TypedEvent[Literal["price"], Price] | TypedEvent[Literal["done"], None]` takes the names
    `price` and `done`. Where a type variable has several solutions, pyright takes their union, and mypy what they have
    in common: `str`. But mypy takes the union, too, if one of the solutions is a union. So what is declared as
    `E | Named[NoName]` has names that are exactly those of `E`, in both.
    """

    __slots__ = ()


class Names(Protocol[N]):
    """What has events whose names are of the type N."""

    def _names(self) -> Named[N]: ...


# The largest 64-bit integer: 292 million years. Larger numbers on the wire are read as this one.
MAX_RETRY: Final = 2**63 - 1

_BREAKS: Final = re.compile(r"[\r\n\x00]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_new: Final = tuple.__new__
_NAMES: Final = {"\r": "a carriage return", "\n": "a line feed", "\x00": "a NUL"}


class _Fields(NamedTuple):
    data: str
    event: str
    id: str | None
    retry: int | None
    channel: str | None


class Event(_Fields, Named[str]):
    """One event of a stream. Immutable, hashable, equal by value.

    Args:
        data: the payload; any text. On the wire CR, CRLF and LF all end a line, so a reader gets each of them as LF.
        event: the event's type, which `addEventListener` names (WHATWG HTML 9.2.6, "event" field).
        id: the last event ID that a client has after this event, and sends when it reconnects. A decoded event has the
            ID in force when it was dispatched, or None if there was none.
        retry: the reconnection time in milliseconds that the event sets; 0 or more.
        channel: the channel of the event, on streams of many channels. The standard ignores this field.

    Raises:
        InvalidEvent: a field has the wrong type, or text that UTF-8 can't encode; or `id`, `event` or `channel` has a
            CR, LF or NUL.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: str = "",
        event: str = "message",
        id: str | None = None,
        retry: int | None = None,
        channel: str | None = None,
    ) -> Event:
        if type(data) is not str:
            data = _text("data", data, ": encode it first, as JSON say")
        if not data.isascii() and _SURROGATE.search(data):
            raise InvalidEvent("data", "data has a lone surrogate, which UTF-8 can't carry")
        if event != "message" or type(event) is not str:
            event = _line("event", event)
            if not event:
                raise InvalidEvent("event", "an event's type can't be empty: leave it out for 'message'")
        if id is not None:
            id = _line("id", id)
        if channel is not None:
            channel = _line("channel", channel)
        if retry is not None and (type(retry) is not int or retry < 0):
            raise InvalidEvent("retry", f"retry is a number of milliseconds, 0 or more, not {retry!r}")
        return _new(cls, (data, event, id, retry, channel))

    # Every way to make an event runs the checks. A named tuple's own `_make` and `_replace` would skip them.

    @classmethod
    def _make(cls, fields: Iterable[Any]) -> Event:  # type: ignore[override]  # makes no other class
        return cls(*fields)

    def _replace(self, **changes: Any) -> Event:
        return type(self)(**{**self._asdict(), **changes})

    __replace__ = _replace  # copy.replace, since Python 3.13

    def json(self) -> Any:
        """Returns the data, decoded from JSON.

        Raises:
            ValueError: the data is not JSON, or is nested deeper than Python can read.
        """
        try:
            return json.loads(self.data)
        except RecursionError:
            raise ValueError("the data is nested too deeply to be read as JSON") from None


def _text(field: str, value: Any, hint: str = "") -> str:
    """Returns a plain str. A subclass may print another text than its own, as an Enum of str does."""
    if not isinstance(value, str):
        raise InvalidEvent(field, f"{field} must be a str, not {type(value).__name__}{hint}")
    return str.__str__(value)


def _line(field: str, value: str) -> str:
    if type(value) is not str:
        value = _text(field, value)
    bad = _BREAKS.search(value)
    if bad is not None:
        raise InvalidEvent(field, f"{field} can't contain {_NAMES[bad[0]]} (at index {bad.start()}): {value[:60]!r}")
    if not value.isascii() and _SURROGATE.search(value):
        raise InvalidEvent(field, f"{field} has a lone surrogate, which UTF-8 can't carry")
    return value
