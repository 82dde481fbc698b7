"""What one log object holds on its file from the first use to `close`, so that the file stays the one that was opened.

An idle connection: while one is open SQLite keeps the write-ahead log, so its inode is that of the whole time. A shared
lock on the write-ahead log: a process that gets it exclusively is alone, and may judge whether the file is as newswire
left it (`note`).

    FILE        the database
    FILE-wal    SQLite's write-ahead log; locked here
    FILE-shm    SQLite's index of it
    FILE-life   newswire's note of how it left the others
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import suppress
from typing import Final

from newswire.errors import LogUnavailable
from newswire.log.sqlite import fork
from newswire.log.sqlite.fork import Identity, identity_of
from newswire.log.sqlite.note import Note
from newswire.log.sqlite.wal import wal_readers, wal_size

if sys.platform != "win32":
    import fcntl

# A folder that was last changed longer ago than this has times that tell every further change; file systems count them
# in steps of up to two seconds.
_QUIET_NANOSECONDS: Final = 2_500_000_000
_FOLDER_SECONDS: Final = 1.0  # between two looks at a folder that changes
_POLL_SECONDS: Final = 0.01
# File systems date changes by a clock that ticks 100 to 1000 times a second.
_TICK_NANOSECONDS: Final = 10_000_000


class Hold:
    """The hold of one log object.

    Args:
        path: where the database is.
        connection: open and prepared; it has read something, and so the write-ahead log is there. It is not used.
        database: which file the connection has open.
        note: of the file, made before it was opened.
        patience: seconds to wait for another process that is opening the file.

    Attributes:
        alone: whether nobody else has the file open. `share` ends it.
        note: see above.

    Raises:
        LogUnavailable: another process has been opening the file all the time.
        OSError: the files can't be reached.
    """

    def __init__(
        self, path: str, connection: sqlite3.Connection, database: Identity, note: Note, patience: float
    ) -> None:
        real = os.path.realpath(path)  # SQLite keeps its files beside the file itself, not beside a link to it
        self.note = note
        self._path = path
        self._folder = os.path.dirname(path)
        self._linked = os.path.islink(path)  # then things change in another folder too
        self._quiet: tuple[int, int, int] | None = None  # the folder, since when nothing in it has changed
        self._next_look = 0.0  # at the folder, by `time.monotonic()`
        self._connection = connection
        self._paths = (path, real + "-wal", real + "-shm")
        self._files = (database, *(identity_of(each) for each in self._paths[1:]))
        self._descriptor = fork.open_descriptor(self._paths[1])
        try:
            self.alone = self._lock(patience)
        except BaseException:
            fork.close_descriptor(self._descriptor)
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
            self.note.write()
            if sys.platform != "win32":
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            self.alone = False

    def close(self) -> None:
        """Let go of the file; the last one to do so empties the write-ahead log into the database and removes it."""
        with self.note.changing():
            fork.close(self._connection)
        with suppress(OSError):  # a change that comes after this has another date
            time.sleep(max(os.stat(self._path).st_ctime_ns + _TICK_NANOSECONDS - time.time_ns(), 0) / 10**9)
        fork.close_descriptor(self._descriptor)

    # -- whether it is the same file

    def moved(self) -> str | None:
        """The first of the open files that is not at its path any more; None if all are."""
        if self._quiet is not None and _stamp(self._folder) == self._quiet:
            return None  # nothing in it was made, removed or renamed
        for path, identity in zip(self._paths, self._files, strict=True):
            try:
                found = os.stat(path)
            except OSError:
                return path
            if (found.st_dev, found.st_ino) != identity:
                return path
        self._look_at_folder()
        return None

    def _look_at_folder(self) -> None:
        """See whether the folder is so quiet that it tells what happens in it; one that is not costs little."""
        self._quiet = None
        now = time.monotonic()
        if self._linked or now < self._next_look:
            return
        self._next_look = now + _FOLDER_SECONDS
        folder = _stamp(self._folder)
        # What has happened since the files were looked at would have dated it.
        if folder is not None and folder[2] < time.time_ns() - _QUIET_NANOSECONDS:
            self._quiet = folder

    def wal_size(self) -> tuple[int, int]:
        """See `wal.wal_size`."""
        return wal_size(self._descriptor)

    def wal_readers(self) -> list[str]:
        """See `wal.wal_readers`."""
        return wal_readers(self._files[2])


def _stamp(folder: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
