"""`openai-chat`: the stream of OpenAI's Chat Completions API, which most of the world's clients read.

Chunks without a type; the first one has the role, then come deltas of the content, of the reasoning (as
`reasoning_content`, like DeepSeek's and vLLM's) and of the tool calls, then one chunk with the `finish_reason`, one
without choices that has the usage, and `[DONE]`. The format has no place for a tool's output, for progress or for other
data: these are not told. A call that the run answers by itself is written as any other; the `finish_reason` is then not
`tool_calls`, so that a client doesn't set out to answer it.

An answer that is not whole ends with `{"error": …}`, at which OpenAI's own clients raise, and without `[DONE]`.

`OpenAIChatParser` is the way back, also for the many servers that are not OpenAI's. They differ: the reasoning is
`reasoning_content` or `reasoning`; ids and names of calls are repeated, or missing; all calls have the index 0; usage
comes with each chunk, or never; `[DONE]` is missing; an error is an event of the type `error`. Only the first choice is
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from newswire.runs.dialects.base import DONE, Dialect, Head, StreamFailure, block
from newswire.runs.dialects.coalesce import TextDelta
from newswire.runs.dialects.tool_calls import SerializedToolCalls
from newswire.runs.dialects.upstream import UpstreamParser, clean, count, mapping, objects, parsed
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, Usage
from newswire.wire.event import Event


class OpenAIChat(Dialect):
    """A run as `chat.completion.chunk`s."""

    name = "openai-chat"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._turns = SerializedToolCalls()
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
        return [event for ready in self._turns.feed(part) for event in self._write(ready)]

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`."""
        events = [event for ready in self._turns.rest() for event in self._write(ready)]
        events.append(self._chunk({}, self._turns.calls.reason(self._finish)))
        if self._usage is not None:
            read, written = self._usage.input_tokens, self._usage.output_tokens
            usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            events.append(block({**self._envelope, "choices": [], "usage": usage}))
        return [*events, DONE]

    def fail(self, problem: StreamFailure) -> list[Event]:
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


# Why the model stopped, as `Finish` says it. A reason that is not here is passed on as it is.
_FINISH_REASONS: Final = {"function_call": "tool_calls"}
_TEXTS: Final = frozenset({"content", "reasoning_content", "reasoning"})


class OpenAIChatParser(UpstreamParser):
    """Reads `chat.completion.chunk`s."""

    name = "openai-chat"

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, str] = {}  # the id of the call that an index stands for now
        self._begun = 0
        self._usage: Usage | None = None
        self._done = False

    def take(self, event: Event) -> list[Part] | None:
        """See `UpstreamParser.take`."""
        if event.event == "message" and event.data.strip() == "[DONE]":
            self._done = True
            self.finish()
            return []
        return super().take(event)

    def object(self, event: Event) -> dict[str, Any] | None:
        """See `UpstreamParser.object`."""
        if event.event not in ("message", "error"):
            return None
        data = parsed(event)
        if data is None or "error" in data:
            return data
        if event.event == "error":  # some servers send the error itself
            return {"error": data} if "message" in data else None
        return data if "choices" in data else None

    def read(self, data: dict[str, Any]) -> list[Part]:
        """See `UpstreamParser.read`."""
        if data.get("error"):
            error = mapping(data["error"])
            self.fail(error.get("type") or error.get("code"), error.get("message") or data["error"])
            return []
        self.called(data.get("id"), data.get("model"))
        parts: list[Part] = []
        for choice in objects(data.get("choices")):
            if choice.get("index", 0) == 0:
                parts += self._delta(mapping(choice.get("delta")))
                parts += self._finish(choice.get("finish_reason"))
        usage = mapping(data.get("usage"))
        used = Usage(count(usage.get("prompt_tokens")), count(usage.get("completion_tokens")))
        if usage and used != self._usage:
            self._usage = used
            parts.append(used)
        return parts

    def text_delta(self, event: Event) -> TextDelta[Event] | None:
        """See `UpstreamParser.text_delta`."""
        data = self.object(event)
        choices = objects(data and data.get("choices"))
        if data is None or len(choices) != 1 or data.get("usage"):
            return None
        choice, delta = choices[0], choices[0].get("delta")
        beside = {name: choice[name] for name in sorted(choice.keys() - {"delta"})}
        if choice.get("finish_reason") or choice.get("logprobs") or not isinstance(delta, dict) or len(delta) != 1:
            return None
        if any(value and isinstance(value, list) for value in beside.values()):
            return None  # such as vLLM's token_ids, which clients join as they join the text
        (field,) = delta
        envelope = {name: data[name] for name in sorted(data.keys() - {"choices", "created", "obfuscation"})}
        key = (repr(envelope), repr(beside), field)
        if field in _TEXTS and isinstance(delta[field], str):
            return TextDelta(key, delta[field], lambda text: _with(data, choice, {field: text}))
        calls = objects(delta[field]) if field == "tool_calls" else []
        if len(calls) == 1 and calls[0].keys() == {"index", "function"}:
            call, function = calls[0], calls[0]["function"]
            if (
                isinstance(function, dict)
                and function.keys() == {"arguments"}
                and isinstance(function["arguments"], str)
            ):
                return TextDelta(
                    (*key, call["index"]),
                    function["arguments"],
                    lambda text: _with(data, choice, {field: [{**call, "function": {"arguments": text}}]}),
                )
        return None

    def missing_tail(self) -> Sequence[Event]:
        """See `UpstreamParser.missing_tail`. A relay that reads with OpenAI's own client never sees `[DONE]`."""
        return () if self._done else (DONE,)

    def _delta(self, delta: dict[str, Any]) -> list[Part]:
        parts: list[Part] = []
        if thought := self.text(_either(delta, "reasoning_content", "reasoning"), Reasoning):
            parts.append(Reasoning(thought))
        if text := self.text(_either(delta, "content", "refusal"), Text):
            parts.append(Text(text))
        for call in objects(delta.get("tool_calls")):
            parts += self._call(call)
        if function := mapping(delta.get("function_call")):  # the only call, as the API had it before there were tools
            parts += self._call({"index": -1, "function": function})
        return parts

    def _call(self, call: dict[str, Any]) -> list[Part]:
        index, id, function = call.get("index"), clean(call.get("id")), mapping(call.get("function"))
        if type(index) is not int:
            index = self._begun if id else self._begun - 1
        parts: list[Part] = []
        known = self._calls.get(index)
        if known is None or (id and id != known):
            known = self._calls[index] = id or f"call_{self._begun}"
            self._begun += 1
            parts.append(ToolCall(known, clean(function.get("name"))))
        if text := self.text(function.get("arguments"), ToolInput, known):
            parts.append(ToolInput(known, text))
        return parts

    def _finish(self, reason: Any) -> list[Part]:
        reason = clean(reason)
        if not reason:
            return []
        if reason == "error":
            self.fail(None, None)
            return []
        self.finish()
        return [Finish(_FINISH_REASONS.get(reason, reason))]


def _either(delta: dict[str, Any], first: str, second: str) -> Any:
    """The text that a delta has under one of two names. Some servers say it under both."""
    value = delta.get(first)
    return value if isinstance(value, str) and value else delta.get(second)


def _with(data: dict[str, Any], choice: dict[str, Any], delta: dict[str, Any]) -> Event:
    return block({**data, "choices": [{**choice, "delta": delta}]})
