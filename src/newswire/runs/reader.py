"""A reader of a run: a subscription of the run's channel that ends with the run, in the dialect that its client knows.

It is a hub's subscription in all else: a cursor, served by its group's passes, on the direct path where there is one.
Between the hub and the connection stands a sink that sees the last event go by and, for a dialect, writes each chunk
anew: whatever is ready comes in one piece, so a reader that is behind gets the text that it lacks in one block.

A dialect's client that comes back is a new client to its library. So what it has seen is read from the log first and
told by the dialect's prelude, and the exact tail follows.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from newswire.hub.frames import Chunk, Form, Frame
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.log.base import Entry
from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.runs.books import Books
from newswire.runs.dialects.base import Dialect
from newswire.runs.dialects.base import End as RunEnd
from newswire.runs.fold import unfold
from newswire.runs.parts import merged, part_of
from newswire.runs.record import out_channel, read_end
from newswire.wire.encoder import encode
from newswire.wire.event import Event
from newswire.wire.goodbye import come_back
from newswire.wire.reserved import END, FOLDED, GAP

if TYPE_CHECKING:
    from newswire.hub.hub import Hub
    from newswire.hub.pages import LogPage
    from newswire.hub.sink import Sink

_LAST: Final = (END, FOLDED)  # events after which a run says no more


class RunReader(Subscription):
    """Made by `Run.subscribe` and by responses; used once, by one reader.

    Args:
        hub: where the run is.
        run_id: which run.
        begun: the offset after which its events are.
        after: the reader's cursor, a position or any text; None: from the beginning.
        dialect: how to tell it; None: the events as they are stored.
        on_open: awaited when the reader comes, before anything is sent.
        readers: has the reader in it, by the run's id, while it is open.

    Attributes:
        run_id: which run.
        begun: the offset after which its events are.
        seen: the offset of the last of its events that the reader was given.
        lost: the run is not kept any more, and the reader has not had all of it.
        upto: the offset at which another run of the same key begins, if there is one: its events are not the reader's.
    """

    __slots__ = ("_dialect", "_on_open", "_opened", "_readers", "begun", "lost", "run_id", "seen", "upto")

    def __init__(
        self,
        hub: Hub,
        run_id: str,
        begun: Position,
        after: Position | str | None,
        *,
        dialect: Dialect | None = None,
        on_open: Callable[[], Awaitable[None]] | None = None,
        readers: dict[str, set[RunReader]] | None = None,
    ) -> None:
        super().__init__(hub, Channels([out_channel(run_id)]), Form.PLAIN, after or begun)
        self.run_id = run_id
        self.begun = begun.offset
        self._dialect = dialect
        self._on_open = on_open
        self._opened = False  # the dialect has what lies before the cursor
        self._readers = {} if readers is None else readers
        self.seen = 0
        self.lost = False
        self.upto: int | None = None

    async def open(self) -> Position:
        """See `Subscription.open`. For a dialect, what lies before the cursor is read too.

        Raises:
            RunNotFound: the run is not kept any more.
        """
        position = await super().open()
        if self._opened:
            return position
        if self._on_open is not None:
            await self._on_open()
        if self.cursor < self.begun:
            self.cursor = self.begun  # a cursor from before the run: another run's, say
        if self._dialect is not None:
            self._gap = None  # a cursor that can't be placed begins anew; a gap is an event that no client would know
            await self._skip(self._dialect)
        self._opened = True
        return position

    async def _skip(self, dialect: Dialect) -> None:
        async for piece in Books(self._hub.log).pieces(self.run_id, self.begun, self.cursor):
            if piece.event != END:
                dialect.skip_event(piece.event, piece.data)

    def attach(self, sink: Sink, options: StreamOptions) -> None:
        """See `Subscription.attach`."""
        self.seen = self.cursor
        self._readers.setdefault(self.run_id, set()).add(self)
        if self._dialect is None:
            super().attach(_UntilEnd(sink, self), options)
        else:
            super().attach(Transcoder(sink, self, self._dialect, self.live.text, options.retry), options)

    def ended(self) -> None:
        """See `Subscription.ended`."""
        others = self._readers.get(self.run_id)
        if others is not None:
            others.discard(self)
            if not others:
                del self._readers[self.run_id]
        super().ended()

    def lose(self) -> None:
        """End the stream of a run that is not kept any more: its last event says so."""
        self.lost = True
        end = _lost("dropped").event()
        frame = Frame(self.live.epoch, Entry(self.seen, out_channel(self.run_id), end.event, end.data, 0.0))
        self._end(Chunk(frame.encoded(self.form), [frame]))

    def _opening(self, options: StreamOptions) -> Chunk | None:
        if self._dialect is None or self._dialect.plain:
            return super()._opening(options)
        blocks = _encode(self._dialect.prelude(), self.live.text(self.cursor), retry=options.retry)
        return Chunk(blocks) if blocks else None

    def page_at_hand(self, page: LogPage) -> bool:
        """See `Subscription.page_at_hand`. What was folded is not lost."""
        if page.frames and page.frames[0].event == FOLDED:
            self.page = page
            return True
        return super().page_at_hand(page)

    def due(self, chunk: Chunk) -> tuple[Chunk, bool]:
        """What of a chunk is the reader's: nothing behind the end, what was folded unfolded; and if that is all."""
        frames = chunk.frames
        if self.upto is not None and frames[-1].offset > self.upto:
            frames = [frame for frame in frames if frame.offset <= self.upto]
            chunk = Chunk(b"".join([frame.encoded(self.form) for frame in frames]), frames)
            self.lost = True
            if not frames:
                return chunk, False
        last = frames[-1].event
        if last in _LAST:
            found: list[Frame] = []
            for frame in frames:
                if frame.event == FOLDED:
                    made = unfold(frame.data, self.seen)
                    found += [
                        Frame(frame.epoch, Entry(piece.offset, frame.channel, piece.event, piece.data, 0.0))
                        for piece in made
                    ]
                else:
                    found.append(frame)
                if found and found[-1].event == END:
                    break
            if found != frames:
                chunk = Chunk(b"".join([frame.encoded(self.form) for frame in found]), found)
            frames = found
            last = frames[-1].event if frames else END
        if frames:
            self.seen = frames[-1].offset
        return chunk, last == END

    def goodbye_bytes(self) -> bytes:
        """See `Subscription.goodbye_bytes`."""
        return super().goodbye_bytes() if self._dialect is None else _goodbye(self._dialect, self._options.retry)


