"""Finding entries in the SQLite file: pages of a set of channels, and what comes next of all.

Called in the reader's thread, inside a snapshot. A page is found in three steps: which channels, which offsets, then
their rows. A few channels go by the index; many, and patterns that match many, by scanning a bounded part of the log.

Rows come as one JSON text, for the reason that `fetch` gives.
"""

from __future__ import annotations

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from newswire.log.base import PAGE_BYTES, Entry, Page, Span
from newswire.log.channels import Channels
from newswire.log.sqlite_file import fetch
from newswire.log.sqlite_schema import NEWEST

_BY_INDEX: Final = 64  # channels that are looked up one by one
_SCAN: Final = 4096  # rows looked at in one go …
_SCANS: Final = 8  # … and goes for one page, when nothing matches: some 20 ms
_MATCHES_KEPT: Final = 16  # sets with patterns whose channels are remembered
_LARGE: Final = 4096  # bytes of an average row, from which rows come one by one

_ONE = "SELECT offset, size FROM events WHERE channel = ? AND offset > ? ORDER BY offset LIMIT ?"
_EACH = "SELECT offset FROM (SELECT offset FROM events WHERE channel = ? AND offset > ? ORDER BY offset LIMIT ?)"
_SCANNED = "SELECT offset, channel, size FROM events WHERE offset > ? ORDER BY offset LIMIT ?"
# CROSS JOIN keeps the order: SQLite takes the tables as they are written.
_ROWS = """SELECT e.offset, c.name, coalesce(e.type, 'message'), e.data, e.time
           FROM json_each(?) AS wanted CROSS JOIN events AS e ON e.offset = wanted.value
           CROSS JOIN channels AS c ON c.id = e.channel"""


class _Match:
    """The channels that a set with patterns has in this file, as far as the table of channels was seen."""

    __slots__ = ("everything", "ids", "lost", "seen", "trims")

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.everything = True  # no channel was seen that does not match
        self.seen = 0
        self.lost = 0
        self.trims = -1  # what `meta.trims` was when `lost` was computed


class PageReader:
    """Reads pages; remembers which channels patterns match."""

    def __init__(self) -> None:
        self._matches: OrderedDict[Channels, _Match] = OrderedDict()
        self._forgets = 0

    def read(self, connection: sqlite3.Connection, channels: Channels, after: int, limit: int) -> Page:
        """See `Log.read`."""
        newest, trims, forgets, forgotten = connection.execute(
            f"SELECT {NEWEST}, trims, forgets, forgotten FROM meta"
        ).fetchone()
        if forgets != self._forgets:
            self._matches.clear()
            self._forgets = forgets
        if channels.patterns:
            match = self._match(connection, channels, trims)
            ids, lost, everything = match.ids, max(match.lost, forgotten), match.everything
        else:
            everything = False
            query = "SELECT id, lost FROM channels WHERE name IN (SELECT value FROM json_each(?))"
            rows = fetch(connection, 2, query, json.dumps(list(channels.names)))
            ids = {id for id, _ in rows}
            lost = max((lost for _, lost in rows), default=0)
            if len(ids) < len(channels.names):
                lost = max(lost, forgotten)
        after, limit = max(after, 0), min(max(limit, 1), _SCAN)
        if not ids or after >= newest:
            return Page([], max(after, newest), lost)
        if len(ids) > _BY_INDEX:
            found, through = _scan(connection, None if everything else ids, after, limit)
        else:
            found = _by_index(connection, sorted(ids), after, limit)
            through = found[-1][0] if len(found) == limit else newest
        chosen, cut = _bounded(found)
        entries = _rows_at(connection, chosen)
        return Page(entries, entries[-1].offset if cut else through, lost)

    def _match(self, connection: sqlite3.Connection, channels: Channels, trims: int) -> _Match:
        match = self._matches.setdefault(channels, _Match())
        self._matches.move_to_end(channels)
        if len(self._matches) > _MATCHES_KEPT:
            self._matches.popitem(last=False)
        fresh = fetch(connection, 2, "SELECT id, name FROM channels WHERE id > ?", match.seen)
        if fresh:
            match.seen = max(id for id, _ in fresh)
            matching = [id for id, name in fresh if name in channels]
            match.ids.update(matching)
            match.everything = match.everything and len(matching) == len(fresh)
            match.trims = -1
        if match.trims != trims:
            lost = fetch(connection, 2, "SELECT id, lost FROM channels WHERE lost > 0")
            match.lost = max((lost for id, lost in lost if id in match.ids), default=0)
            match.trims = trims
        return match


