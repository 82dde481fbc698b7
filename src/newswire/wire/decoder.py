"""Bytes to events, exactly as WHATWG HTML 9.2.5 and 9.2.6 say, for any chunking, in linear time.

`feed` takes what came from the network and gives the events that it completes. No I/O, no clock: the client, the
doctor and tests feed it; other people's HTTP libraries can too.
"""

from __future__ import annotations

import codecs
from typing import Final

from newswire.errors import DecodeLimitExceeded
from newswire.wire.event import Event

# Real events of megabytes exist (images, documents); endless lines do not. Both limits are in characters.
_MAX_LINE: Final = 16 * 2**20
_MAX_EVENT: Final = 16 * 2**20
_DIGITS: Final = frozenset("0123456789")


class Decoder:
    """An incremental decoder of one stream.

    Args:
        max_line: the longest line, in characters.
        max_event: the most data of one event, in characters.
        last_event_id: the ID that is in force at the start; on a reconnect, that of the connection before.

    Attributes:
        last_event_id: the last event ID in force; empty if there is none.
        retry: the last reconnection time that the stream set, in milliseconds; None if it set none.
    """

    def __init__(self, *, max_line: int = _MAX_LINE, max_event: int = _MAX_EVENT, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._max_line = max_line
        self._max_event = max_event
        # "Streams must be decoded using the UTF-8 decode algorithm", which replaces what is malformed.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True
        self._after_cr = False
        self._tail: list[str] = []  # the pieces of a line that has not ended
        self._tail_size = 0
        self._clear()
        self._id = last_event_id

    def _clear(self) -> None:
        self._data: list[str] = []
        self._data_size = 0
        self._event = ""
        self._event_retry: int | None = None
        self._channel: str | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes; return the events that they complete. What is incomplete is kept, and dropped with the decoder:
        "once the end of the file is reached, any pending data must be discarded".

        Raises:
            DecodeLimitExceeded: a line or an event is too large. The decoder can't go on.
        """
        text = self._utf8.decode(data)
        if self._at_start and text:
            self._at_start = False
            if text[0] == "\ufeff":  # "strip one leading U+FEFF BYTE ORDER MARK character, if any"
                text = text[1:]
        if self._after_cr and text:
            self._after_cr = False
            if text[0] == "\n":  # the second half of a CRLF whose CR has ended the line already
                text = text[1:]
        if not text:
            return []
        if "\r" in text:
            # A CR ends its line at once; an LF right after it belongs to it, also when that comes later.
            self._after_cr = text[-1] == "\r"
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        if len(lines) == 1:
            self._keep(text)
            return []
        if self._tail:
            self._tail.append(lines[0])
            lines[0] = "".join(self._tail)
            self._tail, self._tail_size = [], 0
        rest = lines.pop()
        if rest:
            self._keep(rest)
        return self._lines(lines)

    def _keep(self, piece: str) -> None:
        self._tail.append(piece)
        self._tail_size += len(piece)
        if self._tail_size > self._max_line:
            raise DecodeLimitExceeded("line length", limit=self._max_line, actual=self._tail_size)

    def _lines(self, lines: list[str]) -> list[Event]:
        events: list[Event] = []
        data = self._data
        for line in lines:
            if not line:  # "If the line is empty (a blank line): dispatch the event"
                # "Set the last event ID string of the event source to the value of the last event ID buffer."
                self.last_event_id = id = self._id
                if data:
                    # "If the data buffer's last character is LF, remove it": joining never adds it.
                    text = data[0] if len(data) == 1 else "\n".join(data)
                    fields = (text, self._event or "message", id or None, self._event_retry, self._channel)
                    events.append(tuple.__new__(Event, fields))
                # "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty
                # string and return."
                self._clear()
                data = self._data
            elif line.startswith("data:"):
                value = line[6:] if line[5:6] == " " else line[5:]
                data.append(value)
                self._data_size += len(value) + 1
                if self._data_size > self._max_event or len(line) > self._max_line:
                    size = max(self._data_size, len(line))
                    raise DecodeLimitExceeded("event size", limit=self._max_event, actual=size)
            elif line[0] != ":":  # "If the line starts with a U+003A COLON character (:): ignore the line"
                self._field(line)
        return events

    def _field(self, line: str) -> None:
        if len(line) > self._max_line:
            raise DecodeLimitExceeded("line length", limit=self._max_line, actual=len(line))
        name, _, value = line.partition(":")
        if value[:1] == " ":  # "If value starts with a U+0020 SPACE character, remove it from value."
            value = value[1:]
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:  # "If the field value does not contain U+0000 NULL"
                self._id = value
        elif name == "retry":
            if value and _DIGITS.issuperset(value):  # "consists of only ASCII digits"
                self.retry = self._event_retry = int(value[:18])
        elif name == "channel":
            self._channel = value  # ours; "Otherwise: the field is ignored"
