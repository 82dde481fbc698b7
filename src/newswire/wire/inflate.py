"""Decompresses bodies in pieces of bounded size.

A kilobyte of an answer can hold a megabyte of zeros, and HTTP libraries decompress all bytes of one read at once. An
`Inflater` returns one piece at a time, so its caller can stop at its own limit. It reads `gzip` and `deflate`, as the
standard library does, and no other encoding. The client and the relay use it for servers that compress although
no request asked for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

PIECE: Final = 2**16  # bytes: the largest piece
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS
_WINDOW_BITS: Final = {"": None, "identity": None, "gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


def is_readable(encoding: str) -> bool:
    """Whether `Inflater` can read this `content-encoding`."""
    return encoding.strip().lower() in _WINDOW_BITS


class Inflater:
    """Decompresses one body.

    Args:
        encoding: the `content-encoding` of the body. Empty or `identity` means that the body is not compressed.

    Raises:
        ValueError: the encoding is another one, or there are several.
    """

    def __init__(self, encoding: str = "") -> None:
        if not is_readable(encoding):
            raise ValueError(f"a content-encoding of {encoding[:60]!r}, which can't be read")
        self._wbits = _WINDOW_BITS[encoding.strip().lower()]
        self._inside: Any = None  # a decompressor in the middle of its data

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompresses the next bytes of the body, in pieces. No piece is empty.

        Raises:
            ValueError: the bytes are not compressed as the head says.
        """
        if self._wbits is None:
            if data:
                yield data
            return
        while data:
            if self._inside is None:
                self._begin(data)
            try:
                piece = self._inside.decompress(data, PIECE)
            except zlib.error as error:
                raise ValueError(f"it can't be decompressed: {error}") from None
            if piece:
                yield piece
            if self._inside.eof:  # RFC 1952, section 2.2: members follow each other without anything between them
                data, self._inside = self._inside.unused_data, None
            else:
                data = self._inside.unconsumed_tail
                if not data and len(piece) == PIECE:
                    yield from self._held()

    def _begin(self, data: bytes) -> None:
        assert self._wbits is not None
        # RFC 9110, section 8.4.1.2: "Some non-conformant implementations send the "deflate" compressed data without the
        # zlib wrapper."
        bare = self._wbits == _ZLIB and data[0] & 0x0F != zlib.DEFLATED
        self._inside = zlib.decompressobj(_BARE if bare else self._wbits)

    def _held(self) -> Iterator[bytes]:
        """Returns what the decompressor still holds after a piece that was exactly full."""
        while piece := self._inside.decompress(b"", PIECE):
            yield piece
