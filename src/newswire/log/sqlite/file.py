"""The SQLite file: how it is opened, and what its errors mean. Used by the SQLite log's threads alone.

A transaction that appends takes the offsets after the newest one ever used (`NEWEST`), under SQLite's write lock. So
offsets have no holes but those that retention makes, commit order is offset order across processes, and no offset is
used twice, not even after all rows are gone.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Final, Literal

from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log import native
from newswire.log.position import Lives
from newswire.log.sqlite import fork
from newswire.log.sqlite.fork import Identity
from newswire.log.sqlite.hold import Hold, Note, opening
from newswire.log.sqlite.schema import STEPS, begin_life, is_ours, lives_of, migrate, version_of

logger: logging.Logger = logging.getLogger("newswire.log")

# From this size on, what is in the WAL is moved to the database in the background.
WAL_CHECKPOINT: Final = 16 * 2**20
# The WAL is cut back to this after a burst has grown it.
WAL_LIMIT: Final = 64 * 2**20
# From this size on, SQLite does it within a commit. A last resort: that is not noted, and so costs a life; see `Note`.
_AUTOCHECKPOINT: Final = 256 * 2**20

_INDEX_BYTES: Final = 32 * 2**10  # SQLite makes the index of a write-ahead log this large at first
# How long a checkpoint that is to empty the WAL waits for another one.
_TRUNCATE_SECONDS: Final = 0.05
# How long a file that has gone may come back. Then newswire begins with what is there.
GONE_SECONDS: Final = 1.0


class LogFile:
    """The file of one log, as its threads share it. Knows which file it is, and that it stays that one.

    Args:
        path: where it is; made absolute at once, so that a later `chdir` changes nothing.
        synchronous: `FULL` or `NORMAL`.
        patience: seconds to wait for another process's transaction.
        replaces: whether this process had a file open at that path that has gone.

    Attributes:
        epoch: the log's epoch; empty until the first `connect`.
        lives: the log's lives, from the first `connect` on.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, synchronous: str, patience: float, replaces: bool = False
    ) -> None:
        self.path: str = os.path.abspath(path)
        self._replaces = replaces
        self.epoch: str = ""
        self.lives: Lives = Lives.single("")
        self._synchronous = synchronous
        self._patience = patience
        self._hold: Hold | None = None
        self._users = 0
        self._lock = native.lock()
        self._gone_since: float | None = None  # see `is_gone`

    @property
    def is_gone(self) -> bool:
        """Whether the files that are open have not been at their paths for `GONE_SECONDS`."""
        if self._gone_since is None or time.monotonic() - self._gone_since < GONE_SECONDS:
            return False
        return self._hold is None or self._hold.moved() is not None

    def enter(self) -> None:
        """A thread is going to use the file."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """A thread has closed its connection and uses the file no more; the last one lets go of the file."""
        with self._lock:
            self._users -= 1
            if not self._users and self._hold is not None:
                self._hold.close()
                self._hold = None

    def connect(self) -> sqlite3.Connection:
        """Open a connection; the very first one makes the file, with a new epoch, if there is none.

        Raises:
            LogUnavailable, LogCorrupt: see `explain`.
        """
        with self._lock:
            try:
                if self._hold is None:
                    self._hold = self._take_hold()
                else:
                    self.check()
                connection, _ = self._open()
                try:
                    if self.epoch != _epoch(connection):
                        raise LogCorrupt(
                            f"{self.path} has lost its epoch: restore it, or move it away to begin a new log"
                        )
                except BaseException:
                    self.close(connection)
                    raise
                return connection
            except sqlite3.Error as error:
                raise self.explain(error) from error
            except OSError as error:
                raise LogUnavailable(f"{self.path} can't be used: {error}") from error

    def _take_hold(self) -> Hold:
        if not os.path.isdir(os.path.dirname(self.path)):
            raise LogUnavailable(f"the folder of {self.path} does not exist: create it, or name another file")
        real = os.path.realpath(self.path)
        hold: Hold | None = None
        try:
            with opening(real, self._patience):
                note = Note(real, replaces=self._replaces)
                made = not os.path.exists(self.path)
                connection, database = self._open()
                try:
                    lives_of(connection)  # SQLite opens the write-ahead log when it reads
                    hold = Hold(self.path, connection, database, note, self._patience)
                except BaseException:
                    self.close(connection)
                    raise
                if (cut := hold.moved()) is not None:
                    raise LogUnavailable(f"{cut} was deleted, moved, replaced or emptied, and is in use")
                if hold.alone and not made and not (note.whole and note.unchanged()):
                    self._begin_life(connection)
                hold.share()
            lives = lives_of(connection)
            if self.epoch not in ("", lives.epoch):
                raise LogCorrupt(f"{self.path} was changed by another program: restart to begin with what is there now")
            self.epoch, self.lives = lives.epoch, lives
        except BaseException:
            if hold is not None:
                hold.close()
            raise
        return hold

    def _begin_life(self, connection: sqlite3.Connection) -> None:
        try:
            self._transact(connection, lambda: begin_life(connection, time.time()))
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_READONLY:  # else nothing can be stored in it, and it can be read
                raise

    def _open(self) -> tuple[sqlite3.Connection, Identity]:
        connection, identity = fork.connect(self.path, self._patience)
        try:
            self._prepare(connection)
        except BaseException:
            self.close(connection)
            raise
        return connection, identity

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection."""
        roll_back(connection)
        fork.close(connection)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        execute = connection.execute
        connection.text_factory = _text
        try:
            fetch(connection, 1, "SELECT 1")
        except sqlite3.OperationalError as error:
            if "no such function" not in str(error):
                raise
            raise LogUnavailable(
                f"SQLite {sqlite3.sqlite_version} lacks JSON: use a Python with 3.38 or newer"
            ) from error
        self._refuse_others(connection)
        version = version_of(connection)
        if version > len(STEPS):
            raise LogCorrupt(
                f"{self.path} was written by a newer newswire (its format is {version}, this version reads "
                f"{len(STEPS)}): upgrade newswire, or name another file"
            )
        self._use_wal(connection)
        if version_of(connection) < len(STEPS):
            self._transact(connection, lambda: self._migrate(connection))
        execute(f"PRAGMA synchronous = {self._synchronous}")
        execute("PRAGMA temp_store = MEMORY")
        execute("PRAGMA cache_size = -8192")  # 8 MiB
        execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT // 4096}")

    def _refuse_others(self, connection: sqlite3.Connection) -> None:
        """Raise `LogCorrupt` for a database that says which program it belongs to. Another is an application's own."""
        if is_ours(connection):
            return
        # One statement: another process may be making the file.
        query = "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id"
        application, tables = connection.execute(query).fetchone()
        if application and tables:
            raise LogCorrupt(
                f"{self.path} is the database of another program (its application_id is {application}), and no "
                "newswire log: name another file"
            )

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait for the lock that this change needs if several processes make it at once.
        give_up = time.monotonic() + self._patience
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                    raise LogUnavailable(f"{self.path} is on a file system that SQLite's WAL can't use: name another")
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        self._refuse_others(connection)
        if not is_ours(connection) and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
            logger.warning(
                "%s has tables of an application: newswire keeps its log in tables beside them, whose names begin with "
                "newswire_, and in WAL mode", self.path,
            )  # fmt: skip
        migrate(connection)  # takes no step if another process was faster

    @staticmethod
    def _transact(connection: sqlite3.Connection, change: Callable[[], object]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            change()
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise

    def check(self) -> None:
        """See that the path still leads to the file that is open: else events would go to a file that no one finds.

        Raises:
            LogUnavailable: it, or a file that belongs to it, was deleted, moved or replaced; or it was emptied.
        """
        moved = self._hold.moved() if self._hold is not None else None
        if moved is None:
            self._gone_since = None
            return
        if self._gone_since is None:
            self._gone_since = time.monotonic()
        raise LogUnavailable(
            f"{moved} was deleted, moved, replaced or emptied while in use: nothing more is stored in it. If it is not "
            "put back now, newswire begins with what is there in a second"
        )

    def alone(self) -> bool:
        """Whether no other log object has the file open."""
        return self._hold is None or self._hold.still_alone()

    def adopt(self, lives: Lives) -> None:
        """The log is in another life: a copy of another log. No one else has the file open."""
        with self._lock:
            self.epoch, self.lives = lives.epoch, lives

    def checkpoint(self, connection: sqlite3.Connection, mode: Literal["PASSIVE", "TRUNCATE"]) -> bool:
        """Move what is in the write-ahead log to the database; see https://www.sqlite.org/pragma.html.

        Returns:
            False if others kept it from what it was to do, or if the log was cut: its holes would be moved as zeros.

        Raises:
            sqlite3.Error: it can't be done now.
        """
        if self._hold is not None and self._hold.wal_is_cut():
            return False
        patience = _TRUNCATE_SECONDS if mode == "TRUNCATE" else 0
        with self._hold.note.changing(patience) if self._hold is not None else nullcontext(True) as free:
            return free and not connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0]

    def mark(self) -> bytes:
        """See `wal.mark`."""
        return b"" if self._hold is None else self._hold.mark()

    def wal_size(self) -> tuple[int, int]:
        """See `wal.wal_size`."""
        return (0, 0) if self._hold is None else self._hold.wal_size()

    def wal_readers(self) -> list[str]:
        """See `wal.wal_readers`."""
        return [] if self._hold is None else self._hold.wal_readers()

    def explain(self, error: sqlite3.Error) -> LogError:
        """What an error of SQLite's means for the log, and what to do."""
        path, code = self.path, _code(error)
        folder = os.path.dirname(path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            return LogUnavailable(
                f"{path} is locked by another process for more than {self._patience:g} s: end what holds a "
                "transaction open on it (of a database browser, a backup, or your application's that has written); "
                "newswire goes on by itself"
            )
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(folder)):
            return LogUnavailable(f"the disk of {path} is full: free some space; newswire goes on by itself")
        if code == sqlite3.SQLITE_READONLY:
            return LogUnavailable(f"{path} can't be written to: check the permissions of the file and of its folder")
        if code == sqlite3.SQLITE_CANTOPEN:
            if os.path.isdir(path):
                return LogUnavailable(f"{path} is a folder: name a file in it")
            if not os.access(folder, os.W_OK | os.X_OK):
                return LogUnavailable(f"the folder {folder} can't be written to, and the log keeps files in it")
            return LogUnavailable(f"{path} can't be opened: check its permissions, and the number of open files")
        if code == sqlite3.SQLITE_NOTADB:
            return LogCorrupt(
                f"{path} is not an SQLite database: name another file; if it was one, restore it from a backup, or "
                "move it away, and an empty log begins"
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_MISMATCH):
            return LogCorrupt(
                f"{path} is damaged ({error}): stop newswire and restore a backup, or rescue what can be read with "
                f"`sqlite3 {os.path.basename(path)} .recover`"
            )
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
            return LogUnavailable(f"reading or writing {path} failed ({error}): check its disk and permissions")
        return LogError(f"{path}: {error}")


