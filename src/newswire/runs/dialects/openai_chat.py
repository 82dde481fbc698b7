"""`openai-chat`: the stream of OpenAI's Chat Completions API, which most of the world's clients read.

Chunks without a type; the first one has the role, then come deltas of the content, of the reasoning (as
`reasoning_content`, like DeepSeek's and vLLM's) and of the tool calls, then one chunk with the `finish_reason`, one
without choices that has the usage, and `[DONE]`. The format has no place for a tool's output, for progress or for other
data: these are not told. A call that the run answers by itself is told as any other; the `finish_reason` is then not
`tool_calls`, so that a client doesn't wait to answer it.

An answer that is not whole ends with `{"error": …}`, at which OpenAI's own clients raise, and without `[DONE]`.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import Dialect, Head, Problem, block
from newswire.runs.dialects.calls import Call, Calls
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage
from newswire.wire.event import Event

DONE: Final = Event("[DONE]")


class OpenAIChat(Dialect):
    """A run as `chat.completion.chunk`s."""

    name = "openai-chat"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._calls = Calls()
        # OpenAI's Python client takes a call for finished when the next one begins, and parses its arguments: so the
        # input of one call at a time is told, and what came in between is held until it is whole.
        self._telling: Call | None = None
        self._held: list[tuple[Call, dict[str, Any]]] = []
        self._usage: Usage | None = None
        self._finish: str | None = None

    def begin(self) -> list[Event]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def write(self, part: Part) -> list[Event]:
        if isinstance(part, Text):
            return [self._chunk({"content": part.text})] if part.text else []
        if isinstance(part, Reasoning):
            return [self._chunk({"reasoning_content": part.text})] if part.text else []
        if isinstance(part, ToolCall):
            call = self._calls.begin(part)
            if call is None:
                return []
            function = {"name": call.name, "arguments": ""}
            return self._call(call, {"index": call.index, "id": call.id, "type": "function", "function": function})
        if isinstance(part, ToolInput):
            call = self._calls.more(part)
            return [] if call is None else self._arguments(call, part.text)
        if isinstance(part, ToolOutput):
            call = self._calls.answer(part)
            return [] if call is None else self._close(call)
        if isinstance(part, Usage):
            self._usage = part
        elif isinstance(part, Finish):
            self._finish = part.reason
            return self._close(*self._calls)
        return []

    def close(self, result: Any) -> list[Event]:
        events = [*self._close(*self._calls), self._chunk({}, self._calls.reason(self._finish))]
        if self._usage is not None:
            read, written = self._usage.input_tokens, self._usage.output_tokens
            usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            events.append(block({**self._envelope(), "choices": [], "usage": usage}))
        return [*events, DONE]

    def fail(self, problem: Problem) -> list[Event]:
        error = {"message": problem.message, "type": problem.type, "param": None, "code": problem.code}
        return [block({"error": error})]

    def _arguments(self, call: Call, text: str) -> list[Event]:
        return self._call(call, {"index": call.index, "function": {"arguments": text}})

    def _close(self, *calls: Call) -> list[Event]:
        """The inputs of these calls are whole. One that never came is told as an empty object: clients parse it."""
        events = []
        for call in calls:
            if call.close():
                events += self._arguments(call, "{}")
        return events + self._release()

    def _call(self, call: Call, delta: dict[str, Any]) -> list[Event]:
        """Tell a delta of a call, or hold it until its turn comes."""
        if self._telling is not None and self._telling is not call and not self._telling.whole:
            self._held.append((call, delta))
            return []
        self._telling = call
        events = [self._chunk({"tool_calls": [delta]})]
        return events + self._release() if self._held else events

    def _release(self) -> list[Event]:
        """Tell what was held, call by call, up to one whose input is not whole."""
        if self._telling is None or not self._telling.whole:
            return []
        held, self._held = sorted(self._held, key=lambda item: item[0].index), []
        return [event for call, delta in held for event in self._call(call, delta)]

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return block({**self._envelope(), "choices": [choice]})

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": int(self.head.created),
            "model": self.head.model,
        }
