"""`openai-responses`: the stream of OpenAI's Responses API.

Events with a type and a `sequence_number`, which counts from 0 in each stream. A response is created, gets items of
output, each added, written to and done, and is completed; the last event repeats all of it. Text is a message,
reasoning a summary, a call a `function_call`, and a tool's output a `function_call_output`. Progress and other data are
not told.

A run that failed or was interrupted ends with `response.failed`, one that was stopped or ran out of tokens with
`response.incomplete`. A stream that ends while its run goes on ends with an `error` event: the response did not fail.

`OpenAIResponsesParser` is the way back. Text and arguments are read from their deltas; of a server that sends an item
only when it is done, from the item.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import Dialect, Head, StreamFailure, block
from newswire.runs.dialects.coalesce import TextDelta
from newswire.runs.dialects.tool_calls import Call, ToolCalls
from newswire.runs.dialects.upstream import (
    UpstreamParser,
    clean,
    count,
    key,
    mapping,
    objects,
    parsed,
)
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage, json_or_text
from newswire.wire.event import Event

INCOMPLETE: Final = {"length": "max_output_tokens"}
WHOLE: Final = ("stop", "tool_calls")  # reasons of a complete response; any other makes it incomplete


class OpenAIResponses(Dialect):
    """A run as the events of a response."""

    name = "openai-responses"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._sequence = 0  # the number of the next event
        self._output: list[dict[str, Any]] = []
        self._calls = ToolCalls()
        self._places: dict[str, int] = {}  # the output index of each call
        self._open: type[Text | Reasoning] | None = None  # what the item that is written to holds
        self._place = 0  # its output index
        self._pieces: list[str] = []
        self._usage: Usage | None = None
        self._finish: str | None = None

    def begin(self) -> list[Event]:
        """See `Dialect.begin`."""
        return [
            self._event("response.created", response=self._response("in_progress")),
            self._event("response.in_progress", response=self._response("in_progress")),
        ]

    def write(self, part: Part) -> list[Event]:
        """See `Dialect.write`."""
        if isinstance(part, (Text, Reasoning)):
            return self._delta(part) if part.text else []
        if isinstance(part, ToolCall):
            call = self._calls.begin(part)
            return [] if call is None else [*self._shut(), self._call(call)]
        if isinstance(part, ToolInput):
            more = self._calls.more(part)
            return [] if more is None else self._input(*more)
        if isinstance(part, ToolOutput):
            return self._answer(part)
        if isinstance(part, Usage):
            self._usage = part
        elif isinstance(part, Finish):
            self._finish = part.reason
            return self._all_whole()
        return []

    def close(self, result: Any) -> list[Event]:
        """See `Dialect.close`."""
        events = [*self._all_whole(), *self._shut()]
        reason = self._calls.reason(self._finish)
        if reason not in WHOLE:
            return [*events, self._incomplete(INCOMPLETE.get(reason, reason))]
        return [*events, self._event("response.completed", response=self._response("completed"))]

    def fail(self, problem: StreamFailure) -> list[Event]:
        """See `Dialect.fail`."""
        if problem.code == "goodbye":
            fields = {"code": problem.code, "message": problem.message, "param": None}
            return [self._event("error", **fields, error={"type": problem.type, **fields})]
        self._remember()
        if problem.code == "stopped":
            return [self._incomplete(problem.code)]
        error = {"code": problem.code, "type": problem.type, "message": problem.message}
        return [self._event("response.failed", response=self._response("failed", error=error))]

    def follow(self, reader: OpenAIResponsesParser) -> None:
        """Go on behind an upstream: with the next number, and with its items, by their ids."""
        self._sequence = reader.sequence + 1
        if reader.items:
            self._open = None
            self._output = reader.output()

    # -- text and reasoning

    def _delta(self, part: Text | Reasoning) -> list[Event]:
        events = []
        if self._open is not type(part):
            events = [*self._shut(), *self._begin(type(part))]
        self._pieces.append(part.text)
        if isinstance(part, Text):
            fields = self._at(self._place, content_index=0, delta=part.text, logprobs=[])
            return [*events, self._event("response.output_text.delta", **fields)]
        fields = self._at(self._place, summary_index=0, delta=part.text)
        return [*events, self._event("response.reasoning_summary_text.delta", **fields)]

    def _begin(self, kind: type[Text | Reasoning]) -> list[Event]:
        """Add an item that text or reasoning is written to."""
        self._open = kind
        self._place = len(self._output)
        self._pieces = []
        if kind is Text:
            added = self._add("msg", type="message", status="in_progress", role="assistant", content=[])
            fields = self._at(self._place, content_index=0, part=_part(kind, ""))
            return [added, self._event("response.content_part.added", **fields)]
        added = self._add("rs", type="reasoning", status="in_progress", summary=[])
        fields = self._at(self._place, summary_index=0, part=_part(kind, ""))
        return [added, self._event("response.reasoning_summary_part.added", **fields)]

    def _remember(self) -> None:
        """Put what was written into the open item."""
        if self._open is not None:
            field = "content" if self._open is Text else "summary"
            self._output[self._place][field] = [_part(self._open, "".join(self._pieces))]

    def _shut(self) -> list[Event]:
        """Say that the item that is written to is done."""
        if self._open is None:
            return []
        self._remember()
        text = "".join(self._pieces)
        part = _part(self._open, text)
        if self._open is Text:
            done = self._event(
                "response.output_text.done", **self._at(self._place, content_index=0, text=text, logprobs=[])
            )
            part_done = self._event("response.content_part.done", **self._at(self._place, content_index=0, part=part))
        else:
            done = self._event(
                "response.reasoning_summary_text.done", **self._at(self._place, summary_index=0, text=text)
            )
            part_done = self._event(
                "response.reasoning_summary_part.done", **self._at(self._place, summary_index=0, part=part)
            )
        self._open = None
        return [done, part_done, self._done(self._place)]

    # -- tools

    def _call(self, call: Call) -> Event:
        self._places[call.id] = len(self._output)
        return self._add(
            "fc", type="function_call", status="in_progress", call_id=call.id, name=call.name, arguments=""
        )

    def _input(self, call: Call, text: str) -> list[Event]:
        fields = self._at(self._places[call.id], delta=text)
        return [
            self._event("response.function_call_arguments.delta", **fields),
            *(self._whole(call) if call.whole else ()),
        ]

    def _whole(self, call: Call) -> list[Event]:
        """Say that a call is done, once. An input that never came is an empty object: clients parse it."""
        place = self._places[call.id]
        if self._output[place]["status"] == "completed":
            return []
        call.whole = True
        arguments = self._output[place]["arguments"] = call.text.strip() or "{}"
        fields = self._at(place, name=call.name, arguments=arguments)
        return [self._event("response.function_call_arguments.done", **fields), self._done(place)]

    def _all_whole(self) -> list[Event]:
        return [event for call in self._calls for event in self._whole(call)]

    def _answer(self, part: ToolOutput) -> list[Event]:
        call = self._calls.answer(part)
        if call is None:
            return []
        events = [*self._whole(call), *self._shut()]
        status = "incomplete" if part.error else "completed"
        place = len(self._output)
        added = self._add("fco", type="function_call_output", status=status, call_id=call.id, output=part.text)
        return [*events, added, self._done(place, status)]

    # -- the response and its items

    def _add(self, prefix: str, **fields: Any) -> Event:
        place = len(self._output)
        self._output.append({"id": f"{prefix}_{self.head.id}_{place}", **fields})
        return self._event("response.output_item.added", output_index=place, item=self._output[place])

    def _done(self, place: int, status: str = "completed") -> Event:
        self._output[place]["status"] = status
        return self._event("response.output_item.done", output_index=place, item=self._output[place])

    def _at(self, place: int, **fields: Any) -> dict[str, Any]:
        return {"item_id": self._output[place]["id"], "output_index": place, **fields}

    def _incomplete(self, reason: str) -> Event:
        details = {"reason": reason}
        return self._event("response.incomplete", response=self._response("incomplete", incomplete_details=details))

    def _response(self, status: str, **fields: Any) -> dict[str, Any]:
        return {
            "id": self.head.id,
            "object": "response",
            "created_at": int(self.head.created),
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self.head.model,
            "output": self._output,
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None if self._usage is None else _usage(self._usage),
            **fields,
        }

    def _event(self, type: str, **fields: Any) -> Event:
        made = block({"type": type, "sequence_number": self._sequence, **fields}, type)
        self._sequence += 1
        return made


def _part(kind: type[Text | Reasoning], text: str) -> dict[str, Any]:
    if kind is Text:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "summary_text", "text": text}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


_TEXTS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHTS: Final = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_INPUTS: Final = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
# Why a response is incomplete, as `Finish` says it. A reason that is not here is passed on as it is; but one that was
# stopped, as newswire itself says it, has no answer.
_SHORT: Final = {"max_output_tokens": "length"}
_STOPPED: Final = "stopped"
# Where the text of an item's content or summary is, by the item's type.
_WRITTEN: Final = {"message": "content", "reasoning": "summary"}


class OpenAIResponsesParser(UpstreamParser):
    """Reads the events of a response.

    Attributes:
        sequence: the last `sequence_number`; -1 before there was one.
        items: the items of the output, by their places, as they were added or done.
    """

    name = "openai-responses"

    def __init__(self) -> None:
        super().__init__()
        self.sequence: int = -1
        self.items: dict[Any, dict[str, Any]] = {}
        self._calls: dict[Any, str] = {}  # the id of the call in the item at this place
        self._unanswered: set[str] = set()
        self._streamed: dict[Any, list[str]] = {}  # what deltas have brought, by place; empty once the item is done

    def output(self) -> list[dict[str, Any]]:
        """The items as far as they came, with what was written to those that are not done."""
        return [_with_text(item, "".join(self._streamed.get(place, ()))) for place, item in self.items.items()]

    def object(self, event: Event) -> dict[str, Any] | None:
        """See `UpstreamParser.object`."""
        data = parsed(event)
        if data is None:
            return None
        # Some servers leave out the event's type, which the data says again.
        kind = clean(data.get("type"))
        named = event.event in (kind, "message")
        return data if named and (kind == "error" or kind.startswith("response.")) else None

    def read(self, data: dict[str, Any]) -> list[Part]:
        """See `UpstreamParser.read`."""
        kind = data["type"]
        # Some servers leave out the index; then the item's id tells items apart.
        place = key(data.get("output_index", data.get("item_id", mapping(data.get("item")).get("id"))))
        self.sequence = max(self.sequence, count(data.get("sequence_number")))
        if kind.endswith(".delta"):
            return self._delta(kind, place, data.get("delta"))
        if kind in ("response.output_item.added", "response.output_item.done"):
            item = self.items[place] = mapping(data.get("item"))
            return self._added(place, item) if kind.endswith("added") else self._done(place, item)
        if kind == "response.reasoning_summary_part.added" and count(data.get("summary_index")):
            return [Reasoning("\n\n")]
        if kind == "error":
            error = mapping(data.get("error")) or data
            self.fail(error.get("code"), error.get("message"))
            return []
        response = mapping(data.get("response"))
        self.called(response.get("id"), response.get("model"))
        return self._ended(kind, response)

    def text_delta(self, event: Event) -> TextDelta[Event] | None:
        """See `UpstreamParser.text_delta`."""
        data = self.object(event)
        if data is None or data["type"] not in _TEXTS | _THOUGHTS | _INPUTS:
            return None
        if data.get("logprobs") or not isinstance(data.get("delta"), str):
            return None
        envelope = {name: data[name] for name in sorted(data.keys() - {"delta", "sequence_number", "obfuscation"})}
        kind = event.event
        return TextDelta(repr(envelope), data["delta"], lambda text: block({**data, "delta": text}, kind))

    def _delta(self, kind: str, place: Any, value: Any) -> list[Part]:
        part: Text | Reasoning | ToolInput | None = None
        if kind in _TEXTS:
            part = Text(self.text(value, Text))
        elif kind in _THOUGHTS:
            part = Reasoning(self.text(value, Reasoning))
        elif kind in _INPUTS and place in self._calls:
            call = self._calls[place]
            part = ToolInput(call, self.text(value, ToolInput, call))
        if part is None or not isinstance(value, str) or not value:
            return []
        self._streamed.setdefault(place, []).append(part.text)
        return [part] if part.text else []

    def _added(self, place: Any, item: dict[str, Any]) -> list[Part]:
        if item.get("type") not in ("function_call", "custom_tool_call"):
            return []
        id = clean(item.get("call_id")) or clean(item.get("id")) or f"call_{len(self._calls)}"
        self._calls[place] = id
        self._unanswered.add(id)
        return [ToolCall(id, clean(item.get("name")))]

    def _done(self, place: Any, item: dict[str, Any]) -> list[Part]:
        kind = clean(item.get("type"))
        if kind == "function_call_output":
            return self._output(item)
        if place in self._streamed:
            self._streamed[place] = []
            return []
        if kind in _WRITTEN:
            texts = [
                clean(part.get("text")) or clean(part.get("refusal")) for part in objects(item.get(_WRITTEN[kind]))
            ]
            text = ("" if kind == "message" else "\n\n").join(texts)
            part = Text(text) if kind == "message" else Reasoning(text)
            return [part] if text else []
        if kind in ("function_call", "custom_tool_call"):
            begun = [] if place in self._calls else self._added(place, item)
            given = clean(item.get("arguments")) or clean(item.get("input"))
            return [*begun, ToolInput(self._calls[place], given)] if given else begun
        return []

    def _output(self, item: dict[str, Any]) -> list[Part]:
        id, output = clean(item.get("call_id")), item.get("output")
        if isinstance(output, str):
            output = json_or_text(clean(output))
        self._unanswered.discard(id)
        return [ToolOutput(id, output, item.get("status") == "incomplete")]

    def _ended(self, kind: str, response: dict[str, Any]) -> list[Part]:
        if kind == "response.completed":
            self.finish()
            return [Finish("tool_calls" if self._unanswered else "stop"), *_usage_of(response)]
        if kind == "response.incomplete":
            reason = clean(mapping(response.get("incomplete_details")).get("reason"))
            if reason and reason != _STOPPED:
                self.finish()
                return [Finish(_SHORT.get(reason, reason)), *_usage_of(response)]
            self.fail(reason, f"The upstream's response is incomplete: {reason or 'it does not say why'}.")
        elif kind in ("response.failed", "response.cancelled"):
            error = mapping(response.get("error"))
            self.fail(error.get("code") or kind, error.get("message"))
        return []


def _with_text(item: dict[str, Any], text: str) -> dict[str, Any]:
    if not text:
        return item
    kind = item.get("type")
    if kind in _WRITTEN:
        return {**item, _WRITTEN[kind]: [_part(Text if kind == "message" else Reasoning, text)]}
    return {**item, "input" if kind == "custom_tool_call" else "arguments": text}


def _usage_of(response: dict[str, Any]) -> list[Part]:
    usage = mapping(response.get("usage"))
    return [Usage(count(usage.get("input_tokens")), count(usage.get("output_tokens")))] if usage else []
