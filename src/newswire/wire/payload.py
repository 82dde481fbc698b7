"""Values to events: the one rule for publishers, iterables, runs and batches; and the JSON that they become.

A str is data as it is, bytes are UTF-8 text, an `Event` stays as it is, and anything else becomes JSON (`write_json`).
A value that can't be sent raises an error that names the field. Nothing here encodes for the wire.

The JSON is what every JSON parser reads in the same way. Python's own `json` writes `NaN` and `Infinity`, which no
browser parses, and reads `1e999` as infinity. Here both writing and reading are strict (RFC 8259). `write_json` takes
more types than `json`: pydantic models, dataclasses, classes of attrs, msgspec structs, datetimes, UUIDs, Decimals,
Enums, sets, deques and paths, nested anywhere. It never imports their libraries.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from math import isfinite
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any, Final
from uuid import UUID

from newswire.errors import InvalidEvent
from newswire.wire.event import Event
from newswire.wire.reserved import is_reserved


def write_json(value: Any) -> str:
    """Returns a value as JSON, on one line.

    Args:
        value: a value that JSON has; or a pydantic model (as `model_dump(mode="json")` returns it), a dataclass, an
            object of attrs, a msgspec struct, a datetime, date or time (ISO 8601), a timedelta (seconds), a UUID,
            Decimal or path (text), an Enum (its value), a set or deque (a list), or another mapping; all nested to any
            depth. Keys may be any of these that become text or numbers in JSON. Lone surrogates, which UTF-8 can't
            encode, are escaped.

    Raises:
        ValueError: the value has `NaN` or infinity in it, or is nested too deeply. The message names the place.
        TypeError: the value has another type in it. The message names the place.
    """
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError):
        # The fast way can't write something in it. The slow way writes it, or names its place.
        try:
            text = _ENCODER.encode(_plain(value, ""))
        except RecursionError:
            raise ValueError(_TOO_DEEP) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return json.dumps(json.loads(text), separators=(",", ":"))
    return text


def read_json(text: str) -> Any:
    """Returns the value of a JSON text, if every JSON parser would read the same value.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or has a number that JSON can't write again. Python
            reads `NaN`, and makes infinity of `1e999`; a browser fails at what Python then writes.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def as_read(value: Any) -> Any:
    """Returns a value as its readers get it from JSON: dicts, lists, text, numbers, True, False and None.

    Raises:
        TypeError, ValueError: see `write_json`.
    """
    return None if value is None else json.loads(write_json(value))


def _convert(value: Any) -> Any:
    """Replaces a value that Python's encoder doesn't know, one level deep, by one that JSON has."""
    kind = type(value)
    if issubclass(kind, Enum):
        return value.value
    if issubclass(kind, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if issubclass(kind, UUID):
        return str(value)
    if issubclass(kind, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is no number in JSON")
        return str(value)
    if issubclass(kind, datetime.timedelta):
        return value.total_seconds()
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(kind, "__struct_fields__") and "msgspec" in sys.modules:
        return sys.modules["msgspec"].to_builtins(value)
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if issubclass(kind, (set, frozenset, deque)):
        return list(value)
    if issubclass(kind, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    hint = "; decode it, or encode it as base64" if issubclass(kind, (bytes, bytearray, memoryview)) else ""
    raise TypeError(f"{kind.__name__} has no form in JSON{hint}")


def _plain(value: Any, place: str) -> Any:
    """Returns the value as dicts, lists, text and numbers only, or raises an error that names the place."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Enum):
        return _plain(value.value, place)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{place or 'the value'} is {float(value)!r}, which is no number in JSON")
        return float(value)
    if isinstance(value, dict):
        return {_key(key, place): _plain(item, _below(place, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    try:
        converted = _convert(value)
    except TypeError as error:
        raise TypeError(f"{place or 'the value'}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{place or 'the value'}: {error}") from None
    return _plain(converted, place)


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def _key(key: Any, place: str) -> Any:
    while isinstance(key, Enum):
        key = key.value
    if isinstance(key, (datetime.datetime, datetime.date, datetime.time, UUID, Decimal, PathLike)):
        key = _convert(key)
    if isinstance(key, float) and not isfinite(key):
        raise ValueError(f"{place or 'the value'} has the key {key!r}, which is no number in JSON")
    if key is None or isinstance(key, (bool, int, float)):
        return key
    if isinstance(key, str):
        return str.__str__(key)
    raise TypeError(f"{place or 'the value'} has a key of type {type(key).__name__}; JSON has text for keys")


_TOO_DEEP: Final = "it is nested too deeply for JSON, or refers to itself"


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _refuse(text)


# Made once: with any argument, `json.loads` and `json.dumps` make new ones at each call.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_convert)


_new: Final = tuple.__new__


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
        # ASCII alone, as most events are, needs none of the checks that `Event` makes.
        return _new(Event, (value, "message", None, None, None)) if value.isascii() else Event(value)
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


def is_writable(text: str) -> bool:
    """Whether UTF-8 can write a text: JSON can hold half of a surrogate pair, and no answer or log can then show it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