def _epoch(connection: sqlite3.Connection) -> str | None:
    found = connection.execute("SELECT epoch FROM newswire_meta").fetchone()
    return None if found is None else str(found[0])


def _is_full(folder: str) -> bool:
    """Whether a file system has no room for the index of a write-ahead log, which SQLite reports as a failed write."""
    try:
        return shutil.disk_usage(folder).free < _INDEX_BYTES
    except OSError:
        return False


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest its detail


def fetch(connection: sqlite3.Connection, columns: int, query: str, *parameters: object) -> list[list[Any]]:
    """The rows of a query with so many columns. They come through one JSON text.

    Every row that SQLite hands out by itself lets go of Python's lock, and has to get it back from a busy event loop.
    With the loop busy sending, a page of 500 took 1.6 ms this way instead of 4.4.
    """
    names = ", ".join(f"c{index}" for index in range(columns))
    query = f"WITH found ({names}) AS ({query}) SELECT json_group_array(json_array({names})) FROM found"
    rows: list[list[Any]] = json.loads(connection.execute(query, parameters).fetchone()[0])
    return rows


def _text(raw: bytes) -> str:
    """A text of SQLite's, which may be no UTF-8 if SQL or a trigger of an application's wrote it."""
    return raw.decode("utf-8", "replace")


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed. SQLite ends some by itself; what can't be rolled back was never committed."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
