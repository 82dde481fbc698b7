"""What newswire left: a note beside the database, `-life`, by which it sees whether the file is still so.

A note inside the file could not tell, for a copy has it too. It says which file the database is, when it was last
changed, on which boot of the machine, and which file its write-ahead log is, while there is one. What does not fit, or
can't be read, is judged as changed: that costs no more than one life. See docs/explain/log-lives.md.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from newswire.errors import LogCorrupt
from newswire.log.sqlite.fork import identity_of, kept_closed
from newswire.log.sqlite.wal import wal_is_whole

if sys.platform != "win32":
    import fcntl


class Note:
    """The note of one database. Made before SQLite opens the file, whose write-ahead log that changes.

    Args:
        path: where the database is, without symbolic links: SQLite keeps its files beside the file itself.

    Attributes:
        whole: whether the write-ahead log had all that was committed to it when this was made.

    Raises:
        LogCorrupt: the database was replaced, and the write-ahead log of the former one is still there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._life = path + "-life"
        self.whole = True
        database, wal = self._noted()
        if wal is None:
            return
        try:
            found = self._wal()
            if found == wal and database is not None and database[:2] != self._database()[:2]:
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
    def changing(self) -> Iterator[None]:
        """Change the database within the block: a checkpoint. If another program has changed it, that is not noted."""
        unchanged = self.unchanged()
        yield
        if unchanged:
            self.write()

    def write(self) -> None:
        """Note how the files are now."""
        with suppress(OSError):
            descriptor = os.open(self._life, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if sys.platform != "win32":
                    fcntl.flock(descriptor, fcntl.LOCK_EX)  # who writes last has looked last
                text = json.dumps({"database": self._database(), "wal": self._wal()}).encode()
                if os.fstat(descriptor).st_size == 0:
                    os.fchmod(descriptor, os.stat(self._path).st_mode & 0o666)
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, text, 0)
            finally:
                os.close(descriptor)

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


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return secrets.token_hex(16)  # another for each process: whoever is alone begins a life


_BOOT: Final = _boot()