def next_entries(connection: sqlite3.Connection, after: int, limit: int) -> list[Entry]:
    """The next entries of all channels; a follower's batch."""
    found = fetch(
        connection, 2, "SELECT offset, size FROM events WHERE offset > ? ORDER BY offset LIMIT ?", after, limit
    )
    return _rows_at(connection, _bounded(found)[0])


def newest_of(connection: sqlite3.Connection, channels: Sequence[str]) -> list[Entry | None]:
    """See `Ledger.newest`."""
    last = """SELECT (SELECT max(offset) FROM events WHERE channel = channels.id) FROM channels
              WHERE name IN (SELECT value FROM json_each(?))"""
    query = f"SELECT offset, size FROM events WHERE offset IN ({last})"
    rows = _rows_at(connection, fetch(connection, 2, query, json.dumps(list(channels))))
    found = {entry.channel: entry for entry in rows}
    return [found.get(name) for name in channels]


def span(connection: sqlite3.Connection) -> Span:
    """See `Log.span`."""
    epoch, newest, first = connection.execute(
        f"SELECT epoch, {NEWEST}, (SELECT min(offset) FROM events) FROM meta"
    ).fetchone()
    return Span(epoch, newest if first is None else first - 1, newest)


def _by_index(connection: sqlite3.Connection, ids: list[int], after: int, limit: int) -> list[list[int]]:
    """Offset and size of the next events of these channels."""
    if len(ids) == 1:
        return fetch(connection, 2, _ONE, ids[0], after, limit)
    parameters = [value for id in ids for value in (id, after, limit)]
    offsets = " UNION ALL ".join([_EACH] * len(ids)) + " ORDER BY offset LIMIT ?"
    query = f"SELECT offset, size FROM events WHERE offset IN ({offsets}) ORDER BY offset"
    return fetch(connection, 2, query, *parameters, limit)


def _scan(connection: sqlite3.Connection, ids: set[int] | None, after: int, limit: int) -> tuple[list[list[int]], int]:
    """Offset and size of the next events of these channels (None: of all), and how far the scan got."""
    through = after
    for _ in range(_SCANS):
        rows = fetch(connection, 3, _SCANNED, through, limit if ids is None else _SCAN)
        found = [[offset, size] for offset, channel, size in rows if ids is None or channel in ids][:limit]
        if len(rows) < (limit if ids is None else _SCAN) and len(found) < limit:
            return found, max(after, connection.execute(f"SELECT {NEWEST} FROM meta").fetchone()[0])
        through = found[-1][0] if len(found) == limit else rows[-1][0]
        if found:
            break
    return found, through


def _bounded(found: list[list[int]]) -> tuple[list[list[int]], bool]:
    """As many as make a page that is not too large, at least one; and whether some were left."""
    total = 0
    for index, (_, size) in enumerate(found):
        total += size
        if total > PAGE_BYTES and index:
            return found[:index], True
    return found, False


def _rows_at(connection: sqlite3.Connection, chosen: list[list[int]]) -> list[Entry]:
    offsets = json.dumps([offset for offset, _ in chosen])
    rows: Iterable[Iterable[Any]]
    if sum(size for _, size in chosen) > _LARGE * len(chosen):
        rows = connection.execute(_ROWS, (offsets,))
    else:
        rows = fetch(connection, 5, _ROWS, offsets)
    return [Entry._make(row) for row in rows]
