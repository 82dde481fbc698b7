"""`ag-ui`: the events of the AG-UI protocol, which agents' front ends read.

Blocks of JSON without a type. A run starts, and in it are text messages, reasoning and tool calls, each started,
written to and ended; a tool's output is a result. Calls belong to the assistant's message before them. Progress is a
custom event called `progress`, and other data are custom events of their own names. Why the model stopped, if the run
said so, is in the metadata of `RUN_FINISHED`.

A thread is what the protocol calls a conversation; `Head.meta` may name it as `thread`. An answer that is not whole
ends with `RUN_ERROR`, also a stopped one: that a finished run was cancelled is known to clients of protocol 1.0 only.
"""

from __future__ import annotations

from typing import Any

from newswire.runs.dialects.base import Dialect, Head, StreamFailure, block
from newswire.runs.dialects.tool_calls import Call, ToolCalls
from newswire.runs.parts import Finish, Part, Progress, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage
from newswire.wire.event import Event


class AGUI(Dialect):
    """A run as AG-UI events."""

    name = "ag-ui"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        thread = head.meta.get("thread")
        self._run = {"threadId": thread if isinstance(thread, str) and thread else head.id, "runId": head.id}
        self._calls = ToolCalls()
        self._ended: set[str] = set()  # calls whose end the client has
        self._opened = 0
        self._open: type[Text | Reasoning] | None = None  # what the message that is written to holds
        self._message = ""  # its id
        self._parent: str | None = None  # the assistant's message that a call would belong to
        self._usage: Usage | None = None
        self._finish: str | None = None

    def begin(self) -> list[Event]:
        """See `Dialect.begin`."""
        return [_event("RUN_STARTED", **self._run)]

    def write(self, part: Part) -> list[Event]:
        """See `Dialect.write`."""
        if isinstance(part, (Text, Reasoning)):
            return self._delta(part) if part.text else []
        if isinstance(part, ToolCall):
            return self._call(part)
        if isinstance(part, ToolInput):
            more = self._calls.more(part)
            if more is None:
                return []
            call, text = more
            args = _event("TOOL_CALL_ARGS", toolCallId=call.id, delta=text)
            return [args, *(self._whole(call) if call.whole else ())]
        if isinstance(part, ToolOutput):
            return self._result(part)
        if isinstance(part, Finish):
            self._finish = part.reason
            return self._all_whole()
        if isinstance(part, Usage):
            self._usage = part
            return []
        if isinstance(part, Progress):
            return [_event("CUSTOM", name="progress", value=part.as_json)]
        return [_event("CUSTOM", name=part.name, value=part.value)]

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`."""
        fields: dict[str, Any] = dict(self._run)
        if result is not None:
            fields["result"] = result
        if self._usage is not None:
            read, written = self._usage.input_tokens, self._usage.output_tokens
            usage = {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}
            fields["usage"] = [{"model": self.head.model, **usage}]
        if self._finish is not None:
            fields["metadata"] = {"finishReason": self._calls.reason(self._finish)}
        return [*self._all_whole(), *self._shut(), _event("RUN_FINISHED", **fields)]

    def fail(self, problem: StreamFailure) -> list[Event]:
        """See `Dialect.fail`."""
        return [_event("RUN_ERROR", message=problem.message, code=problem.code)]

    # -- messages

    def _delta(self, part: Text | Reasoning) -> list[Event]:
        kind = type(part)
        events = []
        if self._open is not kind:
            events = self._shut()
            self._open, self._message = kind, self._next_id()
            if kind is Text:
                self._parent = self._message
                events.append(_event("TEXT_MESSAGE_START", messageId=self._message, role="assistant"))
            else:
                events.append(_event("REASONING_START", messageId=self._message))
                events.append(_event("REASONING_MESSAGE_START", messageId=self._message, role="reasoning"))
        name = "TEXT_MESSAGE_CONTENT" if kind is Text else "REASONING_MESSAGE_CONTENT"
        return [*events, _event(name, messageId=self._message, delta=part.text)]

    def _shut(self) -> list[Event]:
        """End the message that is written to."""
        kind, self._open = self._open, None
        if kind is None:
            return []
        if kind is Text:
            return [_event("TEXT_MESSAGE_END", messageId=self._message)]
        return [
            _event("REASONING_MESSAGE_END", messageId=self._message),
            _event("REASONING_END", messageId=self._message),
        ]

    def _next_id(self) -> str:
        self._opened += 1
        return f"{self.head.id}-{self._opened}"

    # -- tools

    def _call(self, part: ToolCall) -> list[Event]:
        call = self._calls.begin(part)
        if call is None:
            return []
        if self._parent is None:
            self._parent = self._next_id()  # the client makes the message
        start = _event("TOOL_CALL_START", toolCallId=call.id, toolCallName=call.name, parentMessageId=self._parent)
        return [*self._shut(), start]

    def _whole(self, call: Call) -> list[Event]:
        """Say that a call's input is whole, once. One that never came is an empty object: clients parse it."""
        if call.id in self._ended:
            return []
        self._ended.add(call.id)
        call.whole = True
        empty = [] if call.text.strip() else [_event("TOOL_CALL_ARGS", toolCallId=call.id, delta="{}")]
        return [*empty, _event("TOOL_CALL_END", toolCallId=call.id)]

    def _all_whole(self) -> list[Event]:
        return [event for call in self._calls for event in self._whole(call)]

    def _result(self, part: ToolOutput) -> list[Event]:
        call = self._calls.answer(part)
        if call is None:
            return []
        events = [*self._whole(call), *self._shut()]
        self._parent = None  # what the model says and calls now is a new message
        id = f"{self.head.id}-result-{call.index}"
        return [*events, _event("TOOL_CALL_RESULT", messageId=id, toolCallId=call.id, content=part.text, role="tool")]


def _event(type: str, **fields: Any) -> Event:
    return block({"type": type, **fields})
