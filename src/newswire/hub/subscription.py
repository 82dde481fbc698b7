"""A subscription: a cursor over a set of channels, and the sink that its events go to.

Its states, and who moves it on:

    NEW ──open──> OPENED ──attach──> CATCHING ──step──> READY      in its group, served by the group's passes
                                      │ ▲ │ ▲              │
                                      │ │ │ └──wake── WAITING     for a page of the log, or for its group's head
                                      │ │ └──────────────┘ │
                                      │ └─resume── BEHIND <┘      the sink holds bytes; the cursor stays here
                                      └──────> ENDING ──ended──> CLOSED

Only the fan-out calls `step`; sinks call `resume` and `ended`. Iterating needs none of that: `async for`.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Final

from newswire.errors import Closed
from newswire.hub.frames import HEARTBEAT, Chunk, Form, Frame
from newswire.hub.inbox import EventIterator
from newswire.hub.options import StreamOptions
from newswire.log.base import Entry
from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.wire.encoder import encode
from newswire.wire.event import Event
from newswire.wire.goodbye import come_back, goodbye
from newswire.wire.reserved import GAP

if TYPE_CHECKING:
    from newswire.hub.cursor import Start
    from newswire.hub.group import Group
    from newswire.hub.hub import Hub
    from newswire.hub.live import Live
    from newswire.hub.pages import LogPage
    from newswire.hub.sink import Sink
    from newswire.hub.transform import Transform

_NOT_YET: Final = StreamOptions()


class _State(Enum):
    NEW = "new"
    OPENED = "opened"
    CATCHING = "catching"
    READY = "ready"
    BEHIND = "behind"
    WAITING = "waiting"
    ENDING = "ending"
    CLOSED = "closed"


def _swallow(chunk: Chunk) -> bool:
    return True  # stands in for the sink of a subscription that has ended in the middle of a pass


class Subscription:
    """A cursor over channels. Made by `Hub.subscribe`; used once, by one reader.

    Iterate over it in process (`async for event in subscription`), or give it to an `EventSourceResponse`.

    Attributes:
        channels: what it subscribes to.
        form: how events are written for it.
        cursor: the offset up to which it has been given everything (its group's head while it has caught up).
        page: the page of the log that it read last, while it is catching up from the log.
    """

    __slots__ = (
        "_gap",
        "_group",
        "_hub",
        "_live",
        "_options",
        "_quiet",
        "_sink",
        "_start",
        "_state",
        "_told",
        "_transform",
        "channels",
        "cursor",
        "form",
        "page",
        "queued",
        "write",
    )

    def __init__(
        self, hub: Hub, channels: Channels, form: Form, start: Start, transform: Transform | None = None
    ) -> None:
        self.channels = channels
        self.form = form
        self.cursor = 0
        self.page: LogPage | None = None
        self.queued = False
        self.write = _swallow
        self._hub = hub
        self._live: Live  # from `open` on
        self._start: Start | None = start
        self._state = _State.NEW
        self._gap: str | None = None
        self._quiet = False  # nothing was written since the heartbeat timer last looked, while it is catching up
        self._told = 0  # loss up to this offset has been told; -1: the first page's loss is no news
        self._group: Group | None = None
        self._sink: Sink | None = None
        self._options = _NOT_YET
        self._transform = transform

    def __repr__(self) -> str:
        return f"<Subscription {self.channels!r} {self._state.value} after {self.cursor}>"

    @property
    def live(self) -> Live:
        """The inside of the hub; there from `open` on."""
        return self._live

    # -- the life of a stream, called by delivery

    @property
    def closed(self) -> bool:
        """It was closed: nothing more comes."""
        return self._state is _State.CLOSED

    async def open(self) -> Position:
        """Find the place to start from; nothing is sent yet.

        Opens the hub if need be. A stream's head is sent only after this, so that what fails here has a status code.

        Returns:
            the position after which events will follow.

        Raises:
            LogUnavailable: the log can't be read now.
            Closed: the hub is closed or shutting down, or the subscription was used before.
        """
        if self._state is _State.NEW:
            start, self._start = self._start, None
            if start is None:
                raise Closed("this subscription is being opened already: make one for each reader")
            try:
                live = self._live = await self._hub.live()
                place = await live.place(start)
                self.cursor, self._told, self._gap = place.cursor, place.told, place.gap
                if self._transform is not None:
                    self.cursor = (await self._transform.open(Position(live.epoch, place.cursor))).offset
            except BaseException:
                self._start = start  # it may be tried again
                raise
            self._state = _State.OPENED
        elif self._state is not _State.OPENED:
            raise Closed("a subscription is read once: call hub.subscribe() again for each reader")
        return Position(self._live.epoch, self.cursor)

    def attach(self, sink: Sink, options: StreamOptions) -> None:
        """Begin to send to `sink`, which must be ready for more. Call `open` first."""
        if self._state is not _State.OPENED:
            raise Closed("open the subscription first, and attach it once")
        self._sink = sink
        self._options = options
        self.write = sink.write if self._transform is None else self._write_transformed
        self._state = _State.CATCHING
        self._group = group = self._live.enter(self, options)
        self.channels = group.channels  # equal; now one object for the whole group
        opening = self._opening(options)
        if opening is not None:
            self._give(opening)
        if self._state is _State.CATCHING:
            self._live.fanout.enqueue(self)
        if self._live.draining:  # since it was opened
            self.goodbye()

    def _opening(self, options: StreamOptions) -> Chunk | None:
        """What the stream begins with, whatever follows."""
        if self._transform is not None:
            raw = self._transform.begin(Position(self._live.epoch, self.cursor), options.retry, self._end)
            if raw is not None:
                return Chunk(raw=raw) if raw else None
        if options.retry is None:
            return None
        return self._live.opening(options.retry, self.cursor, whole=options.opening)

    def _write_transformed(self, chunk: Chunk) -> bool:
        """Stands in for the sink's `write` where there is a transform."""
        sink, transform = self._sink, self._transform
        if sink is None or transform is None:
            return True
        if not chunk.frames:
            return sink.write(chunk)  # a heartbeat
        out, over = transform.write(chunk)
        more = True if out is None else sink.write(out)
        if over:
            self.close()
        return more

    def resume(self) -> None:
        """The sink is ready for more."""
        if self._state is not _State.BEHIND:
            return
        fanout = self._live.fanout
        fanout.stalled.pop(self, None)
        self._state = _State.CATCHING
        group = self._group
        if group is not None and self._gap is None and self.cursor == group.head and group.join(self):
            self._state = _State.READY
            fanout.caught_up(self)
        elif self._state is _State.CATCHING:
            fanout.enqueue(self)

    def took_some(self) -> None:
        """The sink's peer takes what the sink holds, if slowly: the write time-out counts anew."""
        if self in self._live.fanout.stalled:
            self._live.fanout.stall(self)

    def ended(self) -> None:
        """The sink's connection is gone, or all of an ended stream is on its way. Idempotent."""
        if self._state is not _State.CLOSED:
            self._leave()
            self._state = _State.CLOSED
            self._sink = None
            self._live.left(self)
            if self._transform is not None:
                self._transform.ended()

    def renew(self, after: Position | str) -> None:
        """After it has ended: let it be opened again, to go on after the position that its reader has come to."""
        self._start = after
        self._state = _State.NEW

    # -- ways to end it

    def close(self) -> None:
        """End the stream in order. Idempotent."""
        self._end(None)

    def goodbye(self) -> None:
        """End the stream in order and tell the client to come back."""
        self._end(self._goodbye())

    def goodbye_bytes(self) -> bytes:
        """What `goodbye` sends last, for a server that ends the stream by itself."""
        return self._goodbye().raw

    def _goodbye(self) -> Chunk:
        wait = come_back(self._options.retry)
        if self._transform is not None:
            raw = self._transform.goodbye(wait)
            if raw is not None:
                return Chunk(raw=raw)
        event = goodbye(wait)
        if self.form is Form.ENVELOPE:
            data = json.dumps({"channel": None, "event": event.event, "data": event.data})
            event = Event(data, retry=event.retry)
        return Chunk(raw=encode(event))

    def cut(self) -> None:
        """Drop the connection now."""
        sink = self._sink
        if sink is not None and self._state is not _State.CLOSED:
            self.ended()
            sink.cut()
        else:
            self._end(None)

    def _end(self, last: Chunk | None) -> None:
        if self._state in (_State.ENDING, _State.CLOSED):
            return
        sink = self._sink
        self._leave()
        if sink is None:
            self._state = _State.CLOSED
            return
        self._state = _State.ENDING
        self._live.fanout.stall(self)  # a peer that never takes the rest is cut in the end
        sink.end(last)

    def _leave(self) -> None:
        self.write = _swallow
        self.page = None
        if self._group is not None:
            group, self._group = self._group, None
            self._live.leave(self, group)

    def timed_out(self, stalled_for: float) -> bool:
        """Whether the write time-out is over, `stalled_for` seconds after the sink took anything."""
        timeout = self._options.write_timeout
        return timeout is not None and stalled_for >= timeout

    # -- called by the fan-out, while it is catching up

    @property
    def heartbeat(self) -> float | None:
        """Seconds of silence until it gets a heartbeat."""
        return self._options.heartbeat

    def beat(self) -> None:
        """Send a heartbeat if nothing was sent since the last call but one."""
        if self._state in (_State.CATCHING, _State.WAITING):
            if self._quiet:
                self._give(HEARTBEAT)
            self._quiet = True

    def failed(self) -> None:
        """A step has raised."""
        self.cut()

    # -- catching up, called by the group and the fan-out

    def fell_behind(self, cursor: int) -> None:
        """The sink took the group's chunk, but can take no more."""
        if self._state is _State.READY:
            self._state = _State.BEHIND
            self.cursor = cursor
            if self._group is not None:
                self._group.leave(self)
            self._live.fanout.stall(self)

    def left_behind(self, cursor: int) -> None:
        """The group can't serve this member any more; it reads on for itself."""
        if self._state is _State.READY:
            self.cursor = cursor
            if self._group is not None:
                self._group.leave(self)
            self._state = _State.CATCHING
            self._live.fanout.enqueue(self)

    def wake(self) -> None:
        """What was waited for is there."""
        if self._state is _State.WAITING:
            self._state = _State.CATCHING
            self._live.fanout.enqueue(self)

    def step(self) -> bool:
        """Give the sink the next chunk on the way to the group's head."""
        group = self._group
        if self._state is not _State.CATCHING or group is None:
            return False
        if self._gap is not None:
            return self._give_gap(self._gap)
        fanout = self._live.fanout
        window = fanout.window
        cursor = self.cursor
        if cursor > window.head:
            self.wait()  # the client was further, by way of another process
            self._live.wait_for_head(self)
            return False
        if cursor < window.floor:
            due = self._live.page_due(self, group)
            if due is None:
                return self._gap is not None  # which is told first
        elif cursor < group.head:
            self._told = max(self._told, 0)  # nothing is missing from here on, so whatever will be is news
            due = window.due(self.channels, cursor, upto=group.head, budget=fanout.options.write_budget)
        else:
            self.page = None
            self._told = max(self._told, 0)
            if group.join(self):
                self._state = _State.READY
                fanout.caught_up(self)
            else:
                self.wait()
            return False
        self.cursor = due.through
        return self._give(fanout.chunks.join(due.frames, self.form)) if due.frames else True

    def page_at_hand(self, page: LogPage) -> bool:
        """Begin or go on with `page`; False if a loss has to be told first."""
        self.page = page
        if self._transform is not None and page.frames and self._transform.restates(page.frames[0]):
            return True
        through = max(page.lost, page.doubt)
        if self._told < 0:
            self._told = through
        if through > self.cursor and through > self._told:
            self._told = through
            self._gap = self._live.gap("trimmed", self.cursor, through, certain=page.lost > self.cursor)
            return False
        return True

    def wait(self) -> None:
        """Rest until `wake`."""
        self._state = _State.WAITING
        self._live.fanout.waits(self, self._options.heartbeat)

    def _give_gap(self, data: str) -> bool:
        self._gap = None
        self._live.gaps += 1
        # The gap carries the cursor as its id: a client that reconnects right after it starts from the same place.
        frame = Frame(self._live.epoch, Entry(self.cursor, "", GAP, data, 0.0))
        return self._give(self._live.fanout.chunks.join([frame], self.form))

    def _give(self, chunk: Chunk) -> bool:
        fanout = self._live.fanout
        fanout.delivered += len(chunk.frames)
        self._quiet = False
        if self.write(chunk):
            return self._state is _State.CATCHING
        if self._state in (_State.CATCHING, _State.WAITING):
            self._state = _State.BEHIND
            fanout.stall(self)
        return False

    # -- in process

    def __aiter__(self) -> EventIterator:
        """Iterate over the events: first those after the start position, then live ones, without end.

        Each has its `id` (the text of its position) and its `channel`. What was lost to retention is reported by an
        event of type `newswire.gap`; so is what is missing in a log that was replaced meanwhile. Ends when the
        subscription or the hub is closed. Leaving the loop frees the subscription. An iterator that was made by
        `aiter(subscription)` may be waited for with a time-out, again and again; `await iterator.aclose()` frees it.

        Raises:
            LogUnavailable: at the first event, if the log can't be read.
        """
        return EventIterator(self)