class _UntilEnd:
    """A sink that ends its reader's stream behind the run's last event."""

    __slots__ = ("_reader", "_sink", "cut", "end")

    def __init__(self, sink: Sink, reader: RunReader) -> None:
        self._sink = sink
        self._reader = reader
        self.end = sink.end
        self.cut = sink.cut

    def write(self, chunk: Chunk) -> bool:
        frames = chunk.frames
        reader = self._reader
        if not frames or (frames[-1].event not in _LAST and reader.upto is None):
            if frames:
                reader.seen = frames[-1].offset
            return self._sink.write(chunk)
        chunk, over = reader.due(chunk)
        more = self._sink.write(chunk) if chunk.frames else True
        if over:
            reader.close()
        elif reader.lost:
            reader.lose()
        return more


class Transcoder:
    """A sink that tells a run in a dialect.

    Args:
        sink: where the blocks go.
        reader: whose stream it is.
        dialect: what it is told in.
        text: makes an id of an offset.
        retry: the stream's reconnection time in milliseconds, if it sets one.
    """

    __slots__ = ("_dialect", "_over", "_reader", "_retry", "_sink", "_text", "cut")

    def __init__(
        self, sink: Sink, reader: RunReader, dialect: Dialect, text: Callable[[int], str], retry: int | None
    ) -> None:
        self._sink = sink
        self._reader = reader
        self._dialect = dialect
        self._text = text
        self._retry = retry
        self._over = False
        self.cut = sink.cut

    def write(self, chunk: Chunk) -> bool:
        """Tell what is in `chunk`; see `Sink.write`."""
        if not chunk.frames:
            return self._sink.write(chunk)  # a heartbeat, or the prelude
        if self._over:
            return True
        frames = self._reader.due(chunk)[0].frames
        if not frames or frames[-1].event not in (END, GAP):
            blocks = self._tell(frames) if frames else b""
            more = self._sink.write(Chunk(blocks)) if blocks else True
            if self._reader.lost:
                self._reader.lose()
            return more
        last = frames[-1]
        self._over = True
        told = self._tell(frames[:-1])  # before the end, which depends on it
        end = _encode(self._dialect.end(_end_of(last.event, last.data)), self._text(last.offset))
        more = self._sink.write(Chunk(told + end))
        self._reader.close()
        return more

    def end(self, last: Chunk | None) -> None:
        """End the stream; a goodbye, or the run's loss, is said in the dialect's words."""
        if last is not None:
            if self._over:
                last = None
            elif self._reader.lost:
                last = Chunk(_encode(self._dialect.end(_lost("dropped")), self._text(self._reader.seen)))
            else:
                last = Chunk(_goodbye(self._dialect, self._retry))
        self._sink.end(last)

    def _tell(self, frames: Sequence[Frame]) -> bytes:
        """The blocks of some events, each with the id of its event on the last of its blocks."""
        dialect = self._dialect
        told: list[bytes] = []
        if dialect.merges:
            parts = merged([(frame.offset, part_of(frame.event, frame.data)) for frame in frames])
            told = [_encode(dialect.write(part), self._text(offset)) for offset, part in parts]
        else:
            for frame in frames:
                events = dialect.write_event(frame.event, frame.data)
                told.append(_encode(events, self._text(frame.offset)))
        return b"".join(told)


def _end_of(event: str, data: str) -> RunEnd:
    if event == END:
        return read_end(data)
    return _lost(json.loads(data)["reason"])


def _lost(reason: str) -> RunEnd:
    return RunEnd("failed", {"type": "EventsLost", "message": f"a part of this run is not kept any more ({reason})"})


def _goodbye(dialect: Dialect, retry: int | None) -> bytes:
    """A dialect's goodbye, with the reconnection time that its client obeys."""
    wait = come_back(retry)
    return _encode(dialect.goodbye(wait), None, retry=wait)


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
