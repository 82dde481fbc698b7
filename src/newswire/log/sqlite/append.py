"""One transaction of the SQLite log: batches, their conditions and their tokens.

Every statement lets go of Python's lock and has to get it back from a busy event loop. So rows go in many to a
statement: with the loop busy sending, that stores 1.4 times as many events a second as one statement a row.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final, TypeAlias

from newswire.errors import TokenReused
from newswire.log.engine import TOKEN_SECONDS, TOKENS_KEPT, Batch, Known, Outcome
from newswire.log.forgotten import Forgotten
from newswire.log.position import Lives
from newswire.log.sqlite.file import fetch, roll_back
from newswire.log.sqlite.retention import read_forgotten
from newswire.log.sqlite.schema import NEWEST

_ROWS: Final = 128  # to a statement; with 6 values a row, under the 999 that every SQLite can bind
_VALUES: Final = 6
_ROW: Final = "(?, ?, ?, ?, ?, ?)"
_INSERT: Final = [f"INSERT INTO newswire_events VALUES {', '.join([_ROW] * rows)}" for rows in range(_ROWS + 1)]
_INSERT_IF: Final = [
    f"""INSERT INTO newswire_events SELECT * FROM (VALUES {", ".join([_ROW] * rows)})
        WHERE (SELECT {NEWEST} = ? AND trims = ? AND forgets = ? FROM newswire_meta)"""
    for rows in range(_ROWS + 1)
]
_CHANNELS_KNOWN: Final = 100_000  # ids of channels that are remembered

# Of each token the first offset of its batch, and the number of its events (0: not known any more).
_Tokens: TypeAlias = dict[str, tuple[int, int]]


class Appender:
    """Stores batches, and remembers what the file has while no one else changes it. Used by one thread."""

    def __init__(self) -> None:
        self._channels: dict[str, int] = {}
        # The newest offset, `trims` and `forgets`, when the file was last seen. As long as it has the same, no one has
        # appended or removed anything, and what is known of channels is so.
        self._seen: tuple[int, int, int] | None = None
        self._forgotten = (-1, Forgotten())  # and `meta.forgets` when it was read
        self._newest: dict[str, int] = {}  # the newest offset of channels that conditions were about

    def forget(self) -> None:
        """The file is not as it was left here."""
        self._seen = None
        self._newest.clear()

    def append(
        self, connection: sqlite3.Connection, batches: list[Batch], now: float, lives: Lives
    ) -> tuple[list[Outcome], int]:
        """Store batches in one transaction; returns their outcomes, and the first offset that was free.

        Args:
            lives: the log's, which conditions may be about.
        """
        found = self._store_at_once(connection, batches, now, lives)
        if found is not None:
            return found
        execute = connection.execute
        fresh: dict[str, int] = {}
        execute("BEGIN IMMEDIATE")
        try:
            seen = execute(f"SELECT {NEWEST}, trims, forgets FROM newswire_meta").fetchone()
            if seen != self._seen:
                self._newest.clear()
                if self._seen is None or seen[2] != self._seen[2]:
                    self._channels.clear()
            self._seen = None  # until this is committed
            fresh = self._identify(connection, batches, seen[2])
            self._channels.update(fresh)
            newest = self._conditions(connection, batches)
            tokens = _known_tokens(connection, batches)
            rows, outcomes = _rows_of(batches, self._channels, newest, tokens, (seen[0], now, lives))
            for begin in range(0, len(rows), _VALUES * _ROWS):
                part = rows[begin : begin + _VALUES * _ROWS]
                execute(_INSERT[len(part) // _VALUES], part)
            if tokens:
                _remember_tokens(connection, tokens, seen[0], now)
            execute("COMMIT")
        except BaseException:
            roll_back(connection)
            for name in fresh:
                self._channels.pop(name, None)  # perhaps it was made here, and has no id now
            raise
        self._newest.update(newest)
        self._seen = (seen[0] + len(rows) // _VALUES, *seen[1:])
        return outcomes, int(seen[0]) + 1

    def _store_at_once(
        self, connection: sqlite3.Connection, batches: list[Batch], now: float, lives: Lives
    ) -> tuple[list[Outcome], int] | None:
        """Store a few batches by one statement, if all that this needs is known; else None.

        Each statement lets go of Python's lock several times, and a busy event loop gives it back late. So what the
        transaction would ask the file first is a condition of the statement: that no one else has changed it.
        """
        seen = self._seen
        if seen is None or sum(len(batch.sizes) for batch in batches) > _ROWS:
            return None
        ids, known = self._channels, self._newest
        newest: dict[str, int] = {}
        for batch in batches:
            if batch.token is not None:
                return None
            if batch.condition is not None:
                channel = batch.condition.channel
                if channel not in known:
                    return None
                newest[channel] = known[channel]
            for name, _ in batch.events:
                if name not in ids:
                    return None
                if name in known:
                    newest[name] = known[name]
        rows, outcomes = _rows_of(batches, ids, newest, {}, (seen[0], now, lives))
        count = len(rows) // _VALUES
        if not count or connection.execute(_INSERT_IF[count], (*rows, *seen)).rowcount != count:
            return None
        known.update(newest)
        self._seen = (seen[0] + count, *seen[1:])
        return outcomes, seen[0] + 1

    def _conditions(self, connection: sqlite3.Connection, batches: list[Batch]) -> dict[str, int]:
        """The newest offset of each channel that a condition is about, and of those known that the batches change."""
        names = {batch.condition.channel for batch in batches if batch.condition is not None}
        known = self._newest
        if len(known) > _CHANNELS_KNOWN:
            known.clear()
        if known:
            names.update(name for batch in batches for name, _ in batch.events if name in known)
        found = {name: known[name] for name in names if name in known}
        unknown = names - found.keys()
        if unknown:
            query = """SELECT name, max(lost, coalesce((SELECT max(offset) FROM newswire_events WHERE channel = id), 0))
                       FROM newswire_channels WHERE name IN (SELECT value FROM json_each(?))"""
            found |= dict.fromkeys(unknown, 0) | dict(fetch(connection, 2, query, json.dumps(list(unknown))))
        return found

    def _identify(self, connection: sqlite3.Connection, batches: list[Batch], forgets: int) -> dict[str, int]:
        """The ids of the batches' channels that are not known yet; those that don't exist are made."""
        known = self._channels
        if len(known) > _CHANNELS_KNOWN:
            known.clear()
        unknown = {name for batch in batches for name, _ in batch.events if name not in known}
        if not unknown:
            return {}
        if self._forgotten[0] != forgets:
            self._forgotten = forgets, read_forgotten(connection)
        forgotten = self._forgotten[1]
        made = json.dumps([(name, forgotten.doubt(name)) for name in sorted(unknown)])
        pairs = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
        connection.execute(f"INSERT OR IGNORE INTO newswire_channels (name, doubt) {pairs}", (made,))
        query = "SELECT name, id FROM newswire_channels WHERE name IN (SELECT value FROM json_each(?))"
        return dict(fetch(connection, 2, query, json.dumps(list(unknown))))


def _rows_of(
    batches: list[Batch],
    ids: dict[str, int],
    newest: dict[str, int],
    tokens: _Tokens,
    place: tuple[int, float, Lives],
) -> tuple[list[object], list[Outcome]]:
    """The values of the rows of those batches that are to be stored, one after the other, and all outcomes.

    Args:
        batches: what to judge, and to store.
        ids: of their channels.
        newest: the newest offset of channels that conditions are about; changed by what is stored.
        tokens: known tokens, and what they were given; those that are stored are added.
        place: the offset to store after, the time, and the log's lives.
    """
    offset, now, lives = place
    rows: list[object] = []
    outcomes: list[Outcome] = []
    for batch in batches:
        condition = batch.condition
        if batch.token is not None and batch.token in tokens:
            first, count = tokens[batch.token]
            outcomes.append(Known(first) if count in (0, len(batch.events)) else TokenReused())
            continue
        if condition is not None and (
            newest[condition.channel] != condition.newest or (condition.epoch and condition.is_lost(lives))
        ):
            outcomes.append(None)
            continue
        outcomes.append(offset + 1)
        if batch.token is not None:
            tokens[batch.token] = offset + 1, len(batch.events)
        for (name, event), size in zip(batch.events, batch.sizes, strict=True):
            offset += 1
            kind = event.event
            rows += (offset, ids[name], size, now, None if kind == "message" else kind, event.data)
            if name in newest:
                newest[name] = offset
    return rows, outcomes


def _known_tokens(connection: sqlite3.Connection, batches: list[Batch]) -> _Tokens:
    wanted = [batch.token for batch in batches if batch.token is not None]
    if not wanted:
        return {}
    query = "SELECT token, first, events FROM newswire_tokens WHERE token IN (SELECT value FROM json_each(?))"
    return {token: (first, events) for token, first, events in fetch(connection, 3, query, json.dumps(wanted))}


def _remember_tokens(connection: sqlite3.Connection, tokens: _Tokens, newest: int, now: float) -> None:
    """Store the tokens of batches that were stored after `newest`; forget old ones."""
    execute = connection.execute
    new = json.dumps([(token, first, count) for token, (first, count) in tokens.items() if first > newest])
    rows = ", ".join(f"json_extract(value, '$[{column}]')" for column in range(3))
    execute(f"INSERT INTO newswire_tokens (token, first, events, time) SELECT {rows}, ? FROM json_each(?)", (now, new))
    last = "SELECT max(number) FROM newswire_tokens"
    execute(f"DELETE FROM newswire_tokens WHERE number <= ({last}) - ?", (TOKENS_KEPT,))
    fresh = "SELECT number FROM newswire_tokens WHERE time >= ? ORDER BY number LIMIT 1"
    execute(f"DELETE FROM newswire_tokens WHERE number < ({fresh})", (now - TOKEN_SECONDS,))
