"""As few parts as say what many said: what a prelude is made of.

Stronger than `newswire.runs.parts.merged`, which joins neighbours only: here a part also joins an earlier one that no
reader can tell from a neighbour. Two calls whose inputs came in turns become two inputs, each where its last piece was,
because that is when clients take it for whole. Of progress the last word stands where the first one stood, because that
is where a client that replaces it in place shows it.
"""

from __future__ import annotations

from dataclasses import replace

from newswire.runs.dialects.calls import Call
from newswire.runs.parts import Data, Part, Progress, Reasoning, Text, ToolCall, ToolInput, Usage


class Condensed:
    """Parts that are added one by one, and kept as few. Adding takes time and memory in proportion to the part's."""

    __slots__ = ("_calls", "_open", "_parts", "_pieces")

    def __init__(self) -> None:
        self._parts: list[Part | None] = []  # None: what stood here has moved
        # The texts that come before the one of the part at this place: joined when asked for, so that adding costs
        # nothing.
        self._pieces: dict[int, list[str]] = {}
        # What comes of an input after its end is no reason to move it.
        self._calls: dict[str, Call] = {}
        # The place of the part that a part of this kind would join.
        self._open: dict[object, int] = {}

    def add(self, part: Part) -> None:
        """Add the next part."""
        if isinstance(part, (Text, Reasoning, ToolInput)) and not part.text:
            return
        if isinstance(part, (Usage, Progress)):
            place = self._open.get(type(part))
            if place is None:
                self._append(type(part), part)
            else:
                self._parts[place] = part
        elif isinstance(part, (Text, Reasoning)):
            self._join(type(part), part)
            self._forget_but(type(part))
        elif isinstance(part, ToolInput):
            self._add_input(part)
        elif isinstance(part, Data):
            self._parts.append(part)  # interrupts nothing
        else:
            self._parts.append(part)
            if isinstance(part, ToolCall):
                self._calls.setdefault(part.id, Call(part.id, part.name, 0))
                self._open.pop(Text, None)
                self._open.pop(Reasoning, None)
            else:
                self._forget_but(None)

    def parts(self) -> list[Part]:
        """What was added, in order."""
        for place, pieces in self._pieces.items():
            part = self._parts[place]
            assert isinstance(part, (Text, Reasoning, ToolInput))
            self._parts[place] = replace(part, text="".join(pieces) + part.text)
        self._pieces = {}
        return [part for part in self._parts if part is not None]

    def _add_input(self, part: ToolInput) -> None:
        call = self._calls.get(part.id)
        if call is not None:
            if call.whole:
                return
            part = ToolInput(part.id, call.add(part.text))
        self._join(part.id, part)
        self._open.pop(Text, None)
        self._open.pop(Reasoning, None)

    def _append(self, key: object, part: Part) -> None:
        self._open[key] = len(self._parts)
        self._parts.append(part)

    def _join(self, key: object, part: Text | Reasoning | ToolInput) -> None:
        place = self._open.get(key)
        if place is None:
            self._append(key, part)
            return
        before = self._parts[place]
        assert isinstance(before, (Text, Reasoning, ToolInput))
        pieces = self._pieces.pop(place, [])
        pieces.append(before.text)
        if isinstance(part, ToolInput) and place != len(self._parts) - 1:
            self._parts[place] = None
            self._append(key, part)
        else:
            self._parts[place] = part
        self._pieces[self._open[key]] = pieces

    def _forget_but(self, kept: object) -> None:
        """Later parts join none of the earlier ones, but of this kind; progress and usage always do."""
        self._open = {key: place for key, place in self._open.items() if key in (kept, Usage, Progress)}
