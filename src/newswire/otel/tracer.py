"""The spans of a hub: one a publish, one a stream, and the links from the streams to the publishes of what they got.

An event has no place for a trace: its data is the application's, and every reader would pay for it. So a publish that
is sampled stores a note of its span behind its events, in an internal channel of the same log. Every process with a
tracer follows this channel, and links the spans of its open streams that get the event. The note comes after the event,
which waits for nothing; a span takes links until it ends. A publish that is not sampled stores no note.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from newswire.errors import Closed, InvalidPosition, NewswireError
from newswire.hub.frames import Chunk
from newswire.hub.hub import Hub
from newswire.hub.options import IN_PROCESS
from newswire.hub.runtime import HubRuntime
from newswire.hub.subscription import Subscription
from newswire.hub.tracing import TracedStream
from newswire.log.position import Position
from newswire.wire.event import Event

logger: logging.Logger = logging.getLogger("newswire.otel")

NOTES: Final = "$trace.notes"
LINKS: Final = 32  # of one stream; the first ones. A stream that has them costs nothing more
_REMEMBERED: Final = 1000  # notes, for streams that begin behind their events; and what the log keeps of them
_CHANNELS: Final = 10  # names in an attribute
_W3C: Final = TraceContextTextMapPropagator()  # notes have one form, whatever requests have
_SYSTEM: Final = {"messaging.system": "newswire"}


@dataclass(frozen=True, slots=True)
class _Note:
    """Which span published a batch: events of `channels`, up to the one at `offset`."""

    channels: tuple[str, ...]
    epoch: str
    offset: int
    span: SpanContext


class _Open:
    """A stream's span, and how many links it may still get."""

    __slots__ = ("began", "room", "span")

    def __init__(self, span: Span, began: Position) -> None:
        self.span = span
        self.began = began
        self.room = LINKS


