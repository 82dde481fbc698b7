"""JSON that every reader of JSON reads alike, written from the values that Python programs have.

Python's own `json` writes `NaN` and `Infinity`, which no browser parses, and reads `1e999` as infinity. Both ways are
strict here (RFC 8259). `write_json` takes more than `json` does: pydantic models, dataclasses, classes of attrs,
msgspec structs, datetimes, UUIDs, Decimals, Enums, sets, deques and paths, nested anywhere. No library of theirs is
imported.
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


def write_json(value: Any) -> str:
    """A value as JSON, on one line.

    Args:
        value: what JSON can say; or a pydantic model (as `model_dump(mode="json")` gives it), a dataclass, an object
            of attrs, a msgspec struct, a datetime, date or time (ISO 8601), a timedelta (seconds), a UUID, Decimal or
            path (text), an Enum (its value), a set or deque (a list), another mapping; nested as they like. Keys may be
            anything of these that is text or a number in JSON. Lone surrogates, which UTF-8 can't carry, are escaped.

    Raises:
        ValueError: JSON can't say it: `NaN` or infinity, or nested too deeply. The message names the place.
        TypeError: it has a value of another type. The message names the place.
    """
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError):
        # Something that the fast way can't write. The slow way writes it, or says where it stands.
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
    """The value that a text says in JSON, if every reader of JSON would read it so.

    Raises:
        ValueError: it is not JSON, or is nested too deeply, or has a number that JSON can't say again: Python reads
            `NaN` and makes infinity of `1e999`, and a browser breaks at what Python then writes.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def as_read(value: Any) -> Any:
    """A value as those who read its JSON get it: dicts, lists, text, numbers, True, False and None.

    Raises:
        TypeError, ValueError: see `write_json`.
    """
    return None if value is None else json.loads(write_json(value))


def _convert(value: Any) -> Any:
    """What stands in JSON for a value that Python's encoder doesn't know; one level of it."""
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
    """The value made of dicts, lists, text and numbers only; or the error that names the place of what can't be."""
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


# Made once: `json.loads` and `json.dumps` make new ones at each call that says anything special.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_convert)
