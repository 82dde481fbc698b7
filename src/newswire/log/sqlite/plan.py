"""What retention has to remove from the SQLite file, found in snapshots, in the reader's thread, a little at a time.

By age: the log is divided into blocks of offsets, and of each is known when the first of its events is too old. So each
event is looked at once when it is new and once when something in its block has to go, whatever its time is: one that
lies in the future, or was stamped by a clock that was set back, delays no other.

By number and size: the file has the counts (see `retention`); here is which channels may be over a limit.

Rules are looked up by a channel's name when they are needed, and only some are remembered: a log may have a million
channels. What a plan says stays right whatever is appended or removed meanwhile.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from newswire.log.retention import KEEP_ALL, Retention, Rules, is_over, surplus
from newswire.log.sqlite.file import fetch
from newswire.log.sqlite.schema import NEWEST

# Rows removed in one transaction: some 5 ms, which is what publishing waits.
_REMOVED: Final = 1000
# Rows looked at in one step: some 10 ms, which is what a page may wait.
_LOOKED_AT: Final = 5000
_CHANNELS_LOOKED_AT: Final = 20_000
_CHANNELS_SHORTENED: Final = 200
_RULES_KNOWN: Final = 50_000
_BLOCK: Final = 12  # bits of an offset: 4096 events in a block


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next.

    Attributes:
        offsets: the events to remove.
        count: the offset up to which there are events to count; 0: there are none.
        more: whether there may be something left to plan, after this.
    """

    offsets: Sequence[int] = ()
    count: int = 0
    more: bool = False


