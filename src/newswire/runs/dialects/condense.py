"""As few parts as say what many said: what a prelude is made of.

Stronger than `newswire.runs.parts.merged`, which joins neighbours only: here a part also joins an earlier one that no
reader can tell from a neighbour. Two calls whose inputs came in turns become two inputs, and of progress the last word
stands where the first one stood, because that is where a client that replaces it in place shows it.
"""

from __future__ import annotations

from dataclasses import replace

from newswire.runs.parts import Data, Part, Progress, Reasoning, Text, ToolCall, ToolInput, Usage


class Condensed:
    """Parts that are added one by one, and kept as few. Adding takes time and memory in proportion to the part's."""

    __slots__ = ("_open", "_parts", "_pieces")

    def __init__(self) -> None:
        self._parts: list[Part] = []
        # The texts that follow the one of the part at this place: joined when asked for, so that it costs nothing here.
        self._pieces: dict[int, list[str]] = {}
        # The place of the part that a part of this kind would join.
        self._open: dict[object, int] = {}

    def add(self, part: Part) -> None:
        """Add the next part."""
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
            self._join(part.id, part)
            self._open.pop(Text, None)
            self._open.pop(Reasoning, None)
        elif isinstance(part, Data):
            self._parts.append(part)  # interrupts nothing
        else:
            self._parts.append(part)
            if isinstance(part, ToolCall):
                self._open.pop(Text, None)
                self._open.pop(Reasoning, None)
            else:
                self._forget_but(None)

    def parts(self) -> list[Part]:
        """What was added, in order."""
        for place, pieces in self._pieces.items():
            part = self._parts[place]
            assert isinstance(part, (Text, Reasoning, ToolInput))
            self._parts[place] = replace(part, text=part.text + "".join(pieces))
        self._pieces = {}
        return list(self._parts)

    def _append(self, key: object, part: Part) -> None:
        self._open[key] = len(self._parts)
        self._parts.append(part)

    def _join(self, key: object, part: Text | Reasoning | ToolInput) -> None:
        place = self._open.get(key)
        if place is None:
            self._append(key, part)
        else:
            self._pieces.setdefault(place, []).append(part.text)

    def _forget_but(self, kept: object) -> None:
        """Later parts join none of the earlier ones, but of this kind; progress and usage always do."""
        self._open = {key: place for key, place in self._open.items() if key in (kept, Usage, Progress)}
