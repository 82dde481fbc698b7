"""The tool calls of a run, as dialects have to know them: which there are, whose input is whole, which were answered.

What makes no sense (an input of an unknown call, a call that begins twice, a second answer) goes to no client: it would
break them. `ToolCalls` is for formats that tell calls apart by their ids at all times; `SerializedToolCalls` is for
formats whose clients expect one call after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from newswire.runs.parts import (
    Data,
    Finish,
    Part,
    Progress,
    Reasoning,
    Text,
    ToolCall,
    ToolInput,
    ToolOutput,
    Usage,
    json_or_text,
)

_MARK: Final = re.compile(r'[\\"{}]')


class Call:
    """One call of a tool.

    Attributes:
        id, name: as it began.
        index: how many calls began before it in this run.
        whole: whether its input is whole: it takes no more.
        answered: whether its output is there.
    """

    __slots__ = ("_depth", "_escaped", "_object", "_pieces", "_quoted", "answered", "id", "index", "name", "whole")

    def __init__(self, id: str, name: str, index: int) -> None:
        self.id: str = id
        self.name: str = name
        self.index: int = index
        self.whole: bool = False
        self.answered: bool = False
        self._pieces: list[str] = []
        self._object: bool | None = None  # whether the input is a JSON object, whose end it says itself
        self._depth = 0
        self._quoted = False
        self._escaped = False

    @property
    def text(self) -> str:
        """The input so far, as it came."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def input(self) -> Any:
        """The input: what its text says in JSON, else the text; no text at all is an empty object."""
        return json_or_text(self.text) if self.text.strip() else {}

    @property
    def begun(self) -> bool:
        """Whether the input is in the middle of a JSON object: more is sure to come."""
        return not self.whole and self._object is True

    def add(self, text: str) -> str:
        """Take the next piece of the input, and see whether it is whole: a JSON object says by itself where it ends.

        Returns:
            the piece, without what comes after that end.
        """
        if self._object is None and text.strip():
            self._object = text.lstrip().startswith("{")
        end = self._end(text) if self._object else None
        if end is None:
            self._pieces.append(text)
            return text
        self._pieces.append(text[:end])
        if isinstance(self.input, dict):
            self.whole = True
            return text[:end]
        self._pieces.append(text[end:])
        self._object = False
        return text

    def _end(self, text: str) -> int | None:
        """Where in the next piece the object ends; None if it goes on. Each piece is looked at once."""
        at = 0
        if self._escaped and text:
            self._escaped, at = False, 1
        while (mark := _MARK.search(text, at)) is not None:
            at = mark.end()
            if mark[0] == '"':
                self._quoted = not self._quoted
            elif self._quoted:
                if mark[0] == "\\":
                    self._escaped = at == len(text)
                    at += 1  # what is escaped
            else:
                self._depth += {"{": 1, "}": -1}.get(mark[0], 0)
                if self._depth == 0:
                    return at
        return None


class ToolCalls:
    """The calls of one run, by id, in the order in which they began."""

    __slots__ = ("_calls", "_unanswered")

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._unanswered = 0

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls.values())

    @property
    def unanswered(self) -> bool:
        """Whether a call has no output yet."""
        return self._unanswered > 0

    def begin(self, part: ToolCall) -> Call | None:
        """The call that begins; None if there is one with its id."""
        if part.id in self._calls:
            return None
        call = self._calls[part.id] = Call(part.id, part.name, len(self._calls))
        self._unanswered += 1
        return call

    def more(self, part: ToolInput) -> tuple[Call, str] | None:
        """The call whose input goes on, and the piece that it takes; None if there is none that takes any."""
        call = self._calls.get(part.id)
        if call is None or call.whole or not part.text:
            return None
        return call, call.add(part.text)

    def answer(self, part: ToolOutput) -> Call | None:
        """The call that is answered; None if there is none without an answer."""
        call = self._calls.get(part.id)
        if call is None or call.answered:
            return None
        call.answered = True
        self._unanswered -= 1
        return call

    def reason(self, given: str | None) -> str:
        """Why the model stopped: what the producer said, also if no format of ours knows the reason.

        A client that reads `tool_calls` sets out to answer them, so this is not said of calls that were answered.

        Args:
            given: what the producer said last; None if it said nothing.
        """
        if given is None or given == "tool_calls":
            return "tool_calls" if self.unanswered else "stop"
        return given


class SerializedToolCalls:
    """Parts in an order in which no call's input is interrupted, and none is empty.

    OpenAI's Python client takes a call for finished when the next one begins, and parses its input; Anthropic's format
    has one block after the other. So what would interrupt an input is held until the input is whole, which is so when
    its JSON object is, when it is answered, and when the model stops. An input that never came becomes an empty object.

    Attributes:
        calls: the calls whose turn has come.
    """

    __slots__ = ("_held", "_turn", "calls")

    def __init__(self) -> None:
        self.calls: ToolCalls = ToolCalls()
        self._turn: Call | None = None
        self._held: list[Part] = []

    def feed(self, part: Part) -> list[Part]:
        """The parts to write now that this one is there."""
        turn = self._turn
        if turn is None:
            return self._pass_on(part)
        if isinstance(part, (Usage, Progress, Data)):
            return [part]
        if isinstance(part, ToolInput) and part.id == turn.id:
            ready = self._pass_on(part)
            return ready + self._next() if turn.whole else ready
        ends = isinstance(part, Finish) or (isinstance(part, ToolOutput) and part.id == turn.id)
        # A model that speaks again has said the input, unless it is plain that it has not.
        if ends or (isinstance(part, (Text, Reasoning)) and not turn.begun):
            return [*self._whole(turn), *self._next(), *self.feed(part)]
        self._held.append(part)
        return []

    def rest(self) -> list[Part]:
        """What was held, when nothing more comes."""
        parts: list[Part] = []
        while self._turn is not None:
            parts += [*self._whole(self._turn), *self._next()]
        return parts

    def _pass_on(self, part: Part) -> list[Part]:
        if isinstance(part, ToolCall):
            self._turn = self.calls.begin(part)
            return [] if self._turn is None else [part]
        if isinstance(part, ToolInput):
            more = self.calls.more(part)
            return [] if more is None else [ToolInput(part.id, more[1])]
        if isinstance(part, ToolOutput):
            return [] if self.calls.answer(part) is None else [part]
        return [part]

    def _whole(self, call: Call) -> list[Part]:
        empty = not call.whole and not call.text.strip()
        call.whole = True
        return [ToolInput(call.id, "{}")] if empty else []

    def _next(self) -> list[Part]:
        """What was held, up to an input that is not whole."""
        self._turn = None
        held, self._held = self._held, []
        return [ready for part in held for ready in self.feed(part)]
