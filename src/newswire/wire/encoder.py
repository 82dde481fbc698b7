"""Events to bytes. Every line ends in LF; every block ends in an empty line; nothing here buffers.

The fields of an `Event` were checked when it was made, so encoding can't fail and can't be injected into.
"""

from __future__ import annotations

from typing import Final

from newswire.wire.event import Event

# A comment of one line, without the blank line that most servers send after it: real clients dispatch a bogus event,
# or crash, at a blank line that follows nothing but a comment once ids are in use.
HEARTBEAT: Final = b":\n"


def encode(event: Event) -> bytes:
    """The complete block of an event, blank line included.

    `Decoder` gives the same event back, with CR and CRLF in its data read as LF.
    """
    data, name, id, retry, channel = event
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
    """The block of a stored event; the fields are known to be valid. The hub's hot path."""
    head = f"id: {id}\n" if event == "message" else f"id: {id}\nevent: {event}\n"
    if channel is not None:
        head = f"{head}channel: {channel}\n"
    return f"{head}{_data_lines(data)}\n".encode()


def _data_lines(data: str) -> str:
    # "If the line ... U+000D CARRIAGE RETURN, U+000A LINE FEED pair, a single LF, or a single CR" ends it (9.2.5).
    # str.splitlines would also cut at U+2028, NEL, VT and FF, which are data.
    if "\n" not in data and "\r" not in data:
        return f"data: {data}\n"
    if "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n")
    return "data: " + data.replace("\n", "\ndata: ") + "\n"


def comment(text: str = "") -> bytes:
    """A comment, which clients ignore; each line of `text` becomes one. No blank line follows: see `HEARTBEAT`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(f": {line}\n" if line else ":\n" for line in text.split("\n")).encode()


def opening(retry: int | None, id: str | None, *, whole: bool = True) -> bytes:
    """The block that a hub's stream starts with: a reconnection time and an id, and no data.

    Args:
        retry: in milliseconds.
        id: the cursor that the stream starts from.
        whole: end the block. If not, its fields become part of the first event, for clients that stumble over a block
            without data.

    "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty string and
    return" (9.2.6), but the last event ID is set before that: the client has a cursor before its first event.
    """
    lines = "" if retry is None else f"retry: {retry}\n"
    if id is not None:
        lines += f"id: {id}\n"
    return (f"{lines}\n" if whole else lines).encode()
