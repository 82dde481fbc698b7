"""Retention of the SQLite log in the background: when it runs, in which process, and how little it disturbs.

Of the processes on a file one is its keeper at a time; the others take over when it has gone. Each second the keeper
plans, in the reader's thread, what the rules don't keep, and has it removed, in the writer's thread, a thousand events
at a time with publishing in between. What was appended in the last second stays, so that every follower sees it.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from newswire.log.sqlite.file import fetch
from newswire.log.sqlite.plan import Plan, Planner
from newswire.log.sqlite.schema import NEWEST
from newswire.log.sqlite.thread import Job
from newswire.log.sqlite.trim import count, forget, remove, transaction

_TICK_SECONDS: Final = 1.0
# A keeper says so every half of this; if it does not, it has died.
_LEASE_SECONDS: Final = 30.0
# Channels that had all their events removed are kept for what they lost, up to a number; see `Page.doubt`.
_FORGET_SECONDS: Final = 30.0
_EMPTY_KEPT: Final = 100_000
_FORGOTTEN_AT_ONCE: Final = 1000  # some 10 ms, which is what publishing waits


class _Thread(Protocol):
    def put(self, item: object) -> None: ...


class Keeper:
    """The background retention of one log object. `step` is called in the reader's thread.

    Attributes:
        due: when to call `step` next, by `time.monotonic()`.
    """

    def __init__(self, planner: Planner, clock: Callable[[], float]) -> None:
        self.due = time.monotonic() + _TICK_SECONDS
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

    def step(self, connection: sqlite3.Connection) -> None:
        """Do a little; the connection is in a snapshot."""
        self.due = time.monotonic() + _TICK_SECONDS
        now = self._clock()
        query = f"SELECT keeper, keeper_until, {NEWEST} FROM meta"
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
            self._writer.put(Job(partial(self._carry_out, plan=plan, now=now), over=self._answer))
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
        self._reader.put(Job(lambda _: None, over=self._carried_out))

    def _renew(self, connection: sqlite3.Connection, now: float) -> bool:
        renewed = connection.execute(
            """UPDATE meta SET keeper = :me, keeper_until = :until
               WHERE keeper IN ('', :me) OR keeper_until <= :now OR keeper_until > :wrong""",
            {"me": self._name, "until": now + _LEASE_SECONDS, "now": now, "wrong": now + 2 * _LEASE_SECONDS},
        )
        return renewed.rowcount > 0

    def _forget(self, connection: sqlite3.Connection, channels: list[int]) -> None:
        forget(connection, channels)
        self._reader.put(Job(lambda _: self._forget_more(), None))

    # -- in the reader's thread

    def _carried_out(self) -> None:
        over = self._over
        if over is None:
            self.due = time.monotonic() + _TICK_SECONDS  # locked, full, or another's: try again, without haste
            return
        self._renewed = time.monotonic()
        self._planner.over.update(over)
        self.due = time.monotonic()

    def _plan_to_forget(self, connection: sqlite3.Connection) -> None:
        self._next_forget = time.monotonic() + _FORGET_SECONDS
        query = """SELECT id FROM channels WHERE empty AND lost <= (
                       SELECT lost FROM channels WHERE empty ORDER BY lost DESC LIMIT 1 OFFSET ?
                   ) ORDER BY lost LIMIT ?"""
        channels = [id for (id,) in fetch(connection, 1, query, _EMPTY_KEPT, _FORGOTTEN_AT_ONCE)]
        if channels:
            self._writer.put(Job(partial(self._forget, channels=channels), None))

    def _forget_more(self) -> None:
        self.due = self._next_forget = time.monotonic()

    def leave(self, connection: sqlite3.Connection) -> None:
        """Let another process be the keeper at once."""
        connection.execute("UPDATE meta SET keeper = '', keeper_until = 0 WHERE keeper = ?", (self._name,))


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
