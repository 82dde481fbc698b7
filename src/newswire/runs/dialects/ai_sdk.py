"""`ai-sdk`: the UI message stream of Vercel's AI SDK, which `useChat` reads.

Blocks of JSON without a type, and `[DONE]`; a response header names the version. Text and reasoning are parts that are
opened, written to and closed by id; the SDK throws at a delta of a part that it has not seen opened. A step is one
answer of the model: what it says after its calls were answered is a new one. Progress and other data are `data-…`
parts; progress has an id, so that each replaces the one before.

Only what versions 5, 6 and 7 all know is sent, and no field more: the first releases of 5 refuse a chunk with a field
that they don't know. So the reason why the model stopped and the usage are in the message's metadata, where the run
said them.

An answer that is not whole ends with an `error` chunk, and its open parts stay open. Of a stopped one an `abort` chunk
comes before it: the SDK's own client passes over `abort` and would take the answer for whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from newswire.runs.dialects.base import DONE, Dialect, Head, StreamFailure, block
from newswire.runs.dialects.tool_calls import Call, ToolCalls
from newswire.runs.parts import Finish, Part, Progress, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage
from newswire.wire.event import Event

# What the SDK calls the reasons; any other goes through as it is.
REASONS: Final = {"tool_calls": "tool-calls", "content_filter": "content-filter"}


class AISDK(Dialect):
    """A run as UI message chunks."""

    name = "ai-sdk"
    headers: ClassVar[Sequence[tuple[str, str]]] = (("x-vercel-ai-ui-message-stream", "v1"),)

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._calls = ToolCalls()
        self._available: set[str] = set()
        self._open: tuple[str, str] | None = None  # kind and id of the part that is written to
        self._opened = 0
        self._step_over = False
        self._usage: Usage | None = None
        self._finish: str | None = None

    def begin(self) -> list[Event]:
        """See `Dialect.begin`."""
        return [block({"type": "start", "messageId": self.head.id}), block({"type": "start-step"})]

    def write(self, part: Part) -> list[Event]:
        """See `Dialect.write`."""
        if isinstance(part, (Text, Reasoning)):
            kind = "text" if isinstance(part, Text) else "reasoning"
            return self._delta(kind, part.text) if part.text else []
        if isinstance(part, ToolCall):
            call = self._calls.begin(part)
            if call is None:
                return []
            start = {"type": "tool-input-start", "toolCallId": call.id, "toolName": call.name}
            return [*self._step(), *self._shut(), block(start)]
        if isinstance(part, ToolInput):
            return self._input(part)
        if isinstance(part, ToolOutput):
            return self._output(part)
        if isinstance(part, Finish):
            self._finish = part.reason
            self._step_over = True
            return self._all_available()
        if isinstance(part, Usage):
            self._usage = part
            return []
        if isinstance(part, Progress):
            return [block({"type": "data-progress", "id": "progress", "data": part.as_json})]
        return [block({"type": f"data-{part.name}", "data": part.value})]

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`."""
        finish: dict[str, Any] = {"type": "finish"}
        metadata: dict[str, Any] = {}
        if self._finish is not None:
            reason = self._calls.reason(self._finish)
            metadata["finishReason"] = REASONS.get(reason, reason)
        if self._usage is not None:
            read, written = self._usage.input_tokens, self._usage.output_tokens
            metadata["usage"] = {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}
        if metadata:
            finish["messageMetadata"] = metadata
        ends = [block({"type": "finish-step"}), block(finish), DONE]
        return [*self._all_available(), *self._shut(), *ends]

    def fail(self, problem: StreamFailure) -> list[Event]:
        """See `Dialect.fail`."""
        events = [block({"type": "error", "errorText": problem.message}), DONE]
        return [block({"type": "abort"}), *events] if problem.code == "stopped" else events

    # -- parts and steps

    def _delta(self, kind: str, text: str) -> list[Event]:
        events = self._step()
        if self._open is None or self._open[0] != kind:
            events += self._shut()
            self._opened += 1
            self._open = kind, f"{kind}-{self._opened}"
            events.append(block({"type": f"{kind}-start", "id": self._open[1]}))
        return [*events, block({"type": f"{kind}-delta", "id": self._open[1], "delta": text})]

    def _shut(self) -> list[Event]:
        """Close the part that is written to."""
        if self._open is None:
            return []
        (kind, id), self._open = self._open, None
        return [block({"type": f"{kind}-end", "id": id})]

    def _step(self) -> list[Event]:
        """Begin a new step if the last one is over: the model goes on after it stopped, or was answered."""
        if not self._step_over:
            return []
        self._step_over = False
        return [*self._shut(), block({"type": "finish-step"}), block({"type": "start-step"})]

    # -- tools

    def _input(self, part: ToolInput) -> list[Event]:
        more = self._calls.more(part)
        if more is None:
            return []
        call, text = more
        delta = block({"type": "tool-input-delta", "toolCallId": call.id, "inputTextDelta": text})
        return [delta, *(self._make_available(call) if call.whole else ())]

    def _make_available(self, call: Call) -> list[Event]:
        """Say that the input is whole, which makes the SDK's client call its own tools."""
        if call.id in self._available:
            return []
        call.whole = True
        self._available.add(call.id)
        chunk = {"type": "tool-input-available", "toolCallId": call.id, "toolName": call.name, "input": call.input}
        return [block(chunk)]

    def _all_available(self) -> list[Event]:
        return [event for call in self._calls for event in self._make_available(call)]

    def _output(self, part: ToolOutput) -> list[Event]:
        call = self._calls.answer(part)
        if call is None:
            return []
        self._step_over = self._step_over or not self._calls.unanswered
        chunk: dict[str, Any] = {"type": "tool-output-available", "toolCallId": call.id, "output": part.output}
        if part.error:
            chunk = {"type": "tool-output-error", "toolCallId": call.id, "errorText": part.text}
        return [*self._make_available(call), block(chunk)]
