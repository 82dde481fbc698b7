"""What a run is made of: the parts that a producer writes, and how they are stored as events.

A producer yields text, or one of these values. A run stores each as one event, so that a bare EventSource can read it:
text is a `message` whose data is the text itself, the others have an event type of their own and JSON as data. The
dialects read the same events back as parts and say them in their own words. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, TypeAlias

from newswire.errors import InvalidEvent
from newswire.validate import shown
from newswire.wire.event import Event
from newswire.wire.payload import read_json, to_event, write_json


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model begins to call a tool.

    Attributes:
        id: names the call within the run.
        name: the tool's name.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolInput:
    """More of a call's input.

    Attributes:
        id: the call's.
        text: the next piece of the input, which is JSON when it is whole.
    """

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool gave back.

    Attributes:
        id: the call's.
        output: anything that JSON can say.
        error: whether the tool failed; `output` then says why.
    """

    id: str
    output: Any = None
    error: bool = False

    @property
    def text(self) -> str:
        """The output as a text: itself if it is one, else its JSON."""
        return self.output if isinstance(self.output, str) else write_json(self.output)


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens were used so far; the last one counts."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped, if the producer knows: `stop`, `length`, `tool_calls` or `content_filter`.

    Any other reason, such as an upstream's `pause_turn`, goes to clients as it is.
    """

    reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; the last one counts.

    Attributes:
        done: how much is done, in the job's own unit.
        total: of how much; None if that is not known.
        message: what is going on, for people.
    """

    done: float
    total: float | None = None
    message: str | None = None

    @property
    def as_json(self) -> dict[str, Any]:
        """The fields that say something, as JSON has them."""
        fields = {"done": self.done, "total": self.total, "message": self.message}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Data:
    """Anything else: an event of the application's own.

    Attributes:
        name: the event's type.
        data: the event's data, as it is stored.
    """

    name: str
    data: str

    @property
    def value(self) -> Any:
        """What the data says: in JSON if it is that, else as it is."""
        return json_or_text(self.data)


Part: TypeAlias = Text | Reasoning | ToolCall | ToolInput | ToolOutput | Usage | Finish | Progress | Data

# The event type of each part that is stored as JSON. Text and reasoning are stored as they are.
_TYPES: Final[dict[type, str]] = {
    ToolCall: "tool",
    ToolInput: "tool.input",
    ToolOutput: "tool.output",
    Usage: "usage",
    Finish: "finish",
    Progress: "progress",
}
_PARTS: Final[dict[str, type[Any]]] = {name: part for part, name in _TYPES.items()}
# What each of their fields holds, so that an application's own event of the same name is not taken for a part. JSON has
# one kind of number; bool is a number to isinstance, and is none here.
_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "id": (str,),
    "name": (str,),
    "text": (str,),
    "reason": (str,),
    "error": (bool,),
    "output": (object,),
    "input_tokens": (int,),
    "output_tokens": (int,),
    "done": (int, float),
    "total": (int, float, NoneType),
    "message": (str, NoneType),
}


def event_of(item: Any) -> Event:
    """The event that an item of a producer is stored as.

    Args:
        item: a part; an `Event`; a str (text), bytes (UTF-8 text), or anything that JSON can say (a `message`).

    Raises:
        InvalidEvent: it can't be stored, or its type is reserved.
    """
    kind = type(item)
    if kind is str:
        return Event(item)
    if kind is Text:
        return Event(item.text)
    if kind is Reasoning:
        return Event(item.text, "reasoning")
    if kind is Data:
        return to_event(Event(item.data, item.name))
    name = _TYPES.get(kind)
    if name is None:
        return to_event(item)
    check_part(item)
    try:
        return Event(write_json(item), name)
    except (TypeError, ValueError) as error:
        raise InvalidEvent("data", f"a {kind.__name__} is stored as JSON, and this can't be: {error}") from None


def check_part(part: Any) -> None:
    """Check the fields of a part that is stored as JSON: with others its readers would not take it for one.

    Raises:
        InvalidEvent: one holds something else.
    """
    for name in part.__slots__:
        value = getattr(part, name)
        if not _holds(name, value):
            wanted = " or ".join(kind.__name__.replace("NoneType", "None") for kind in _FIELDS[name])
            raise InvalidEvent("data", f"{type(part).__name__}.{name} must be {wanted}, not {shown(value)}")


def part_of(event: str, data: str) -> Part:
    """The part that a stored event is. What is no part of ours is `Data`; never raises."""
    if event == "message":
        return Text(data)
    if event == "reasoning":
        return Reasoning(data)
    kind = _PARTS.get(event)
    if kind is not None:
        try:
            fields = read_json(data)
            part: Part = kind(**fields)
        except (TypeError, ValueError):
            return Data(event, data)  # an event of the application's own that has the same name
        if all(_holds(name, value) for name, value in fields.items()):
            return part
    return Data(event, data)


def _holds(name: str, value: Any) -> bool:
    kinds = _FIELDS[name]
    return isinstance(value, kinds) and (not isinstance(value, bool) or kinds[0] in (bool, object))


def json_or_text(text: str) -> Any:
    """The value that a text says in JSON (see `read_json`); the text itself if it is no JSON."""
    try:
        return read_json(text)
    except ValueError:
        return text