class Tracer:
    """Traces one hub; a `HubTracer`, and a sink of the hub's for the notes.

    Args:
        hub: the hub.
        provider: where spans go; None: OpenTelemetry's global one.
    """

    wire = False

    def __init__(self, hub: Hub[Any], provider: TracerProvider | None) -> None:
        self._hub = hub
        self._tracer = trace.get_tracer("newswire", tracer_provider=provider)
        self._streams: dict[TracedStream, _Open] = {}
        self._linking: dict[TracedStream, _Open] = {}  # those that may get links still
        self._notes: deque[_Note] = deque(maxlen=_REMEMBERED)
        self._own: deque[int] = deque()  # offsets of the notes that this process stored
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: HubRuntime | None = None  # the opening of the hub whose notes come here
        self._subscription: Subscription[Any] | None = None

    @contextmanager
    def request(self, scope: Mapping[str, Any]) -> Iterator[None]:
        """See `HubTracer`. What a framework's own instrumentation has begun counts before the request's header."""
        if trace.get_current_span().get_span_context().is_valid:
            yield
            return
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
        token = context.attach(propagate.extract(carrier))
        try:
            yield
        finally:
            context.detach(token)

    # -- publishing

    async def publish(
        self, batch: Sequence[tuple[str, Event]], stored: Coroutine[Any, Any, list[Position]]
    ) -> list[Position]:
        """See `HubTracer`."""
        channels = list(dict.fromkeys(channel for channel, _ in batch))
        if not channels or channels[0].startswith("$"):
            return await stored
        attributes: dict[str, Any] = {
            **_SYSTEM,
            "messaging.operation.type": "send",
            "messaging.destination.name": _names(channels),
        }
        if len(batch) > 1:
            attributes["messaging.batch.message_count"] = len(batch)
        kind = SpanKind.PRODUCER
        with self._tracer.start_as_current_span("newswire publish", kind=kind, attributes=attributes) as span:
            positions = await stored
            if span.is_recording() and positions:
                span.set_attribute("messaging.message.id", str(positions[-1]))
        if span.get_span_context().trace_flags.sampled and positions and positions[0].stored:
            self._begin(self._note(channels, positions[-1], span.get_span_context()))
        return positions

    async def _note(self, channels: Sequence[str], position: Position, span: SpanContext) -> None:
        """Store a note, and forget old ones of this process. That it fails is no news: a link is missing."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(span), context.Context()))
        note = {"channels": list(channels), "position": str(position), "carrier": carrier}
        log = self._hub.log
        try:
            [at] = await log.append([(NOTES, Event(json.dumps(note), "note"))])
            self._own.append(at.offset)
            if len(self._own) >= 2 * _REMEMBERED:
                cut = self._own[_REMEMBERED]
                self._own = deque(offset for offset in self._own if offset > cut)
                await log.drop({NOTES: cut})
        except (NewswireError, Closed) as error:
            logger.debug("no note of a publish: %s", error)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="newswire trace")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- streams

    def began(self, stream: TracedStream) -> None:
        """See `HubTracer`."""
        channels = stream.channels
        span = self._tracer.start_span(
            "newswire stream",
            kind=SpanKind.CONSUMER,
            attributes={
                **_SYSTEM,
                "messaging.operation.type": "receive",
                "messaging.destination.name": _names(sorted((*channels.names, *channels.patterns))),
                "newswire.resume": stream.resumed,
            },
        )
        opened = _Open(span, Position(stream.runtime.epoch, stream.cursor))
        self._streams[stream] = opened
        if not span.is_recording():
            return
        self._linking[stream] = opened
        for note in list(self._notes):
            self._link(stream, opened, note)
        if self._followed is not stream.runtime:
            self._followed = stream.runtime
            self._begin(self._follow(stream.runtime))

    def ended(self, stream: TracedStream, why: str) -> None:
        """See `HubTracer`."""
        self._linking.pop(stream, None)
        opened = self._streams.pop(stream, None)
        if opened is None:
            return
        opened.span.set_attribute("newswire.end", why)
        if why in ("slow", "failed"):
            opened.span.set_status(Status(StatusCode.ERROR, why))
        opened.span.end()

    def _link(self, stream: TracedStream, opened: _Open, note: _Note) -> None:
        """Link a stream's span to a publish, if the stream gets what was published."""
        began = opened.began
        if note.epoch == began.epoch and note.offset <= began.offset:
            return
        if not any(channel in stream.channels for channel in note.channels):
            return
        id_ = f"{note.epoch}-{note.offset}"
        opened.span.add_link(note.span, {"messaging.message.id": id_})
        opened.room -= 1
        if not opened.room:
            self._linking.pop(stream, None)

    # -- notes: a sink of the hub's

    async def _follow(self, runtime: HubRuntime) -> None:
        """Follow the notes of all processes: those that are kept, then those to come."""
        subscription = self._hub.subscribe(NOTES, start="earliest")
        try:
            await subscription.open()
            self._subscription = subscription
            subscription.attach(self, IN_PROCESS)
        except (NewswireError, Closed) as error:
            self._followed = None  # the next stream tries again
            logger.debug("no links of streams: %s", error)

    def write(self, chunk: Chunk) -> bool:
        """Take notes; see `Sink`. The hub is in the midst of a round, so the links are made after it."""
        notes = [note for frame in chunk.frames if (note := _note_of(frame.data)) is not None]
        if notes:
            asyncio.get_running_loop().call_soon(self._take, notes)
        return True

    def _take(self, notes: Sequence[_Note]) -> None:
        self._notes.extend(notes)
        for note in notes:
            for stream, opened in list(self._linking.items()):
                self._link(stream, opened, note)

    def end(self, last: Chunk | None) -> None:
        """See `Sink`."""
        subscription, self._subscription = self._subscription, None
        self._followed = None
        if subscription is not None:
            subscription.ended()

    def cut(self) -> None:
        """See `Sink`."""
        self._subscription = self._followed = None


def _note_of(text: str) -> _Note | None:
    try:
        found = json.loads(text)
        position = Position.parse(found["position"])
        span = trace.get_current_span(_W3C.extract(found["carrier"], context.Context())).get_span_context()
        note = _Note(tuple(map(str, found["channels"])), position.epoch, position.offset, span)
    except (ValueError, TypeError, KeyError, AttributeError, InvalidPosition):
        return None  # a gap, or a note that another version wrote
    return note if span.is_valid else None


def _names(channels: Sequence[str]) -> str:
    more = f" and {len(channels) - _CHANNELS} more" if len(channels) > _CHANNELS else ""
    return ", ".join(channels[:_CHANNELS]) + more