class SqlitePlanner:
    """Finds what the rules don't keep.

    Attributes:
        over: channels that may be over a limit, by id.
        least: the smallest limits of any rule, of events and of bytes: a channel with no more is not over any.
    """

    def __init__(self, rules: Rules) -> None:
        self.over: set[int] = set()
        self.least: tuple[int, int] = (_least(rules.max_events), _least(rules.max_bytes))
        self._rules = rules
        self._counting = bool(rules.max_events or rules.max_bytes)
        self._youngest = min(rules.max_age, default=math.inf)
        self._known: dict[int, Retention] = {}
        self._looked = 0  # channels up to this id were looked at for being over a limit
        self._due: dict[int, float] = {}  # by block: when the first of its events is too old
        self._dated = 0  # the offset up to which `_due` is complete

    def look_again(self) -> None:
        """Look at all counts in the file: another process has counted meanwhile."""
        self._looked = 0

    def plan(self, connection: sqlite3.Connection, now: float, upto: int | None, over: Iterable[int] = ()) -> Plan:
        """Find what to do next.

        Args:
            connection: in a snapshot.
            now: the time, in seconds since the Unix epoch.
            upto: the newest offset that may be removed; None: any.
            over: channels that were found to be over a limit when they were counted.
        """
        self.over.update(over)
        newest, counted, channels = connection.execute(
            f"SELECT {NEWEST}, counted, coalesce((SELECT max(id) FROM newswire_channels), 0) FROM newswire_meta"
        ).fetchone()
        through = newest if upto is None else min(upto, newest)
        if math.isfinite(self._youngest):
            if self._date(connection, newest):
                return Plan(more=True)
            offsets = self._expired(connection, now, through)
            if offsets:
                return Plan(offsets, more=True)
        if not self._counting:
            return Plan()
        if counted < through:
            return Plan(count=through, more=True)
        if self._looked < channels:
            self._look(connection)
            return Plan(more=True)
        offsets = self._surplus(connection, counted)
        return Plan(offsets, more=bool(offsets))

    # -- by age

    def _date(self, connection: sqlite3.Connection, newest: int) -> bool:
        """Note when new events will be too old; True if there may be more."""
        if self._dated >= newest:
            return False
        some = "SELECT offset, channel, time FROM newswire_events WHERE offset > ? ORDER BY offset LIMIT ?"
        query = f"SELECT offset >> {_BLOCK}, channel, min(time), count(*), max(offset) FROM ({some}) GROUP BY 1, 2"
        rows = fetch(connection, 5, query, self._dated, _LOOKED_AT)
        self._note((block, channel, time) for block, channel, time, _, _ in self._ruled(connection, rows, 1))
        if sum(row[3] for row in rows) < _LOOKED_AT:
            self._dated = newest
            return False
        self._dated = max(row[4] for row in rows)
        return True

    def _note(self, oldest: Iterable[Sequence[Any]]) -> None:
        """Note the time of the oldest event of a channel in a block, for some of both."""
        due = self._due
        for block, channel, time in oldest:
            age = self._known[channel].max_age
            if age is not None:
                due[block] = min(due.get(block, math.inf), time + age)

    def _expired(self, connection: sqlite3.Connection, now: float, upto: int) -> list[int]:
        found: list[int] = []
        for block in sorted(block for block, due in self._due.items() if due < now):
            here = "offset >= ? AND offset < ?", block << _BLOCK, (block + 1) << _BLOCK
            some = f"SELECT offset, channel, time FROM newswire_events WHERE {here[0]}"
            query = f"{some} AND time + ? < ? ORDER BY offset"
            rows = fetch(connection, 3, query, *here[1:], self._youngest, now)
            late = [
                offset
                for offset, channel, time in self._ruled(connection, rows, 1)
                if (age := self._known[channel].max_age) is not None and time + age < now
            ]
            found += islice((offset for offset in late if offset <= upto), _REMOVED - len(found))
            if len(found) == _REMOVED:
                break
            if not late:
                del self._due[block]
                query = f"SELECT ?, channel, min(time) FROM newswire_events WHERE {here[0]} GROUP BY channel"
                self._note(self._ruled(connection, fetch(connection, 3, query, block, *here[1:]), 1))
        return found

    # -- by number and size

    def _look(self, connection: sqlite3.Connection) -> None:
        """Look at the counts of some channels."""
        last = self._looked + _CHANNELS_LOOKED_AT
        query = "SELECT id FROM newswire_channels WHERE id > ? AND id <= ? AND (events > ? OR bytes > ?)"
        self.over.update(id for (id,) in fetch(connection, 1, query, self._looked, last, *self.least))
        self._looked = last

    def _surplus(self, connection: sqlite3.Connection, counted: int) -> list[int]:
        """The oldest events of channels that are over their limits."""
        found: list[int] = []
        while self.over and not found:
            some = list(islice(self.over, _CHANNELS_SHORTENED))
            self.over.difference_update(some)
            query = "SELECT id, events, bytes FROM newswire_channels WHERE id IN (SELECT value FROM json_each(?))"
            for channel, events, size in self._ruled(connection, fetch(connection, 3, query, json.dumps(some)), 0):
                room = _REMOVED - len(found)
                more = self._surplus_of(connection, channel, events, size, counted, room) if room else []
                found += more
                if more or not room:
                    self.over.add(channel)  # until it is looked at after the removal
        return found

    def _surplus_of(
        self, connection: sqlite3.Connection, channel: int, events: int, size: int, counted: int, room: int
    ) -> list[int]:
        rule = self._known[channel]
        if not is_over(rule, events, size):
            return []
        query = "SELECT offset, size FROM newswire_events WHERE channel = ? AND offset <= ? ORDER BY offset LIMIT ?"
        return surplus(rule, events, size, fetch(connection, 2, query, channel, counted, room))

    # -- rules

    def _ruled(self, connection: sqlite3.Connection, rows: list[list[Any]], column: int) -> list[list[Any]]:
        """`rows`, after the rules of the channels in one of their columns were looked up."""
        known = self._known
        if len(known) > _RULES_KNOWN:
            known.clear()
        unknown = {row[column] for row in rows if row[column] not in known}
        if unknown:
            query = "SELECT id, name FROM newswire_channels WHERE id IN (SELECT value FROM json_each(?))"
            known.update(dict.fromkeys(unknown, KEEP_ALL))
            for id, name in fetch(connection, 2, query, json.dumps(list(unknown))):
                known[id] = self._rules.of(name)
        return rows


def _least(limits: Iterable[int]) -> int:
    return min(limits, default=2**62)
