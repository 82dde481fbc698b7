"""`openai-responses`, read by OpenAI's own Python client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.runs.dialects.conftest import Streams
from tests.runs.dialects.ends import each_end
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import DONE, cuts, encoded, told

from newswire.runs.dialects import End, dialect_for
from newswire.runs.parts import Finish, Part, Text

TOOLS: Any = [
    {"type": "function", "name": name, "strict": True, "parameters": {"type": "object"}}
    for name in ("weather", "confirm", "now", "näme")
]


class Client:
    """OpenAI's client, pointed at one stream after the other."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._openai = openai.OpenAI(api_key="none", base_url="http://127.0.0.1", max_retries=0)

    def read(
        self, parts: list[Part], cut: int = 0, end: End | None = DONE, *, seed: int = 0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The response that the client ends with, and what its accumulator made of the deltas before."""
        body = encoded(told(dialect_for("openai-responses", HEAD), parts, cut, end, seed=seed), seed)
        client = self._openai.with_options(base_url=self._streams.serve(body))
        said: dict[int, str] = {}
        numbers: list[int] = []
        with client.responses.stream(model="m", input="", tools=TOOLS) as stream:
            for event in stream:
                numbers.append(event.sequence_number)
                if event.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
                    said[event.output_index] = event.snapshot
            final = stream.get_final_response().model_dump()
        assert numbers == list(range(len(numbers)))
        return final, {str(place): text for place, text in said.items()}

    def raw(self, parts: list[Part], cut: int, end: End | None) -> Any:
        """The last event that the client gives before it ends or raises."""
        body = encoded(told(dialect_for("openai-responses", HEAD), parts, cut, end))
        client = self._openai.with_options(base_url=self._streams.serve(body))
        with client.responses.create(model="m", input="", stream=True) as stream:
            return list(stream)[-1]

    def close(self) -> None:
        self._openai.close()


@pytest.fixture
def client(streams: Streams) -> Iterator[Client]:
    """A client for the test."""
    client = Client(streams)
    yield client
    client.close()


def test_a_client_cut_off_anywhere_ends_with_the_same_response(client: Client) -> None:
    """Prelude and tail make what the whole makes, at every cut; so do the deltas alone."""
    whole = {name: client.read(parts) for name, parts in SCRIPTS.items()}
    for name, cut, seed in cuts(SCRIPTS, 300):
        assert client.read(SCRIPTS[name], cut, seed=seed) == whole[name], (name, cut, seed)


def test_the_response_says_what_the_run_said(client: Client) -> None:
    """Text, reasoning, calls, outputs and usage arrive as they were written, item after item."""
    final, said = client.read(SCRIPTS["tools"])
    assert (final["id"], final["model"], final["status"]) == ("run-7f3a", "small-1", "completed")
    items = []
    for item in final["output"]:
        written = item.get("content") or item.get("summary")
        items.append((item["type"], written[0]["text"] if written else item.get("arguments") or item.get("output")))
    assert items == [
        ("reasoning", "I have to look."),
        ("message", "I look it up."),
        ("function_call", '{"city": "Paris", "days": [1, 2]}'),
        ("function_call", '{"city": "Köln {sic}", "days": []}'),
        ("function_call_output", '{"sky":"grey","degrees":4.5}'),
        ("function_call_output", "sunny"),
        ("message", "One more thing."),
        ("function_call", "{}"),
        ("function_call_output", '{"why":"no clock"}'),
        ("reasoning", "No matter."),
        ("message", "Sun in Paris, clouds in Köln."),
    ]
    assert [item["status"] for item in final["output"]].count("completed") == 10
    assert final["usage"]["total_tokens"] == 96
    assert said["1"] == "I look it up."
    assert said["2"] == '{"city": "Paris", "days": [1, 2]}'


def test_an_answer_that_was_cut_short_is_incomplete(client: Client) -> None:
    """A model that ran out of tokens ends as OpenAI's does."""
    last = client.raw([Text("A long"), Finish("length")], 0, DONE)
    assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", "max_output_tokens")


@each_end
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_raises(client: Client, end: End | None, code: str, message: str, cut: int) -> None:
    """The accumulating client raises; one that reads events gets a last one that says why, or an APIError."""
    with pytest.raises((openai.APIError, RuntimeError)):
        client.read(SCRIPTS["reasoning"], cut, end)
    if end is None:
        with pytest.raises(openai.APIError, match=message) as caught:
            client.raw(SCRIPTS["reasoning"], cut, end)
        assert caught.value.code == code
        return
    last = client.raw(SCRIPTS["reasoning"], cut, end)
    if code == "stopped":
        assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", code)
    else:
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert last.response.error.code == code
        assert message in last.response.error.message
    assert last.response.output[-1].content[0].text == "It is four, of course."
