"""`openai-chat`, read by OpenAI's own Python client."""

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
from newswire.runs.parts import Part

# Strict tools make the client parse each call's arguments as soon as it takes the call for finished.
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": {"type": "object"}}}
    for name in ("weather", "confirm", "now", "näme")
]


class Client:
    """OpenAI's client, pointed at one stream after the other."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._openai = openai.OpenAI(api_key="none", base_url="http://127.0.0.1", max_retries=0)

    def final(self, parts: list[Part], cut: int = 0, end: End | None = DONE, *, seed: int = 0) -> dict[str, Any]:
        """The completion that the client makes of what it is told."""
        body = encoded(told(dialect_for("openai-chat", HEAD), parts, cut, end, seed=seed), seed)
        client = self._openai.with_options(base_url=self._streams.serve(body))
        asked: dict[str, Any] = {"model": "m", "messages": [], "tools": TOOLS}
        with client.chat.completions.stream(**asked) as stream:
            stream.until_done()
            final: dict[str, Any] = stream.get_final_completion().model_dump()
        return final

    def close(self) -> None:
        self._openai.close()


@pytest.fixture
def client(streams: Streams) -> Iterator[Client]:
    """A client for the test."""
    client = Client(streams)
    yield client
    client.close()


def test_a_client_cut_off_anywhere_ends_with_the_same_completion(client: Client) -> None:
    """Prelude and tail make what the whole makes, at every cut."""
    whole = {name: client.final(parts) for name, parts in SCRIPTS.items()}
    for name, cut, seed in cuts(SCRIPTS, 300):
        assert client.final(SCRIPTS[name], cut, seed=seed) == whole[name], (name, cut, seed)


def test_the_completion_says_what_the_run_said(client: Client) -> None:
    """Text, reasoning, calls, usage and the reason arrive as they were written."""
    final = client.final(SCRIPTS["tools"])
    (choice,) = final["choices"]
    message = choice["message"]
    assert (final["id"], final["model"], final["created"]) == ("run-7f3a", "small-1", 1_790_000_000)
    assert message["role"] == "assistant"
    assert message["content"] == "I look it up.One more thing.Sun in Paris, clouds in Köln."
    assert message["reasoning_content"] == "I have to look.No matter."
    assert [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]
    ] == [
        ("call-a", "weather", '{"city": "Paris", "days": [1, 2]}'),
        ("call-b", "weather", '{"city": "Köln {sic}", "days": []}'),
        ("call-c", "now", "{}"),
    ]
    assert choice["finish_reason"] == "stop"
    assert (final["usage"]["prompt_tokens"], final["usage"]["total_tokens"]) == (64, 96)
    assert client.final(SCRIPTS["call"])["choices"][0]["finish_reason"] == "tool_calls"


@each_end
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_raises(client: Client, end: End | None, code: str, message: str, cut: int) -> None:
    """The client raises an APIError that says why, and never takes what came for the answer."""
    with pytest.raises(openai.APIError, match=message) as caught:
        client.final(SCRIPTS["reasoning"], cut, end)
    assert caught.value.code == code
