"""`anthropic`: the stream of Anthropic's Messages API.

Events with a type: a message starts, has blocks of text, thinking and tool use, each started, written to and stopped,
one after the other; then `message_delta` says why the model stopped and what was used, and `message_stop` ends it. The
format's content is what the model says, so a tool's output, progress and other data are not told. A tool's input has to
be an object; one that isn't becomes the `input` of one.

An answer that is not whole ends with an `error` event, at which Anthropic's own clients raise.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import Dialect, Head, Problem, block
from newswire.runs.dialects.calls import InTurn
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage, json_or_text
from newswire.wire.event import Event
from newswire.wire.strict_json import write_json

REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class Anthropic(Dialect):
    """A run as the events of a message."""

    name = "anthropic"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._turns = InTurn()
        self._index = -1
        self._open: str | None = None  # the type of the block that is written to
        self._odd: list[str] = []  # an input that is no object, which clients break at
        self._written = False  # whether the open block was written to
        self._usage = Usage()
        self._finish: str | None = None

    def begin(self) -> list[Event]:
        """See `Dialect.begin`."""
        message: dict[str, Any] = {
            "id": self.head.id,
            "type": "message",
            "role": "assistant",
            "model": self.head.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return [_event("message_start", message=message)]

    def write(self, part: Part) -> list[Event]:
        """See `Dialect.write`."""
        return [event for told in self._turns.feed(part) for event in self._write(told)]

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`."""
        events = [event for told in self._turns.rest() for event in self._write(told)]
        reason = self._turns.calls.reason(self._finish)
        reason = REASONS.get(reason, reason)
        usage = {"input_tokens": self._usage.input_tokens, "output_tokens": self._usage.output_tokens}
        delta = {"stop_reason": reason, "stop_sequence": None}
        return [*events, *self._stop(), _event("message_delta", delta=delta, usage=usage), _event("message_stop")]

    def fail(self, problem: Problem) -> list[Event]:
        """See `Dialect.fail`."""
        return [_event("error", error={"type": problem.type, "code": problem.code, "message": problem.message})]

    def _write(self, part: Part) -> list[Event]:
        if isinstance(part, Text) and part.text:
            opened = self._start("text", text="")
            return [*opened, self._delta("text_delta", text=part.text)]
        if isinstance(part, Reasoning) and part.text:
            opened = self._start("thinking", thinking="", signature="")
            return [*opened, self._delta("thinking_delta", thinking=part.text)]
        if isinstance(part, ToolCall):
            return [*self._stop(), *self._start("tool_use", id=part.id, name=part.name, input={})]
        if isinstance(part, ToolInput):
            if self._odd or (not self._written and not part.text.lstrip().startswith("{")):
                self._odd.append(part.text)
                return []
            self._written = True
            return [self._delta("input_json_delta", partial_json=part.text)]
        if isinstance(part, ToolOutput):
            return self._stop()
        if isinstance(part, Usage):
            self._usage = part
        elif isinstance(part, Finish):
            self._finish = part.reason
        return []

    def _start(self, kind: str, **fields: Any) -> list[Event]:
        """Start a block, unless one of its kind is written to."""
        if self._open == kind:
            return []
        stopped = self._stop()
        self._open = kind
        self._written = False
        self._index += 1
        return [*stopped, _event("content_block_start", index=self._index, content_block={"type": kind, **fields})]

    def _delta(self, kind: str, **fields: str) -> Event:
        return _event("content_block_delta", index=self._index, delta={"type": kind, **fields})

    def _stop(self) -> list[Event]:
        if self._open is None:
            return []
        odd, self._odd = "".join(self._odd), []
        self._open = None
        stop = _event("content_block_stop", index=self._index)
        if not odd:
            return [stop]
        return [self._delta("input_json_delta", partial_json=write_json({"input": json_or_text(odd)})), stop]


def _event(type: str, **fields: Any) -> Event:
    return block({"type": type, **fields}, type)
