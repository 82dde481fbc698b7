"""Pages of the SQLite file: the events of a set of channels after an offset, and what those channels lost.

A page is found in steps of some milliseconds, each in a snapshot of its own, so that others' pages come in between: a
generator is sent the connection for each step. Which way it goes depends on how many channels there are:

* some, or patterns that match some: each by the index, in batches, of which only the earliest events are kept;
* many, or patterns that match many: by looking at the log from `after` on, a bounded part of it for one page. If that
  part has none of them, and all is more to look at than the channels, then these by the index as well.

The last step reads the rows and the losses together. So a reader sees either an event or that it was lost, also if it
was removed since an earlier step. Rows come as one JSON text, for the reason that `fetch` gives.
"""

from __future__ import annotations

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from newswire.log.channels import Channels
from newswire.log.engine import PAGE_BYTES, Entry, Page, Span
from newswire.log.forgotten import Forgotten
from newswire.log.sqlite.file import fetch
from newswire.log.sqlite.retention import read_forgotten
from newswire.log.sqlite.schema import NEWEST

T = TypeVar("T")
Steps: TypeAlias = Generator[None, sqlite3.Connection, T]
_Found: TypeAlias = list[list[int]]  # pairs of offset and size

_SCAN: Final = 4096  # rows looked at in one step …
_SCANS: Final = 8  # … and steps for one page, when nothing matches
_FIRST: Final = 16  # offsets of each channel that are looked up at first, at least
_BATCH: Final = 200  # channels looked up by the index in one step
_FEW: Final = 1000  # channels that are looked up before the log is looked at
_LISTED: Final = 5000  # channels of a pattern that are listed
_SEEK: Final = 8  # rows that are looked at in the time in which one channel is looked up
_LOSSES: Final = 1000  # channels with losses looked at in one step
_TRIES: Final = 3
_MATCHES_KEPT: Final = 16  # sets with patterns of which is remembered …
_IDS_KNOWN: Final = 50_000  # … which channels match, by id, and which don't
_LARGE: Final = 4096  # bytes of an average row, from which rows come one by one

# Of each channel the next offsets after one; from the index alone.
_EACH = """SELECT json_group_array(json((SELECT json_group_array(offset) FROM (
               SELECT offset FROM newswire_events WHERE channel = json_extract(value, '$[0]')
               AND offset > json_extract(value, '$[1]') AND offset <= ? ORDER BY offset LIMIT ?
           )))) FROM json_each(?)"""
_SIZES = "SELECT offset, size FROM newswire_events WHERE offset IN (SELECT value FROM json_each(?)) ORDER BY offset"
_SCANNED = "SELECT offset, channel, size FROM newswire_events WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT ?"
# CROSS JOIN keeps the order: SQLite takes the tables as they are written.
_ROWS = """SELECT e.offset, c.name, coalesce(e.type, 'message'), e.data, e.time
           FROM json_each(?) AS wanted CROSS JOIN newswire_events AS e ON e.offset = wanted.value
           CROSS JOIN newswire_channels AS c ON c.id = e.channel"""


