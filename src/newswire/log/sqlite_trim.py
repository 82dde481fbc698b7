"""Retention of the SQLite log: removes what the rules no longer keep, a little at a time.

Each call is one short transaction, so that publishing waits milliseconds at most. What was removed is noted in its
channel's `lost` in the same transaction: a reader sees either the event or the loss.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from newswire.log.base import Retention
from newswire.log.retention import Rules

_AT_ONCE: Final = 2000  # rows in a transaction


def trim_some(connection: sqlite3.Connection, rules: Rules, now: float) -> int:
    """Remove up to some thousands of events that the rules don't keep.

    Returns:
        how many; 0 when nothing is left to remove.

    Raises:
        sqlite3.Error: nothing was removed.
    """
    removed = 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for channel, name in connection.execute("SELECT id, name FROM channels").fetchall():
            through = _cut(connection, channel, rules.of(name), now)
            if through:
                removed += _remove(connection, channel, through, _AT_ONCE - removed)
            if removed >= _AT_ONCE:
                break
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return removed


def _cut(connection: sqlite3.Connection, channel: int, rule: Retention, now: float) -> int:
    """The offset up to which the channel's events go; 0 for none."""
    through = 0
    if rule.max_age is not None:
        # By offset up to the first young one: clocks that step back can't keep an old event for ever.
        row = connection.execute(
            "SELECT min(offset) FROM events WHERE channel = ? AND time >= ?", (channel, now - rule.max_age)
        ).fetchone()
        if row[0] is None:
            row = connection.execute("SELECT max(offset) + 1 FROM events WHERE channel = ?", (channel,)).fetchone()
        through = max(through, (row[0] or 1) - 1)
    if rule.max_events is not None:
        row = connection.execute(
            "SELECT offset FROM events WHERE channel = ? ORDER BY offset DESC LIMIT 1 OFFSET ?",
            (channel, rule.max_events),
        ).fetchone()
        through = max(through, row[0] if row is not None else 0)
    if rule.max_bytes is not None:
        row = connection.execute(
            """SELECT max(offset) FROM (
                 SELECT offset, sum(length(CAST(data AS BLOB)) + length(CAST(type AS BLOB)))
                        OVER (ORDER BY offset DESC) AS size
                 FROM events WHERE channel = ?) WHERE size > ?""",
            (channel, rule.max_bytes),
        ).fetchone()
        through = max(through, row[0] or 0)
    return through


def _remove(connection: sqlite3.Connection, channel: int, through: int, limit: int) -> int:
    row = connection.execute(
        """SELECT max(offset), count(*) FROM (
             SELECT offset FROM events WHERE channel = ? AND offset <= ? ORDER BY offset LIMIT ?)""",
        (channel, through, limit),
    ).fetchone()
    if not row[1]:
        return 0
    connection.execute("DELETE FROM events WHERE channel = ? AND offset <= ?", (channel, row[0]))
    connection.execute("UPDATE channels SET lost = max(lost, ?) WHERE id = ?", (row[0], channel))
    return int(row[1])
