"""Reading what an upstream sends: its own events into parts, which is the way back from a dialect.

A relay feeds a `Reader` with the events of an upstream's stream, in one of the formats that newswire also speaks, and
stores the parts that come of them; or it stores the events as they came, and readers of the run do the reading
(`newswire.runs.dialects.passthrough`). What an upstream sends is not trusted: nothing makes a reader raise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from newswire.runs.parts import Part
from newswire.wire.event import Event
from newswire.wire.strict_json import read_json


class Piece(NamedTuple):
    """An event that writes a piece of text to something. Neighbours with the same `key` can be said as one.

    Attributes:
        key: what is written to, and everything else that the event says.
        text: the piece.
        again: makes the event again with another text.
    """

    key: Hashable
    text: str
    again: Callable[[str], Event]


class Reader:
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
        self.finished = False
        self.error: Mapping[str, str] | None = None
        self.id: str | None = None
        self.model: str | None = None

    def feed(self, event: Event) -> list[Part]:
        """The parts that the upstream's next event says; often none."""
        return self.take(event) or []

    def take(self, event: Event) -> list[Part] | None:
        """The same; None for an event that is none of the format's, which the format's clients might not bear."""
        data = self.object(event)
        return None if data is None else self.read(data)

    def object(self, event: Event) -> dict[str, Any] | None:
        """The JSON object of an event of the format; None if it is none."""
        raise NotImplementedError

    def read(self, data: dict[str, Any]) -> list[Part]:
        """The parts that an event's object says."""
        raise NotImplementedError

    def piece(self, event: Event) -> Piece | None:
        """The event as a piece of text, if it says nothing else."""
        raise NotImplementedError

    def lacks(self) -> Sequence[Event]:
        """What the stream of a whole answer still has to send."""
        return ()

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
    """The JSON object that is an event's data; None if it is none."""
    try:
        data = read_json(event.data)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


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
