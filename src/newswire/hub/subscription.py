"""A subscription: a cursor over a set of channels, and the sink that its events go to.

Who owns the cursor when. A subscriber is a cursor; there is no queue. So at each moment exactly one thing knows up to
which offset a stream has everything, and only that one gives it more:

* **catching up**, the subscription owns it. It asks the history what comes next, up to its group's head, and moves the
  cursor over each answer. An answer that has to be waited for (a page of the log, an event that has not come here yet)
  leaves the cursor where it is.
* **ready**, the group owns it: the group's head stands for the cursors of all that are ready, and one round gives them
  all the same chunk. A subscription joins where its cursor meets the head, and only there.
* **behind**, the cursor rests: the sink holds bytes and takes no more. It is where the last chunk that the sink took
  ends. The subscription owns it again when the sink resumes.

A cursor only moves over what the sink was given or a gap event reports. So nothing is left out or sent twice, whichever
way a stream takes:

    NEW ──open──> OPENED ──attach──> CATCHING ──step──> READY      in its group, served by the group's rounds
                                      │ ▲ │ ▲              │
                                      │ │ │ └──wake── WAITING     for a page of the log, or for its group's head
                                      │ │ └──────────────┘ │
                                      │ └─resume── BEHIND <┘      the sink holds bytes; the cursor stays here
                                      └──────> ENDING ──ended──> CLOSED

A log that is replaced while streams are open sets every cursor to its place in the new one (`place_again`), behind a
gap. Only the scheduler calls `step`; sinks call `resume` and `ended`. Iterating needs none of that: `async for`.

It is one file, however long: whatever opens a stream, ends it, times it out or catches up changes this one state.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, Protocol

from newswire.errors import Closed
from newswire.hub.frames import Chunk, Frame, FrameForm, Marker, encode_own, heartbeat_chunk
from newswire.hub.group import Group
from newswire.hub.iterator import EventIterator
from newswire.hub.lifecycle import Lifecycle
from newswire.hub.options import Pace, StreamOptions
from newswire.hub.runtime import HubRuntime
from newswire.hub.sink import Sink
from newswire.hub.start import Start, StartPoint, gap_data
from newswire.hub.tracing import HubTracer
from newswire.hub.transform import Transform
from newswire.hub.view import StateView
from newswire.log.channels import Channels, is_internal
from newswire.log.engine import Entry
from newswire.log.position import Position, position
from newswire.wire.event import Event
from newswire.wire.reserved import GAP, LIVE, come_back, goodbye

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only a type checker needs its defaults

    E = TypeVar("E", covariant=True, default=Event)
else:
    from typing import TypeVar

    E = TypeVar("E", covariant=True)

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


_SHOWN: Final = {
    _State.READY: "live",
    _State.CATCHING: "catching_up",
    _State.WAITING: "catching_up",
    _State.BEHIND: "stalled",
}


class Attending(Protocol):
    """A member of the subscription's channels, as the subscription sees it."""

    def begin(self) -> None:
        """The stream begins."""
        ...

    def end(self) -> None:
        """The stream has ended."""
        ...

    def tighten(self, options: StreamOptions) -> StreamOptions:
        """The options of its stream, so that a client that vanishes is noticed soon enough."""
        ...


def _swallow(chunk: Chunk) -> bool:
    return True  # stands in for the sink of a subscription that has ended in the middle of a round


