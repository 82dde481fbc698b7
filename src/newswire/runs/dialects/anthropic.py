"""`anthropic`: the stream of Anthropic's Messages API.

Events with a type: a message starts, has blocks of text, thinking and tool use, each started, written to and stopped,
one after the other; then `message_delta` says why the model stopped and what was used, and `message_stop` ends it. The
format's content is what the model says, so a tool's output, progress and other data are not told. A tool's input has to
be an object; one that isn't becomes the `input` of one.

An answer that is not whole ends with an `error` event, at which Anthropic's own clients raise.

`AnthropicParser` is the way back. There a tool that Anthropic itself runs is a call with an output, as any other.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import Dialect, Head, StreamFailure, block
from newswire.runs.dialects.coalesce import TextDelta
from newswire.runs.dialects.tool_calls import SerializedToolCalls
from newswire.runs.dialects.upstream import UpstreamParser, clean, count, key, mapping, parsed
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage, json_or_text
from newswire.wire.event import Event
from newswire.wire.payload import write_json

_STOP_REASONS: Final = {
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
        self._turns = SerializedToolCalls()
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
        return [event for ready in self._turns.feed(part) for event in self._write(ready)]

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`."""
        events = [event for ready in self._turns.rest() for event in self._write(ready)]
        reason = self._turns.calls.reason(self._finish)
        reason = _STOP_REASONS.get(reason, reason)
        usage = {"input_tokens": self._usage.input_tokens, "output_tokens": self._usage.output_tokens}
        delta = {"stop_reason": reason, "stop_sequence": None}
        return [*events, *self._stop(), _event("message_delta", delta=delta, usage=usage), _event("message_stop")]

    def fail(self, problem: StreamFailure) -> list[Event]:
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


# Why the model stopped, as `Finish` says it. A reason that is not here is passed on as it is.
_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# What the text of a delta is called, by the delta's type.
_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class AnthropicParser(UpstreamParser):
    """Reads the events of a message."""

    name = "anthropic"

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[Any, str] = {}  # the id of the call in the block of this index
        self._usage = Usage()

    def object(self, event: Event) -> dict[str, Any] | None:
        """See `UpstreamParser.object`."""
        data = parsed(event)
        return data if data is not None and data.get("type") == event.event else None

    def read(self, data: dict[str, Any]) -> list[Part]:
        """See `UpstreamParser.read`."""
        kind = data["type"]
        if kind == "content_block_delta":
            return self._delta(key(data.get("index")), mapping(data.get("delta")))
        if kind == "content_block_start":
            return self._start(key(data.get("index")), mapping(data.get("content_block")))
        if kind == "message_start":
            message = mapping(data.get("message"))
            self.called(message.get("id"), message.get("model"))
            return self._used(mapping(message.get("usage")))
        if kind == "message_delta":
            reason = mapping(data.get("delta")).get("stop_reason")
            reason = clean(reason)
            finish: list[Part] = [Finish(_FINISH_REASONS.get(reason, reason))] if reason else []
            return [*finish, *self._used(mapping(data.get("usage")))]
        if kind == "message_stop":
            self.finish()
        elif kind == "error":
            error = mapping(data.get("error"))
            self.fail(error.get("type"), error.get("message"))
        return []

    def text_delta(self, event: Event) -> TextDelta[Event] | None:
        """See `UpstreamParser.text_delta`."""
        data = self.object(event)
        if data is None or data["type"] != "content_block_delta" or data.keys() != {"type", "index", "delta"}:
            return None
        delta = mapping(data["delta"])
        field = _DELTAS.get(clean(delta.get("type")))
        if field is None or delta.keys() != {"type", field} or not isinstance(delta[field], str):
            return None
        kind = event.event
        return TextDelta(
            (repr(data["index"]), field),
            delta[field],
            lambda text: block({**data, "delta": {**delta, field: text}}, kind),
        )

    def _start(self, index: Any, content: dict[str, Any]) -> list[Part]:
        kind = clean(content.get("type"))
        if kind == "text":
            text = self.text(content.get("text"), Text)
            return [Text(text)] if text else []
        if kind == "thinking":
            thought = self.text(content.get("thinking"), Reasoning)
            return [Reasoning(thought)] if thought else []
        if kind.endswith("tool_use"):
            id = self._calls[index] = clean(content.get("id")) or f"call_{len(self._calls)}"
            call = ToolCall(id, clean(content.get("name")))
            given = content.get("input")
            return [call, ToolInput(id, write_json(given))] if given else [call]
        if kind.endswith("tool_result"):
            output = content.get("content")
            wrong = bool(content.get("is_error")) or clean(mapping(output).get("type")).endswith("_error")
            return [ToolOutput(clean(content.get("tool_use_id")), output, wrong)]
        return []

    def _delta(self, index: Any, delta: dict[str, Any]) -> list[Part]:
        kind = clean(delta.get("type"))
        value = delta.get(_DELTAS.get(kind, ""))
        if kind == "text_delta":
            text = self.text(value, Text)
            return [Text(text)] if text else []
        if kind == "thinking_delta":
            text = self.text(value, Reasoning)
            return [Reasoning(text)] if text else []
        call = self._calls.get(index)
        if call is None:
            return []
        text = self.text(value, ToolInput, call)
        return [ToolInput(call, text)] if text else []

    def _used(self, usage: dict[str, Any]) -> list[Part]:
        """The usage so far. Tokens from the cache are tokens that were read; what isn't said again stays as it was."""
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        read = sum(count(usage.get(name)) for name in names) or self._usage.input_tokens
        used = Usage(read, count(usage.get("output_tokens")) or self._usage.output_tokens)
        if used == self._usage:
            return []
        self._usage = used
        return [used]