class PageReader:
    """Reads pages; remembers which channels patterns match, and what is known of forgotten ones."""

    def __init__(self) -> None:
        self._matches: OrderedDict[Channels, dict[int, bool]] = OrderedDict()  # by id, which is never used again
        self._forgotten = (-1, Forgotten())  # and `meta.forgets` when it was read

    def read(self, channels: Channels, after: int, limit: int) -> Steps[Page]:
        """See `Engine.read`."""
        connection = yield
        after, limit = max(after, 0), min(limit, _SCAN)
        newest, epoch = connection.execute(f"SELECT {NEWEST}, epoch FROM newswire_meta").fetchone()
        found: _Found = []
        through = max(after, newest)
        ids = _list(connection, channels)
        if after < newest and ids != []:
            if ids is not None and len(ids) <= _FEW:
                connection, found, through = yield from _by_index(connection, ids, after, newest, limit)
            else:
                connection, found, through = yield from self._search(connection, channels, ids, after, limit, newest)
        connection, lost, doubt = yield from self._losses(connection, channels, ids, after)
        chosen, cut = _bounded(found)
        return Page(_rows_at(connection, chosen), chosen[-1][0] if cut else through, lost, doubt, epoch=epoch)

    # -- which events

    def _search(
        self,
        connection: sqlite3.Connection,
        channels: Channels,
        ids: list[int] | None,
        after: int,
        limit: int,
        newest: int,
    ) -> Steps[tuple[sqlite3.Connection, _Found, int]]:
        """Look at the log from `after` on; or, if that is less work, at each channel.

        Not beyond what was the newest when the channels were listed: others may have come since.
        """
        found: _Found = []
        through, count = after, limit
        for number in range(_SCANS):
            if number:
                connection = yield
            rows = fetch(connection, 3, _SCANNED, through, newest, count)
            matching = self._matching(connection, channels, ids, {row[1] for row in rows})
            found += [[offset, size] for offset, channel, size in rows if channel in matching]
            if len(found) >= limit:
                return connection, found[:limit], found[limit - 1][0]
            if len(rows) < count:
                return connection, found, newest
            through = rows[-1][0]
            if found and number:
                break
            if not found and ids is not None and len(ids) * _SEEK < newest - through:
                connection = yield
                return (yield from _by_index(connection, ids, through, newest, limit))
            count = _SCAN
        return connection, found, through

    def _matching(
        self, connection: sqlite3.Connection, channels: Channels, ids: list[int] | None, seen: set[int]
    ) -> set[int]:
        """Which of the channels `seen` are wanted."""
        if ids is not None:
            return seen.intersection(ids)
        known = self._matches.setdefault(channels, {})
        self._matches.move_to_end(channels)
        if len(self._matches) > _MATCHES_KEPT:
            self._matches.popitem(last=False)
        if len(known) > _IDS_KNOWN:
            known.clear()
        unknown = json.dumps(list(seen - known.keys()))
        query = "SELECT id, name FROM newswire_channels WHERE id IN (SELECT value FROM json_each(?))"
        known.update((id, name in channels) for id, name in fetch(connection, 2, query, unknown))
        return {id for id in seen if known.get(id)}

    # -- what was lost

    def _losses(
        self, connection: sqlite3.Connection, channels: Channels, ids: list[int] | None, after: int
    ) -> Steps[tuple[sqlite3.Connection, int, int]]:
        """`Page.lost` and `Page.doubt`, in the last snapshot."""
        if ids is not None:
            lost, doubt = self._losses_of(connection, channels, ids)
            return connection, lost, doubt
        for attempt in range(_TRIES):
            trims = connection.execute("SELECT trims FROM newswire_meta").fetchone()[0]
            lost, doubt = self._forgotten_in(connection).of_patterns(channels)
            last = 2**63 - 1
            while True:
                query = """SELECT lost, name FROM newswire_channels WHERE lost > ? AND lost < ? AND lost > 0
                           ORDER BY lost DESC LIMIT ?"""
                rows = fetch(connection, 2, query, max(after, lost), last, _LOSSES)
                found = next((offset for offset, name in rows if name in channels), 0)
                lost = max(lost, found)
                if found or len(rows) < _LOSSES:
                    break
                last = rows[-1][0]
                if attempt < _TRIES - 1:  # at last in one go, so that it comes to an end
                    connection = yield
            if trims == connection.execute("SELECT trims FROM newswire_meta").fetchone()[0]:
                break  # nothing was lost meanwhile
        return connection, lost, doubt

    def _losses_of(self, connection: sqlite3.Connection, channels: Channels, ids: list[int]) -> tuple[int, int]:
        forgotten = self._forgotten_in(connection)
        names = list(channels.names)
        query = "SELECT name, lost, doubt FROM newswire_channels WHERE name IN (SELECT value FROM json_each(?))"
        rows = fetch(connection, 3, query, json.dumps(names)) if names else []
        lost = max((row[1] for row in rows), default=0)
        doubt = max((row[2] for row in rows), default=0)
        if forgotten and len(rows) < len(names):
            missing = channels.names.difference(row[0] for row in rows)
            doubt = max(doubt, *map(forgotten.doubt, missing), 0)
        if channels.patterns:
            query = "SELECT coalesce(max(lost), 0) FROM newswire_channels WHERE id IN (SELECT value FROM json_each(?))"
            of_rows = connection.execute(query, (json.dumps(ids),)).fetchone()[0]
            of_forgotten, doubtful = forgotten.of_patterns(channels)
            lost, doubt = max(lost, of_rows, of_forgotten), max(doubt, doubtful)
        return lost, doubt

    def _forgotten_in(self, connection: sqlite3.Connection) -> Forgotten:
        forgets = connection.execute("SELECT forgets FROM newswire_meta").fetchone()[0]
        if self._forgotten[0] != forgets:
            self._forgotten = forgets, read_forgotten(connection)
        return self._forgotten[1]


def next_entries(connection: sqlite3.Connection, after: int, limit: int) -> list[Entry]:
    """The next entries of all channels; a follower's batch."""
    found = fetch(
        connection, 2, "SELECT offset, size FROM newswire_events WHERE offset > ? ORDER BY offset LIMIT ?", after, limit
    )
    return _rows_at(connection, _bounded(found)[0])


