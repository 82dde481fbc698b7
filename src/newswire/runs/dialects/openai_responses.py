"""`openai-responses`: the stream of OpenAI's Responses API.

Events with a type and a `sequence_number`, which counts from 0 in each stream. A response is created, gets items of
output, each added, written to and done, and is completed; the last event repeats all of it. Text is a message,
reasoning a summary, a call a `function_call`, and a tool's output a `function_call_output`. Progress and other data are
not told.

A run that failed or was interrupted ends with `response.failed`, one that was stopped or ran out of tokens with
`response.incomplete`. A stream that ends while its run goes on ends with an `error` event: the response did not fail.
"""

from __future__ import annotations

from typing import Any, Final

from newswire.runs.dialects.base import Dialect, Head, Problem, block
from newswire.runs.dialects.calls import Call, Calls
from newswire.runs.parts import Finish, Part, Reasoning, Text, ToolCall, ToolInput, ToolOutput, Usage
from newswire.wire.event import Event
from newswire.wire.strict_json import write_json

INCOMPLETE: Final = {"length": "max_output_tokens"}
WHOLE: Final = ("stop", "tool_calls")  # reasons of a complete response; any other makes it incomplete


class OpenAIResponses(Dialect):
    """A run as the events of a response.

    Attributes:
        sequence: the number of the next event.
    """

    name = "openai-responses"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self.sequence = 0
        self._output: list[dict[str, Any]] = []
        self._calls = Calls()
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

    def fail(self, problem: Problem) -> list[Event]:
        """See `Dialect.fail`."""
        if problem.code == "goodbye":
            told = {"code": problem.code, "message": problem.message, "param": None}
            return [self._event("error", **told, error={"type": problem.type, **told})]
        self._remember()
        if problem.code == "stopped":
            return [self._incomplete(problem.code)]
        error = {"code": problem.code, "type": problem.type, "message": problem.message}
        return [self._event("response.failed", response=self._response("failed", error=error))]

    # -- text and reasoning

    def _delta(self, part: Text | Reasoning) -> list[Event]:
        events = []
        if self._open is not type(part):
            events = [*self._shut(), *self._begin(type(part))]
        self._pieces.append(part.text)
        if isinstance(part, Text):
            told = self._at(self._place, content_index=0, delta=part.text, logprobs=[])
            return [*events, self._event("response.output_text.delta", **told)]
        told = self._at(self._place, summary_index=0, delta=part.text)
        return [*events, self._event("response.reasoning_summary_text.delta", **told)]

    def _begin(self, kind: type[Text | Reasoning]) -> list[Event]:
        """Add an item that text or reasoning is written to."""
        self._open = kind
        self._place = len(self._output)
        self._pieces = []
        if kind is Text:
            added = self._add("msg", type="message", status="in_progress", role="assistant", content=[])
            told = self._at(self._place, content_index=0, part=_part(kind, ""))
            return [added, self._event("response.content_part.added", **told)]
        added = self._add("rs", type="reasoning", status="in_progress", summary=[])
        told = self._at(self._place, summary_index=0, part=_part(kind, ""))
        return [added, self._event("response.reasoning_summary_part.added", **told)]

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
            told = self._event("response.content_part.done", **self._at(self._place, content_index=0, part=part))
        else:
            done = self._event(
                "response.reasoning_summary_text.done", **self._at(self._place, summary_index=0, text=text)
            )
            told = self._event(
                "response.reasoning_summary_part.done", **self._at(self._place, summary_index=0, part=part)
            )
        self._open = None
        return [done, told, self._done(self._place)]

    # -- tools

    def _call(self, call: Call) -> Event:
        self._places[call.id] = len(self._output)
        return self._add(
            "fc", type="function_call", status="in_progress", call_id=call.id, name=call.name, arguments=""
        )

    def _input(self, call: Call, text: str) -> list[Event]:
        told = self._at(self._places[call.id], delta=text)
        return [
            self._event("response.function_call_arguments.delta", **told),
            *(self._whole(call) if call.whole else ()),
        ]

    def _whole(self, call: Call) -> list[Event]:
        """Say that a call is done, once. An input that never came is an empty object: clients parse it."""
        place = self._places[call.id]
        if self._output[place]["status"] == "completed":
            return []
        call.whole = True
        arguments = self._output[place]["arguments"] = call.text.strip() or "{}"
        told = self._at(place, name=call.name, arguments=arguments)
        return [self._event("response.function_call_arguments.done", **told), self._done(place)]

    def _all_whole(self) -> list[Event]:
        return [event for call in self._calls for event in self._whole(call)]

    def _answer(self, part: ToolOutput) -> list[Event]:
        call = self._calls.answer(part)
        if call is None:
            return []
        events = [*self._whole(call), *self._shut()]
        output = part.output if isinstance(part.output, str) else write_json(part.output)
        status = "incomplete" if part.error else "completed"
        place = len(self._output)
        added = self._add("fco", type="function_call_output", status=status, call_id=call.id, output=output)
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
        made = block({"type": type, "sequence_number": self.sequence, **fields}, type)
        self.sequence += 1
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
