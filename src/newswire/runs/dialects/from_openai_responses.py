"""Reading the events of OpenAI's Responses API.

Text and arguments are read from their deltas; of a server that sends an item only when it is done, from the item.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import block
from newswire.runs.dialects.upstream import Piece, Reader, clean, count, key, mapping, objects, parsed
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage, json_or_text
from newswire.wire.event import Event

TEXTS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})
THOUGHTS: Final = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
INPUTS: Final = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
# Why a response is incomplete, as `Finish` says it. A reason that is not here is passed on as it is; but one that was
# stopped, as newswire itself says it, has no answer.
SHORT: Final = {"max_output_tokens": "length"}
STOPPED: Final = "stopped"
# Where the text of an item's content or summary is, by the item's type.
WRITTEN: Final = {"message": "content", "reasoning": "summary"}


class OpenAIResponsesReader(Reader):
    """Reads the events of a response.

    Attributes:
        sequence: the last `sequence_number`; -1 before there was one.
    """

    name = "openai-responses"

    def __init__(self) -> None:
        super().__init__()
        self.sequence = -1
        self._calls: dict[Any, str] = {}  # the id of the call in the item at this place
        self._unanswered: set[str] = set()
        self._said: set[Any] = set()  # the places of items whose deltas came

    def object(self, event: Event) -> dict[str, Any] | None:
        """See `Reader.object`."""
        data = parsed(event)
        if data is None:
            return None
        # Some servers leave out the event's type, which the data says again.
        kind = clean(data.get("type"))
        named = event.event in (kind, "message")
        return data if named and (kind == "error" or kind.startswith("response.")) else None

    def read(self, data: dict[str, Any]) -> list[Part]:
        """See `Reader.read`."""
        kind = data["type"]
        # Some servers leave out the index; then the item's id tells items apart.
        place = key(data.get("output_index", data.get("item_id", mapping(data.get("item")).get("id"))))
        self.sequence = max(self.sequence, count(data.get("sequence_number")))
        if kind.endswith(".delta"):
            return self._delta(kind, place, data.get("delta"))
        if kind == "response.output_item.added":
            return self._added(place, mapping(data.get("item")))
        if kind == "response.output_item.done":
            return self._done(place, mapping(data.get("item")))
        if kind == "response.reasoning_summary_part.added" and count(data.get("summary_index")):
            return [Reasoning("\n\n")]
        if kind == "error":
            error = mapping(data.get("error")) or data
            self.fail(error.get("code"), error.get("message"))
            return []
        response = mapping(data.get("response"))
        self.called(response.get("id"), response.get("model"))
        return self._ended(kind, response)

    def piece(self, event: Event) -> Piece | None:
        """See `Reader.piece`."""
        data = self.object(event)
        if data is None or data["type"] not in TEXTS | THOUGHTS | INPUTS:
            return None
        if data.get("logprobs") or not isinstance(data.get("delta"), str):
            return None
        said = {name: data[name] for name in sorted(data.keys() - {"delta", "sequence_number", "obfuscation"})}
        kind = event.event
        return Piece(repr(said), data["delta"], lambda text: block({**data, "delta": text}, kind))

    def _delta(self, kind: str, place: Any, value: Any) -> list[Part]:
        part: Text | Reasoning | ToolInput | None = None
        if kind in TEXTS:
            part = Text(self.text(value, Text))
        elif kind in THOUGHTS:
            part = Reasoning(self.text(value, Reasoning))
        elif kind in INPUTS and place in self._calls:
            call = self._calls[place]
            part = ToolInput(call, self.text(value, ToolInput, call))
        if part is None or not isinstance(value, str) or not value:
            return []
        self._said.add(place)
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
        if place in self._said:
            return []
        if kind in WRITTEN:
            texts = [clean(part.get("text")) or clean(part.get("refusal")) for part in objects(item.get(WRITTEN[kind]))]
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
            self.finished = True
            return [Finish("tool_calls" if self._unanswered else "stop"), *_usage(response)]
        if kind == "response.incomplete":
            reason = clean(mapping(response.get("incomplete_details")).get("reason"))
            if reason and reason != STOPPED:
                self.finished = True
                return [Finish(SHORT.get(reason, reason)), *_usage(response)]
            self.fail(reason, f"The upstream's response is incomplete: {reason or 'it does not say why'}.")
        elif kind in ("response.failed", "response.cancelled"):
            error = mapping(response.get("error"))
            self.fail(error.get("code") or kind, error.get("message"))
        return []


def _usage(response: dict[str, Any]) -> list[Part]:
    usage = mapping(response.get("usage"))
    return [Usage(count(usage.get("input_tokens")), count(usage.get("output_tokens")))] if usage else []
