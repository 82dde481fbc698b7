"""What newswire reads in SQLite's write-ahead log and its index: how much is in use, by whom, and whether all is there.

Both are SQLite's own; nothing here writes to them. https://www.sqlite.org/walformat.html, fileformat2.html#walformat.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from newswire import posix
from newswire.log.sqlite.fork import Identity
from newswire.redact import printable

_HEADER, _FRAME_HEADER = 32, 24  # bytes
# The header of the index: page size, number of frames, size of the database, checksum and salts of the last frame; a
# second copy of the header; and how many frames the database has got.
_INDEX: Final = struct.Struct("=14xHIIII8s8x48xI")
_INDEX_HEADER: Final = 48  # bytes of one copy
_MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")  # how a write-ahead log begins
# SQLite's locks on the index: a reader holds one of these bytes while it has a snapshot.
_READ_LOCKS: Final = range(123, 128)


def wal_size(wal: int) -> tuple[int, int]:
    """The size of a write-ahead log, and what of it is in use since it last began again, in bytes.

    A log that was emptied keeps its size and is written over from its beginning. What belongs to the present round
    has the present salts, and lies before all that does not.
    """
    try:
        size = os.fstat(wal).st_size
        header = posix.pread(wal, _HEADER, 0)
        if len(header) < _HEADER:
            return size, 0
        salts, frame = header[16:24], _FRAME_HEADER + int.from_bytes(header[8:12])
        frames = range((size - _HEADER) // frame)
        used = bisect_left(frames, True, key=lambda index: posix.pread(wal, 8, _HEADER + index * frame + 8) != salts)
        return size, used * frame
    except OSError:
        return 0, 0


def mark(index: int | None) -> bytes:
    """A mark that each commit changes: the header of the write-ahead log's index, by which SQLite sees the same.

    Args:
        index: a descriptor of the index; None if there is none.

    Returns:
        the mark; empty if there is none.
    """
    if index is None:
        return b""
    try:
        return posix.pread(index, _INDEX_HEADER, 0)
    except OSError:
        return b""


def wal_is_whole(path: str) -> bool:
    """Whether the write-ahead log of a database still has what was committed to it, as far as its index knows.

    A killed process leaves both, and the index counts the frames. SQLite does not compare them: it makes the index
    again from the frames that it finds, so this is for before it opens the database; see `fork.kept_closed`.

    Raises:
        OSError: one of them is not there.
    """
    while True:
        index = _index(path)
        if index is None or _has_last_frame(path, *index):
            return True
        if index == _index(path):  # else a process is at work on it
            return False


def _index(path: str) -> tuple[int, int, bytes] | None:
    """The place, size, salts and checksum of the last frame; None if the database has all of them already."""
    with open(path + "-shm", "rb") as file:
        found = file.read(_INDEX.size)
    if len(found) < _INDEX.size:
        return None
    page, frames, _, first, second, salts, moved = _INDEX.unpack(found)
    frame = _FRAME_HEADER + (page if page > 1 else 2**16)
    if frames <= moved:
        return None
    return _HEADER + (frames - 1) * frame, frame, salts + struct.pack(">II", first, second)


def _has_last_frame(path: str, begin: int, size: int, marks: bytes) -> bool:
    with open(path + "-wal", "rb") as file:
        file.seek(begin)
        frame = file.read(size)
    return len(frame) == size and frame[8:_FRAME_HEADER] == marks


def wal_is_cut(wal: int, index: int | None) -> bool:
    """Whether another program has emptied a write-ahead log that is in use.

    SQLite does not notice, and goes on after the last frame that its index knows: what it stores then has no beginning,
    and is nothing to whoever opens the file next. SQLite itself empties a log only after it has counted the frames in
    the index as none, and writes the beginning before any frame.

    Args:
        wal: a descriptor of the write-ahead log.
        index: one of its index; None if there is none: then a log that has nothing in it is taken as SQLite left it.
    """
    try:
        begin = posix.pread(wal, len(_MAGIC[0]), 0)
        if begin:
            return begin not in _MAGIC
        if index is None:
            return False
        found = posix.pread(index, _INDEX.size, 0)
        whole = len(found) == _INDEX.size and found[:_INDEX_HEADER] == found[_INDEX_HEADER : 2 * _INDEX_HEADER]
        # Else something was stored, or the log was emptied, meanwhile.
        still = whole and not posix.pread(wal, 1, 0) and posix.pread(index, _INDEX.size, 0) == found
        return still and _INDEX.unpack(found)[1] > 0
    except OSError:
        return False


def wal_readers(shm: Identity) -> list[str]:
    """The processes that have a snapshot of a write-ahead log, as far as the system tells, by the file of its index."""
    if not posix.LINUX:
        return []
    device, inode = shm
    name = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    found = {process for process, file, byte in _locks() if file == name and byte in _READ_LOCKS}
    return [_name_of(process) for process in sorted(found)]


def _locks() -> Iterator[tuple[int, str, int]]:
    """The locks on files that the system lists: process, file, and byte."""
    try:
        for line in posix.read_proc("/proc/locks").splitlines():
            fields = line.split()
            if len(fields) == 8 and fields[1] == "POSIX":
                yield int(fields[4]), fields[5], int(fields[6])
    except (OSError, ValueError):
        return


def _name_of(process: int) -> str:
    if process == os.getpid():
        return f"this process ({process})"
    try:
        return f"process {process} ({printable(posix.read_proc(f'/proc/{process}/comm').strip(), lines=False)})"
    except OSError:
        return f"process {process}"
