"""Values to events: the one rule for publishers, iterables, runs and batches.

A str is data as it is, bytes are UTF-8 text, an `Event` stays as it is, and anything else becomes JSON (`write_json`).
A value that can't be sent raises an error that names the field. Nothing here encodes for the wire.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from newswire.errors import InvalidEvent
from newswire.wire.event import Event
from newswire.wire.reserved import is_reserved
from newswire.wire.strict_json import write_json


def to_event(value: Any, event: str | None = None, *, reserved: bool = False) -> Event:
    """Makes an event of a value.

    Args:
        value: a str or an `Event` is used as it is, bytes as UTF-8, anything else as JSON (see `write_json`).
        event: the event's type, if the value is no `Event`. None means `message`.
        reserved: allow reserved types, for newswire's own events.

    Raises:
        InvalidEvent: the type is reserved or can't be sent, the bytes are not UTF-8, or JSON can't express the value.
    """
    if type(value) is str and (event is None or event == "message"):
        return Event(value)
    if isinstance(value, Event):
        made = value
        if event not in (None, "message"):
            raise InvalidEvent("event", "an Event brings its own type: leave out `event`")
    else:
        made = Event(to_data(value), "message" if event is None else event)
    if made.event != "message" and not reserved and is_reserved(made.event):
        raise InvalidEvent(
            "event",
            f"the event type {made.event!r} is reserved: browsers deliver 'error' and 'open' to the handlers of the "
            "connection, and 'newswire.' is for newswire's own events. Choose another",
        )
    return made


def to_data(value: Any) -> str:
    """Returns the data of an event that carries a value.

    Raises:
        InvalidEvent: bytes are not UTF-8, or JSON can't express the value.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Enum):
        return to_data(value.value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidEvent("data", f"bytes are published as UTF-8 text, and these are not: {error}") from None
    try:
        return write_json(value)
    except (TypeError, ValueError) as error:
        raise InvalidEvent("data", f"data is published as JSON, and this can't be: {error}") from None
