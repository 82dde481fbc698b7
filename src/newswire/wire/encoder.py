"""Events to bytes. Every line ends in LF, and every block in an empty line.

The hub, responses and runs call it for each event they send. It never buffers and never fails: the fields of an `Event`
were checked when it was made, so no field can end its line and begin another.
"""

from __future__ import annotations

from typing import Final

from newswire.validate import check_kind, shown
from newswire.wire.event import Event

# A comment of one line. Most servers send a blank line after it. Once ids are in use, some real clients dispatch a
# false event, or crash, at a blank line that follows only a comment. So none follows here.
HEARTBEAT: Final = b":\n"


def heartbeat(padding: int = 0) -> bytes:
    """Returns a heartbeat with so many bytes more, for proxies that pass nothing on before a buffer is full."""
    return b":" + b" " * padding + b"\n"


def encode(event: Event) -> bytes:
    """Returns the complete block of an event, with its blank line.

    `Decoder` makes the same event of it, except that CR and CRLF in its data become LF.
    """
    try:
        data, name, id, retry, channel = event
    except (TypeError, ValueError):
        raise TypeError(f"encode takes an Event, not {shown(event)}") from None
    head = ""
    if retry is not None:
        head = f"retry: {retry}\n"
    if id is not None:
        head += f"id: {id}\n"
    if name != "message":
        head += f"event: {name}\n"
    if channel is not None:
        head += f"channel: {channel}\n"
    return f"{head}{_data_lines(data)}\n".encode()


def encode_entry(id: str, event: str, data: str, channel: str | None) -> bytes:
    """Returns the block of a stored event, whose fields are known to be valid. This is the hub's hot path."""
    head = "" if event == "message" else f"event: {event}\n"
    if channel is not None:
        head = f"{head}channel: {channel}\n"
    if "\n" not in data and "\r" not in data:
        return f"id: {id}\n{head}data: {data}\n\n".encode()
    return f"id: {id}\n{head}{_data_lines(data)}\n".encode()


def _data_lines(data: str) -> str:
    # "If the line ... U+000D CARRIAGE RETURN, U+000A LINE FEED pair, a single LF, or a single CR" ends it (9.2.5).
    # str.splitlines would also cut at U+2028, NEL, VT and FF, which are data.
    if "\n" not in data and "\r" not in data:
        return f"data: {data}\n"
    if "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n")
    return "data: " + data.replace("\n", "\ndata: ") + "\n"


def comment(text: str = "") -> bytes:
    """Returns comments, which clients ignore: one for each line of `text`. No blank line follows: see `HEARTBEAT`."""
    check_kind("text", text, str)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(f": {line}\n" if line else ":\n" for line in text.split("\n")).encode()


def opening(retry: int | None, id: str | None, *, whole: bool = True, heartbeat: float | None = None) -> bytes:
    """Returns the block at the start of a hub's stream: a reconnection time and an id, without data.

    Args:
        retry: the reconnection time in milliseconds, or None.
        id: the cursor that the stream starts from, or None.
        whole: end the block. If False, its fields become part of the first event, for clients that fail at a block
            without data.
        heartbeat: the longest silence in seconds, or None. After a whole block a comment announces it, so that a client
            that reads comments knows how soon silence means a dead connection. It is a heartbeat with a text.

    "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty string and
    return" (9.2.6). But the last event ID is set before that, so the client has a cursor before its first event.
    """
    lines = "" if retry is None else f"retry: {retry}\n"
    if id is not None:
        lines += f"id: {id}\n"
    if whole:
        lines += "\n" if heartbeat is None else f"\n: heartbeat {heartbeat:g}\n"
    return lines.encode()
