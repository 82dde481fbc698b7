"""The tool calls of a run, as every dialect has to know them: which there are, how far they are, which were answered.

Dialects number calls, close them when their input is whole, and end a step when all of them were answered. What makes
no sense (an input of a call that nobody began, a call that begins twice) is told to nobody: it would break clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from newswire.runs.parts import ToolCall, ToolInput, ToolOutput, read_json


class Call:
    """One call of a tool.

    Attributes:
        id, name: as it began.
        index: how many calls began before it in this run.
        whole: whether its input is known to be whole.
        closed: whether no more input is taken, because the model stopped or the call was answered.
        answered: whether its output is there.
    """

    __slots__ = ("_depth", "_pieces", "answered", "closed", "id", "index", "name", "whole")

    def __init__(self, id: str, name: str, index: int) -> None:
        self.id = id
        self.name = name
        self.index = index
        self.whole = False
        self.closed = False
        self.answered = False
        self._pieces: list[str] = []
        self._depth = 0

    @property
    def text(self) -> str:
        """The input so far, as it came."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def input(self) -> Any:
        """The input: what its text says in JSON, else the text; no text at all is an empty object."""
        if not self.text.strip():
            return {}
        try:
            return read_json(self.text)
        except ValueError:
            return self.text

    def add(self, text: str) -> None:
        """Take the next piece of the input, and see whether it is whole: a JSON object says by itself where it ends."""
        self._pieces.append(text)
        # Braces in strings are counted too, which is wrong rarely and does no harm: it only decides when to look.
        self._depth += text.count("{") - text.count("}")
        if self._depth == 0 and "}" in text and isinstance(self.input, dict):
            self.whole = True

    def close(self) -> bool:
        """Take the input for whole and no more of it. True if this is news, and there was none: clients need `{}`."""
        news = not self.closed and not self._pieces
        self.whole = self.closed = True
        return news


class Calls:
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

    def more(self, part: ToolInput) -> Call | None:
        """The call whose input goes on; None if there is none that takes more."""
        call = self._calls.get(part.id)
        if call is None or call.closed or not part.text:
            return None
        call.add(part.text)
        return call

    def answer(self, part: ToolOutput) -> Call | None:
        """The call that is answered; None if there is none."""
        call = self._calls.get(part.id)
        if call is not None and not call.answered:
            call.answered = True
            self._unanswered -= 1
        return call

    def reason(self, said: str | None) -> str:
        """Why the model stopped, as far as clients act on it: `stop`, `length`, `tool_calls` or `content_filter`.

        A client that reads `tool_calls` sets out to answer them, so this is not said of calls that were answered.

        Args:
            said: what the producer said last; None if it said nothing.
        """
        if said in ("length", "content_filter"):
            return said
        return "tool_calls" if self.unanswered and said != "stop" else "stop"