def scan(connection: sqlite3.Connection, after: int, limit: int) -> Page:
    """See `Engine.scan`."""
    epoch, newest = connection.execute(f"SELECT epoch, {NEWEST} FROM newswire_meta").fetchone()
    limit = min(limit, _SCAN)
    query = "SELECT offset, size FROM newswire_events WHERE offset > ? ORDER BY offset LIMIT ?"
    found = fetch(connection, 2, query, after, limit)
    chosen, cut = _bounded(found)
    whole = not cut and len(found) < limit
    return Page(_rows_at(connection, chosen), max(newest, after) if whole else chosen[-1][0], 0, epoch=epoch)


def newest_of(connection: sqlite3.Connection, channels: Sequence[str]) -> list[Entry | None]:
    """See `Engine.newest`."""
    last = """SELECT (SELECT max(offset) FROM newswire_events WHERE channel = c.id) FROM newswire_channels AS c
              WHERE name IN (SELECT value FROM json_each(?))"""
    query = f"SELECT offset, size FROM newswire_events WHERE offset IN ({last})"
    rows = _rows_at(connection, fetch(connection, 2, query, json.dumps(list(channels))))
    found = {entry.channel: entry for entry in rows}
    return [found.get(name) for name in channels]


def span(connection: sqlite3.Connection) -> Span:
    """See `Engine.span`."""
    epoch, newest, first = connection.execute(
        f"SELECT epoch, {NEWEST}, (SELECT min(offset) FROM newswire_events) FROM newswire_meta"
    ).fetchone()
    return Span(epoch, newest if first is None else first - 1, newest)


def _list(connection: sqlite3.Connection, channels: Channels) -> list[int] | None:
    """The ids of the channels in the file; None if a pattern may match too many to list."""
    ids: set[int] = set()
    for pattern in channels.patterns:
        head = pattern[: min(pattern.find(wildcard) for wildcard in "*>" if wildcard in pattern)]
        within = "FROM newswire_channels WHERE name >= ? AND name < ?"
        bounds = head, head[:-1] + "/" if head else b""  # "/" comes after the dot, and bytes come after all text
        some = f"SELECT count(*) FROM (SELECT 1 {within} LIMIT {_LISTED + 1})"
        if connection.execute(some, bounds).fetchone()[0] > _LISTED:
            return None
        ids.update(id for id, name in fetch(connection, 2, f"SELECT id, name {within}", *bounds) if name in channels)
    if channels.names:
        query = "SELECT id FROM newswire_channels WHERE name IN (SELECT value FROM json_each(?))"
        ids.update(id for (id,) in fetch(connection, 1, query, json.dumps(list(channels.names))))
    return sorted(ids)


def _by_index(
    connection: sqlite3.Connection, ids: list[int], after: int, upto: int, limit: int
) -> Steps[tuple[sqlite3.Connection, _Found, int]]:
    """Offset and size of the next events of these channels, and how far these are complete.

    First some of each; then more, where a channel may have more among the earliest `limit` of all.
    """
    count = max(2 * limit // len(ids), _FIRST)
    found: list[int] = []
    first = True
    last, unread = upto, [(id, after) for id in ids]
    while unread:
        more: list[tuple[int, int]] = []
        for begin in range(0, len(unread), _BATCH):
            if not first:
                connection = yield
            first = False
            batch = unread[begin : begin + _BATCH]
            parts = json.loads(connection.execute(_EACH, (last, count, json.dumps(batch))).fetchone()[0])
            for (id, _), offsets in zip(batch, parts, strict=True):
                found += offsets
                if len(offsets) == count:
                    more.append((id, offsets[-1]))
            if len(found) > limit:
                found = sorted(found)[:limit]
                last = found[-1]  # what is later belongs to a later page
        unread = [(id, at) for id, at in more if at < last]
        count *= 4
    found = sorted(found)[:limit]
    return connection, fetch(connection, 2, _SIZES, json.dumps(found)), found[-1] if len(found) == limit else upto


def _bounded(found: _Found) -> tuple[_Found, bool]:
    """As many as make a page that is not too large, at least one; and whether some were left."""
    total = 0
    for index, (_, size) in enumerate(found):
        total += size
        if total > PAGE_BYTES and index:
            return found[:index], True
    return found, False


def _rows_at(connection: sqlite3.Connection, chosen: _Found) -> list[Entry]:
    offsets = json.dumps([offset for offset, _ in chosen])
    rows: Iterable[Iterable[Any]]
    if sum(size for _, size in chosen) > _LARGE * len(chosen):
        rows = connection.execute(_ROWS, (offsets,))
    else:
        rows = fetch(connection, 5, _ROWS, offsets)
    return [Entry._make(row) for row in rows]
