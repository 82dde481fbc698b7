"""Removing from the SQLite file: short transactions of the writer's thread.

Whatever removes events (retention, `drop`) does it here, so that one transaction holds all that it changes: the
events, what their channels have lost, and how many they have left. A reader sees either the event or the loss, and the
counts are right in every process and after every crash. Publishing does not touch the counts: `count` adds what was
appended since, once for each event.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from newswire.log.forgotten import Forgotten
from newswire.log.sqlite.file import fetch, roll_back
from newswire.log.sqlite.schema import NEWEST

# Rows counted in one transaction: some 4 ms, if each is of another channel.
_COUNTED: Final = 2000

_NOTHING_LEFT: Final = "NOT EXISTS (SELECT 1 FROM events WHERE channel = channels.id)"


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[Callable[..., sqlite3.Cursor]]:
    """All of the block, or nothing of it, under the write lock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def count(connection: sqlite3.Connection, upto: int, least: tuple[int, int]) -> list[int]:
    """Count some of the events that were appended since, up to an offset, inside a transaction.

    Returns:
        of the channels that were counted, those with more events or bytes than `least`.
    """
    execute = connection.execute
    execute("CREATE TEMP TABLE IF NOT EXISTS fresh (channel INTEGER PRIMARY KEY, events INTEGER, bytes INTEGER)")
    execute("DELETE FROM fresh")
    uncounted = "FROM events WHERE offset > (SELECT counted FROM meta) AND offset <= ?"
    some = f"SELECT offset {uncounted} ORDER BY offset LIMIT ?"
    through, found = execute(f"SELECT max(offset), count(*) FROM ({some})", (upto, _COUNTED)).fetchone()
    if found < _COUNTED:
        through = upto
    execute(f"INSERT INTO fresh SELECT channel, count(*), sum(size) {uncounted} GROUP BY channel", (through,))
    execute("UPDATE meta SET counted = max(counted, ?)", (through,))
    execute(
        """UPDATE channels SET events = channels.events + fresh.events, bytes = channels.bytes + fresh.bytes, empty = 0
           FROM fresh WHERE fresh.channel = channels.id"""
    )
    query = "SELECT id FROM fresh JOIN channels ON id = channel WHERE channels.events > ? OR channels.bytes > ?"
    return [id for (id,) in fetch(connection, 1, query, *least)]


def remove(connection: sqlite3.Connection, offsets: Sequence[int]) -> int:
    """Remove these events, if they are still there, inside a transaction. Returns how many were."""
    _doom(connection, "SELECT offset FROM events WHERE offset IN (SELECT value FROM json_each(?))", json.dumps(offsets))
    return _remove_doomed(connection)


def _doom(connection: sqlite3.Connection, query: str, *parameters: object) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS doomed (offset INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM doomed")
    connection.execute(f"INSERT INTO doomed {query}", parameters)


def _remove_doomed(connection: sqlite3.Connection) -> int:
    execute = connection.execute
    execute(f"UPDATE meta SET trims = trims + 1, floor = {NEWEST}")  # now: the newest event may be among those that go
    execute(
        """CREATE TEMP TABLE IF NOT EXISTS cuts
           (channel INTEGER PRIMARY KEY, lost INTEGER, counted INTEGER, bytes INTEGER)"""
    )
    execute("DELETE FROM cuts")
    execute(
        """INSERT INTO cuts SELECT e.channel, max(e.offset), sum(e.offset <= m.counted),
                  sum(CASE WHEN e.offset <= m.counted THEN e.size ELSE 0 END)
           FROM meta AS m CROSS JOIN doomed AS d CROSS JOIN events AS e ON e.offset = d.offset GROUP BY e.channel"""
    )
    removed = execute("DELETE FROM events WHERE offset IN (SELECT offset FROM doomed)").rowcount
    execute(
        f"""UPDATE channels SET lost = max(channels.lost, cuts.lost), events = events - cuts.counted,
                   bytes = channels.bytes - cuts.bytes, empty = {_NOTHING_LEFT}
            FROM cuts WHERE cuts.channel = channels.id"""
    )
    return removed


def drop(connection: sqlite3.Connection, cuts: Mapping[str, int]) -> int:
    """See `Engine.drop`. One transaction: some 5 ms for a thousand events, which publishing waits."""
    wanted = json.dumps(list(cuts.items()))
    named = """FROM json_each(?) AS cut CROSS JOIN channels AS c ON c.name = json_extract(cut.value, '$[0]')"""
    with transaction(connection) as execute:
        events = "CROSS JOIN events AS e ON e.channel = c.id AND e.offset <= json_extract(cut.value, '$[1]')"
        _doom(connection, f"SELECT e.offset {named} {events}", wanted)
        removed = _remove_doomed(connection)
        gone = execute(f"DELETE FROM channels WHERE id IN (SELECT c.id {named}) AND {_NOTHING_LEFT}", (wanted,))
        if gone.rowcount:
            execute("UPDATE meta SET forgets = forgets + 1")
    return removed


def forget(connection: sqlite3.Connection, channels: Sequence[int]) -> None:
    """Remove channels that have nothing left, but for what is known of them by their shapes."""
    these = "id IN (SELECT value FROM json_each(?))"
    ids = json.dumps(channels)
    with transaction(connection) as execute:
        forgotten = read_forgotten(connection)
        query = f"SELECT name, lost FROM channels WHERE {these} AND {_NOTHING_LEFT}"
        forgotten.add((name, lost) for name, lost in fetch(connection, 2, query, ids))
        execute(f"DELETE FROM channels WHERE {these} AND {_NOTHING_LEFT}", (ids,))
        execute(f"UPDATE channels SET empty = 0 WHERE {these}", (ids,))
        execute("DELETE FROM forgotten")
        execute(
            "INSERT INTO forgotten SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
            (json.dumps(list(forgotten.shapes.items())),),
        )
        execute("UPDATE meta SET forgets = forgets + 1")


def read_forgotten(connection: sqlite3.Connection) -> Forgotten:
    """What is known of channels that were forgotten."""
    return Forgotten(dict(fetch(connection, 2, "SELECT shape, lost FROM forgotten")))
