"""A copy of another log in an SQLite file: what was lost is read out of one, and events at given offsets go into one.

Called in the threads of the SQLite log. See `Engine.restore`.
"""

from __future__ import annotations

import json
import sqlite3

from newswire.errors import LogError
from newswire.log.engine import Copied, Losses
from newswire.log.sqlite.file import fetch
from newswire.log.sqlite.retention import read_forgotten, transaction
from newswire.log.sqlite.schema import NEWEST


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
    merged = own | {shape: max(lost, own.get(shape, 0)) for shape, lost in losses.shapes.items()}
    execute("DELETE FROM newswire_forgotten")
    execute(f"INSERT INTO newswire_forgotten (shape, lost) {pairs}", (json.dumps(list(merged.items())),))
    execute("UPDATE newswire_meta SET forgets = forgets + 1")
