"""Retention of the SQLite log in the background: when it runs, in which process, and how little it disturbs.

Of the processes on a file one is its keeper at a time; the others take over when it has gone. Each second the keeper
plans, in the reader's thread, what the rules don't keep, and has it removed, in the writer's thread, a thousand events
at a time with publishing in between. What was appended in the last second stays, so that every follower sees it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Final, Protocol

from newswire.log.retention import Rules
from newswire.log.sqlite_file import fetch, roll_back
from newswire.log.sqlite_schema import NEWEST
from newswire.log.sqlite_thread import Job
from newswire.log.sqlite_trim import Planner, Removal, remove

_TICK_SECONDS: Final = 1.0
# A keeper says so every half of this; if it does not, it has died.
_LEASE_SECONDS: Final = 30.0
# Channels that had all their events removed are kept for what they lost, up to a number; see `Page.lost`.
_FORGET_SECONDS: Final = 30.0
_CHANNELS_KEPT: Final = 100_000
_FORGOTTEN_AT_ONCE: Final = 5000


class _Thread(Protocol):
    def put(self, item: object) -> None: ...


class Keeper:
    """The background retention of one log object. `step` is called in the reader's thread.

    Attributes:
        due: when to call `step` next, by `time.monotonic()`.
    """

    def __init__(self, rules: Rules, clock: Callable[[], float]) -> None:
        self.due = time.monotonic() + _TICK_SECONDS
        self._rules = rules
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._planner = Planner(rules)
        self._upto = 0  # the newest offset at the tick before this one
        self._newest = 0
        self._renewed = 0.0
        self._next_forget = time.monotonic() + _FORGET_SECONDS
        self._writer: _Thread
        self._reader: _Thread

    def attach(self, *, writer: _Thread, reader: _Thread) -> None:
        """Say which threads do the work."""
        self._writer = writer
        self._reader = reader

    def step(self, connection: sqlite3.Connection) -> None:
        """Do a little; the connection is in a snapshot."""
        self.due = time.monotonic() + _TICK_SECONDS
        now = self._clock()
        query = f"SELECT keeper, keeper_until, {NEWEST} FROM meta"
        keeper, until, self._newest = connection.execute(query).fetchone()
        # A lease that ends later than any could was given by a clock that was wrong.
        if keeper not in ("", self._name) and now < until <= now + 2 * _LEASE_SECONDS:
            self._planner = Planner(self._rules)
            return
        plan = self._planner.plan(connection, now, self._upto)
        if plan.cuts or keeper != self._name or time.monotonic() > self._renewed + _LEASE_SECONDS / 2:
            self.due = float("inf")  # until the answer comes
            self._writer.put(Job(lambda connection: self._carry_out(connection, plan.cuts, now), None))
        elif plan.more:
            self.due = time.monotonic()
        elif time.monotonic() >= self._next_forget:
            self._next_forget = time.monotonic() + _FORGET_SECONDS
            self._plan_to_forget(connection)
            self._upto = self._newest
        else:
            self._upto = self._newest

    # -- in the writer's thread

    def _carry_out(self, connection: sqlite3.Connection, cuts: dict[int, int], now: float) -> None:
        removal = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            if self._renew(connection, now):
                removal = remove(connection, cuts)
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            removal = None
            raise
        finally:
            self._reader.put(Job(lambda _: self._carried_out(removal), None))

    def _renew(self, connection: sqlite3.Connection, now: float) -> bool:
        renewed = connection.execute(
            """UPDATE meta SET keeper = :me, keeper_until = :until
               WHERE keeper IN ('', :me) OR keeper_until <= :now OR keeper_until > :wrong""",
            {"me": self._name, "until": now + _LEASE_SECONDS, "now": now, "wrong": now + 2 * _LEASE_SECONDS},
        )
        return renewed.rowcount > 0

    def _forget(self, connection: sqlite3.Connection, channels: list[int]) -> None:
        """Remove channels without events, but for the newest offset that any of them lost."""
        empty = """FROM channels WHERE id IN (SELECT value FROM json_each(?))
                   AND NOT EXISTS (SELECT 1 FROM events WHERE channel = id)"""
        ids = json.dumps(channels)
        connection.execute("BEGIN IMMEDIATE")
        try:
            lost = connection.execute(f"SELECT coalesce(max(lost), 0) {empty}", (ids,)).fetchone()[0]
            connection.execute(f"DELETE {empty}", (ids,))
            connection.execute("UPDATE meta SET forgets = forgets + 1, forgotten = max(forgotten, ?)", (lost,))
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        self._reader.put(Job(lambda _: self._planner.forget(channels), None))

    # -- in the reader's thread

    def _carried_out(self, removal: Removal | None) -> None:
        if removal is None:
            self.due = time.monotonic() + _TICK_SECONDS  # locked, full, or another's: try again, without haste
            return
        self._renewed = time.monotonic()
        self._planner.removed(removal)
        self.due = time.monotonic()

    def _plan_to_forget(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM channels").fetchone()[0] <= _CHANNELS_KEPT:
            return
        query = """SELECT id FROM channels WHERE lost > 0
                   AND NOT EXISTS (SELECT 1 FROM events WHERE channel = id) LIMIT ?"""
        channels = [id for (id,) in fetch(connection, 1, query, _FORGOTTEN_AT_ONCE)]
        if channels:
            self._writer.put(Job(lambda connection: self._forget(connection, channels), None))

    def leave(self, connection: sqlite3.Connection) -> None:
        """Let another process be the keeper at once."""
        connection.execute("UPDATE meta SET keeper = '', keeper_until = 0 WHERE keeper = ?", (self._name,))
