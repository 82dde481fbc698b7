"""Stores run records in the log: the few ways in which a record is made, read and changed.

Everything that deals with runs gets a `RunStore`. Every process with the same log sees the same records. All changes
go through `Log.append_if`, under the condition that the record is still the one that was read.

An ended run may be kept in its compact form: one event in the log instead of thousands, and every cut still exact. A
run of 2,000 tokens is 2,000 rows in a log. Compacted, neighbouring pieces of text are one text, with the offsets and
lengths of the pieces beside it. So readers get the same events with the same ids, and a reader whose cursor is any of
these ids gets exactly what comes after it. Of progress and usage only the last is kept.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

from newswire.errors import LogCorrupt, TrimmedAway
from newswire.log.channels import Channels
from newswire.log.engine import Condition, Entry
from newswire.log.log import Log
from newswire.log.position import Lives, Position
from newswire.log.secret import SharedSecret
from newswire.runs.dialects.base import End
from newswire.runs.parts import Progress, Usage, part_of
from newswire.runs.stats import RunStats
from newswire.runs.store.record import SECRET, Record, name_channel, out_channel, record_channel
from newswire.wire.event import Event
from newswire.wire.reserved import FOLDED

MAX_BYTES: Final = 16 * 2**20  # of data; a larger run stays as it is

_TEXTS: Final = ("message", "reasoning")  # stored as they are, so that two pieces are one piece of both
_LAST_COUNTS: Final = ("progress", "usage")


class Piece(NamedTuple):
    """One event of a run."""

    offset: int
    event: str
    data: str


def compacted(found: Iterable[Entry | Piece]) -> str:
    """The data of the one event that stands for all of `found`: JSON, a list of groups.

    A group is `[type, data, offset]`; or for text `[type, data, [first offset, steps between offsets …], [lengths …]]`,
    with lengths in characters.
    """
    groups: list[list[Any]] = []
    last: dict[str, int] = {}  # where in `groups` the last progress is; an earlier one is emptied
    for entry in found:
        if entry.event in _TEXTS:
            if groups and groups[-1][0] == entry.event:
                groups[-1][1].append(entry.data)
                groups[-1][2].append(entry.offset)
            else:
                groups.append([entry.event, [entry.data], [entry.offset]])
            continue
        if entry.event in _LAST_COUNTS and isinstance(part_of(entry.event, entry.data), (Progress, Usage)):
            if entry.event in last:
                groups[last[entry.event]] = []
            last[entry.event] = len(groups)
        groups.append([entry.event, entry.data, entry.offset])
    made = [_text(*group) if isinstance(group[1], list) else group for group in groups if group]
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"))


def _text(event: str, texts: list[str], offsets: list[int]) -> list[Any]:
    steps = [offsets[0], *(after - before for before, after in pairwise(offsets))]
    return [event, "".join(texts), steps, [len(text) for text in texts]]


def expanded(data: str, after: int) -> Iterator[Piece]:
    """The pieces of a compact run after offset `after`."""
    for event, text, *place in json.loads(data):
        if len(place) == 1:
            found: Iterable[tuple[int, str]] = [(place[0], text)]
        else:
            offsets, ends = accumulate(place[0]), accumulate(place[1])
            found = (
                (offset, text[end - length : end]) for offset, end, length in zip(offsets, ends, place[1], strict=True)
            )
        for offset, piece in found:
            if offset > after:
                yield Piece(offset, event, piece)


def pieces(entries: Iterable[Entry]) -> Iterator[Piece]:
    """The pieces of a run's entries, compact or not."""
    for entry in entries:
        if entry.event == FOLDED:
            yield from expanded(entry.data, 0)
        else:
            yield Piece(entry.offset, entry.event, entry.data)


logger: logging.Logger = logging.getLogger("newswire.runs")

_PAGE: Final = 1000
_AT_ONCE: Final = 100  # pieces, between which others take their turns: who reads them takes some 10 µs for each


