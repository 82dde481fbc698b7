"""Retention of the SQLite log: what removes events from the file, and the job that does so in the background.

Whatever removes events (retention, `drop`) does it by the functions here, in short transactions of the writer's thread,
so that one transaction holds all that it changes: the events, what their channels have lost, and how many they have
left. A reader sees either the event or the loss, and the counts are right in every process and after every crash.
Publishing does not touch the counts: `count` adds what was appended since, once for each event.

Of the processes on a file one runs the retention job at a time; the others take over when it has gone. Each second it
plans, in the reader's thread, what the rules don't keep, and has it removed, in the writer's thread, a thousand events
at a time with publishing in between. What was appended in the last second stays, so that every follower sees it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

from newswire.log.forgotten import EMPTY_KEPT, Forgotten
from newswire.log.sqlite.file import fetch, roll_back
from newswire.log.sqlite.plan import Plan, SqlitePlanner
from newswire.log.sqlite.schema import NEWEST
from newswire.log.sqlite.thread import DatabaseJob

# Rows counted in one transaction: some 4 ms, if each is of another channel.
_COUNTED: Final = 2000

_NOTHING_LEFT: Final = "NOT EXISTS (SELECT 1 FROM newswire_events WHERE channel = newswire_channels.id)"


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
    uncounted = "FROM newswire_events WHERE offset > (SELECT counted FROM newswire_meta) AND offset <= ?"
    some = f"SELECT offset {uncounted} ORDER BY offset LIMIT ?"
    through, found = execute(f"SELECT max(offset), count(*) FROM ({some})", (upto, _COUNTED)).fetchone()
    if found < _COUNTED:
        through = upto
    execute(f"INSERT INTO fresh SELECT channel, count(*), sum(size) {uncounted} GROUP BY channel", (through,))
    execute("UPDATE newswire_meta SET counted = max(counted, ?)", (through,))
    execute(
        """UPDATE newswire_channels AS c
           SET events = c.events + fresh.events, bytes = c.bytes + fresh.bytes, empty = 0
           FROM fresh WHERE fresh.channel = c.id"""
    )
    query = "SELECT id FROM fresh JOIN newswire_channels AS c ON id = channel WHERE c.events > ? OR c.bytes > ?"
    return [id for (id,) in fetch(connection, 1, query, *least)]


def remove(connection: sqlite3.Connection, offsets: Sequence[int]) -> int:
    """Remove these events, if they are still there, inside a transaction. Returns how many were."""
    these = "SELECT offset FROM newswire_events WHERE offset IN (SELECT value FROM json_each(?))"
    _doom(connection, these, json.dumps(offsets))
    return _remove_doomed(connection)


def _doom(connection: sqlite3.Connection, query: str, *parameters: object) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS doomed (offset INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM doomed")
    connection.execute(f"INSERT INTO doomed {query}", parameters)


def _remove_doomed(connection: sqlite3.Connection) -> int:
    execute = connection.execute
    # The floor now: the newest event may be among those that go.
    execute(f"UPDATE newswire_meta SET trims = trims + 1, floor = {NEWEST}")
    execute(
        """CREATE TEMP TABLE IF NOT EXISTS cuts
           (channel INTEGER PRIMARY KEY, lost INTEGER, counted INTEGER, bytes INTEGER)"""
    )
    execute("DELETE FROM cuts")
    execute(
        """INSERT INTO cuts SELECT e.channel, max(e.offset), sum(e.offset <= m.counted),
                  sum(CASE WHEN e.offset <= m.counted THEN e.size ELSE 0 END)
           FROM newswire_meta AS m CROSS JOIN doomed AS d CROSS JOIN newswire_events AS e ON e.offset = d.offset
           GROUP BY e.channel"""
    )
    removed = execute("DELETE FROM newswire_events WHERE offset IN (SELECT offset FROM doomed)").rowcount
    execute(
        f"""UPDATE newswire_channels SET lost = max(newswire_channels.lost, cuts.lost), events = events - cuts.counted,
                   bytes = newswire_channels.bytes - cuts.bytes, empty = {_NOTHING_LEFT}
            FROM cuts WHERE cuts.channel = newswire_channels.id"""
    )
    return removed


def drop(connection: sqlite3.Connection, cuts: Mapping[str, int]) -> int:
    """See `Engine.drop`. One transaction: some 5 ms for a thousand events, which publishing waits."""
    wanted = json.dumps(list(cuts.items()))
    named = """FROM json_each(?) AS cut CROSS JOIN newswire_channels AS c ON c.name = json_extract(cut.value, '$[0]')"""
    with transaction(connection) as execute:
        events = "CROSS JOIN newswire_events AS e ON e.channel = c.id AND e.offset <= json_extract(cut.value, '$[1]')"
        _doom(connection, f"SELECT e.offset {named} {events}", wanted)
        removed = _remove_doomed(connection)
        these = f"id IN (SELECT c.id {named})"
        gone = execute(f"DELETE FROM newswire_channels WHERE {these} AND {_NOTHING_LEFT}", (wanted,))
        if gone.rowcount:
            execute("UPDATE newswire_meta SET forgets = forgets + 1")
    return removed


def forget(connection: sqlite3.Connection, channels: Sequence[int]) -> None:
    """Remove channels that have nothing left, but for what is known of them by their shapes."""
    these = "id IN (SELECT value FROM json_each(?))"
    ids = json.dumps(channels)
    with transaction(connection) as execute:
        forgotten = read_forgotten(connection)
        query = f"SELECT name, lost FROM newswire_channels WHERE {these} AND {_NOTHING_LEFT}"
        forgotten.add((name, lost) for name, lost in fetch(connection, 2, query, ids))
        execute(f"DELETE FROM newswire_channels WHERE {these} AND {_NOTHING_LEFT}", (ids,))
        execute(f"UPDATE newswire_channels SET empty = 0 WHERE {these}", (ids,))
        write_forgotten(connection, forgotten.shapes)


def write_forgotten(connection: sqlite3.Connection, shapes: Mapping[str, int]) -> None:
    """Store what is known of channels that were forgotten, in the transaction that has begun."""
    execute = connection.execute
    execute("DELETE FROM newswire_forgotten")
    pairs = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
    execute(f"INSERT INTO newswire_forgotten (shape, lost) {pairs}", (json.dumps(list(shapes.items())),))
    execute("UPDATE newswire_meta SET forgets = forgets + 1")


def read_forgotten(connection: sqlite3.Connection) -> Forgotten:
    """What is known of channels that were forgotten."""
    return Forgotten(dict(fetch(connection, 2, "SELECT shape, lost FROM newswire_forgotten")))


_TICK_SECONDS: Final = 1.0
# A keeper says so every half of this; if it does not, it has died.
_LEASE_SECONDS: Final = 30.0
# Channels that had all their events removed are kept for what they lost, up to `EMPTY_KEPT`; see `Page.doubt`.
_FORGET_SECONDS: Final = 30.0
_FORGOTTEN_AT_ONCE: Final = 1000  # some 10 ms, which is what publishing waits


class _Thread(Protocol):
    def put(self, item: object) -> None: ...


class SqliteRetentionJob:
    """The background retention of one log object. `step` is called in the reader's thread.

    Attributes:
        due: when to call `step` next, by `time.monotonic()`.
    """

    def __init__(self, planner: SqlitePlanner, clock: Callable[[], float]) -> None:
        self.due: float = time.monotonic() + _TICK_SECONDS
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._planner = planner
        self._upto = 0  # the newest offset at the tick before this one
        self._newest = 0
        self._renewed = 0.0
        self._over: list[int] | None = None  # which channels may be over a limit, of the last plan; None: it failed
        self._next_forget = time.monotonic() + _FORGET_SECONDS
        self._writer: _Thread
        self._reader: _Thread

    def attach(self, *, writer: _Thread, reader: _Thread) -> None:
        """Say which threads do the work."""
        self._writer = writer
        self._reader = reader

    def rest(self) -> None:
        """Do nothing for a while, unless a step says otherwise."""
        self.due = time.monotonic() + _TICK_SECONDS

    def step(self, connection: sqlite3.Connection) -> None:
        """Do a little; the connection is in a snapshot."""
        now = self._clock()
        query = f"SELECT keeper, keeper_until, {NEWEST} FROM newswire_meta"
        keeper, until, self._newest = connection.execute(query).fetchone()
        # A lease that ends later than any could was given by a clock that was wrong.
        if keeper not in ("", self._name) and now < until <= now + 2 * _LEASE_SECONDS:
            return
        if keeper != self._name:
            self._planner.look_again()
        plan = self._planner.plan(connection, now, self._upto)
        if plan.offsets or plan.count or keeper != self._name or time.monotonic() > self._renewed + _LEASE_SECONDS / 2:
            self.due = float("inf")  # until the answer comes
            self._over = None
            self._writer.put(DatabaseJob(partial(self._carry_out, plan=plan, now=now), over=self._answer))
        elif plan.more:
            self.due = time.monotonic()
        else:
            self._upto = self._newest
            if time.monotonic() >= self._next_forget:
                self._plan_to_forget(connection)

    # -- in the writer's thread

    def _carry_out(self, connection: sqlite3.Connection, plan: Plan, now: float) -> None:
        with transaction(connection):
            kept = self._renew(connection, now)
            over = carry_out(connection, plan, self._planner.least)[1] if kept else None
        self._over = over

    def _answer(self) -> None:
        """It was done, or could not be; the reader is to know, whether it can read or not."""
        self._reader.put(DatabaseJob(lambda _: None, over=self._carried_out))

    def _renew(self, connection: sqlite3.Connection, now: float) -> bool:
        renewed = connection.execute(
            """UPDATE newswire_meta SET keeper = :me, keeper_until = :until
               WHERE keeper IN ('', :me) OR keeper_until <= :now OR keeper_until > :wrong""",
            {"me": self._name, "until": now + _LEASE_SECONDS, "now": now, "wrong": now + 2 * _LEASE_SECONDS},
        )
        return renewed.rowcount > 0

    def _forget(self, connection: sqlite3.Connection, channels: list[int]) -> None:
        forget(connection, channels)
        self._reader.put(DatabaseJob(lambda _: self._forget_more(), None))

    # -- in the reader's thread

    def _carried_out(self) -> None:
        over = self._over
        if over is None:
            self.rest()  # locked, full, or another's: try again, without haste
            return
        self._renewed = time.monotonic()
        self._planner.over.update(over)
        self.due = time.monotonic()

    def _plan_to_forget(self, connection: sqlite3.Connection) -> None:
        self._next_forget = time.monotonic() + _FORGET_SECONDS
        query = """SELECT id FROM newswire_channels WHERE empty AND lost <= (
                       SELECT lost FROM newswire_channels WHERE empty ORDER BY lost DESC LIMIT 1 OFFSET ?
                   ) ORDER BY lost LIMIT ?"""
        channels = [id for (id,) in fetch(connection, 1, query, EMPTY_KEPT, _FORGOTTEN_AT_ONCE)]
        if channels:
            self._writer.put(DatabaseJob(partial(self._forget, channels=channels), None))

    def _forget_more(self) -> None:
        self.due = self._next_forget = time.monotonic()

    def leave(self, connection: sqlite3.Connection) -> None:
        """Let another process be the keeper at once."""
        connection.execute("UPDATE newswire_meta SET keeper = '', keeper_until = 0 WHERE keeper = ?", (self._name,))


def carry_out(connection: sqlite3.Connection, plan: Plan, least: tuple[int, int]) -> tuple[int, list[int]]:
    """Do what a plan says, inside a transaction.

    Returns:
        how many events were removed, and which channels may be over a limit.
    """
    over = count(connection, plan.count, least) if plan.count else []
    return remove(connection, plan.offsets) if plan.offsets else 0, over


def trim(connection: sqlite3.Connection, plan: Plan, least: tuple[int, int]) -> tuple[int, list[int]]:
    """The same, in a transaction of its own."""
    with transaction(connection):
        return carry_out(connection, plan, least)
