"""Compresses event streams in blocks that stand by themselves, so that many streams share one block; and reads them.

A gzip body is a head, deflate blocks and a trailer. A usual compressor lets each block refer to what came before it on
the same connection, so each connection needs a compressor of its own. A block of ours refers to nothing but itself: it
may stand at any place of any stream. Each begins and ends at a byte, so that a reader can decode all of it as soon as
it has come. `docs/explain/compression.md` has the reasons, and what other formats do.

Reading is bounded. A kilobyte of an answer can hold a megabyte of zeros, and HTTP libraries decompress all bytes of one
read at once. An `Inflater` returns one piece at a time, so its caller can stop at its own limit. It reads `gzip` and
`deflate`, as the standard library does, and no other encoding. The client and the relay use it for servers that
compress although no request asked for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

HEAD: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""What a gzip body begins with (RFC 1952, section 2.3): no name, no time, system unknown."""

# Less is sent as it is, in ten bytes more: heartbeats and goodbyes, for which a code table costs more than it saves.
_SMALLEST: Final = 128
_LARGE: Final = 16 * 2**10
# zlib's level, window and memory. A kilobyte of JSON takes 6 µs in a window of 4 KB; one of 32 KB takes 13 µs, for its
# memory alone. What is large (replays, mostly, and many at once when clients come back) takes 0.2 ms for 64 KB at level
# 1, and 0.5 ms at level 6, which makes it a sixth smaller.
_SMALL_SETTINGS: Final = (6, zlib.DEFLATED, -12, 5)  # a negative window: no head and no trailer
_LARGE_SETTINGS: Final = (1, zlib.DEFLATED, -15, 8)
_STORED: Final = 0xFFFF  # the most that one stored block can have
_COMMENT: Final = ord(":")

# RFC 1951, section 3.2.3: the last block, of fixed codes, with nothing in it.
_END: Final = b"\x03\0"


def block(data: bytes) -> bytes:
    """Returns the deflate blocks of `data`: they refer to nothing before them, and end at a byte.

    A comment is sent as it is: it has no content, and perhaps a padding that is there for its length.
    """
    if len(data) >= _SMALLEST and data[0] != _COMMENT:
        compressor = zlib.compressobj(*(_SMALL_SETTINGS if len(data) < _LARGE else _LARGE_SETTINGS))
        packed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        if len(packed) < len(data):
            return packed
    # The empty block in the end is what a flush ends with too. Go's decoder hands nothing out before it.
    return b"".join(_stored(data[at : at + _STORED]) for at in range(0, len(data), _STORED)) + _stored(b"")


def _stored(data: bytes) -> bytes:
    # RFC 1951, section 3.2.4: a bit that says it is not the last, two for "no compression", the rest of the byte; then
    # the length and its complement.
    size = len(data)
    return b"\0" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


class GzipBody:
    """One response's body: what it began with, and what its trailer has to say.

    Hashing all that a response had takes 0.2 µs for a kilobyte, less than to combine the hashes of blocks.

    Attributes:
        begun: whether `HEAD` is out.
        over: whether its end was made.
    """

    __slots__ = ("_crc", "_size", "begun", "over")

    def __init__(self) -> None:
        self.begun: bool = False
        self.over: bool = False
        self._crc = 0
        self._size = 0

    def count(self, data: bytes) -> None:
        """Counts data that goes out as `block(data)`."""
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)

    def begin(self, packed: bytes) -> bytes:
        """Returns blocks with what must stand before them."""
        if self.begun:
            return packed
        self.begun = True
        return HEAD + packed

    def encode(self, data: bytes) -> bytes:
        """Returns the next bytes of a body that shares none with others."""
        self.count(data)
        return self.begin(block(data))

    def end(self, data: bytes = b"") -> bytes:
        """Returns the last bytes of the body, which has `data` in the end."""
        packed = self.encode(data)
        self.over = True
        # RFC 1952, section 2.3: CRC32, and ISIZE, "the size of the original (uncompressed) input data modulo 2^32".
        return packed + _END + self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")


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