class RunStore:
    """The run records in a log.

    Args:
        log: where they are.
        lives: gives the log's lives, as far as this process knows them. One without a name: it knows nothing.

    Attributes:
        log: where they are.
        stats: counts what happens to runs in this process.
        unfinished: the newest records of the runs that have not ended, by id, as far as this process has seen them.
    """

    def __init__(self, log: Log, lives: Callable[[], Lives] = lambda: Lives.single("")) -> None:
        self.log = log
        self.stats: RunStats = RunStats()
        self.unfinished: dict[str, Record] = {}
        self._secret = SharedSecret(log, SECRET, lives)

    # -- read

    async def find(self, run_id: str) -> Record | None:
        """The newest record of a run."""
        [entry] = await self.log.newest([record_channel(run_id)])
        return None if entry is None else Record.read(entry)

    async def lost(self, run_id: str) -> int:
        """The offset of the newest record of a run that the log has removed by itself; 0 if it has removed none."""
        return await self.log.lost(record_channel(run_id))

    async def newest_of(self, name: str, owner: str | None) -> str | None:
        """The id of the run that this owner has started last under a name."""
        [entry] = await self.log.newest([name_channel(name, owner, await self.secret())])
        return None if entry is None else entry.data

    async def kept(self, run_ids: Sequence[str]) -> dict[str, Record]:
        """The newest records of some runs, by id, without those whose events are not kept up to their end."""
        records = await self.log.newest([record_channel(run_id) for run_id in run_ids])
        outs = await self.log.newest([out_channel(run_id) for run_id in run_ids])
        found: dict[str, Record] = {}
        for entry, out in zip(records, outs, strict=True):
            if entry is None or _begun(entry) is None:
                continue
            record = Record.read(entry)
            if record.state != "ended" or (out is not None and out.offset >= record.last_offset):
                found[record.id] = record
        return found

    async def has_events(self, run_id: str, after: int, upto: int, epoch: str) -> bool:
        """Whether the log has any of a run's events between two offsets of an epoch.

        Raises:
            EpochChanged: the log has another epoch now, in which these offsets may be others' events.
        """
        page = await self.log.read(Channels([out_channel(run_id)]), after, 1, epoch=epoch)
        return bool(page.entries) and page.entries[0].offset <= upto

    async def secret(self) -> bytes:
        """A secret of all processes that share this log. The first process that needs it makes it."""
        return await self._secret.get()

    async def pieces(self, run_id: str, after: int, upto: Position | None = None) -> AsyncIterator[Piece]:
        """Read a run's events, compact or not: after an offset, up to a position (None: the newest now).

        While a run is compacted the log has both forms, and for good if the process dies then. Each piece comes once.

        Raises:
            TrimmedAway: the log has removed some of them. It is raised in place of the first piece behind these.
            EpochChanged: the log has been replaced meanwhile.
        """
        channel = Channels([out_channel(run_id)])
        if upto is None:
            span = await self.log.span()
            upto = Position(span.epoch, span.latest)
        at, last, lost, restated, given = after, upto.offset, 0, False, 0
        while at < last:
            page = await self.log.read(channel, at, _PAGE, epoch=upto.epoch)
            if page.through <= at:
                return  # the log ends before `last`: it is not the log that this offset came from
            for entry in page.entries:
                if entry.event == FOLDED:
                    restated = True  # it says all that was removed before it
                elif page.lost > after and not restated:
                    raise TrimmedAway(page.lost)
                for piece in pieces([entry]):
                    if after < piece.offset <= last:
                        after = piece.offset
                        yield piece
                        given += 1
                        if given % _AT_ONCE == 0:
                            await asyncio.sleep(0)
            lost = page.lost
            at = page.through
        if lost > after and not restated:
            raise TrimmedAway(lost)

    # -- write

    async def _append_if(self, events: Sequence[tuple[str, Event]], channel: str, newest: int) -> int | None:
        """Store events if the newest one of a channel has this offset; returns the offset of the first."""
        stored = await self.log.append_if(events, Condition(channel, newest))
        return None if stored is None else stored[0].offset

    async def create(self, record: Record, event: Event, after: int = 0) -> Record | None:
        """Store a new run.

        Args:
            record: its first record.
            event: that record, as it is stored.
            after: the offset of the newest record of this id, of an ended run whose place it takes, or one that the log
                has removed; 0: there has been none.

        Returns:
            its record; None if there is (another) run of that id.
        """
        name = name_channel(record.name, record.owner, await self.secret())
        events = [(record_channel(record.id), event), (name, Event(record.id))]
        stored = await self._append_if(events, record_channel(record.id), after)
        return None if stored is None else replace(record, offset=stored, begun=stored)

    async def change(self, record: Record, **changes: Any) -> Record | None:
        """Change a record.

        Returns:
            the new one; None if somebody else has changed it first.
        """
        changed = replace(record, **changes)
        channel = record_channel(record.id)
        stored = await self._append_if([(channel, changed.event())], channel, record.offset)
        return None if stored is None else replace(changed, offset=stored)

    async def end(self, records: Sequence[Record], end: End) -> list[Record]:
        """End runs, whoever produces them. Their readers get the end as the last event.

        Returns:
            the records of the runs that this call ended. The others had changed first.
        """
        ended = [as_ended(record, end) for record in records]
        stored = await asyncio.gather(
            *(self._append_if(last_events(record), record_channel(record.id), record.offset) for record in ended)
        )
        found = [
            replace(record, offset=offset + 1)  # the end is stored first
            for record, offset in zip(ended, stored, strict=True)
            if offset is not None
        ]
        self.stats.ended[end.reason] += len(found)
        return found

    async def compact(self, run_id: str) -> bool:
        """Keep an ended run in its compact form from now on.

        Returns:
            False if that was done already, the run is too large for it, or the log has removed a part of it.
        """
        record = await self.find(run_id)
        if record is None or record.state != "ended" or record.last:
            return False
        out, records = out_channel(run_id), record_channel(run_id)
        try:
            found = [piece async for piece in self.pieces(run_id, record.begun)]
        except TrimmedAway:
            return False
        if not found or sum(len(piece.data) for piece in found) > MAX_BYTES:
            return False
        changed = replace(record, last=record.last_offset)
        events = [(out, Event(compacted(found), FOLDED)), (records, changed.event())]
        if await self._append_if(events, records, record.offset) is None:
            return False
        await self.log.drop({out: changed.last, records: record.offset})
        return True

    async def drop(self, runs: Sequence[Record]) -> None:
        """Remove all that the log has of ended runs, unless another process has done so."""
        newest = await self.log.newest([record_channel(run.id) for run in runs])
        cuts: dict[str, int] = {}
        for run, entry in zip(runs, newest, strict=True):
            if entry is not None and _begun(entry) == run.begun:  # not a later run of the same key
                cuts[out_channel(run.id)] = cuts[record_channel(run.id)] = entry.offset
                name = name_channel(run.name, run.owner, await self.secret())
                cuts[name] = max(cuts.get(name, 0), run.begun + 1)  # it was stored right behind the first record
        if cuts:
            await self.log.drop(cuts)


def as_ended(record: Record, end: End) -> Record:
    """The record of a run that ends now."""
    return replace(record, state="ended", worker=None, end=end, ended_at=time.time())


def last_events(ended: Record) -> list[tuple[str, Event]]:
    """What is stored when a run ends, as one batch."""
    assert ended.end is not None
    return [(out_channel(ended.id), ended.end.event()), (record_channel(ended.id), ended.event())]


def _begun(entry: Entry) -> int | None:
    """After which offset the run of a record begins; None if the record can't be read: the others still can."""
    try:
        return Record.read(entry).begun
    except LogCorrupt as error:
        logger.error("passed over: %s", error)
        return None
