"""Reading what an upstream sends: its own events into parts, which is the way back from a dialect.

An `UpstreamParser` gets the events of an upstream's stream, in one of the formats that newswire also speaks. A relay
stores the events as they came, and each reader of the run has a parser (`newswire.runs.dialects.passthrough`). What an
upstream sends is not trusted: nothing makes a parser raise.

An event that the format's reader does not understand, or that no stream of newswire's own may carry under its name, is
stored inside an event of the type `RAW` (`wrapped`). So it is never mistaken for a part of the answer, and clients of
the same format get it as it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from newswire.errors import InvalidEvent
from newswire.runs.dialects.coalesce import TextDelta
from newswire.runs.parts import Data, Finish, Part, Reasoning, Text, ToolInput, event_of, part_of
from newswire.wire.event import Event
from newswire.wire.payload import read_json, write_json

OF_THE_RELAY: Final = "upstream."  # types of what a relay stores beside its upstream's events: no client's business
RAW: Final = "upstream.raw"  # the type of an event that holds an upstream's event as it came

_DEEPEST: Final = 100  # levels of an event's JSON: what is parsed has to be written again, with more stack around it
_NO_TEXT: Final = "\ufffd"  # what a reader of UTF-8 shows for half a surrogate pair


def wrapped(event: str, data: str) -> Event:
    """An upstream's event, given by its type and data, inside an event that any run can store."""
    return Event(write_json({"event": event, "data": data}), RAW)


def storable(event: str, data: str, *, understood: bool) -> Event:
    """The event that an upstream's event, given by its type and data, is stored as.

    Args:
        event, data: as they came.
        understood: whether the format's reader understands it.
    """
    own = event.startswith(OF_THE_RELAY) or not isinstance(part_of(event, data), (Text, Data))
    if understood and not own:
        try:
            return event_of(Event(data, event))
        except InvalidEvent:
            pass  # of a type that only newswire may use, such as `error`
    return wrapped(event, data)


def unwrapped(event: str, data: str) -> Event:
    """The upstream's event that a stored event is, or holds."""
    if event == RAW:
        held = mapping(read_json(data))
        # A NUL is possible in a type on the wire, and nowhere else.
        return Event(str(held.get("data", "")), str(held.get("event", "message")).replace("\0", _NO_TEXT))
    return Event(data, event)


class UpstreamParser:
    """Reads the stream of an upstream and says it in parts.

    What a reader doesn't know, or can't read, it passes over. EOF is not completion: a stream that ends while
    `finished` is false was cut off, and its relay has to say so.

    Attributes:
        name: the dialect whose format it reads.
        finished: whether the upstream said that the answer is whole.
        error: what the upstream reported instead, as `type` and `message`; None while it reported nothing.
        id: what the upstream calls its answer; None until it said so.
        model: the model's name; None until the upstream said so.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.finished: bool = False
        self.error: Mapping[str, str] | None = None
        self.id: str | None = None
        self.model: str | None = None
        self._halves: dict[tuple[type[Text | Reasoning | ToolInput], str], str] = {}

    def feed(self, event: Event) -> list[Part]:
        """The parts that the upstream's next event says; often none."""
        return self.take(event) or []

    def take(self, event: Event) -> list[Part] | None:
        """The same; None for an event that is none of the format's, which the format's clients might not bear."""
        data = self.object(event)
        if data is None:
            return None
        parts = self.read(data)
        if self._halves and any(isinstance(part, Finish) for part in parts):
            return [*self._unpaired(), *parts]
        return parts

    def stored(self, event: str, data: str) -> Sequence[Part]:
        """The parts that the next event of a run says that stores an upstream's events, given by its type and data.

        What the reader can't read is no text of the answer, whatever it looks like. A part of newswire's own that was
        stored between the upstream's events is itself.
        """
        if event.startswith(OF_THE_RELAY) and event != RAW:
            return ()
        parts = self.take(unwrapped(event, data))
        if parts is not None:
            return parts
        part = part_of(event, data)
        return () if event == RAW or isinstance(part, (Text, Reasoning)) else (part,)

    def object(self, event: Event) -> dict[str, Any] | None:
        """The JSON object of an event of the format; None if it is none."""
        raise NotImplementedError

    def read(self, data: dict[str, Any]) -> list[Part]:
        """The parts that an event's object says."""
        raise NotImplementedError

    def text_delta(self, event: Event) -> TextDelta[Event] | None:
        """The event as a piece of a text, if it says nothing else."""
        raise NotImplementedError

    def missing_tail(self) -> Sequence[Event]:
        """What the stream of a whole answer still has to send."""
        return ()

    def text(self, value: Any, kind: type[Text | Reasoning | ToolInput], id: str = "") -> str:
        """The next piece of a text, as one that UTF-8 can carry.

        An upstream may cut a text between the halves of a surrogate pair. The first half then waits for the second.

        Args:
            value: what should be the piece; what is no text is none.
            kind: the part that the piece becomes.
            id: the call's, of an input.
        """
        if not isinstance(value, str) or not value:
            return ""
        if value.isascii() and not self._halves:
            return value
        value = self._halves.pop((kind, id), "") + value
        if "\ud800" <= value[-1] <= "\udbff":
            self._halves[kind, id] = value[-1]
            value = value[:-1]
        return clean(value)

    def _unpaired(self) -> list[Part]:
        """What halves become whose other halves never came."""
        halves, self._halves = self._halves, {}
        parts: list[Part] = []
        for kind, id in halves:
            parts.append(ToolInput(id, _NO_TEXT) if kind is ToolInput else kind(_NO_TEXT))  # type: ignore[call-arg]
        return parts

    def finish(self) -> None:
        """The upstream said that the answer is whole."""
        self.finished = True

    def fail(self, kind: Any, message: Any) -> None:
        """Take note of an error that the upstream reported."""
        self.error = {
            "type": clean(kind) or "upstream_error",
            "message": clean(message) or "The upstream reported an error.",
        }

    def called(self, id: Any, model: Any) -> None:
        """Take note of what the upstream calls its answer and its model, the first time that it says so."""
        self.id = self.id or clean(id) or None
        self.model = self.model or clean(model) or None


def parsed(event: Event) -> dict[str, Any] | None:
    """The JSON object that is an event's data; None if it is none, or is nested more deeply than any real one."""
    text = event.data
    try:
        data = read_json(text)
    except ValueError:
        return None
    if not isinstance(data, dict) or (text.count("[") + text.count("{") > _DEEPEST and _is_deep(data)):
        return None
    return data


def _is_deep(data: Any) -> bool:
    level = [data]
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def clean(value: Any) -> str:
    """A value that should be a text, as one that UTF-8 can carry; what is no text is none."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def count(value: Any) -> int:
    """A value that should be a number of tokens; what is none is 0."""
    return value if type(value) is int and value > 0 else 0


def mapping(value: Any) -> dict[str, Any]:
    """A value that should be an object; what is none is an empty one."""
    return value if isinstance(value, dict) else {}


def key(value: Any) -> int | str | None:
    """A value that should name something, as a key; what can't be one is None."""
    return value if isinstance(value, (int, str)) else None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a value that should be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
