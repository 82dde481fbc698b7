"""Bytes to events, exactly as WHATWG HTML 9.2.6 says, for any chunking, in linear time.

The client, the command line and tests feed it, and so can any program that reads a stream with an HTTP library. It does
no I/O and knows no clock. It splits the bytes into lines, and makes fields of the lines and events of blocks of fields.
CR and LF are never part of a UTF-8 sequence, so a whole line can be decoded alone, and a broken sequence can't hide the
line end after it.

The pieces of an unfinished line are kept as they came, and joined into one buffer now and then. Joining at each chunk
would cost the square of the line's length. And a peer that sends one byte at a time can't make us keep an object for
each.

One loop does the work and holds the block in local variables: a call for each line would cost a third of the speed. The
quotations beside its steps are from the standard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NoReturn

from newswire.errors import DecodeLimitExceeded
from newswire.validate import check_kind, shown
from newswire.wire.event import MAX_RETRY, Event

_BOM: Final = b"\xef\xbb\xbf"
_GATHER: Final = 32  # a piece costs some 40 bytes beside its own, so 32 of them cost little

# Some real events have megabytes (images, documents), and limits of 64 KB to 1 MB have broken real programs. No real
# line is endless. Both limits count bytes as they came.
MAX_LINE: Final = 16 * 2**20
MAX_EVENT: Final = 16 * 2**20

# After so many lines an unfinished event's lines are joined, since each str costs some 50 bytes beside its text.
_JOIN: Final = 1024

# Skips the checks of `Event`: an event of the wire can break none of its rules, but for a harmless NUL.
_new_event = tuple.__new__


class Decoder:
    """An incremental decoder of one stream: feed it bytes from the network, and it returns the events.

    A decoded event's `id` is the last event ID in force when the event was dispatched, even if its own block has no
    `id`. It is None if the stream has set none, or an empty `id` has reset it. An event's `retry` comes from its own
    block, or is None.

    The end of the stream needs no call: "Once the end of the file is reached, any pending data must be discarded. (If
    the file ends in the middle of an event, before the final empty line, the incomplete event is not dispatched.)"
    So drop the decoder. After a reconnect, begin a new one with the old one's `last_event_id`.

    Args:
        max_line: the longest line, in bytes. While a line has no end, the limit is checked every 32 pieces.
        max_event: the most bytes of `data` lines in one event, field names included.
        last_event_id: the last event ID in force at the start. The standard begins each stream with an empty buffer, so
            after a reconnect the first event without an `id` would reset the cursor. With this ID the decoder keeps the
            cursor, as browsers do.
        on_comment: called with the text of each comment, in order, as soon as its line ends. It must not raise.

    Raises:
        ValueError: a limit is no integer greater than 0.
        TypeError: `last_event_id` is not a str, or `on_comment` no function.

    Attributes:
        last_event_id: the last event ID in force, which a reconnect sends; empty if there is none.
        retry: the reconnection time that the stream set last, in milliseconds; None if it set none.
    """

    def __init__(
        self,
        *,
        max_line: int = MAX_LINE,
        max_event: int = MAX_EVENT,
        last_event_id: str = "",
        on_comment: Callable[[str], object] | None = None,
    ) -> None:
        for name, limit in (("max_line", max_line), ("max_event", max_event)):
            if type(limit) is not int or limit <= 0:
                raise ValueError(f"{name} must be a whole number greater than 0, not {limit!r:.60}")
        check_kind("last_event_id", last_event_id, str)
        if on_comment is not None and not callable(on_comment):
            raise TypeError(f"on_comment is a function, not {shown(on_comment)}")
        self.last_event_id: str = last_event_id
        self.retry: int | None = None
        self._on_comment = on_comment
        self._max_event = max_event
        self._room = min(max_line, max_event)  # fewer bytes than this can't break a limit
        self._id = last_event_id  # the "last event ID buffer"
        # The block that is unfinished between two calls: its last data line, type, retry and channel …
        self._unfinished: tuple[str | None, str, int | None, str | None] | None = None
        self._parts: list[str] = []  # … its data lines before the last …
        self._joined = 0  # … of which so many are several lines, joined …
        self._size = 0  # … and the bytes of all its data lines, as they came.
        self._max_line = max_line
        self._at_start = True
        self._after_cr = False
        self._pieces: list[bytes] = []  # the newest pieces of the unfinished line …
        self._gathered = bytearray()  # … and its bytes before them
        self._unended = 0  # bytes since the last chunk with a line end
        self._failure: DecodeLimitExceeded | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Takes bytes from the network, and returns the results that they complete. Incomplete lines are kept.

        A line ends at once at its CR, LF or CRLF: a CR doesn't wait for the byte after it.

        Raises:
            DecodeLimitExceeded: a line or an event is larger than its limit. Every later call raises the error again.
                The bytes of a call that raises have no effect.
            TypeError: `data` is not bytes.
        """
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 10:  # the second half of a CRLF, whose first half has ended the line
                data = data[1:]
        pieces = self._pieces
        if 13 in data:  # CR
            # bytes.splitlines splits at CR, LF and CRLF only. str.splitlines would also split at U+2028, NEL, VT and
            # FF.
            lines = data.splitlines()
            self._after_cr = data[-1] == 13
            if self._after_cr or data[-1] == 10:
                lines.append(b"")
        elif 10 in data:  # LF
            lines = data.split(b"\n")
        else:
            pieces.append(data)
            self._unended += len(data)
            if len(pieces) >= _GATHER or self._unended > self._max_line:
                self._gather()
            return []
        size = len(data)
        if pieces or self._gathered:
            pieces.append(lines[0])
            self._unended = 0
            lines[0] = self._whole()
            size += len(lines[0])
        rest = lines.pop()
        if rest:
            pieces.append(rest)
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)  # 9.2.5: "stream = [ bom ] *event"; one, and only here
        return self._take(lines, size)

    def decode(self, chunks: Iterable[bytes]) -> Iterator[Event]:
        """Feeds all `chunks`, and yields the events as they are completed.

        Args:
            chunks: bytes, such as `response.iter_bytes()` of HTTP libraries.

        Raises:
            DecodeLimitExceeded: as `feed` does. Errors of `chunks` are raised too.
        """
        feed = self.feed
        for chunk in chunks:
            yield from feed(chunk)

    def _whole(self) -> bytes:
        """Returns the line whose end has just come."""
        if self._gathered:
            self._gather()
            line = bytes(self._gathered)
            self._gathered = bytearray()  # clear() would keep the memory of a long line
            return line
        line = b"".join(self._pieces)
        self._pieces.clear()
        return line

    def _gather(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._gathered += b"".join(self._pieces)
        self._pieces.clear()
        if len(self._gathered) > self._max_line:
            self._fail("line length", self._max_line, len(self._gathered))

    def _fail(self, what: str, limit: int, actual: int) -> NoReturn:
        """Raises now, and makes every later `feed` raise."""
        hint = "raise the decoder's max_line or max_event if the stream is to be trusted"
        self._failure = DecodeLimitExceeded(f"{what} in bytes", limit=limit, actual=actual, hint=hint)
        # From here on every `feed` gathers, and gathering raises. So good streams never pay for a check.
        self._pieces = [b""] * (_GATHER - 1)
        self._gathered = bytearray(1)
        raise self._failure

    def _take(self, lines: list[bytes], size: int) -> list[Event]:
        """Returns the events that whole lines, without their ends, complete; `size` is at least their bytes."""
        if self._size + size > self._room:
            self._check(lines)
        events: list[Event] = []
        parts = self._parts
        text: str | None = None  # the newest data line; None: none yet
        event, retry, channel = "message", None, None
        if self._unfinished is not None:
            text, event, retry, channel = self._unfinished
            self._unfinished = None
        for line in lines:
            # "If the line is empty (a blank line): Dispatch the event."
            if not line:
                # "Set the last event ID string of the event source to the value of the last event ID buffer. The
                # buffer does not get reset": an id counts without data too, and stays in force.
                self.last_event_id = id = self._id
                # "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty
                # string and return." A data line without a value puts an LF into it, so it isn't empty then.
                if text is not None:
                    if parts:
                        parts.append(text)
                        text = "\n".join(parts)  # without the last LF, which the standard adds and removes again
                        parts.clear()
                        self._joined = 0
                    events.append(_new_event(Event, (text, event, id or None, retry, channel)))
                    text = None
                event, retry, channel = "message", None, None
                continue
            # "Collect the characters on the line before the first U+003A COLON character (:), and let field be that
            # string." Without a colon: "the whole line as the field name, and the empty string as the field value".
            name, _, value = line.partition(b":")
            # "If value starts with a U+0020 SPACE character, remove it from value."
            value = value.removeprefix(b" ")
            # "Field names must be compared literally, with no case folding performed."
            if name == b"data":
                # "Append the field value to the data buffer, then append a single U+000A LINE FEED (LF) character"
                if text is not None:
                    parts.append(text)
                try:
                    text = value.decode()
                except UnicodeDecodeError:
                    text = value.decode("utf-8", "replace")
            elif name == b"event":
                # "Set the event type buffer to field value"; at dispatch it counts if it is not empty.
                event = value.decode("utf-8", "replace") or "message"
            elif name == b"id":
                # "If the field value does not contain U+0000 NULL, then set the last event ID buffer to the field
                # value. Otherwise, ignore the field."
                if 0 not in value:
                    try:
                        self._id = value.decode()  # without arguments: a tenth less for streams with ids
                    except UnicodeDecodeError:
                        self._id = value.decode("utf-8", "replace")
            elif name == b"retry":
                # "If the field value consists of only ASCII digits": isdigit() of bytes knows no others, but int()
                # takes signs, spaces and underscores.
                if value.isdigit():
                    self.retry = retry = _milliseconds(value)
            elif name == b"channel":
                channel = value.decode("utf-8", "replace")  # ours; others: "Otherwise: The field is ignored."
            elif not name and self._on_comment is not None:
                # "If the line starts with a U+003A COLON character (:): Ignore the line."
                self._on_comment(value.decode("utf-8", "replace"))
        if line:
            self._unfinished = text, event, retry, channel
            self._keep(lines)
        else:
            self._size = 0
        return events

    def _check(self, lines: list[bytes]) -> None:
        """Raises if a limit is exceeded, before any of `lines` has an effect."""
        size = self._size
        for line in lines:
            if not line:
                size = 0
            elif len(line) > self._max_line:
                self._fail("line length", self._max_line, len(line))
            elif _is_data(line):
                size += len(line)
                if size > self._max_event:
                    self._fail("event size", self._max_event, size)

    def _keep(self, lines: list[bytes]) -> None:
        """Counts the bytes that the unfinished event has grown by, and joins its lines if there are many.

        It joins only lines that were not joined before. So each is copied twice at most, however many come.
        """
        size = 0
        for line in reversed(lines):
            if not line:
                self._size = size
                break
            if _is_data(line):
                size += len(line)
        else:
            self._size += size
        parts = self._parts
        if len(parts) - self._joined >= _JOIN:
            parts[self._joined :] = ["\n".join(parts[self._joined :])]
            self._joined += 1


def _is_data(line: bytes) -> bool:
    return line.startswith(b"data:") or line == b"data"


def _milliseconds(digits: bytes) -> int:
    """Returns the number, with a bound, since int() refuses more than 4,300 digits."""
    return min(int(digits.lstrip(b"0")[:20] or b"0"), MAX_RETRY)


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"feed takes bytes, as they came from the network, not {type(data).__name__}")
