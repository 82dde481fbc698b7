"""Retention in the SQLite file: what is to be removed, found in snapshots, and its removal, in short transactions.

`Planner` says which channels end where; it keeps count of the events of channels that have a limit, so that each event
is looked at once however long its channel is. `remove` carries out a plan. What a plan says stays right whatever is
appended meanwhile; if another process removed something, the counts are taken anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from newswire.log.base import Retention
from newswire.log.retention import KEEP_ALL, Rules
from newswire.log.sqlite_file import fetch, roll_back
from newswire.log.sqlite_schema import NEWEST

# Rows removed in one transaction: some 5 ms, which is what publishing waits.
_REMOVED: Final = 1000
# Rows looked at in one step: some 10 ms, which is what a page may wait.
_LOOKED_AT: Final = 5000
_COUNTED: Final = 20_000


@dataclass(slots=True)
class Plan:
    """What to do next.

    Attributes:
        cuts: by channel (its id), the offset up to which its events go; that of an event that exists.
        more: whether there may be something left to plan, after this.
    """

    cuts: dict[int, int]
    more: bool


@dataclass(slots=True)
class Removal:
    """What was removed: by channel, number and size of the events; and `meta.trims` after it."""

    rows: dict[int, tuple[int, int]]
    trims: int

    @property
    def events(self) -> int:
        """How many events."""
        return sum(count for count, _ in self.rows.values())


@dataclass(slots=True)
class _Age:
    """How far the log was searched for events older than `limit` seconds: up to `through` there are none left."""

    limit: float
    through: int = 0
    then: int = 0  # what `through` is once the plan at hand was carried out


@dataclass(slots=True)
class _Counted:
    events: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Counts:
    through: int = 0  # the offset up to which was counted
    channels: dict[int, _Counted] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)


class Planner:
    """Finds what the rules don't keep."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._limits: dict[int, Retention] = {}  # of the channels that have any
        self._channels_seen = 0
        self._counts = _Counts()
        self._ages: dict[float, _Age] = {}
        self._counting = False
        self._trims = -1

    def plan(self, connection: sqlite3.Connection, now: float, upto: int | None) -> Plan:
        """Say what to remove next.

        Args:
            connection: in a snapshot.
            now: the time, in seconds since the Unix epoch.
            upto: the newest offset that may be removed; None: any.
        """
        newest, trims = connection.execute(f"SELECT {NEWEST}, trims FROM meta").fetchone()
        if trims != self._trims:
            self._trims = trims
            self._counts = _Counts()
        self._learn(connection)
        if self._counting and self._count(connection):
            return Plan({}, more=True)
        through = newest if upto is None else min(upto, newest)
        if self._counting:
            through = min(through, self._counts.through)
        cuts: dict[int, int] = {}
        room = _REMOVED
        more = False
        for age in self._ages.values():
            room, unfinished = self._expire(connection, age, now, through, cuts, room)
            more = more or unfinished
        for channel in list(self._counts.over):
            if room <= 0:
                break
            cut, taken = self._shorten(connection, channel, through, room)
            if cut:
                cuts[channel] = max(cuts.get(channel, 0), cut)
                room -= taken
        return Plan(cuts, more=more or bool(cuts))

    def removed(self, removal: Removal) -> None:
        """Take note that the last plan was carried out."""
        for age in self._ages.values():
            age.through = age.then
        if removal.trims != self._trims + 1:
            return  # another process was there too: the next plan counts anew
        self._trims = removal.trims
        for channel, (events, size) in removal.rows.items():
            counted = self._counts.channels.get(channel)
            if counted is not None:
                counted.events -= events
                counted.bytes -= size
                if counted.events <= 0:
                    del self._counts.channels[channel]

    def forget(self, channels: Iterable[int]) -> None:
        """Channels without events were removed; their ids are not used again."""
        for channel in channels:
            self._limits.pop(channel, None)

    def _learn(self, connection: sqlite3.Connection) -> None:
        query = "SELECT id, name FROM channels WHERE id > ? ORDER BY id"
        for id, name in fetch(connection, 2, query, self._channels_seen):
            self._channels_seen = id
            rule = self._rules.of(name)
            if rule is KEEP_ALL:
                continue
            self._limits[id] = rule
            if rule.max_age is not None:
                self._ages.setdefault(rule.max_age, _Age(rule.max_age))
            self._counting = self._counting or rule.max_events is not None or rule.max_bytes is not None

    def _count(self, connection: sqlite3.Connection) -> bool:
        """Count some of the events that were not counted yet; True if there may be more."""
        counts = self._counts
        some = "SELECT offset, channel, size FROM events WHERE offset > ? ORDER BY offset LIMIT ?"
        query = f"SELECT channel, count(*), sum(size), max(offset) FROM ({some}) GROUP BY channel"
        rows = fetch(connection, 4, query, counts.through, _COUNTED)
        for channel, events, size, newest in rows:
            counts.through = max(counts.through, newest)
            rule = self._limits.get(channel)
            if rule is None or (rule.max_events is None and rule.max_bytes is None):
                continue
            counted = counts.channels.setdefault(channel, _Counted())
            counted.events += events
            counted.bytes += size
            if _is_over(rule, counted):
                counts.over.add(channel)
        looked_at: int = sum(row[1] for row in rows)
        return looked_at == _COUNTED

    def _expire(
        self, connection: sqlite3.Connection, age: _Age, now: float, upto: int, cuts: dict[int, int], room: int
    ) -> tuple[int, bool]:
        age.then = age.through
        query = "SELECT offset, channel, time FROM events WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT ?"
        rows = fetch(connection, 3, query, age.through, upto, _LOOKED_AT)
        for offset, channel, time in rows:
            if room <= 0:
                return room, True
            if time >= now - age.limit:
                return room, False
            rule = self._limits.get(channel)
            if rule is not None and rule.max_age == age.limit:
                cuts[channel] = max(cuts.get(channel, 0), offset)
                room -= 1
            age.then = offset
        if not cuts:
            age.through = age.then  # nothing to remove among what was passed
        return room, len(rows) == _LOOKED_AT

    def _shorten(self, connection: sqlite3.Connection, channel: int, upto: int, room: int) -> tuple[int, int]:
        """Where to cut off the oldest events of a channel that is over its limits (0: nowhere), and how many go."""
        rule = self._limits[channel]
        counted = self._counts.channels.get(channel)
        if counted is None or not _is_over(rule, counted):
            self._counts.over.discard(channel)
            return 0, 0
        left = _Counted(counted.events, counted.bytes)
        cut = taken = 0
        query = "SELECT offset, size FROM events WHERE channel = ? AND offset <= ? ORDER BY offset LIMIT ?"
        for offset, size in fetch(connection, 2, query, channel, upto, room):
            if not _is_over(rule, left):
                break
            cut = offset
            taken += 1
            left.events -= 1
            left.bytes -= size
        return cut, taken


