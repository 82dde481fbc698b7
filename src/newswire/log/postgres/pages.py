"""Pages of the log: the events of a set of channels after an offset, and what those channels lost.

Each page is one statement, so one snapshot: a reader sees either an event or that it was lost. Some channels are read
by an index of channels and offsets; a pattern that matches many, by looking at the log from the offset on, a bounded
part of it at a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from newswire.log.channels import Channels
from newswire.log.engine import PAGE_BYTES, Entry, Page, Span
from newswire.log.forgotten import Forgotten
from newswire.log.postgres.link import PostgresLink, PostgresServer

_MOST: Final = 4096  # entries of a page
_LOOKED_AT: Final = 5000  # events that one statement looks at for a pattern …
_SCANS: Final = 4  # … and how often for one page
_SPECIAL: Final = re.compile(r"([^\w])", re.ASCII)

# What every answer begins with: see `PostgresLink.ask`.
STATE: Final = """
    SELECT l.epoch, l.place = l.tableoid AS here, greatest(l.floor, (
        SELECT number FROM @schema@.events WHERE number > l.floor ORDER BY number DESC LIMIT 1
    )) AS latest FROM @schema@.life AS l"""
_SPAN: Final = f"""
    SELECT state.*, coalesce((SELECT number - 1 FROM @schema@.events ORDER BY number LIMIT 1), latest)
    FROM ({STATE}) AS state"""
_KNOWN: Final = """(SELECT forgets FROM @schema@.kept), (SELECT doubt FROM @schema@.kept)"""
_ROW: Final = "e.number, e.channel, e.event, e.data, e.time"
# $1: names, $2: after, $3: limit, $4: bytes of a page.
_BY_NAME: Final = f"""
    WITH found AS (
        SELECT number, size FROM unnest($1::text[]) AS name CROSS JOIN LATERAL (
            SELECT number, size FROM @schema@.events WHERE channel = name AND number > $2 ORDER BY number LIMIT $3
        ) AS each ORDER BY number LIMIT $3
    ), page AS (
        SELECT number FROM (SELECT number, size, sum(size) OVER (ORDER BY number) AS total FROM found) AS sized
        WHERE total <= $4 OR total = size
    ), head AS MATERIALIZED (
        SELECT state.*, {_KNOWN}, coalesce((SELECT max(lost) FROM @schema@.channels WHERE name = ANY ($1)), 0) AS lost,
            (SELECT count(*) FROM found) AS found
        FROM ({STATE}) AS state
    )
    SELECT head.*, {_ROW} FROM head LEFT JOIN (page JOIN @schema@.events AS e USING (number)) ON true ORDER BY number"""
# $1: names, $2: after, $3: limit, $4: bytes of a page, $5: a regular expression, $6: how many to look at,
# $7: the offset after which losses count.
_BY_SCAN: Final = f"""
    WITH looked AS MATERIALIZED (
        SELECT number, channel, size FROM @schema@.events WHERE number > $2 ORDER BY number LIMIT $6
    ), found AS (
        SELECT number, size FROM looked WHERE channel = ANY ($1) OR channel ~ $5 ORDER BY number LIMIT $3
    ), page AS (
        SELECT number FROM (SELECT number, size, sum(size) OVER (ORDER BY number) AS total FROM found) AS sized
        WHERE total <= $4 OR total = size
    ), head AS MATERIALIZED (
        SELECT state.*, {_KNOWN}, coalesce((
            SELECT lost FROM @schema@.channels WHERE lost > $7 AND (name = ANY ($1) OR name ~ $5)
            ORDER BY lost DESC LIMIT 1
        ), 0) AS lost, (SELECT count(*) FROM found) AS found,
            CASE WHEN (SELECT count(*) FROM looked) < $6 THEN NULL ELSE (SELECT max(number) FROM looked) END AS looked
        FROM ({STATE}) AS state
    )
    SELECT head.*, {_ROW} FROM head LEFT JOIN (page JOIN @schema@.events AS e USING (number)) ON true ORDER BY number"""
# $1: after, $2: limit, $3: bytes.
_NEXT: Final = f"""
    WITH found AS (SELECT number, size FROM @schema@.events WHERE number > $1 ORDER BY number LIMIT $2), page AS (
        SELECT number FROM (SELECT number, size, sum(size) OVER (ORDER BY number) AS total FROM found) AS sized
        WHERE total <= $3 OR total = size
    )
    SELECT state.*, {_ROW} FROM ({STATE}) AS state
        LEFT JOIN (page JOIN @schema@.events AS e USING (number)) ON true ORDER BY number"""
_NEWEST: Final = f"""
    SELECT state.*, {_ROW} FROM ({STATE}) AS state CROSS JOIN unnest($1::text[]) WITH ORDINALITY AS u (name, n)
    LEFT JOIN LATERAL (
        SELECT * FROM @schema@.events WHERE channel = name ORDER BY number DESC LIMIT 1
    ) AS e ON true ORDER BY n"""
_SHAPES: Final = """
    SELECT forgets, forgot, shape, lost FROM @schema@.kept LEFT JOIN @schema@.shapes ON true"""
# What is known of channels that have lost nothing as far as their rows say: their first event.
_FIRST: Final = """
    SELECT u.name, (SELECT min(number) FROM @schema@.events AS e WHERE e.channel = u.name)
    FROM unnest($1::text[]) AS u (name)
    WHERE NOT EXISTS (SELECT FROM @schema@.channels AS c WHERE c.name = u.name AND lost > 0)"""


class PostgresPages:
    """Reads.

    Args:
        link: for reading.
    """

    def __init__(self, server: PostgresServer, link: PostgresLink) -> None:
        self._server = server
        self._link = link
        self._forgotten: tuple[tuple[str, int], int, Forgotten] = ("", 0), 0, Forgotten()  # and what it is of

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """See `Engine.read`."""
        after, limit = max(after, 0), min(limit, _MOST)
        if not channels.patterns:
            rows = await self._link.ask(_BY_NAME, sorted(channels.names), after, limit, PAGE_BYTES)
            return await self._as_page(channels, rows, after, limit, None)
        return await self._by_scan(channels, after, limit)

    async def span(self) -> Span:
        """See `Engine.span`."""
        [[epoch, _, latest, earliest]] = await self._link.ask(_SPAN)
        return Span(epoch, earliest, latest, self._server.lives)

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """See `Engine.newest`."""
        rows = await self._link.ask(_NEWEST, list(channels)) if channels else []
        return [None if row[3] is None else as_entry(row[3:]) for row in rows]

    async def next(self, after: int) -> tuple[list[Entry], int]:
        """The next entries of all channels, and the newest offset."""
        return _next_of(await self._link.ask(_NEXT, after, _MOST // 4, PAGE_BYTES))

    async def scan(self, after: int, limit: int) -> Page:
        """See `Engine.scan`."""
        rows = await self._link.ask(_NEXT, after, min(limit, _MOST), PAGE_BYTES)
        entries, latest = _next_of(rows)
        # A page may end early, for its size: the next one goes on.
        through = entries[-1].offset if entries else max(latest, after)
        return Page(entries, through, 0, epoch=rows[0][0])

    async def _by_scan(self, channels: Channels, after: int, limit: int) -> Page:
        expression = "|".join(map(_regex, sorted(channels.patterns)))
        names = sorted(channels.names)
        at, epoch = after, ""
        for number in range(_SCANS):
            rows = await self._link.ask(_BY_SCAN, names, at, limit, PAGE_BYTES, expression, _LOOKED_AT, after)
            if epoch and rows[0][0] != epoch:
                return await self._by_scan(channels, after, limit)
            epoch, looked = rows[0][0], rows[0][7]
            if rows[0][8] is not None or looked is None or number == _SCANS - 1:
                break
            at = looked
        return await self._as_page(channels, [(*row[:7], *row[8:]) for row in rows], at, limit, looked)

    async def _as_page(
        self, channels: Channels, rows: Sequence[Any], after: int, limit: int, looked: int | None
    ) -> Page:
        epoch, _, latest, forgets, doubt, lost, found = rows[0][:7]
        entries = [as_entry(row[7:]) for row in rows if row[7] is not None]
        if found > len(entries) or len(entries) == limit:
            through = entries[-1].offset
        else:
            through = max(latest if looked is None else looked, after)
        if forgets:
            lost, doubt = await self._with_forgotten(channels, (epoch, forgets), lost, doubt)
        return Page(entries, through, lost, doubt, epoch=epoch)

    async def _with_forgotten(self, channels: Channels, key: tuple[str, int], lost: int, doubt: int) -> tuple[int, int]:
        if self._forgotten[0] != key:
            rows = await self._link.call(_SHAPES)
            shapes = {row[2]: row[3] for row in rows if row[2] is not None}
            self._forgotten = (key[0], rows[0][0]), rows[0][1], Forgotten(shapes)
        _, forgot, forgotten = self._forgotten
        if channels.names:
            for name, first in await self._link.call(_FIRST, sorted(channels.names)):
                # One that was there before the first was forgotten was never forgotten itself.
                if first is None or first > forgot:
                    doubtful = forgotten.doubt(name)
                    doubt = max(doubt, doubtful if first is None else min(doubtful, first - 1))
        if channels.patterns:
            of_patterns, doubtful = forgotten.of_patterns(channels)
            lost, doubt = max(lost, of_patterns), max(doubt, doubtful)
        return lost, doubt


def _next_of(rows: Sequence[Any]) -> tuple[list[Entry], int]:
    """What `NEXT` found, and the newest offset."""
    return [as_entry(row[3:]) for row in rows if row[3] is not None], rows[0][2]


def as_entry(row: Sequence[Any]) -> Entry:
    """What a row of the table is."""
    number, channel, event, data, time = row
    return Entry(number, channel, event or "message", data, time / 1e6)


def _regex(pattern: str) -> str:
    """A channel pattern as a regular expression of PostgreSQL's, which no internal channel matches by a wildcard."""
    wild = {"*": "[^.]+", ">": ".+"}
    parts = [wild.get(token) or _SPECIAL.sub(_escaped, token) for token in pattern.split(".")]
    return "^" + r"(?!\$)" * (pattern[0] in "*>") + r"\.".join(parts) + "$"


def _escaped(found: re.Match[str]) -> str:
    return "\\" + found[0] if found[0].isascii() else found[0]
