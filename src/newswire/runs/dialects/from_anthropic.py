"""Reading the events of Anthropic's Messages API.

A tool that Anthropic itself runs is a call with an output, as any other.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import block
from newswire.runs.dialects.upstream import Piece, Reader, clean, count, key, mapping, parsed
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage
from newswire.wire.event import Event
from newswire.wire.strict_json import write_json

# Why the model stopped, as `Finish` says it. A reason that is not here is passed on as it is.
REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# What the text of a delta is called, by the delta's type.
DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class AnthropicReader(Reader):
    """Reads the events of a message."""

    name = "anthropic"

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[Any, str] = {}  # the id of the call in the block of this index
        self._usage = Usage()

    def object(self, event: Event) -> dict[str, Any] | None:
        """See `Reader.object`."""
        data = parsed(event)
        return data if data is not None and data.get("type") == event.event else None

    def read(self, data: dict[str, Any]) -> list[Part]:
        """See `Reader.read`."""
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
            finish: list[Part] = [Finish(REASONS.get(reason, reason))] if reason else []
            return [*finish, *self._used(mapping(data.get("usage")))]
        if kind == "message_stop":
            self.finished = True
        elif kind == "error":
            error = mapping(data.get("error"))
            self.fail(error.get("type"), error.get("message"))
        return []

    def piece(self, event: Event) -> Piece | None:
        """See `Reader.piece`."""
        data = self.object(event)
        if data is None or data["type"] != "content_block_delta" or data.keys() != {"type", "index", "delta"}:
            return None
        delta = mapping(data["delta"])
        field = DELTAS.get(clean(delta.get("type")))
        if field is None or delta.keys() != {"type", field} or not isinstance(delta[field], str):
            return None
        kind = event.event
        return Piece(
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
        value = delta.get(DELTAS.get(kind, ""))
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