def _is_over(rule: Retention, counted: _Counted) -> bool:
    return (rule.max_events is not None and counted.events > rule.max_events) or (
        rule.max_bytes is not None and counted.bytes > rule.max_bytes
    )


def remove(connection: sqlite3.Connection, cuts: dict[int, int]) -> Removal:
    """Carry out a plan, inside a transaction.

    What was removed is noted in its channel's `lost` in the same transaction: a reader sees either the event or the
    loss.
    """
    execute = connection.execute
    execute(f"UPDATE meta SET trims = trims + 1, floor = {NEWEST}")  # now: the newest event may be among those that go
    execute("CREATE TEMP TABLE IF NOT EXISTS cuts (channel INTEGER PRIMARY KEY, through INTEGER NOT NULL)")
    execute("DELETE FROM cuts")
    execute(
        "INSERT INTO cuts SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
        (json.dumps(list(cuts.items())),),
    )
    doomed = "FROM cuts CROSS JOIN events AS e ON e.channel = cuts.channel AND e.offset <= cuts.through"
    rows = fetch(connection, 3, f"SELECT e.channel, count(*), sum(e.size) {doomed} GROUP BY e.channel")
    execute(f"DELETE FROM events WHERE offset IN (SELECT e.offset {doomed})")
    execute(
        """UPDATE channels SET lost = max(lost, (SELECT through FROM cuts WHERE channel = id))
           WHERE id IN (SELECT channel FROM cuts)"""
    )
    trims = execute("SELECT trims FROM meta").fetchone()[0]
    return Removal({channel: (events, size) for channel, events, size in rows}, trims)


def remove_now(connection: sqlite3.Connection, cuts: dict[int, int]) -> Removal:
    """Carry out a plan in a transaction of its own."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        removal = remove(connection, cuts)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return removal


def drop(connection: sqlite3.Connection, cuts: dict[str, int]) -> int:
    """See `Ledger.drop`. One transaction: some 5 ms for a thousand events, which publishing waits."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        query = "SELECT name, id FROM channels WHERE name IN (SELECT value FROM json_each(?))"
        ids = {id: cuts[name] for name, id in fetch(connection, 2, query, json.dumps(list(cuts)))}
        removal = remove(connection, ids)
        connection.execute(
            """DELETE FROM channels WHERE id IN (SELECT channel FROM cuts)
               AND NOT EXISTS (SELECT 1 FROM events WHERE channel = id)"""
        )
        connection.execute("UPDATE meta SET forgets = forgets + 1")
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return removal.events
