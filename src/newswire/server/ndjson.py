"""A batch of events as NDJSON: one JSON object a line, `{"data": …}` and perhaps `"event"`.

All lines are checked before anything is stored; what is wrong with a line is said with its number. Parsing yields to
the event loop now and then, so that a large batch does not hold up the streams.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from newswire.delivery.problem import Problem
from newswire.errors import InvalidEvent
from newswire.wire.event import Event
from newswire.wire.payload import to_event
from newswire.wire.strict_json import read_json

_SLICE: Final = 250  # lines: about a millisecond
_MEMBERS: Final = frozenset({"data", "event"})


async def parse_batch(body: bytes, event: str | None, limit: int) -> list[Event]:
    """Read a batch. Empty lines are skipped.

    Args:
        body: lines of UTF-8, ended by LF or CRLF.
        event: the type of events that name none.
        limit: how many events there may be.

    Raises:
        Problem: a line is no event, or there are none, or too many.
    """
    events: list[Event] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        if not line or line.isspace():
            continue
        if len(events) >= limit:
            detail = f"a batch has at most {limit:,} events here: send several. Nothing was stored"
            raise Problem(413, "too_large", detail, limit=limit)
        events.append(_event(line, number, event))
    if not events:
        detail = 'the batch is empty: send one JSON object a line, such as {"data": "It works"}'
        raise Problem(400, "invalid_batch", detail)
    return events


def _event(line: bytes, number: int, default: str | None) -> Event:
    try:
        item = read_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _bad(number, "data", f"is not UTF-8 (byte {error.start})") from None
    except ValueError as error:
        raise _bad(number, "data", f"is not JSON: {_why(error)}") from None
    if not isinstance(item, dict):
        raise _bad(number, "data", 'must be an object such as {"data": "It works", "event": "note"}')
    unknown = item.keys() - _MEMBERS
    if unknown:
        raise _bad(number, min(unknown)[:40], f"has the member {min(unknown)[:40]!r}; there are `data` and `event`")
    if "data" not in item:
        raise _bad(number, "data", "has no `data`")
    name = item.get("event", default)
    try:
        data = item["data"]
        return to_event(data, name)
    except InvalidEvent as error:
        raise _bad(number, error.field, f"can't be published: {error}") from None


def _why(error: ValueError) -> str:
    """What is wrong, without the parser's own `line 1`: each line is a document of its own."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at character {error.pos + 1}"
    return str(error)[:120]


def _bad(number: int, field: str, what: str) -> Problem:
    return Problem(400, "invalid_batch", f"line {number} {what}. Nothing was stored", line=number, field=field)
