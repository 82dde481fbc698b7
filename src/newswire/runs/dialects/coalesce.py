"""One text in many pieces: what joins, and what is made of it.

A model's answer comes in pieces: parts of a run, and events of an upstream. `TextDelta` says which text a piece belongs
to. All that joins pieces goes by that: `Joiner` joins neighbours, for readers that are behind and for preludes in an
upstream's own words; `Coalescer` makes the fewest parts for the prelude of a dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from newswire.runs.dialects.tool_calls import Call
from newswire.runs.parts import Data, Part, Progress, Reasoning, Text, ToolCall, ToolInput, Usage

T = TypeVar("T")


class TextDelta(NamedTuple, Generic[T]):
    """A piece of a text.

    Attributes:
        key: which text, and everything else that the piece says. Neighbours with the same key say one text.
        text: the piece.
        with_text: makes the same with another text.
    """

    key: object
    text: str
    with_text: Callable[[str], T]


def text_delta(part: Part) -> TextDelta[Part] | None:
    """A part as a piece of a text; None for a part that stands alone. Of progress and usage the last part counts."""
    if isinstance(part, (Text, Reasoning)):
        return TextDelta(type(part), part.text, type(part))
    if isinstance(part, ToolInput):
        return TextDelta((ToolInput, part.id), part.text, lambda text: ToolInput(part.id, text))
    if isinstance(part, (Progress, Usage)):
        return TextDelta(type(part), "", lambda text: part)
    return None


class Joiner(Generic[T]):
    """Joins neighbours that are pieces of one text. Takes time in proportion to what they say, however many they are.

    Attributes:
        joined: the items so far, but for the last text.
    """

    __slots__ = ("_delta", "_texts", "joined")

    def __init__(self) -> None:
        self.joined: list[T] = []
        self._delta: TextDelta[T] | None = None  # the last piece of the text that may go on, and all of its pieces
        self._texts: list[str] = []

    def add(self, item: T, delta: TextDelta[T] | None) -> None:
        """Add the next item; `delta` is the item as a piece of a text, if it is one."""
        if self._delta is not None and (delta is None or delta.key != self._delta.key):
            self._flush()
        if delta is None:
            self.joined.append(item)
        else:
            self._delta = delta
            self._texts.append(delta.text)

    def take(self) -> list[T]:
        """All items, joined, and forgotten here."""
        self._flush()
        items, self.joined = self.joined, []
        return items

    def _flush(self) -> None:
        if self._delta is not None:
            self.joined.append(self._delta.with_text("".join(self._texts)))
            self._delta, self._texts = None, []


def merged(parts: Iterable[tuple[int, Part]]) -> list[tuple[int, Part]]:
    """Parts with their offsets, neighbours that one part can say joined; each has the last one's offset."""
    joiner: Joiner[tuple[int, Part]] = Joiner()
    for offset, part in parts:
        joiner.add((offset, part), _with_offset(offset, text_delta(part)))
    return joiner.take()


def _with_offset(offset: int, delta: TextDelta[Part] | None) -> TextDelta[tuple[int, Part]] | None:
    return None if delta is None else TextDelta(delta.key, delta.text, lambda text: (offset, delta.with_text(text)))


class Coalescer:
    """The fewest parts that say what many said: what the prelude of a dialect is made of.

    Stronger than `Joiner`: here a part also joins an earlier one that no reader can tell from a neighbour. Two calls
    whose inputs came in turns become two inputs, each where its last piece was, because that is when clients take it
    for whole. Of progress the last part stands where the first one stood, because that is where a client that replaces
    it in place shows it. Adding takes time and memory in proportion to the part's.
    """

    __slots__ = ("_calls", "_open", "_parts", "_texts")

    def __init__(self) -> None:
        self._parts: list[Part | None] = []  # None: what stood here has moved
        self._texts: dict[int, list[str]] = {}  # all pieces of the text at this place, joined when asked for
        self._calls: dict[str, Call] = {}  # what comes of an input after its end is no reason to move it
        self._open: dict[object, int] = {}  # the place of the part that a part of this kind would join

    def add(self, part: Part) -> None:
        """Add the next part."""
        if isinstance(part, (Text, Reasoning, ToolInput)) and not part.text:
            return
        if isinstance(part, ToolInput):
            call = self._calls.get(part.id)
            if call is None or call.whole:
                return  # no client gets it
            part = ToolInput(part.id, call.add(part.text))
        delta = text_delta(part)
        if delta is None:
            self._parts.append(part)
            if isinstance(part, ToolCall):
                self._calls.setdefault(part.id, Call(part.id, part.name, 0))
                self._close(Text, Reasoning)
            elif not isinstance(part, Data):  # which interrupts nothing
                self._close(*(key for key in self._open if key not in (Usage, Progress)))
            return
        self._join(part, delta)
        if isinstance(part, (Text, Reasoning)):
            self._close(*(key for key in self._open if key not in (type(part), Usage, Progress)))
        elif isinstance(part, ToolInput):
            self._close(Text, Reasoning)

    def parts(self) -> list[Part]:
        """What was added, in order."""
        for place, texts in self._texts.items():
            delta = text_delta(self._parts[place])  # type: ignore[arg-type]  # what moved took its texts along
            assert delta is not None
            self._parts[place] = delta.with_text("".join(texts))
            self._texts[place] = ["".join(texts)]
        return [part for part in self._parts if part is not None]

    def _join(self, part: Part, delta: TextDelta[Part]) -> None:
        place = self._open.get(delta.key)
        texts: list[str] = []
        if place is not None:
            texts = self._texts.pop(place)
            if isinstance(part, ToolInput) and place != len(self._parts) - 1:
                self._parts[place] = None
                place = None
        if place is None:
            place = self._open[delta.key] = len(self._parts)
            self._parts.append(part)
        else:
            self._parts[place] = part
        texts.append(delta.text)
        self._texts[place] = texts

    def _close(self, *keys: object) -> None:
        """Later parts of these kinds join none of the earlier ones."""
        for key in keys:
            self._open.pop(key, None)
