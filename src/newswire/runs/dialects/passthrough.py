"""Telling a run that stores the raw events of an upstream: unchanged to clients of the upstream's own format, and as
parts to all others.

Raw events say more than parts can: annotations, signatures, log probabilities, more choices than one. So a client of
the same format gets each event as it was stored, and of what it has missed every event too; only neighbours that are
pieces of one text are joined (`UpstreamParser.text_delta`). So a prelude is in the upstream's own words, with its ids.

EOF is not completion here either: a run whose producer is done, but whose upstream never said that its answer is whole,
ends with an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from newswire.runs.dialects.anthropic import Anthropic, AnthropicParser
from newswire.runs.dialects.base import Dialect, End, Head, StreamFailure
from newswire.runs.dialects.coalesce import Coalescer, Joiner
from newswire.runs.dialects.openai_chat import OpenAIChat, OpenAIChatParser
from newswire.runs.dialects.openai_responses import OpenAIResponses, OpenAIResponsesParser
from newswire.runs.dialects.upstream import OF_THE_RELAY, RAW, UpstreamParser, unwrapped
from newswire.runs.parts import Data, Part, Text, event_of, part_of
from newswire.wire.event import Event

CUT_OFF: Final = StreamFailure(
    "interrupted", "upstream_cut_off", "The upstream's stream ended before its answer was whole."
)


class Passthrough(Dialect):
    """A run that stores raw events, in their own format.

    Each event that is stored goes to the client as it is, whether the reader understands it or not. Only newswire's own
    parts, such as `Progress`, which a producer may store between them, do not: they would break clients.

    Attributes:
        reads: the format's reader.
        inner: the format's dialect, in whose words the run's own errors are.
    """

    merges = False
    reads: ClassVar[type[UpstreamParser]]
    inner: ClassVar[type[Dialect]]

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._reader = self.reads()
        self._seen = Coalescer()
        self._begun = False
        self._skipped_events: Joiner[Event] = Joiner()

    def skip(self, part: Part) -> None:
        """See `Dialect.skip`; raw events come to `skip_event`."""
        event = event_of(part)
        self.skip_event(event.event, event.data)

    def skip_event(self, event: str, data: str) -> None:
        """See `Dialect.skip_event`."""
        for raw in self._take(event, data):
            if raw.event != "ping":
                self._skipped_events.add(raw, self._reader.text_delta(raw))

    def prelude(self) -> list[Event]:
        """See `Dialect.prelude`. Empty if nothing was skipped: the raw events begin the stream by themselves."""
        return self._skipped_events.take()

    def write(self, part: Part) -> list[Event]:
        """See `Dialect.write`; raw events come to `write_event`."""
        event = event_of(part)
        return self.write_event(event.event, event.data)

    def write_event(self, event: str, data: str) -> list[Event]:
        """See `Dialect.write_event`: the event itself."""
        return self._take(event, data)

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`. Nothing, if the upstream has said its last word."""
        if self._reader.error is not None:
            return []
        return list(self._reader.missing_tail()) if self._reader.finished else self.fail(CUT_OFF)

    def fail(self, problem: StreamFailure) -> list[Event]:
        """See `Dialect.fail`. A client that has an error, or a whole answer and its end, gets no more."""
        reader = self._reader
        if reader.error is not None or (reader.finished and not reader.missing_tail()):
            return []
        output = self._dialect()
        return [*(() if self._begun else output.begin()), *output.fail(problem)]

    def _dialect(self) -> Dialect:
        """The format's dialect, which calls the answer as the upstream did, after all that it has sent."""
        head = self.head
        model = self._reader.model or head.model
        output = self.inner(Head(self._reader.id or head.id, head.created, {**head.meta, "model": model}))
        for part in self._seen.parts():
            output.write(part)
        return output

    def _take(self, event: str, data: str) -> list[Event]:
        if event.startswith(OF_THE_RELAY) and event != RAW:
            return []
        raw = unwrapped(event, data)
        parts = self._reader.take(raw)
        if parts is None:
            return [raw] if event == RAW or isinstance(part_of(event, data), (Text, Data)) else []
        self._begun = True
        for part in parts:
            self._seen.add(part)
        return [raw]


class OpenAIChatPassthrough(Passthrough):
    """Raw chat completion chunks."""

    name = "openai-chat"
    reads: ClassVar[type[UpstreamParser]] = OpenAIChatParser
    inner: ClassVar[type[Dialect]] = OpenAIChat


class OpenAIResponsesPassthrough(Passthrough):
    """Raw events of the Responses API."""

    name = "openai-responses"
    reads: ClassVar[type[UpstreamParser]] = OpenAIResponsesParser
    inner: ClassVar[type[Dialect]] = OpenAIResponses

    def _dialect(self) -> Dialect:
        output = super()._dialect()
        assert isinstance(output, OpenAIResponses)
        assert isinstance(self._reader, OpenAIResponsesParser)
        output.follow(self._reader)
        return output


class AnthropicPassthrough(Passthrough):
    """Raw events of the Messages API."""

    name = "anthropic"
    reads: ClassVar[type[UpstreamParser]] = AnthropicParser
    inner: ClassVar[type[Dialect]] = Anthropic


class Transcoded(Dialect):
    """A run that stores raw events, in another format than theirs.

    Args:
        output: the dialect that it is written in; a new one.
        reader: reads the raw events; a new one.
    """

    merges = False

    def __init__(self, output: Dialect, reader: UpstreamParser) -> None:
        super().__init__(output.head)
        self._output = output
        self._reader = reader

    def skip(self, part: Part) -> None:
        """See `Dialect.skip`."""
        self._output.skip(part)

    def skip_event(self, event: str, data: str) -> None:
        """See `Dialect.skip_event`."""
        for part in self._parts(event, data):
            self._output.skip(part)

    def prelude(self) -> list[Event]:
        """See `Dialect.prelude`."""
        return self._output.prelude()

    def write(self, part: Part) -> list[Event]:
        """See `Dialect.write`."""
        return self._output.write(part)

    def write_event(self, event: str, data: str) -> list[Event]:
        """See `Dialect.write_event`."""
        return [piece for part in self._parts(event, data) for piece in self._output.write(part)]

    def end(self, end: End) -> list[Event]:
        """See `Dialect.end`. An answer is whole if both the producer and the upstream say so."""
        error = self._reader.error
        if end.reason == "done" and error is not None:
            return self._output.fail(StreamFailure("failed", error["type"], error["message"]))
        if end.reason == "done" and not self._reader.finished:
            return self._output.fail(CUT_OFF)
        return self._output.end(end)

    def goodbye(self, wait: int) -> list[Event]:
        """See `Dialect.goodbye`."""
        return self._output.goodbye(wait)

    def _parts(self, event: str, data: str) -> Sequence[Part]:
        return self._reader.stored(event, data)
