"""`openai-chat`: the stream of OpenAI's Chat Completions API, which most of the world's clients read.

Chunks without a type; the first one has the role, then come deltas of the content, of the reasoning (as
`reasoning_content`, like DeepSeek's and vLLM's) and of the tool calls, then one chunk with the `finish_reason`, one
without choices that has the usage, and `[DONE]`. The format has no place for a tool's output, for progress or for other
data: these are not told. A call that the run answers by itself is told as any other; the `finish_reason` is then not
`tool_calls`, so that a client doesn't set out to answer it.

An answer that is not whole ends with `{"error": …}`, at which OpenAI's own clients raise, and without `[DONE]`.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import Dialect, Head, Problem, block
from newswire.runs.dialects.calls import InTurn
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, Usage
from newswire.wire.event import Event

DONE: Final = Event("[DONE]")


class OpenAIChat(Dialect):
    """A run as `chat.completion.chunk`s."""

    name = "openai-chat"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._turns = InTurn()
        self._indexes: dict[str, int] = {}
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._envelope = {  # of each chunk
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": int(head.created),
            "model": head.model,
        }

    def begin(self) -> list[Event]:
        """See `Dialect.begin`."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def write(self, part: Part) -> list[Event]:
        """See `Dialect.write`."""
        return [event for told in self._turns.feed(part) for event in self._write(told)]

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`."""
        events = [event for told in self._turns.rest() for event in self._write(told)]
        events.append(self._chunk({}, self._turns.calls.reason(self._finish)))
        if self._usage is not None:
            read, written = self._usage.input_tokens, self._usage.output_tokens
            usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            events.append(block({**self._envelope, "choices": [], "usage": usage}))
        return [*events, DONE]

    def fail(self, problem: Problem) -> list[Event]:
        """See `Dialect.fail`."""
        error = {"message": problem.message, "type": problem.type, "param": None, "code": problem.code}
        return [block({"error": error})]

    def _write(self, part: Part) -> list[Event]:
        if isinstance(part, Text) and part.text:
            return [self._chunk({"content": part.text})]
        if isinstance(part, Reasoning) and part.text:
            return [self._chunk({"reasoning_content": part.text})]
        if isinstance(part, ToolCall):
            index = self._indexes[part.id] = len(self._indexes)
            function = {"name": part.name, "arguments": ""}
            return [self._call({"index": index, "id": part.id, "type": "function", "function": function})]
        if isinstance(part, ToolInput):
            return [self._call({"index": self._indexes[part.id], "function": {"arguments": part.text}})]
        if isinstance(part, Usage):
            self._usage = part
        elif isinstance(part, Finish):
            self._finish = part.reason
        return []

    def _call(self, delta: dict[str, Any]) -> Event:
        return self._chunk({"tool_calls": [delta]})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return block({**self._envelope, "choices": [choice]})
