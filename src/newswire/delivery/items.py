"""An item of an iterable as bytes, and a word to people whose items look as if another library should read them."""

from __future__ import annotations

import logging
from typing import Any, Final, TypeAlias

from newswire.wire.encoder import encode
from newswire.wire.event import Event
from newswire.wire.payload import to_event

logger = logging.getLogger("newswire.delivery")

Item: TypeAlias = str | bytes | Event | Any

# What sse-starlette reads as the fields of an event, where it stands in a dict; and classes of other frameworks.
_FIELDS: Final = frozenset({"data", "event", "id", "retry", "comment"})
_CLASSES: Final = frozenset({"ServerSentEvent", "JSONServerSentEvent", "ServerSentEventMessage"})
_STARTS: Final = ("data:", "event:", "id:", "retry:", ":")
_warned = False


def encode_item(item: Item) -> bytes:
    """An item of a stream as bytes; see `newswire.wire.payload.to_event`. Event types are the stream's own affair.

    Raises:
        InvalidEvent: it can't be sent.
    """
    if not _warned and _looks_foreign(item):
        _warn(item)
    return encode(to_event(item, reserved=True))


def _looks_foreign(item: Item) -> bool:
    """Whether an item is the parts, or the text, of an event as other libraries take them."""
    if isinstance(item, Event):
        return False
    if isinstance(item, dict):
        return _FIELDS.issuperset(item) and ("data" in item or len(item) > 1)
    if isinstance(item, str):
        return item.endswith(("\n\n", "\r\n\r\n")) and item.startswith(_STARTS)
    if isinstance(item, (bytes, bytearray)):
        return item.endswith((b"\n\n", b"\r\n\r\n")) and _looks_foreign(bytes(item).decode("utf-8", "replace"))
    return type(item).__name__ in _CLASSES


def _warn(item: Item) -> None:
    global _warned
    _warned = True
    what = "a dict with the fields of an event" if isinstance(item, dict) else "the text of an event"
    if type(item).__name__ in _CLASSES:
        what = f"a {type(item).__name__}"
    logger.warning(
        "A stream yielded %s. newswire sends it as data: the client gets it inside one event. To set the fields of an "
        "event, yield newswire.Event(data, event=..., id=..., retry=...). This is said once in a process.",
        what,
    )
