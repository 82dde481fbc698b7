"""The SQLite file: its schema, how it is opened, and what its errors mean. Used by `newswire.log.sqlite` alone.

    meta      one row: the schema's version and the log's epoch
    channels  id, name, and `lost`: the offset of the newest event of the channel that retention removed
    events    offset (the key, never used twice), channel, type, data, time

An event's row is written in the transaction that gives it its offset, so commit order is offset order, across
processes too: SQLite has one writer at a time.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.position import new_epoch

_VERSION: Final = 1
_APPLICATION_ID: Final = 0x6E657773  # "news": tells our files from others
# How long to wait for another process's transaction. Ours last milliseconds.
_BUSY_SECONDS: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE meta (version INTEGER NOT NULL, epoch TEXT NOT NULL);
CREATE TABLE channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, lost INTEGER NOT NULL DEFAULT 0);
CREATE TABLE events (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    channel INTEGER NOT NULL REFERENCES channels (id),
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    time REAL NOT NULL
);
CREATE INDEX events_by_channel ON events (channel, offset);
"""


def connect(path: Path, *, synchronous: str, create: bool) -> sqlite3.Connection:
    """Open the file in WAL mode; make it, with a new epoch, if it does not exist and `create` is set.

    Raises:
        LogUnavailable, LogCorrupt: see `explain`.
    """
    try:
        if create and not path.parent.is_dir():
            raise LogUnavailable(f"the folder {path.parent} does not exist: create it, or name another for the log")
        connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
    except sqlite3.Error as error:
        raise explain(error, path) from error
    try:
        _prepare(connection, path, synchronous, create)
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: str, create: bool) -> None:
    if create:
        _begin_file(connection, path)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA cache_size = -8192")  # 8 MiB
    connection.execute("PRAGMA journal_size_limit = 67108864")  # a WAL that a burst has grown shrinks again


def _begin_file(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != _APPLICATION_ID and tables:
        raise LogCorrupt(f"{path} is an SQLite database, but not a newswire log: name another file for the log")
    connection.execute("PRAGMA journal_mode = WAL")
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have been faster.
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES (?, ?)", (_VERSION, new_epoch()))
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute("COMMIT")
    version = connection.execute("SELECT version FROM meta").fetchone()
    if version is None:
        raise LogCorrupt(f"{path} has no epoch: the file is damaged; restore it, or move it away to begin a new log")
    if version[0] != _VERSION:
        raise LogCorrupt(f"{path} was written by a newer newswire (schema {version[0]}): upgrade newswire to read it")


def explain(error: sqlite3.Error, path: Path) -> LogError:
    """What an error of SQLite's means for the log, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_BUSY or code == sqlite3.SQLITE_LOCKED:
        return LogUnavailable(
            f"{path} is locked by another process for more than {_BUSY_SECONDS:g} s: close what holds a transaction "
            "open on it (a backup, a database browser)"
        )
    if code == sqlite3.SQLITE_FULL:
        return LogUnavailable(f"the disk of {path} is full: free some space; newswire goes on by itself")
    if code == sqlite3.SQLITE_READONLY:
        return LogUnavailable(f"{path} can't be written to: check the permissions of the file and of its folder")
    if code == sqlite3.SQLITE_CANTOPEN:
        hint = "is it a folder, or in a folder that can't be read?" if path.exists() else "the file does not exist"
        if path.exists() and not os.access(path.parent, os.W_OK):
            hint = f"the folder {path.parent} can't be written to, and the log needs files beside it"
        return LogUnavailable(f"{path} can't be opened: {hint}")
    if code == sqlite3.SQLITE_NOTADB:
        return LogCorrupt(f"{path} is not an SQLite database: name another file for the log")
    if code == sqlite3.SQLITE_CORRUPT:
        return LogCorrupt(
            f"{path} is damaged ({error}): stop newswire and restore a backup, or try `sqlite3 {path.name} .recover`"
        )
    if code == sqlite3.SQLITE_IOERR:
        return LogUnavailable(f"reading or writing {path} failed ({error}): check its disk")
    return LogError(f"{path}: {error}")
