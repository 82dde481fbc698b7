"""What `newswire log info` and `newswire log copy` need of an SQLite file. Called in the threads of the SQLite log.

A copy of another log: what was lost is read out of one, and events at given offsets go into one. See `Engine.restore`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Final

from newswire import posix
from newswire.errors import LogError
from newswire.log.engine import Copied, Info, Losses
from newswire.log.sqlite.file import fetch
from newswire.log.sqlite.retention import read_forgotten, transaction, write_forgotten
from newswire.log.sqlite.schema import NEWEST

_SYNCHRONOUS: Final = ("OFF", "NORMAL", "FULL", "EXTRA")
_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "glusterfs")
_FLEETING: Final = ("tmpfs", "ramfs")


def info_of(connection: sqlite3.Connection, path: str, retention: str) -> Info:
    """See `Engine.info`; of the connection that stores events."""

    def pragma(name: str) -> str:
        return str(connection.execute(f"PRAGMA {name}").fetchone()[0])

    level = int(pragma("synchronous"))
    counted = """SELECT coalesce(sum(events), 0)
                     + (SELECT count(*) FROM newswire_events WHERE offset > (SELECT counted FROM newswire_meta))
                 FROM newswire_channels"""
    system = _file_system(path)
    settings = {
        "journal_mode": pragma("journal_mode").upper(),
        "synchronous": _SYNCHRONOUS[level] if level < len(_SYNCHRONOUS) else str(level),
        "file system": system or "unknown",
    }
    risks = []
    if settings["journal_mode"] != "WAL":
        risks.append("the file is not in WAL mode, which newswire sets: another program has changed it")
    if level < 2:
        risks.append(
            "a power cut, or a crash of the machine, can take the newest events: synchronous is "
            f"{settings['synchronous']}; leave ?synchronous=NORMAL out of the URL for FULL. A crash of the process "
            "takes nothing"
        )
    if system in _FLEETING:
        risks.append(f"the file is on {system}, in the machine's memory: it is gone after a restart of the machine")
    if system.startswith(_NETWORK):
        risks.append(f"the file is on {system}, a network file system: SQLite's locks may fail there; use a local disk")
    return Info(
        storage=f"SQLite {sqlite3.sqlite_version}",
        settings=settings,
        risks=risks,
        retention=retention,
        events=connection.execute(counted).fetchone()[0],
        size=sum(os.path.getsize(each) for each in (path, f"{path}-wal") if os.path.exists(each)),
    )


def _file_system(path: str) -> str:
    """The type of the file system that a file is on; empty if the system does not tell."""
    folder = os.path.realpath(path)
    best, found = "", ""
    try:
        for line in posix.read_proc("/proc/self/mounts").splitlines():
            _, point, kind, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            inside = folder == point or folder.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, found = point, kind
    except OSError:
        return ""
    return found


def losses_of(connection: sqlite3.Connection) -> Losses:
    """See `Engine.losses`."""
    lost = dict(fetch(connection, 2, "SELECT name, lost FROM newswire_channels WHERE lost > 0"))
    return Losses(lost, dict(read_forgotten(connection).shapes))


def restore(connection: sqlite3.Connection, copied: Copied) -> None:
    """Store a part of another log; the caller has seen that the file is not in use.

    Raises:
        LogError: it has events of its own.
    """
    with transaction(connection) as execute:
        epoch, newest = execute(f"SELECT epoch, {NEWEST} FROM newswire_meta").fetchone()
        copied.check_end("the file", newest)
        if epoch != copied.lives.epoch:
            _adopt(connection, copied, newest)
        rows = [entry for entry in copied.entries if entry.offset > newest]
        names = json.dumps(sorted({entry.channel for entry in rows}))
        execute("INSERT OR IGNORE INTO newswire_channels (name) SELECT value FROM json_each(?)", (names,))
        query = "SELECT name, id FROM newswire_channels WHERE name IN (SELECT value FROM json_each(?))"
        ids = dict(fetch(connection, 2, query, names))
        connection.executemany(
            "INSERT INTO newswire_events VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    entry.offset,
                    ids[entry.channel],
                    len(entry.data.encode()),
                    entry.time,
                    None if entry.event == "message" else entry.event,
                    entry.data,
                )
                for entry in rows
            ],
        )
        execute("UPDATE newswire_meta SET floor = max(floor, ?), trims = trims + 1", (copied.through,))
        if copied.losses is not None:
            _lose(connection, copied.losses)


def _adopt(connection: sqlite3.Connection, copied: Copied, newest: int) -> None:
    """Let the log be in the life of the other one."""
    execute = connection.execute
    known = {epoch for (epoch,) in execute("SELECT epoch FROM newswire_lives")}
    if newest and known.isdisjoint(life.epoch for life in copied.lives.all):
        raise LogError("the file has events of its own: copy into a new one")
    execute("DELETE FROM newswire_lives")
    connection.executemany("INSERT INTO newswire_lives (epoch, after, time) VALUES (?, ?, 0)", copied.lives.all)
    execute("UPDATE newswire_meta SET epoch = ?", (copied.lives.epoch,))


def _lose(connection: sqlite3.Connection, losses: Losses) -> None:
    execute = connection.execute
    pairs = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
    execute(
        f"""INSERT INTO newswire_channels (name, lost) {pairs} WHERE true
            ON CONFLICT (name) DO UPDATE SET lost = max(lost, excluded.lost)""",
        (json.dumps(list(losses.channels.items())),),
    )
    execute(
        """UPDATE newswire_channels AS c SET empty = 1
           WHERE NOT EXISTS (SELECT 1 FROM newswire_events WHERE channel = c.id)"""
    )
    own = read_forgotten(connection).shapes
    write_forgotten(connection, own | {shape: max(lost, own.get(shape, 0)) for shape, lost in losses.shapes.items()})
