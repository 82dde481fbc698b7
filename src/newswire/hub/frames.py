"""Encoded events, made once and shared by everyone who gets them.

A **frame** is one log entry with its encodings, each made when somebody first needs it. A **chunk** is what goes onto
a connection in one write: the frames that a subscriber is due, joined. Chunks are found by the frames they join, not
by the readers that get them, so that 5,000 subscribers of different channel sets still share the bytes of a common
event. Used by the hub for live events and for pages read from the log; it knows nothing of subscribers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from newswire.hub.stats import Counts
from newswire.log.engine import Entry
from newswire.log.gc import untrack
from newswire.wire.encoder import HEARTBEAT as HEARTBEAT_BYTES
from newswire.wire.encoder import encode, encode_entry, heartbeat
from newswire.wire.event import Event
from newswire.wire.gzip import block


class FrameForm(IntEnum):
    """How an event is written for a stream."""

    PLAIN = 0
    """The event alone: for a stream of one channel."""
    NAMED = 1
    """With an extra `channel:` field, which the standard ignores and our clients read."""
    ENVELOPE = 2
    """A `message` whose data is a JSON object of channel, event, data and time, for a bare EventSource on many.

    The time is when the log took the event, in seconds since the Unix epoch. newswire's own events have no channel and
    no time: null.
    """


_PLAIN: Final = FrameForm.PLAIN  # a look into the class costs as much as a call


class Frame:
    """One entry and its encodings.

    Attributes:
        offset, channel, event, data, time: as in the entry.
        size: roughly what it weighs on the wire, in bytes: the measure of write budgets.
    """

    __slots__ = ("_envelope", "_named", "_plain", "channel", "data", "epoch", "event", "offset", "size", "time")
    offset: int
    channel: str
    event: str
    data: str
    time: float

    def __init__(self, epoch: str, entry: Entry) -> None:
        # Nothing but text and numbers, and no container beside it: the window keeps many, see `newswire.log.gc`.
        untrack(self)
        self.epoch: str = epoch
        self.offset, self.channel, self.event, data, self.time = entry
        self.data = data
        # isascii() is O(1) in CPython; 3 bytes a character bounds what UTF-8 makes of nearly all other text.
        self.size: int = 80 + len(self.channel) + (len(data) if data.isascii() else 3 * len(data))
        self._plain: bytes | None = None
        self._named: bytes | None = None
        self._envelope: bytes | None = None

    def encoded(self, form: FrameForm) -> bytes:
        """The complete block, blank line included."""
        if form is _PLAIN:
            if self._plain is None:
                self._plain = encode_entry(f"{self.epoch}-{self.offset}", self.event, self.data, None)
            return self._plain
        if form is FrameForm.NAMED:
            if self._named is None:
                self._named = encode_entry(self.id, self.event, self.data, self.channel or None)
            return self._named
        if self._envelope is None:
            time = round(self.time, 3) if self.channel else None
            data = _envelope(self.channel or None, self.event, self.data, time)
            self._envelope = encode_entry(self.id, "message", data, None)
        return self._envelope

    @property
    def id(self) -> str:
        """The text of its position."""
        return f"{self.epoch}-{self.offset}"

    def decoded(self) -> Event:
        """The event as an in-process subscriber gets it, with its id and channel."""
        return Event(self.data, self.event, self.id, None, self.channel or None)


class Marker(Frame):
    """An event of newswire's own that has no id: a reader's cursor stays what it is."""

    __slots__ = ()

    def encoded(self, form: FrameForm) -> bytes:
        """The complete block, without an id."""
        return encode_own(Event(self.data, self.event), form)


def encode_own(event: Event, form: FrameForm) -> bytes:
    """The complete block of an event of newswire's own that is on no channel and has no id."""
    if form is FrameForm.ENVELOPE:
        event = Event(_envelope(None, event.event, event.data, None), retry=event.retry)
    return encode(event)


def _envelope(channel: str | None, event: str, data: str, time: float | None) -> str:
    return json.dumps({"channel": channel, "event": event, "data": data, "time": time}, ensure_ascii=False)


class Chunk:
    """What goes onto a connection in one write.

    Its bytes are made when a sink first reads them: readers that take the frames, or write them in another way, cost no
    encoding.

    Args:
        frames: the events in it; empty for a heartbeat or an opening.
        form: how they are written.
        raw: its bytes, where they are not those of the frames.

    Attributes:
        frames: see above.
        coded: `chunked`, once a sink has read it.
        packed: `compressed`, once a sink has read it.
    """

    __slots__ = ("_form", "_raw", "coded", "frames", "packed")

    def __init__(
        self, frames: Sequence[Frame] = (), form: FrameForm = FrameForm.PLAIN, raw: bytes | None = None
    ) -> None:
        self.frames: Sequence[Frame] = frames
        self.coded: bytes | None = None
        self.packed: Chunk | None = None
        self._form = form
        self._raw = raw

    @property
    def raw(self) -> bytes:
        """The bytes of the event stream."""
        raw = self._raw
        if raw is None:
            frames, form = self.frames, self._form
            if len(frames) == 1:
                raw = frames[0].encoded(form)
            else:
                raw = b"".join([frame.encoded(form) for frame in frames])
            self._raw = raw
        return raw

    @property
    def chunked(self) -> bytes:
        """`raw` as one chunk of HTTP/1.1's chunked transfer coding (RFC 9112, section 7.1)."""
        coded = self.coded
        if coded is None:
            raw = self._raw or self.raw
            coded = self.coded = b"%x\r\n%b\r\n" % (len(raw), raw)
        return coded

    @property
    def compressed(self) -> Chunk:
        """The same as blocks of a gzip body, compressed once for all readers that take it so."""
        packed = self.packed
        if packed is None:
            packed = self.packed = Chunk(raw=block(self.raw))
        return packed


HEARTBEAT: Final = Chunk(raw=HEARTBEAT_BYTES)
_heartbeats: dict[int, Chunk] = {0: HEARTBEAT}


def heartbeat_chunk(padding: int) -> Chunk:
    """The heartbeat with so much padding; the same object for all streams that have it."""
    if padding not in _heartbeats:
        _heartbeats[padding] = Chunk(raw=heartbeat(padding))
    return _heartbeats[padding]


class Chunks:
    """The chunks that are going out now, found by the frames they join.

    Attributes:
        counts: what was given to subscribers so far.
    """

    __slots__ = ("_chunks", "counts")

    # Past this many the oldest are worth nothing: a round of the subscribers has long moved on.
    LIMIT: Final = 4096

    def __init__(self, counts: Counts) -> None:
        self.counts: Counts = counts
        self._chunks: dict[tuple[object, ...], Chunk] = {}

    def join(self, frames: Sequence[Frame], form: FrameForm) -> Chunk:
        """The chunk of these frames in this form; the same object for everyone who asks while it is about."""
        key = (form, *frames)
        chunk = self._chunks.get(key)
        if chunk is None:
            if len(self._chunks) >= self.LIMIT:
                self._chunks.clear()
            chunk = self._chunks[key] = Chunk(frames, form)
        return chunk

    def clear(self) -> None:
        """Forget all: nothing more is going out now."""
        self._chunks.clear()
