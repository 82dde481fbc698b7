"""Readers of a run: subscriptions to the run's channel that end with the run, in the dialect that the client knows.

A reader is a hub's subscription with a transform, and a subscription in all else: a cursor, served by its group's
rounds, on the direct path where there is one. `Readers` makes them. `RunReader` ends the stream behind the run's last
event. `DialectReader` also writes each chunk in a dialect: what is ready comes in one piece, so a reader that is behind
gets the text that it lacks in one block.

A dialect's client that comes back is a new client to its library. So the dialect first gets what the client has seen,
read from the log, and repeats it as its prelude; the exact tail follows.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from newswire.errors import LogUnavailable, RunNotFound, TrimmedAway
from newswire.hub.frames import Chunk, Frame
from newswire.hub.transform import Transform
from newswire.log.engine import Entry
from newswire.log.position import Position
from newswire.runs.dialects.base import Dialect
from newswire.runs.dialects.base import End as RunEnd
from newswire.runs.dialects.coalesce import merged
from newswire.runs.parts import part_of
from newswire.runs.store.record import Record, out_channel, read_end
from newswire.runs.store.store import RunStore, expanded
from newswire.wire.encoder import encode
from newswire.wire.event import Event
from newswire.wire.reserved import END, FOLDED, GAP

if TYPE_CHECKING:
    from newswire.hub.hub import Hub
    from newswire.hub.subscription import Subscription

_LAST: Final = (END, FOLDED)  # a stored event of these types may be the run's last
_LOOKED_AT_ONCE: Final = 500  # runs whose readers may have lost them
_EVENTS_LOST: Final = "EventsLost"  # the type of error of a reader's last event, where events are missing


class Readers:
    """Subscribes readers to runs, and knows those that are open in this process.

    Attributes:
        hub: whose log has the runs.
        store: their records.
    """

    def __init__(self, hub: Hub, store: RunStore) -> None:
        self.hub = hub
        self.store = store
        self._open: dict[str, set[RunReader]] = {}

    def read(
        self,
        record: Record,
        after: Position | str | None = None,
        *,
        dialect: Dialect | None = None,
        fresh: bool = False,
    ) -> Subscription:
        """Subscribe one reader to a run.

        Args:
            record: which run.
            after: the reader's cursor, a position or any text; None: from the beginning.
            dialect: how to write the run; None: the events as they are stored.
            fresh: the record was read just now. Otherwise opening the subscription looks whether the run is still
                kept, and raises `RunNotFound` if it is not.
        """

        async def on_open() -> None:
            newest = record if fresh else self.store.unfinished.get(record.id)
            if newest is None or newest.begun != record.begun:  # it may have been dropped, and even started again
                newest = await self.store.find(record.id)
                if newest is None or newest.begun != record.begun:
                    raise RunNotFound(record.id)
            if newest.state == "waiting" and newest.worker is not None:
                await self.store.change(newest, state="running")  # a lazy run: its worker sees this, and starts

        reader = RunReader(record, on_open, self._open)
        if dialect is not None:
            reader = DialectReader(record, on_open, self._open, dialect, self.store)
        begun = Position(self.hub.epoch, record.begun)
        return self.hub.subscribe(out_channel(record.id), after=after or begun, transform=reader)

    def has(self, run_id: str) -> bool:
        """Whether a stream or an iteration of this process reads a run."""
        return bool(self.hub.subscribers(out_channel(run_id)))

    def supersede(self, record: Record) -> None:
        """Keep the readers of earlier runs with the same id from the events of this one."""
        for reader in self._open.get(record.id, ()):
            if reader.begun < record.begun:
                reader.upto = record.begun

    async def end_lost(self) -> None:
        """End the readers whose run is not kept any more: they would wait for its end for ever."""
        unfinished, epoch = self.store.unfinished, self.hub.epoch
        newest = {run_id: unfinished[run_id] for run_id in self._open if run_id in unfinished}
        others = [run_id for run_id in self._open if run_id not in unfinished]
        for at in range(0, len(others), _LOOKED_AT_ONCE):
            newest.update(await self.store.kept(others[at : at + _LOOKED_AT_ONCE]))
        for run_id, readers in list(self._open.items()):
            record = newest.get(run_id)
            for reader in list(readers):
                if record is None:
                    if run_id in others:
                        reader.lose()
                elif reader.begun < record.begun:  # another run of the same key has the id
                    reader.upto = record.begun
                    if not await self.store.has_events(run_id, reader.seen, record.begun, epoch):
                        reader.lose()


class RunReader(Transform):
    """Made by `Readers`.

    Attributes:
        run_id: which run.
        begun: the offset after which the run's events are.
        seen: the offset of the last event that the reader got.
        upto: the offset at which another run of the same key begins, if there is one: its events are not the reader's.
    """

    __slots__ = ("_end", "_epoch", "_on_open", "_opened", "_readers", "begun", "run_id", "seen", "upto")

    def __init__(
        self, record: Record, on_open: Callable[[], Awaitable[None]], readers: dict[str, set[RunReader]]
    ) -> None:
        self.run_id: str = record.id
        self.begun: int = record.begun
        self.seen: int = 0
        self.upto: int | None = None
        self._on_open = on_open
        self._opened = False  # `on_open` was awaited
        self._readers = readers  # of this process: has the reader while its stream is open
        self._end: Callable[[Chunk], None] | None = None  # while the stream is open
        self._epoch = ""

    async def open(self, position: Position) -> Position:
        """See `Transform.open`. A cursor from before the run, another run's, say, starts at its beginning."""
        if not self._opened:
            await self._on_open()
        self._opened = True
        return Position(position.epoch, max(position.offset, self.begun))

    def begin(self, position: Position, retry: int | None, end: Callable[[Chunk], None]) -> bytes | None:
        """See `Transform.begin`."""
        self.seen = position.offset
        self._epoch = position.epoch
        self._end = end
        self._readers.setdefault(self.run_id, set()).add(self)
        return None

    def ended(self) -> None:
        """See `Transform.ended`."""
        self._end = None
        others = self._readers.get(self.run_id)
        if others is not None:
            others.discard(self)
            if not others:
                del self._readers[self.run_id]

    def restates(self, frame: Frame) -> bool:
        """See `Transform.restates`: what was compacted is not lost."""
        return frame.event == FOLDED

    def write(self, chunk: Chunk) -> tuple[Chunk | None, bool]:
        """See `Transform.write`."""
        frames = chunk.frames
        if frames[-1].event not in _LAST and self.upto is None:
            self.seen = frames[-1].offset
            return chunk, False
        due, over = self._due(frames)
        if due == frames:
            return chunk, over
        return Chunk(due) if due else None, over

    def lose(self) -> None:
        """End the stream of a run that is not kept any more: its last event says so."""
        if self._end is not None:
            self._end(self._loss())

    def _loss(self) -> Chunk:
        return Chunk([self._lost_frame()])

    def _lost_frame(self) -> Frame:
        end = _lost("dropped").event()
        return Frame(self._epoch, Entry(self.seen, out_channel(self.run_id), end.event, end.data, 0.0))

    def _due(self, frames: Sequence[Frame]) -> tuple[Sequence[Frame], bool]:
        """What of these is the reader's: up to the end, what was compacted expanded; and whether that is the end."""
        passed = self.upto is not None and frames[-1].offset > self.upto
        if passed:
            frames = [frame for frame in frames if frame.offset <= (self.upto or 0)]
        if frames and frames[-1].event in _LAST:
            frames = self._expanded(frames)
        if frames:
            self.seen = frames[-1].offset
            if frames[-1].event == END:
                return frames, True
        elif not passed:
            return frames, True  # of a compact run, whose end the reader has
        return ([*frames, self._lost_frame()], True) if passed else (frames, False)

    def _expanded(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        found: list[Frame] = []
        for frame in frames:
            if frame.event == FOLDED:
                found += [
                    Frame(frame.epoch, Entry(piece.offset, frame.channel, piece.event, piece.data, 0.0))
                    for piece in expanded(frame.data, self.seen)
                ]
            else:
                found.append(frame)
            if found and found[-1].event == END:
                break
        return found


class DialectReader(RunReader):
    """A reader that gets the run in a dialect."""

    __slots__ = ("_dialect", "_over", "_store")

    def __init__(
        self,
        record: Record,
        on_open: Callable[[], Awaitable[None]],
        readers: dict[str, set[RunReader]],
        dialect: Dialect,
        store: RunStore,
    ) -> None:
        super().__init__(record, on_open, readers)
        self._dialect = dialect
        self._store = store
        self._over = False  # the dialect's last words are written

    async def open(self, position: Position) -> Position:
        """See `Transform.open`. What lies before the cursor is read too.

        If the log has removed a part of that, the reader starts at the run's beginning, where the hub finds the gap.
        """
        position = await super().open(position)
        if self._dialect.plain:
            return position  # its clients keep what they have read
        skipped = False
        try:
            async for piece in self._store.pieces(self.run_id, self.begun, position):
                if piece.event != END:
                    self._dialect.skip_event(piece.event, piece.data)
                    skipped = True
        except TrimmedAway as error:
            if skipped:
                raise LogUnavailable("a part of the run was removed while it was read") from error
            return Position(position.epoch, self.begun)
        return position

    def begin(self, position: Position, retry: int | None, end: Callable[[Chunk], None]) -> bytes | None:
        """See `Transform.begin`."""
        super().begin(position, retry, end)
        if self._dialect.plain:
            return None
        return _encode(self._dialect.prelude(), str(position), retry=retry)

    def write(self, chunk: Chunk) -> tuple[Chunk | None, bool]:
        """See `Transform.write`."""
        first = chunk.frames[0]
        if first.event == GAP and json.loads(first.data)["reason"] != "trimmed":
            return None, False  # the stream begins again with the run; the clients of dialects know no gaps
        frames, over = self._due(chunk.frames)
        if frames and frames[-1].event == GAP:
            over = True
        blocks = self._blocks(frames[:-1] if over else frames)  # before the end, which depends on it
        if over:
            self._over = True
            if frames:
                end = _end_of(frames[-1].event, frames[-1].data)
                blocks += _encode(self._dialect.end(end), self._text(frames[-1].offset))
        return Chunk(raw=blocks) if blocks else None, over

    def goodbye(self, wait: int) -> bytes | None:
        """See `Transform.goodbye`."""
        return b"" if self._over else _encode(self._dialect.goodbye(wait), None, retry=wait)

    def _loss(self) -> Chunk:
        self._over = True
        return Chunk(raw=_encode(self._dialect.end(_lost("dropped")), self._text(self.seen)))

    def _blocks(self, frames: Sequence[Frame]) -> bytes:
        """The blocks of some events, each with the id of its event on the last of its blocks."""
        dialect = self._dialect
        if dialect.merges:
            parts = merged([(frame.offset, part_of(frame.event, frame.data)) for frame in frames])
            return b"".join([_encode(dialect.write(part), self._text(offset)) for offset, part in parts])
        return b"".join(
            [_encode(dialect.write_event(frame.event, frame.data), self._text(frame.offset)) for frame in frames]
        )

    def _text(self, offset: int) -> str:
        return f"{self._epoch}-{offset}"


def _end_of(event: str, data: str) -> RunEnd:
    return read_end(data) if event == END else _lost(json.loads(data)["reason"])


def is_loss(end: RunEnd) -> bool:
    """Whether a reader got this end because the run, or a part of it, is not kept any more."""
    return end.error is not None and end.error.get("type") == _EVENTS_LOST


def _lost(reason: str) -> RunEnd:
    return RunEnd("failed", {"type": _EVENTS_LOST, "message": f"a part of this run is not kept any more ({reason})"})


def _encode(events: Sequence[Event], id: str | None, *, retry: int | None = None) -> bytes:
    """The blocks of a dialect's events: an id on the last, so that a client that has it has them all.

    `id` and `retry` stand inside blocks with data only: clients of AI services crash at blocks without.
    """
    if not events:
        return b""
    blocks = [Event(event.data, event.event) for event in events]
    if retry is not None:
        blocks[0] = Event(blocks[0].data, blocks[0].event, None, retry)
    last = blocks[-1]
    blocks[-1] = Event(last.data, last.event, id, last.retry)
    return b"".join([encode(block) for block in blocks])
