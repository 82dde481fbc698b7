"""Retention, and what else has to be cleaned up: the leader does it each second, and `trim` at once.

Nothing is removed in its first second, so that processes that follow see it. Events go a thousand at a time, in
transactions that publishing never waits for. Channels that have nothing left are forgotten in the end; see
`newswire.log.forgotten`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from newswire.log.engine import TOKEN_SECONDS
from newswire.log.forgotten import Forgotten
from newswire.log.postgres.link import PostgresLink, PostgresServer
from newswire.log.postgres.pages import STATE
from newswire.log.postgres.plan import PostgresPlanner
from newswire.log.retention import Rules

_STATE: Final = f"SELECT state.*, (SELECT counted FROM @schema@.kept) FROM ({STATE}) AS state"
_REMOVE: Final = "SELECT @schema@.remove($1)"
_CLEAN_SECONDS: Final = 30.0
_CLEANED: Final = 5000  # rows removed in one transaction
# Tables with a time, and for how many seconds they keep a row.
_CLEAN: Final = (("calls", 120.0), ("tokens", TOKEN_SECONDS), ("tickets", TOKEN_SECONDS), ("refused", 7 * 86400.0))
_EMPTY: Final = 100_000  # channels without events whose names are kept
_FORGOTTEN: Final = 1000  # in one call
_FORGETTABLE: Final = """
    SELECT name, lost FROM @schema@.channels WHERE empty ORDER BY lost
    LIMIT least($2, greatest(0, (SELECT count(*) FROM @schema@.channels WHERE empty) - $1))"""
_SHAPES: Final = "SELECT forgets, shape, lost FROM @schema@.kept LEFT JOIN @schema@.shapes ON true"
_FORGET: Final = "SELECT @schema@.forget($1, $2, $3, $4)"


class PostgresRetentionJob:
    """Removes what the rules don't keep.

    Args:
        link: by which it does so.
    """

    def __init__(self, server: PostgresServer, link: PostgresLink, rules: Rules, clock: Callable[[], float]) -> None:
        self._server = server
        self._link = link
        self._rules = rules
        self._clock = clock
        self._planner = PostgresPlanner(rules, link)
        self._epoch = ""
        self._upto = 0  # the newest offset a second ago
        self._cleaned = time.monotonic()

    def look_again(self) -> None:
        """Another process may have done it meanwhile."""
        self._epoch = ""

    async def trim(self) -> int:
        """Remove now what the rules don't keep. Returns how many events were removed."""
        removed, more = 0, bool(self._rules)
        self.look_again()
        if more:
            await self._link.settle()
        while more:
            count, more, _ = await self._some(None)
            removed += count
        return removed

    async def step(self) -> bool:
        """Do a little of what has to be done. Returns whether there is more."""
        if self._rules:
            _, more, newest = await self._some(self._upto)
            if more:
                return True
            self._upto = newest
        if time.monotonic() - self._cleaned >= _CLEAN_SECONDS:
            self._cleaned = time.monotonic()
            await self.clean()
            await self.forget()
        return False

    async def _some(self, upto: int | None) -> tuple[int, bool, int]:
        [[epoch, _, newest, counted]] = await self._link.ask(_STATE)
        if epoch != self._epoch:
            self._epoch = epoch
            self._upto = 0
            self._planner.reset()
            upto = None if upto is None else 0
        offsets, more = await self._planner.plan(
            self._clock(), newest, counted, newest if upto is None else min(upto, newest)
        )
        removed = (await self._link.call(_REMOVE, offsets))[0][0] if offsets else 0
        return removed, more, newest

    async def clean(self) -> None:
        """Remove what no one asks for any more: tokens, tickets, outcomes of calls."""
        for table, seconds in _CLEAN:
            seconds = max(seconds, 10 * self._server.timeout)
            old = f"SELECT ctid FROM @schema@.{table} WHERE at < now() - make_interval(secs => $1) LIMIT {_CLEANED}"
            removed = _CLEANED
            while removed == _CLEANED:
                [[removed]] = await self._link.call(
                    f"WITH gone AS (DELETE FROM @schema@.{table} WHERE ctid = ANY (ARRAY({old})) RETURNING 1) "
                    "SELECT count(*) FROM gone",
                    seconds,
                )

    async def forget(self, most: int = _EMPTY) -> int:
        """Forget channels that have nothing left, beyond so many: those first that lost their last event first.

        Returns:
            how many were forgotten.
        """
        forgotten = 0
        while True:
            channels = await self._link.call(_FORGETTABLE, most, _FORGOTTEN)
            if not channels:
                return forgotten
            rows = await self._link.call(_SHAPES)
            before = {shape: lost for _, shape, lost in rows if shape is not None}
            after = Forgotten(before)
            after.add((name, lost) for name, lost in channels)
            changed = [item for item in after.shapes.items() if item not in before.items()]
            forgotten += (
                await self._link.call(
                    _FORGET,
                    rows[0][0],
                    [name for name, _ in channels],
                    [shape for shape, _ in changed],
                    [lost for _, lost in changed],
                )
            )[0][0]
