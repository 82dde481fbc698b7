"""What one log object holds on its file from the first use to `close`, so that the file stays the one that was opened.

An idle connection: while one is open SQLite keeps the write-ahead log, so its inode is that of the whole time. A shared
lock on the write-ahead log: a process that gets it exclusively is alone, and may judge whether the file is as newswire
left it (`unchanged`). What newswire left is noted in a small file beside it, `-life`: a note inside could not tell,
for a copy has it too.

    FILE        the database
    FILE-wal    SQLite's write-ahead log; locked here
    FILE-shm    SQLite's index of it
    FILE-life   which file the database is, when it was last changed, and the machine's boot; written here
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from newswire.errors import LogCorrupt, LogUnavailable
from newswire.log import sqlite_fork
from newswire.log.sqlite_fork import Identity, identity_of
from newswire.redact import printable

if sys.platform != "win32":
    import fcntl

_WAL_HEADER, _WAL_FRAME_HEADER = 32, 24  # bytes
# A folder that was last changed longer ago than this has times that tell every further change; file systems count them
# in steps of up to two seconds.
_QUIET_NANOSECONDS: Final = 2_500_000_000
_POLL_SECONDS: Final = 0.01
# File systems date changes by a clock that ticks 100 to 1000 times a second.
_TICK_NANOSECONDS: Final = 10_000_000


# SQLite's locks on the `-shm`: a reader holds one of these bytes while it has a snapshot of the write-ahead log
# (https://www.sqlite.org/walformat.html#locks).
_READ_LOCKS: Final = range(123, 128)


class Hold:
    """The hold of one log object.

    Args:
        path: where the database is.
        connection: open and prepared; it has read something, and so the write-ahead log is there. It is not used.
        database: which file the connection has open.
        patience: seconds to wait for another process that is opening the file.

    Attributes:
        alone: whether nobody else has the file open. `share` ends it.
        wal: the path of the write-ahead log.

    Raises:
        LogUnavailable: another process has been opening the file all the time.
        OSError: the files can't be reached.
    """

    def __init__(self, path: str, connection: sqlite3.Connection, database: Identity, patience: float) -> None:
        real = os.path.realpath(path)  # SQLite keeps its files beside the file itself, not beside a link to it
        self.wal = real + "-wal"
        self._path = path
        self._life = real + "-life"
        self._folder = os.path.dirname(path)
        self._linked = os.path.islink(path)
        self._quiet: tuple[int, int, int] | None = None
        self._connection = connection
        self._paths = (path, self.wal, real + "-shm")
        self._files = (database, *(identity_of(each) for each in self._paths[1:]))
        self._descriptor = sqlite_fork.open_descriptor(self.wal)
        try:
            self.alone = self._lock(patience)
        except BaseException:
            sqlite_fork.close_descriptor(self._descriptor)
            raise

    def _lock(self, patience: float) -> bool:
        if sys.platform == "win32":
            return False
        give_up = time.monotonic() + patience
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise LogUnavailable(f"another process has been opening {self._path} for {patience:g} s") from None
                time.sleep(_POLL_SECONDS)
            except OSError:  # a file system without such locks
                return False
            else:
                return False

    def share(self) -> None:
        """The file is as it should be: note that, and let others open it."""
        if self.alone:
            self._note()
            if sys.platform != "win32":
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            self.alone = False

    def close(self) -> None:
        """Let go of the file; the last one to do so empties the write-ahead log into the database and removes it."""
        with self.changing():
            sqlite_fork.close(self._connection)
        with suppress(OSError):  # a change that comes after this has another date
            time.sleep(max(os.stat(self._path).st_ctime_ns + _TICK_NANOSECONDS - time.time_ns(), 0) / 10**9)
        sqlite_fork.close_descriptor(self._descriptor)

    # -- whether it is the same file

    def moved(self) -> str | None:
        """The first of the open files that is not at its path any more; None if all are."""
        folder = _stamp(self._folder)
        if folder is not None and folder == self._quiet:
            return None  # nothing in it was made, removed or renamed
        for path, identity in zip(self._paths, self._files, strict=True):
            try:
                if identity_of(path) != identity:
                    return path
            except OSError:
                return path
        if folder is not None and not self._linked and folder[2] < time.time_ns() - _QUIET_NANOSECONDS:
            self._quiet = folder
        return None

    # -- whether it is as it was left

    def unchanged(self) -> bool:
        """Whether nothing but newswire has changed the database since that was noted, nor the machine stopped."""
        try:
            return bool(_noted(self._life)["database"] == self._state()["database"])
        except (OSError, KeyError):
            return False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the database within the block: a checkpoint. If another program has changed it, that is not noted."""
        unchanged = self.unchanged()
        yield
        if unchanged:
            self._note()

    def _note(self) -> None:
        # What can't be noted is judged as changed, which costs nothing but a life more.
        with suppress(OSError):
            descriptor = os.open(self._life, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if sys.platform != "win32":
                    fcntl.flock(descriptor, fcntl.LOCK_EX)  # who writes last has looked last
                text = json.dumps(self._state()).encode()
                if os.fstat(descriptor).st_size == 0:
                    os.fchmod(descriptor, os.stat(self._path).st_mode & 0o666)
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, text, 0)
            finally:
                os.close(descriptor)

    def _state(self) -> dict[str, object]:
        found = os.stat(self._path)
        wal = None
        with suppress(OSError):
            wal = identity_of(self.wal)
        return {"database": [found.st_dev, found.st_ino, found.st_ctime_ns, _BOOT], "wal": wal and list(wal)}

    # -- the write-ahead log

    def wal_size(self) -> tuple[int, int]:
        """The size of the write-ahead log, and what of it is in use since it last began anew, in bytes.

        A log that was emptied keeps its size and is written over from its beginning. What belongs to the present round
        has the present salts (https://www.sqlite.org/fileformat2.html#walformat), and lies before all that does not.
        """
        wal = self._descriptor
        try:
            size = os.fstat(wal).st_size
            header = os.pread(wal, _WAL_HEADER, 0)
            if len(header) < _WAL_HEADER:
                return size, 0
            salts, frame = header[16:24], _WAL_FRAME_HEADER + int.from_bytes(header[8:12])
            frames = range((size - _WAL_HEADER) // frame)
            used = bisect_left(
                frames, True, key=lambda index: os.pread(wal, 8, _WAL_HEADER + index * frame + 8) != salts
            )
            return size, used * frame
        except OSError:
            return 0, 0

    def wal_readers(self) -> list[str]:
        """The processes that have a snapshot of the write-ahead log, as far as the system tells."""
        device, inode = self._files[2]
        shm = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
        found = {process for process, file, byte in _locks() if file == shm and byte in _READ_LOCKS}
        return [_name_of(process) for process in sorted(found)]


def _locks() -> Iterator[tuple[int, str, int]]:
    """The locks on files that the system lists: process, file, and byte."""
    try:
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if len(fields) == 8 and fields[1] == "POSIX":
                    yield int(fields[4]), fields[5], int(fields[6])
    except (OSError, ValueError):
        return


def check_replaced(path: str) -> None:
    """See that what lies beside a database belongs to it, before SQLite brings them together.

    Raises:
        LogCorrupt: the database was replaced, and the write-ahead log of the former one is still there.
    """
    real = os.path.realpath(path)
    with suppress(OSError, KeyError):
        noted = _noted(real + "-life")
        if noted["database"][:2] != list(identity_of(path)) and noted["wal"] == list(identity_of(real + "-wal")):
            raise LogCorrupt(
                f"{path} was replaced, and {real}-wal is still that of the file that was there before: end what has "
                f"that file open, remove {real}-wal and {real}-shm, and try again"
            )


def _noted(life: str) -> dict[str, Any]:
    with open(life, encoding="utf-8") as file:
        try:
            found = json.load(file)
        except ValueError:
            return {}
    return found if isinstance(found, dict) else {}


def _name_of(process: int) -> str:
    if process == os.getpid():
        return f"this process ({process})"
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return f"process {process} ({printable(file.read().strip(), lines=False)})"
    except OSError:
        return f"process {process}"


def _stamp(folder: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return secrets.token_hex(16)  # another for each process: whoever is alone begins a life


_BOOT: Final = _boot()
