"""Bytes to whole lines, as WHATWG HTML 9.2.5 says, for any chunking, each byte looked at a bounded number of times.

"Lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair, a single U+000A LINE
FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR) character." The decoder is the only subclass: `feed` gives
it whole lines, and keeps a line that has no end yet. Nothing here decodes text. CR and LF are never part of a UTF-8
sequence, so a whole line can be decoded alone, and a broken sequence can't hide the line end after it.

The pieces of an unfinished line are kept as they came, and joined into one buffer now and then. So each byte of a line
is copied a bounded number of times; joining at each chunk would cost the square of the line's length. And a peer that
sends one byte at a time can't make us keep an object for each.
"""

from __future__ import annotations

from typing import Final, Generic, NoReturn, TypeVar

from newswire.errors import DecodeLimitExceeded

T = TypeVar("T")

_BOM: Final = b"\xef\xbb\xbf"
_GATHER: Final = 32  # a piece costs some 40 bytes beside its own, so 32 of them cost little


class LineSplitter(Generic[T]):
    """Splits a stream of bytes into lines. A subclass makes results of them.

    Args:
        max_line: the longest line, in bytes.
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._at_start = True
        self._after_cr = False
        self._pieces: list[bytes] = []  # the newest pieces of the unfinished line …
        self._gathered = bytearray()  # … and its bytes before them
        self._unended = 0  # bytes since the last chunk with a line end
        self._failure: DecodeLimitExceeded | None = None

    def _take(self, lines: list[bytes], size: int) -> list[T]:
        """Returns the results of one or more whole lines, without their ends; `size` is at least their bytes."""
        raise NotImplementedError

    def feed(self, data: bytes | bytearray | memoryview) -> list[T]:
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


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"feed takes bytes, as they came from the network, not {type(data).__name__}")
