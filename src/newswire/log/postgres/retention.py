"""Retention, and what else has to be cleaned up: the leader does it each second, and `trim` at once.

Nothing is removed in its first second, so that processes that follow see it. Events go a thousand at a time, in
transactions that publishing never waits for. Channels that have nothing left are forgotten in the end; see
`newswire.log.forgotten`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from newswire.log.engine import TOKEN_SECONDS
from newswire.log.forgotten import EMPTY_KEPT, Forgotten
from newswire.log.postgres.link import PostgresLink, PostgresServer
from newswire.log.postgres.pages import STATE
from newswire.log.retention import Retention, Rules, is_over, surplus

_STATE: Final = f"SELECT state.*, (SELECT counted FROM @schema@.kept) FROM ({STATE}) AS state"
_REMOVE: Final = "SELECT @schema@.remove($1)"
_CLEAN_SECONDS: Final = 30.0
_CLEANED: Final = 5000  # rows removed in one transaction
# Tables with a time, and for how many seconds they keep a row.
_CLEAN: Final = (("calls", 120.0), ("tokens", TOKEN_SECONDS), ("tickets", TOKEN_SECONDS), ("refused", 7 * 86400.0))
_FORGOTTEN: Final = 1000  # in one call
_FORGETTABLE: Final = """
    SELECT name, lost FROM @schema@.channels WHERE empty ORDER BY lost
    LIMIT least($2, greatest(0, (SELECT count(*) FROM @schema@.channels WHERE empty) - $1))"""
_SHAPES: Final = "SELECT forgets, shape, lost FROM @schema@.kept LEFT JOIN @schema@.shapes ON true"
_FORGET: Final = "SELECT @schema@.forget($1, $2, $3, $4)"
_REMOVED: Final = 1000  # events removed in one transaction
_LOOKED_AT: Final = 20_000  # events looked at in one step
_CHANNELS_SHORTENED: Final = 100
_CHANNELS_LOOKED_AT: Final = 20_000
_RULES_KNOWN: Final = 50_000
_BLOCK: Final = 12  # bits of an offset: 4096 events in a block
_DATE: Final = f"""
    SELECT number >> {_BLOCK}, channel, min(time), count(*), max(number) FROM (
        SELECT number, channel, time FROM @schema@.events WHERE number > $1 ORDER BY number LIMIT $2
    ) AS new GROUP BY 1, 2"""
_LATE: Final = """
    SELECT number, channel, time FROM @schema@.events
    WHERE number >= $1 AND number < $2 AND time < $3 ORDER BY number"""
_OLDEST: Final = """
    SELECT channel, min(time) FROM @schema@.events WHERE number >= $1 AND number < $2 GROUP BY channel"""
_LOOK: Final = """
    SELECT name, events > $3 OR bytes > $4 FROM @schema@.channels WHERE name > $1 ORDER BY name LIMIT $2"""
_COUNTS: Final = "SELECT name, events, bytes FROM @schema@.channels WHERE name = ANY ($1)"
_FIRST: Final = """
    SELECT number, size FROM @schema@.events WHERE channel = $1 AND number <= $2 ORDER BY number LIMIT $3"""
_COUNT: Final = "SELECT * FROM @schema@.count_events($1, $2, $3, $4)"


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

    async def forget(self, most: int = EMPTY_KEPT) -> int:
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


class PostgresPlanner:
    """Finds what the rules don't keep, a little at a time.

    By age: the log is divided into blocks of offsets, and of each the planner knows when the first of its events is
    too old. So each event is looked at once when it is new and once when something in its block has to go, whatever its
    time is: one that lies in the future, or was stamped by a clock that was set back, delays no other.

    By number and size: the tables have the counts; here is which channels may be over a limit. Rules are looked up by
    a channel's name when they are needed, and only some are remembered: a log may have a million channels.
    """

    def __init__(self, rules: Rules, link: PostgresLink) -> None:
        self._rules = rules
        self._link = link
        self._least = (min(rules.max_events, default=2**62), min(rules.max_bytes, default=2**62))
        self._counting = bool(rules.max_events or rules.max_bytes)
        self._youngest = min(rules.max_age, default=math.inf)
        self._known: dict[str, Retention] = {}
        self.reset()

    def reset(self) -> None:
        """Another log is there."""
        self._due: dict[int, float] = {}  # by block: when the first of its events is too old
        self._dated = 0  # the offset up to which `_due` is complete
        self.look_again()

    def look_again(self) -> None:
        """Look at all counts: another process has counted meanwhile."""
        self._over: set[str] = set()  # channels that may be over a limit
        self._looked: str | None = ""  # channels up to this name were looked at; None: all

    async def plan(self, now: float, newest: int, counted: int, upto: int) -> tuple[Sequence[int], bool]:
        """Find what to remove next.

        Args:
            now: the time, in seconds since the Unix epoch.
            newest: the newest offset.
            counted: the events up to here are counted.
            upto: the newest offset that may be removed.

        Returns:
            offsets, and whether there may be more to do.
        """
        if math.isfinite(self._youngest):
            if await self._date(newest):
                return (), True
            offsets = await self._expired(now, upto)
            if offsets:
                return offsets, True
        if not self._counting:
            return (), False
        if counted < upto:
            [[_, over]] = await self._link.call(_COUNT, upto, _LOOKED_AT, *self._least)
            self._over.update(over or ())
            return (), True
        if self._looked is not None:
            await self._look()
            return (), True
        offsets = await self._surplus(min(counted, upto))
        return offsets, bool(offsets)

    # -- by age

    async def _date(self, newest: int) -> bool:
        """Note when new events will be too old; True if there may be more."""
        if self._dated >= newest:
            return False
        rows = await self._link.call(_DATE, self._dated, _LOOKED_AT)
        self._note((block, channel, time) for block, channel, time, _, _ in rows)
        if sum(row[3] for row in rows) < _LOOKED_AT:
            self._dated = newest
            return False
        self._dated = max(row[4] for row in rows)
        return True

    def _note(self, oldest: Iterable[tuple[int, str, int]]) -> None:
        """Note the time of the oldest event of a channel in a block, for some of both."""
        due = self._due
        for block, channel, stamp in oldest:
            age = self._of(channel).max_age
            if age is not None:
                due[block] = min(due.get(block, math.inf), stamp / 1e6 + age)

    async def _expired(self, now: float, upto: int) -> list[int]:
        found: list[int] = []
        for block in sorted(block for block, due in self._due.items() if due < now):
            here = block << _BLOCK, (block + 1) << _BLOCK
            rows = await self._link.call(_LATE, *here, int((now - self._youngest) * 1e6))
            late = [
                number
                for number, channel, time in rows
                if (age := self._of(channel).max_age) is not None and time / 1e6 + age < now
            ]
            found += islice((number for number in late if number <= upto), _REMOVED - len(found))
            if len(found) == _REMOVED:
                break
            if not late:
                del self._due[block]
                self._note((block, channel, time) for channel, time in await self._link.call(_OLDEST, *here))
        return found

    # -- by number and size

    async def _look(self) -> None:
        """Look at the counts of some channels."""
        rows = await self._link.call(_LOOK, self._looked, _CHANNELS_LOOKED_AT, *self._least)
        self._over.update(name for name, over in rows if over)
        self._looked = rows[-1][0] if len(rows) == _CHANNELS_LOOKED_AT else None

    async def _surplus(self, counted: int) -> list[int]:
        """The oldest events of channels that are over their limits."""
        found: list[int] = []
        while self._over and not found:
            some = list(islice(self._over, _CHANNELS_SHORTENED))
            self._over.difference_update(some)
            for name, events, size in await self._link.call(_COUNTS, some):
                room = _REMOVED - len(found)
                more = await self._surplus_of(name, events, size, counted, room) if room else []
                found += more
                if more or not room:
                    self._over.add(name)  # until it is looked at after the removal
        return found

    async def _surplus_of(self, channel: str, events: int, size: int, counted: int, room: int) -> list[int]:
        rule = self._of(channel)
        if not is_over(rule, events, size):
            return []
        return surplus(rule, events, size, await self._link.call(_FIRST, channel, counted, room))

    def _of(self, channel: str) -> Retention:
        found = self._known.get(channel)
        if found is None:
            if len(self._known) > _RULES_KNOWN:
                self._known.clear()
            found = self._known[channel] = self._rules.of(channel)
        return found