class Subscription(Generic[E]):
    """A cursor over channels. Made by `Hub.subscribe`; used once, by one reader.

    Iterate over it in process (`async for event in subscription`), or give it to an `EventSourceResponse`.

    Attributes:
        channels: what it subscribes to.
        form: how events are written for it.
        cursor: the offset up to which it has been given everything, while it is not ready.
        pace: how its events are held back; None: they are not.
        began: when it was attached, in microseconds since the Unix epoch; different for each of its hub.
        client, subject: where its reader is, and which user, if the server has said so.
        resumed: where it began, for the counts; see `newswire.hub.stats`.
        wire: its events go to a connection, in the hub's own bytes.
    """

    __slots__ = (
        "_attendance",
        "_gap",
        "_group",
        "_hub",
        "_lifetime",
        "_live",
        "_on_end",
        "_options",
        "_quiet",
        "_reported",
        "_runtime",
        "_sink",
        "_start",
        "_state",
        "_stream",
        "_transform",
        "_view",
        "_was_ready",
        "_why",
        "began",
        "channels",
        "client",
        "cursor",
        "form",
        "pace",
        "queued",
        "resumed",
        "subject",
        "wire",
        "write",
    )

    def __init__(
        self,
        hub: Lifecycle,
        channels: Channels,
        form: FrameForm,
        start: Start,
        transform: Transform | None = None,
        *,
        live: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.channels: Channels = channels
        self.form: FrameForm = form
        self.cursor: int = 0
        self.pace: Pace | None = pace
        self.queued: bool = False
        self.began: int = 0
        self.client: str | None = None
        self.subject: str | None = None
        self.resumed: str = "new"
        self.wire: bool = True
        self.write: Callable[[Chunk], bool] = _swallow
        self._hub = hub
        self._runtime: HubRuntime  # from `open` on
        self._start: Start | None = start  # while it is new; then the position that it was opened at
        self._state = _State.NEW
        self._gap: str | None = None  # the data of a gap event that comes first
        self._reported = 0  # loss up to this offset needs no gap event; -1: nor does any loss before the first page
        self._was_ready = False  # it has caught up once, and then fallen behind
        self._quiet = False  # nothing was written since the last heartbeat was due, while it is catching up
        self._group: Group | None = None  # while it is attached
        self._sink: Sink | None = None
        self._stream = False  # the sink is a connection's
        self._options = _NOT_YET
        self._transform = transform
        self._lifetime: float | None = None  # seconds until `expire`, from when it is attached
        self._on_end: Callable[[], object] | None = None
        self._why = "client"  # how it ends, for the counts; what the application and the hub do says otherwise
        self._attendance: Attending | None = None  # its member, who is here while the stream is open
        self._live = live  # it gets a marker when it has caught up
        self._view: StateView | None = None  # if some of its channels have a state

    @property
    def start(self) -> Start | None:
        """Where it begins, until it is attached: what `subscribe` was given, then the position where it opened."""
        return self._start

    def __repr__(self) -> str:
        return f"<Subscription {self.channels!r} {self._state.value} after {self.cursor}>"

    @property
    def runtime(self) -> HubRuntime:
        """The inside of the hub, from `open` on; for newswire itself."""
        return self._runtime

    # -- the life of a stream, called by delivery

    @property
    def closed(self) -> bool:
        """It was closed: nothing more comes."""
        return self._state is _State.CLOSED

    @property
    def state(self) -> str:
        """For an operator: `live`, `catching_up`, `stalled` (its client takes nothing now), or `ending`."""
        return _SHOWN.get(self._state, "ending")

    @property
    def behind(self) -> int:
        """How many events of the log, of any channel, have come since the newest that it was given."""
        return 0 if self._state is _State.READY else max(0, self._runtime.head - self.cursor)

    @property
    def tracer(self) -> HubTracer | None:
        """What traces its hub; None: nothing does."""
        return self._hub.tracer

    @property
    def is_stream(self) -> bool:
        """Whether its events go to a connection."""
        return self._sink is not None and self._stream

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
                runtime = self._runtime = await self._hub.runtime()
                point = await runtime.resolve(start)
                epoch = runtime.epoch
                self.cursor, self._reported, self._gap = point.cursor, point.reported, point.gap
                self._view = runtime.view(self, start)
                self.resumed = runtime.resumed(start, point)
                if self._transform is not None:
                    self.cursor = (await self._transform.open(Position(epoch, point.cursor))).offset
            except BaseException:
                self._start = start  # it may be tried again
                raise
            self._start = position(epoch, self.cursor)
            self._state = _State.OPENED
        elif self._state is not _State.OPENED:
            raise Closed("a subscription is read once: call hub.subscribe() again for each reader")
        return position(self._runtime.epoch, self.cursor)

    def attach(self, sink: Sink, options: StreamOptions) -> None:
        """Begin to send to `sink`, which must be ready for more. Call `open` first."""
        if self._state is not _State.OPENED:
            raise Closed("open the subscription first, and attach it once")
        runtime, opened_at = self._runtime, self._start
        if isinstance(opened_at, Position) and opened_at.epoch != runtime.epoch:  # the log was replaced since
            self.place_again(runtime.place(Position(opened_at.epoch, self.cursor)))
        self._start = None
        self._sink = sink
        self._options = options
        self.write = sink.write if self._transform is None else self._write_transformed
        # The hub's own sinks, which take events and no bytes, say that they are no connection's.
        self._stream = getattr(sink, "wire", True)
        self.wire = self._stream and self._transform is None
        self._state = _State.CATCHING
        if self._attendance is not None:
            self._attendance.begin()
        self._group = group = runtime.enter(self, options)
        if self._stream:
            runtime.counts.streams += 1
            runtime.counts.resumes[self.resumed] += 1
            if self._hub.tracer is not None:
                self._hub.tracer.began(self)
        self.channels = group.channels  # equal; now one object for the whole group
        if (age := options.draw_max_age()) is not None:
            runtime.deadlines.start(self.grow_old, age)
        if self._lifetime is not None:
            runtime.deadlines.start(self.expire, self._lifetime)
        opening = self._opening(options)
        if opening is not None:
            self._give(self._with_next(opening, group))
        self._go_on()
        if runtime.draining:  # since it was opened
            self.goodbye()

    def _opening(self, options: StreamOptions) -> Chunk | None:
        """What the stream begins with, whatever follows."""
        if self._transform is not None:
            raw = self._transform.begin(Position(self._runtime.epoch, self.cursor), options.retry, self._end)
            if raw is not None:
                return Chunk(raw=raw) if raw else None
        if options.retry is None:
            return None
        if self._view is not None and self._view.first:
            return self._runtime.opening(options, None)  # no cursor yet: it would bring all of the other channels
        return self._runtime.opening(options, self.cursor)

    def _with_next(self, opening: Chunk, group: Group) -> Chunk:
        """`opening` and, in the same write, the events after the cursor that are at hand."""
        apart = self._transform is not None or self._view is not None
        if self._gap is not None or apart or self.cursor >= group.head:
            return opening
        beginning = self._runtime.beginning(self, opening, group.head)
        if beginning is None or beginning.lost > self._reported >= 0:
            return opening
        if self._reported < 0:
            self._reported = beginning.lost
        self.cursor = beginning.through
        self._runtime.counts.replayed += len(beginning.chunk.frames)
        return beginning.chunk

    def _write_transformed(self, chunk: Chunk) -> bool:
        """Stands in for the sink's `write` where there is a transform."""
        sink, transform = self._sink, self._transform
        if sink is None or transform is None:
            return True
        if not chunk.frames:
            return sink.write(chunk)  # a heartbeat
        out, over = transform.write(chunk)
        more = True
        if out is not None:
            if self._stream:
                self._runtime.counts.stream_bytes += len(out.raw)
            more = sink.write(out)
        if over:
            self.close()
        return more

    def resume(self) -> None:
        """The sink is ready for more."""
        if self._state is not _State.BEHIND:
            return
        self._moves()
        self._state = _State.CATCHING
        if self._view is not None:
            self._view.resumed()
        elif self._was_ready and self._options.max_behind is not None:
            self._skip(self._options.max_behind)
        self._go_on()

    def _skip(self, most: int) -> None:
        """Go on with what is newest, behind a gap, if more than `most` events of the log are missing."""
        group, runtime = self._group, self._runtime
        if group is None or self._transform is not None or group.head - self.cursor <= most:
            return
        # Nothing says which of these events are in its channels.
        self._gap = gap_data("slow", runtime.text(self.cursor), runtime.text(group.head), certain=False)
        self.cursor = self._reported = group.head

    def _go_on(self) -> None:
        """Join the group if the cursor has met its head; else catch up."""
        if self._state is _State.CATCHING:
            group = self._group
            settled = self._gap is None and self._reported >= 0 and not self._wants_marker()
            if settled and group is not None and self.cursor == group.head and group.join(self):
                self._state = _State.READY
            else:
                self._runtime.scheduler.enqueue(self)

    def took_some(self) -> None:
        """The sink's peer takes what the sink holds, if slowly: the write time-out starts again."""
        if self in self._runtime.stalled:
            self._moves()
            self._stalls()

    def ended(self) -> None:
        """The sink's connection is gone, or all of an ended stream is on its way. Idempotent."""
        if self._state is not _State.CLOSED:
            self._leave()
            self._state = _State.CLOSED
            if self._sink is not None:
                if self._stream:
                    self._runtime.counts.streams -= 1
                    self._runtime.counts.ends[self._why] += 1
                    if self._hub.tracer is not None:
                        self._hub.tracer.ended(self, self._why)
                self._sink = None
                self._moves()
                self._runtime.left(self)
            if self._transform is not None:
                self._transform.ended()
            self._signal_end()

    def _signal_end(self) -> None:
        if self._attendance is not None:
            self._attendance.end()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def place_again(self, point: StartPoint) -> None:
        """The log is another one now: go on from here."""
        self.cursor, self._reported = point.cursor, point.reported
        self._gap = point.gap or self._gap
        if self._view is not None:
            self._view.begin_again(point.gap is not None)
        self.wake()

    # -- what an application that knows its users asks of it

    def expire_after(self, seconds: float) -> None:
        """End the stream with a goodbye after `seconds`, when its client's token ends. Call before `attach`."""
        self._lifetime = seconds

    def attend(self, attendance: Attending) -> None:
        """A member is on these channels while the stream is open. Call before `attach`."""
        self._attendance = attendance

    def options_for(self, options: StreamOptions) -> StreamOptions:
        """The options of a stream of this subscription, for delivery: a member's have shorter times."""
        return options if self._attendance is None else self._attendance.tighten(options)

    def on_end(self, call: Callable[[], object]) -> None:
        """Call `call` once, when the stream has ended, however it ended; at once if it has. For one caller.

        Args:
            call: may not raise or block.
        """
        if self._state is _State.CLOSED:
            call()
        else:
            self._on_end = call

    # -- ways to end it

    def close(self) -> None:
        """End the stream in order. Idempotent."""
        self._end(None)

    def client_left(self) -> None:
        """End the stream because its client has gone."""
        self._end(None, "client")

    def goodbye(self, reason: str | None = None) -> None:
        """End the stream in order and ask the client to come back.

        Args:
            reason: why, for the client, if it is no stop of the server: `expired` or `revoked`.
        """
        self._end(self._goodbye(reason), reason or "goodbye")

    def grow_old(self) -> None:
        """End the stream because it has reached its greatest age."""
        self._end(self._goodbye(), "max_age")

    def give_up(self) -> None:
        """Drop the connection because its peer takes nothing."""
        self.cut("slow")

    def expire(self) -> None:
        """End the stream because its client's token has expired."""
        self.goodbye("expired")

    def goodbye_bytes(self) -> bytes:
        """What `goodbye` sends last, for a server that ends the stream by itself."""
        return self._goodbye().raw

    def _goodbye(self, reason: str | None = None) -> Chunk:
        wait = come_back(self._options.retry)
        if self._transform is not None:
            raw = self._transform.goodbye(wait)
            if raw is not None:
                return Chunk(raw=raw)
        return Chunk(raw=encode_own(goodbye(wait, reason), self.form))

    def cut(self, why: str = "cut") -> None:
        """Drop the connection now.

        Args:
            why: how it ends, for the counts; see `newswire.hub.stats`.
        """
        sink = self._sink
        if sink is not None and self._state is not _State.CLOSED:
            self._why = why
            self.ended()
            sink.cut()
        else:
            self._end(None, why)

    def _end(self, last: Chunk | None, why: str = "closed") -> None:
        if self._state in (_State.ENDING, _State.CLOSED):
            return
        self._why = why
        sink = self._sink
        self._leave()
        if sink is None:
            self._state = _State.CLOSED
            self._signal_end()
            return
        self._state = _State.ENDING
        if last is not None and self._stream:
            self._runtime.counts.stream_bytes += len(last.raw)
        self._stalls()  # a peer that never takes the rest is cut in the end
        sink.end(last)

    def _leave(self) -> None:
        self.write = _swallow
        if self._view is not None:
            self._view.forget()
        if self._group is not None:
            group, self._group = self._group, None
            self._runtime.leave(self, group)
            self._runtime.deadlines.cancel(self.send_heartbeat)
            self._runtime.deadlines.cancel(self.grow_old)
            self._runtime.deadlines.cancel(self.expire)

    # -- time

    def _stalls(self) -> None:
        """The sink can take no more now, or has just taken a little: the write time-out starts."""
        self._runtime.stalled[self] = None
        if self._options.write_timeout is not None:
            self._runtime.deadlines.start(self.give_up, self._options.write_timeout)

    def _moves(self) -> None:
        """The sink has taken all."""
        self._runtime.stalled.pop(self, None)
        self._runtime.deadlines.cancel(self.give_up)

    def send_heartbeat(self) -> float | None:
        """Send a heartbeat if nothing was sent since the last call. Returns when to call again, while catching up."""
        if self._state is _State.READY or self._options.heartbeat is None:
            return None  # the group's heartbeats are its own
        if self._state in (_State.CATCHING, _State.WAITING):
            if self._quiet:
                self._runtime.counts.heartbeats += 1
                self._give(heartbeat_chunk(self._options.heartbeat_padding))
            self._quiet = True
        return self._options.heartbeat / 2

    # -- catching up, called by the scheduler and the group

    def step(self) -> bool:
        """Give the sink the next chunk on the way to the group's head. Returns whether there is more to do now."""
        group = self._group
        if self._state is not _State.CATCHING or group is None:
            return False
        if self._gap is not None:
            return self._give_gap(self._gap)
        view = self._view
        due = self._runtime.history.due(self, group.head) if view is None else view.due(group.head)
        if due is None:
            self._wait()
            return False
        if self._reported < 0:
            self._reported = due.lost
        stops_here = not due.frames and due.through == self.cursor < due.lost  # a state has to come again
        if (due.lost > self._reported or stops_here) and not self._is_restated(due.frames):
            runtime = self._runtime
            after, through = runtime.text(self.cursor), runtime.text(due.lost)
            self._reported = due.lost
            self._gap = gap_data("trimmed", after, through, certain=due.certain)
            if view is not None:
                view.lost()
            return True
        if due.through == self.cursor:
            if self._wants_marker():
                return self._give_marker()
            if group.join(self):
                self._state = _State.READY
            else:
                self._wait()
            return False
        self.cursor = due.through
        self._runtime.counts.replayed += len(due.frames)
        return self._give(self._runtime.chunks.join(due.frames, self.form)) if due.frames else True

    def _is_restated(self, frames: list[Frame]) -> bool:
        return self._transform is not None and bool(frames) and self._transform.restates(frames[0])

    def failed(self) -> None:
        """A step, or what serves it, has raised."""
        self.cut("failed")

    def fell_behind(self, cursor: int) -> None:
        """The sink took the group's chunk, up to `cursor`, but can take no more."""
        if self._state is _State.READY:
            self._state = _State.BEHIND
            self._was_ready = True
            self.cursor = cursor
            if self._group is not None:
                self._group.leave(self)
            self._stalls()
            if self._view is not None:
                self._view.fell_behind()

    def read_on(self, cursor: int) -> None:
        """The group can't serve this member any more: read on alone."""
        if self._state is _State.READY:
            self.cursor = cursor
            if self._group is not None:
                self._group.leave(self)
            self._state = _State.CATCHING
            self._runtime.scheduler.enqueue(self)

    def wake(self) -> None:
        """What was waited for is there."""
        if self._state is _State.WAITING:
            self._state = _State.CATCHING
            self._runtime.scheduler.enqueue(self)

    def _wait(self) -> None:
        """Rest until `wake`, with heartbeats of its own."""
        self._state = _State.WAITING
        if self._options.heartbeat is not None:
            self._runtime.deadlines.start(self.send_heartbeat, random.uniform(0, self._options.heartbeat / 2))

    def _give_gap(self, data: str) -> bool:
        self._gap = None
        self._runtime.counts.gaps[json.loads(data)["reason"]] += 1
        # The gap carries the cursor as its id: a client that reconnects right after it starts from the same place.
        frame = Frame(self._runtime.epoch, Entry(self.cursor, "", GAP, data, 0.0))
        return self._give(self._runtime.chunks.join([frame], self.form))

    def _wants_marker(self) -> bool:
        """Whether `newswire.live` is due when it has caught up."""
        return self._live or (self._view is not None and self._view.marks)

    def _give_marker(self) -> bool:
        self._live = False
        if self._view is not None:
            self._view.marked()
        runtime = self._runtime
        data = json.dumps({"position": runtime.text(self.cursor)})
        return self._give(Chunk([Marker(runtime.epoch, Entry(self.cursor, "", LIVE, data, 0.0))], self.form))

    def _give(self, chunk: Chunk) -> bool:
        counts = self._runtime.counts
        counts.delivered += len(chunk.frames)
        if self.wire:
            counts.stream_bytes += len(chunk.raw)
        self._quiet = False
        if self.write(chunk):
            if self._view is not None:
                self._view.took()
            return self._state is _State.CATCHING
        if self._state in (_State.CATCHING, _State.WAITING):
            self._state = _State.BEHIND
            self._stalls()
            if self._view is not None:
                self._view.fell_behind()
        return False

    # -- in process

    def __aiter__(self) -> EventIterator[E]:
        """Iterate over the events: first those after the start position, then live ones, without end.

        Where the channel has a contract, each is a `TypedEvent`; `Contract` says what happens to others. Each has its
        `id` (the text of its position) and its `channel`. What was lost to retention is reported by an event of type
        `newswire.gap`; so is what is missing in a log that was replaced meanwhile. Ends when the subscription or the
        hub is closed. Leaving the loop frees the subscription. An iterator that was made by `aiter(subscription)` may
        be waited for with a time-out, again and again; `await iterator.aclose()` frees it.

        Raises:
            LogUnavailable: at the first event, if the log can't be read.
            BadPayload: an event doesn't fit the contract of its channel. You can go on with the next event.
        """
        internal = all(map(is_internal, (*self.channels.names, *self.channels.patterns)))
        return EventIterator(self, None if internal else self._hub.contracts)
