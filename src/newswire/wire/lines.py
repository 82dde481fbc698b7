"""Bytes to whole lines, as WHATWG HTML 9.2.5 says, for any chunking, each byte looked at a bounded number of times.

"Lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair, a single U+000A LINE
FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR) character." The decoder is the one subclass: `feed` hands
it whole lines, and keeps what has no end yet. Lines stay bytes: CR and LF are never part of a UTF-8 sequence, so a line
that is whole can be decoded by itself, and a sequence that was broken off can't swallow the line end after it.

The pieces of an unfinished line are kept as they came, and now and then gathered into one buffer. So a line costs one
copy, however it was cut (joining with each chunk would cost the square of its length), and a peer that sends a
byte at a time can't make us keep an object for each.
"""

from __future__ import annotations

from typing import Final, Generic, NoReturn, TypeVar

from newswire.errors import DecodeLimitExceeded

T = TypeVar("T")

_BOM: Final = b"\xef\xbb\xbf"
_GATHER: Final = 32  # a piece costs some 40 bytes beside its own; 32 of them are no weight, and checking is cheap


class LineSplitter(Generic[T]):
    """Splits a stream of bytes into lines, and makes something of them.

    Args:
        max_line: the longest line, in bytes.
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._at_start = True
        self._after_cr = False
        self._pieces: list[bytes] = []  # the newest pieces of the line that has not ended …
        self._gathered = bytearray()  # … and what came before them
        self._unended = 0  # the bytes of chunks that had no line end, since the last that had one
        self._failure: DecodeLimitExceeded | None = None

    def _take(self, lines: list[bytes], size: int) -> list[T]:
        """Make something of one or more whole lines, without their ends; `size` is at least their bytes."""
        raise NotImplementedError

    def feed(self, data: bytes | bytearray | memoryview) -> list[T]:
        """Take what came, and return what it completes. What is incomplete is kept.

        A line is ended by its CR, LF or CRLF at once: a CR doesn't wait for the byte after it.

        Raises:
            DecodeLimitExceeded: something is larger than its limit; every later call raises it again. Of the bytes of
                a call that raised, none counted.
            TypeError: `data` is not bytes.
        """
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 10:  # the second half of a CRLF whose first half has ended the line already
                data = data[1:]
        pieces = self._pieces
        if 13 in data:  # CR
            # Unlike str.splitlines, which also cuts at U+2028, NEL, VT and FF, the one of bytes knows CR, LF and CRLF.
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

    def _whole(self) -> bytes:
        """The line that has just got its end."""
        if self._gathered:
            self._gather()
            line = bytes(self._gathered)
            self._gathered = bytearray()  # not clear(): a long line's memory goes back at once
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
        """Raise, now and at every later `feed`."""
        hint = "raise the decoder's max_line or max_event if the stream is to be trusted"
        self._failure = DecodeLimitExceeded(f"{what} in bytes", limit=limit, actual=actual, hint=hint)
        # Every way through `feed` gathers from here on, and that raises. So good streams never pay for the check.
        self._pieces = [b""] * (_GATHER - 1)
        self._gathered = bytearray(1)
        raise self._failure


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"feed takes bytes, as they came from the network, not {type(data).__name__}")
