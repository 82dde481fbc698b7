"""How a log object keeps its file the one that it opened, from the first use to `close`, and sees what was done to it.

An idle connection: while one is open SQLite keeps the write-ahead log, so its inode is that of the whole time. A shared
lock on the write-ahead log: a process that gets it exclusively is alone, and may judge whether the file is as newswire
left it. A note of how that was: one inside the file could not tell, for a copy has it too. What does not fit the note,
or can't be read, is judged as changed: that costs no more than one life. See docs/explain/log-lives.md.

    FILE        the database
    FILE-wal    SQLite's write-ahead log; locked here
    FILE-shm    SQLite's index of it
    FILE-life   newswire's note of how it left the others
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from newswire import posix
from newswire.errors import LogCorrupt, LogUnavailable
from newswire.log.sqlite import fork
from newswire.log.sqlite.fork import Identity, identity_of, kept_closed
from newswire.log.sqlite.wal import WalWatch, mark, wal_is_whole, wal_readers, wal_size, whole_size


class Note:
    """The note of one database. Made before SQLite opens the file, whose write-ahead log that changes.

    Args:
        path: where the database is, without symbolic links: SQLite keeps its files beside the file itself.
        replaces: whether this process knows that the database was replaced. Then the write-ahead log of the former one
            is put aside once nothing has it open.

    Attributes:
        whole: whether the write-ahead log had all that was committed to it when this was made.

    Raises:
        LogCorrupt: the database was replaced, and the write-ahead log of the former one is still there.
    """

    def __init__(self, path: str, *, replaces: bool = False) -> None:
        self._path = path
        self._life = path + "-life"
        self.whole: bool = True
        database, wal = self._noted()
        if wal is None:
            return
        try:
            found = self._wal()
            if found == wal and database is not None and database[:2] != self._database()[:2]:
                if replaces:
                    if not _put_aside(path):
                        raise LogUnavailable(f"{path} was replaced, and another process has the former file open still")
                    self.whole = False
                    return
                raise LogCorrupt(
                    f"{path} was replaced, and {path}-wal is still that of the file that was there before: end what "
                    f"has that file open, remove {path}-wal and {path}-shm, and try again"
                )
            with kept_closed(path) as closed:
                self.whole = found == wal and (not closed or wal_is_whole(path))
        except OSError:
            self.whole = False

    def unchanged(self) -> bool:
        """Whether nothing but newswire has changed the database since that was noted, nor the machine stopped."""
        try:
            return self._noted()[0] == self._database()
        except OSError:
            return False

    @contextmanager
    def changing(self, patience: float = 0) -> Iterator[bool]:
        """Change the database within the block: a checkpoint. If another program has changed it, that is not noted.

        One at a time, over all processes: else each would take the other's checkpoint for another program's change,
        and none would be noted from then on.

        Args:
            patience: seconds to wait for another that is changing it.

        Yields:
            whether no other is changing it. If one is, a change within the block is not noted.
        """
        with self._open() as descriptor:
            free = descriptor is None or _lock(descriptor, patience)
            unchanged = free and self.unchanged()
            yield free
            if unchanged and descriptor is not None:
                self._write(descriptor)

    def write(self) -> None:
        """Note how the files are now. The caller is alone with them."""
        with self._open() as descriptor:
            if descriptor is not None:
                self._write(descriptor)

    @contextmanager
    def _open(self) -> Iterator[int | None]:
        """The note's file, made if there is none; None if it can't be."""
        descriptor = None
        with suppress(OSError):
            descriptor = fork.open_descriptor(self._life, os.O_RDWR | os.O_CREAT)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                fork.close_descriptor(descriptor)

    def _write(self, descriptor: int) -> None:
        with suppress(OSError):
            text = json.dumps({"database": self._database(), "wal": self._wal()}).encode()
            if os.fstat(descriptor).st_size == 0:
                posix.fchmod(descriptor, os.stat(self._path).st_mode & 0o666)
            # One write over all that was there: a process that is killed leaves the former note or this one.
            posix.pwrite(descriptor, text.ljust(_NOTE_BYTES), 0)
            os.ftruncate(descriptor, _NOTE_BYTES)  # whatever else was there

    def _noted(self) -> tuple[list[object] | None, list[object] | None]:
        """What is noted of the database and of its write-ahead log; None for what is not, or makes no sense."""
        found: object = None
        with suppress(OSError, ValueError), open(self._life, encoding="utf-8") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            return None, None
        database, wal = found.get("database"), found.get("wal")
        return database if isinstance(database, list) else None, wal if isinstance(wal, list) else None

    def _database(self) -> list[object]:
        found = os.stat(self._path)
        return [found.st_dev, found.st_ino, found.st_ctime_ns, _BOOT]

    def _wal(self) -> list[object] | None:
        with suppress(OSError):
            return list(identity_of(self._path + "-wal"))
        return None


@contextmanager
def opening(path: str, patience: float) -> Iterator[None]:
    """Open the database at `path` within the block: one process at a time, so that only the one that makes a file finds
    itself alone with it.

    Raises:
        LogUnavailable: another process has been at it for `patience` seconds.
    """
    descriptor = None
    with suppress(OSError):  # where no note can be kept there is none
        descriptor = fork.open_descriptor(path + "-life", os.O_RDWR | os.O_CREAT)
    try:
        if descriptor is not None and not _lock(descriptor, patience):
            raise LogUnavailable(f"another process has been opening {path} for {patience:g} s")
        yield
    finally:
        if descriptor is not None:
            fork.close_descriptor(descriptor)


def _put_aside(path: str) -> bool:
    """Rename the write-ahead log of a database that was replaced, unless a log has it open."""
    try:
        descriptor = fork.open_descriptor(path + "-wal")
    except OSError:
        return False
    try:
        if not _lock(descriptor, 0):
            return False
        for name in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(path + name, f"{path}{name}-replaced")
    except OSError:
        return False
    finally:
        fork.close_descriptor(descriptor)
    return True


def _boot() -> str:
    try:
        return posix.read_proc("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return secrets.token_hex(16)  # another for each process: whoever is alone begins a life


_BOOT: Final = _boot()
_NOTE_BYTES: Final = 256  # more than any note has


def _lock(descriptor: int, patience: float) -> bool:
    """Lock a file exclusively; False if another has it locked for so many seconds."""
    give_up = time.monotonic() + patience
    while True:
        try:
            posix.flock(descriptor)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(_POLL_SECONDS)
        except OSError:  # a system or a file system without such locks
            return True
        else:
            return True


# File systems date changes by a clock that ticks 100 to 1000 times a second. Some count in steps of up to two seconds.
_TICK_NANOSECONDS: Final = 10_000_000
# A folder that was last changed longer ago than this has times that tell every further change.
_QUIET_NANOSECONDS: Final = 2 * _TICK_NANOSECONDS
_COARSE_NANOSECONDS: Final = 2_500_000_000
_FOLDER_SECONDS: Final = 0.1  # between two looks at a folder that changes
# Between two looks for whether the write-ahead log was cut. Each lets go of Python's lock six times, and a busy event
# loop gives it back late. What is stored meanwhile is lost with the rest, as if the log had been cut so much later.
_WAL_SECONDS: Final = 0.005
_POLL_SECONDS: Final = 0.01


class Hold:
    """The hold of one log object.

    Args:
        path: where the database is.
        connection: open and prepared; it has read something, and so the write-ahead log is there. It is not used.
        database: which file the connection has open.
        note: of the file, made before it was opened.
        patience: seconds to wait for another process that is opening the file.

    Attributes:
        alone: whether no one else has the file open. `share` ends it.
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
        self._patience = patience
        self._path = path
        self._folder = os.path.dirname(path)
        self._linked = os.path.islink(path)  # then things change in another folder too
        self._quiet: tuple[int, int, int] | None = None  # the folder, since when nothing in it has changed
        self._next_look = 0.0  # at the folder, by `time.monotonic()`
        self._next_wal_look = 0.0  # for whether the write-ahead log was cut
        self._connection = connection
        self._paths = (path, real + "-wal", real + "-shm")
        self._files = (database, *(identity_of(each) for each in self._paths[1:]))
        self._descriptor = fork.open_descriptor(self._paths[1])
        self._index = fork.descriptor_of(self._files[2])  # SQLite's own; the connection keeps it open
        self._wal = WalWatch(self._descriptor, self._index)
        self._cut_to = -1  # the size of the write-ahead log when its rest was removed
        try:
            self.alone: bool = self._lock()
        except BaseException:
            fork.close_descriptor(self._descriptor)
            raise

    def _lock(self) -> bool:
        give_up = time.monotonic() + self._patience
        with suppress(OSError):
            posix.flock(self._descriptor)
            return True
        while True:
            try:
                posix.flock(self._descriptor, shared=True)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise LogUnavailable(
                        f"another process has been opening {self._path} for {self._patience:g} s"
                    ) from None
                time.sleep(_POLL_SECONDS)
            except OSError:  # a system or a file system without such locks
                return False
            else:
                return False

    def share(self) -> None:
        """The file is as it should be: note that, and let others open it."""
        if self.alone:
            self.note.write()
            posix.flock(self._descriptor, shared=True, wait=True)
            self.alone = False

    def still_alone(self) -> bool:
        """Whether no one else has the file open now. Not for sure where there are no such locks: then True."""
        try:
            posix.flock(self._descriptor)
        except BlockingIOError:
            return False
        except OSError:
            return True
        posix.flock(self._descriptor, shared=True, wait=True)
        return True

    def close(self) -> None:
        """Let go of the file; the last one to do so empties the write-ahead log into the database and removes it."""
        self.wal_is_cut()
        with self.note.changing(self._patience):
            fork.close(self._connection)
            fork.close_descriptor(self._descriptor)  # here: whoever opens the file next is alone, and has to know
        with suppress(OSError):  # a change that comes after this has another date
            left = os.stat(self._path).st_ctime_ns + _TICK_NANOSECONDS - time.time_ns()
            # Never longer than a tick: if the clock was set back, or is not the file system's, the date may be far off.
            time.sleep(min(max(left, 0), _TICK_NANOSECONDS) / 10**9)

    # -- whether it is the same file

    def moved(self) -> str | None:
        """The first of the open files that is not at its path any more, or was emptied or cut; else None."""
        try:
            if os.stat(self._path).st_size == 0:
                return self._path
        except OSError:
            return self._path
        now = time.monotonic()
        if now >= self._next_wal_look:
            if self.wal_is_cut():
                return self._paths[1]
            self._next_wal_look = now + _WAL_SECONDS
        if self._quiet is not None and _stamp(self._folder) == self._quiet:
            return None  # nothing in it was made, removed or renamed
        for path, identity in zip(self._paths, self._files, strict=True):
            try:
                found = os.stat(path)
            except OSError:
                return path
            if (found.st_dev, found.st_ino) != identity:
                return path
        self._look_at_folder(now)
        return None

    def wal_is_cut(self) -> bool:
        """Whether the write-ahead log was emptied or cut. What is no use in one that was is removed."""
        if not self._wal.is_cut():
            return False
        self._remove_rest()
        return True

    def _remove_rest(self) -> None:
        """Remove from a write-ahead log that was cut what is stored behind the whole transactions at its beginning.

        No one can read that again. SQLite would move it to the database all the same, with zeros for what was before.
        """
        with suppress(OSError):
            size = os.fstat(self._descriptor).st_size
            if size != self._cut_to and identity_of(self._paths[1]) == self._files[1]:
                self._cut_to = whole_size(self._descriptor)
                if self._cut_to < size:
                    os.truncate(self._paths[1], self._cut_to)

    def _look_at_folder(self, now: float) -> None:
        """See whether the folder is so quiet that it tells what happens in it; one that is not costs little."""
        self._quiet = None
        if self._linked or now < self._next_look:
            return
        self._next_look = now + _FOLDER_SECONDS
        folder = _stamp(self._folder)
        # What has happened since the files were looked at would have dated it.
        if folder is not None:
            least = _QUIET_NANOSECONDS if folder[2] % 10**6 else _COARSE_NANOSECONDS
            if folder[2] < time.time_ns() - least:
                self._quiet = folder

    def wal_size(self) -> tuple[int, int]:
        """See `wal.wal_size`."""
        return wal_size(self._descriptor)

    def mark(self) -> bytes:
        """See `wal.mark`."""
        return mark(self._index)

    def wal_readers(self) -> list[str]:
        """See `wal.wal_readers`."""
        return wal_readers(self._files[2])


def _stamp(folder: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
