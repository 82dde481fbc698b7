"""What `newswire log info` says of an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from newswire import posix
from newswire.log.engine import Info

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
