"""What newswire reads in SQLite's write-ahead log and its index: how much is in use, by whom, and whether all is there.

Both are SQLite's own; nothing here writes to them. https://www.sqlite.org/walformat.html, fileformat2.html#walformat.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

from newswire import posix
from newswire.log import native
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
        if index is None or _has_last_frame(path, index):
            return True
        if index == _index(path):  # else a process is at work on it
            return False


class WalFrame(NamedTuple):
    """A frame of a write-ahead log.

    Attributes:
        place: where it begins.
        end: where it ends.
        marks: its salts and checksum.
    """

    place: int
    end: int
    marks: bytes

    def same_round(self, other: WalFrame) -> bool:
        """Whether the log did not begin again between the two: they have the same salts."""
        return self.marks[:8] == other.marks[:8]


def _index(path: str) -> WalFrame | None:
    """The last frame; None if the database has all frames already."""
    with open(path + "-shm", "rb") as file:
        found = file.read(_INDEX.size)
    if len(found) < _INDEX.size or _INDEX.unpack(found)[1] <= _INDEX.unpack(found)[-1]:
        return None
    return _last_frame(found)


def _last_frame(index: bytes) -> WalFrame | None:
    """The last frame that an index counts; None if it counts none."""
    page, frames, _, first, second, salts, _ = _INDEX.unpack(index)
    if not frames:
        return None
    end = _HEADER + frames * _frame_size(page)
    return WalFrame(end - _frame_size(page), end, salts + struct.pack(">II", first, second))


def _frame_size(page: int) -> int:
    return _FRAME_HEADER + (page if page > 1 else 2**16)


def _has_last_frame(path: str, last: WalFrame) -> bool:
    with open(path + "-wal", "rb") as file:
        there = posix.pread(file.fileno(), _FRAME_HEADER, last.place)
        return there[8:] == last.marks and whole_size(file.fileno()) >= last.end


def whole_size(wal: int) -> int:
    """How many bytes from its beginning a write-ahead log has whole transactions in, which SQLite finds again.

    Each frame must have the salts of the present round. Where they end, something may have been cut within a frame, so
    the checksum of that one is computed.
    """
    header = posix.pread(wal, _HEADER, 0)
    if len(header) < _HEADER or header[:4] not in _MAGIC:
        return 0
    size = _frame_size(int.from_bytes(header[8:12]))
    place, before, last = _HEADER, header[24:], header[24:]
    commits = [0]  # where transactions end
    while len(frame := posix.pread(wal, _FRAME_HEADER, place)) == _FRAME_HEADER and frame[8:16] == header[16:24]:
        place += size
        before, last = last, frame[16:]
        if frame[4:8] != bytes(4):  # the last frame of a transaction has the size of the database
            commits.append(place)
    if place > _HEADER:
        frame = posix.pread(wal, size, place - size)
        order = ">" if header[3] & 1 else "<"
        if len(frame) < size or _checksum(order, before, frame[:8] + frame[_FRAME_HEADER:]) != last:
            place -= size
    return max(end for end in commits if end <= place)


def _checksum(order: str, before: bytes, data: bytes) -> bytes:
    """SQLite's checksum of some data, after that of what is before it."""
    first, second = struct.unpack(">II", before)
    for one, two in struct.iter_unpack(f"{order}II", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)


class WalWatch:
    """Sees whether another program has emptied or cut a write-ahead log that is in use.

    SQLite does not notice, and goes on after the last frame that its index knows: what it stores then comes after a
    hole, and is nothing to whoever opens the file next. SQLite itself empties a log only after it has counted the
    frames in the index as none, and writes the beginning before any frame. While the salts stay it removes no frame.

    Args:
        wal: a descriptor of the write-ahead log.
        index: one of its index; None if there is none: then only its beginning is looked at, and a log that has
            nothing in it is taken as SQLite left it.
    """

    def __init__(self, wal: int, index: int | None) -> None:
        self._wal = wal
        self._index = index
        self._lock = native.lock()  # threads look at it
        self._seen: WalFrame | None = None  # the last frame, when one looked before
        self._cut = False

    def is_cut(self) -> bool:
        """Look at it; one that was cut stays so."""
        with self._lock:
            self._cut = self._cut or self._look()
            return self._cut

    def _look(self) -> bool:
        try:
            begin = posix.pread(self._wal, len(_MAGIC[0]), 0)
            if begin and begin not in _MAGIC:
                return True
            found = self._header()
            last = _last_frame(found) if found is not None else None
            if found is None or last is None:
                return False
            if not begin:  # unless something was stored, or the log was emptied, meanwhile
                return not posix.pread(self._wal, 1, 0) and self._header() == found
            # One that is stored while the log is cut is in its place; the one before it is not.
            seen, self._seen = self._seen, last
            whole = os.fstat(self._wal).st_size >= last.end and self._has(last)
            if whole and (seen is None or seen == last or not seen.same_round(last) or self._has(seen)):
                return False
            again = self._header()
            now = _last_frame(again) if again is not None else None
            return now is not None and now.same_round(last)
        except OSError:
            return False

    def _header(self) -> bytes | None:
        """The header of the index; None if there is none, or it is being written."""
        if self._index is None:
            return None
        found = posix.pread(self._index, _INDEX.size, 0)
        whole = len(found) == _INDEX.size and found[:_INDEX_HEADER] == found[_INDEX_HEADER : 2 * _INDEX_HEADER]
        return found if whole else None

    def _has(self, frame: WalFrame) -> bool:
        return posix.pread(self._wal, len(frame.marks), frame.place + 8) == frame.marks


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
