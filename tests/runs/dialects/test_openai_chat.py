"""`openai-chat`, read by OpenAI's own Python client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.runs.dialects.clients import ChatClient
from tests.runs.dialects.conftest import Streams
from tests.runs.dialects.ends import each_end
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import DONE, cuts, stream

from newswire.runs.dialects import End, dialect_for


def body(name: str, cut: int = 0, end: End | None = DONE, *, seed: int = 0) -> bytes:
    """The stream of a script's run."""
    return stream(dialect_for("openai-chat", HEAD), SCRIPTS[name], cut, end, seed=seed)


@pytest.fixture
def client(streams: Streams) -> Iterator[ChatClient]:
    """A client for the test."""
    client = ChatClient(streams)
    yield client
    client.close()


@pytest.mark.slow
def test_a_client_cut_off_anywhere_ends_with_the_same_completion(client: ChatClient) -> None:
    """Prelude and tail make what the whole makes, at every cut."""
    whole = {name: client.final(body(name)) for name in SCRIPTS}
    for name, cut, seed in cuts(SCRIPTS, 150):
        assert client.final(body(name, cut, seed=seed)) == whole[name], (name, cut, seed)


def test_the_completion_says_what_the_run_said(client: ChatClient) -> None:
    """Text, reasoning, calls, usage and the reason arrive as they were written."""
    final = client.final(body("tools"))
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
    assert client.final(body("call"))["choices"][0]["finish_reason"] == "tool_calls"


@each_end
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_raises(
    client: ChatClient, end: End | None, code: str, message: str, cut: int
) -> None:
    """The client raises an APIError that says why, and never takes what came for the answer."""
    import openai

    with pytest.raises(openai.APIError, match=message) as caught:
        client.final(body("reasoning", cut, end))
    assert caught.value.code == code
