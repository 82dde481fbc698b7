"""`anthropic`, read by Anthropic's own Python client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.runs.dialects.clients import AnthropicClient
from tests.runs.dialects.conftest import Streams
from tests.runs.dialects.ends import each_end
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import DONE, cuts, stream

from newswire.runs.dialects import End, dialect_for


def body(name: str, cut: int = 0, end: End | None = DONE, *, seed: int = 0) -> bytes:
    """The stream of a script's run."""
    return stream(dialect_for("anthropic", HEAD), SCRIPTS[name], cut, end, seed=seed)


@pytest.fixture
def client(streams: Streams) -> Iterator[AnthropicClient]:
    """A client for the test."""
    client = AnthropicClient(streams)
    yield client
    client.close()


@pytest.mark.slow
def test_a_client_cut_off_anywhere_ends_with_the_same_message(client: AnthropicClient) -> None:
    """Prelude and tail make what the whole makes, at every cut."""
    whole = {name: client.final(body(name)) for name in SCRIPTS}
    for name, cut, seed in cuts(SCRIPTS, 150):
        assert client.final(body(name, cut, seed=seed)) == whole[name], (name, cut, seed)


def test_the_message_says_what_the_run_said(client: AnthropicClient) -> None:
    """Text, thinking, calls, usage and the reason arrive as they were written, block after block."""
    final = client.final(body("tools"))
    assert (final["id"], final["model"], final["role"]) == ("run-7f3a", "small-1", "assistant")
    blocks = [
        (block["type"], block.get("text") or block.get("thinking") or (block.get("id"), block.get("input")))
        for block in final["content"]
    ]
    assert blocks == [
        ("thinking", "I have to look."),
        ("text", "I look it up."),
        ("tool_use", ("call-a", {"city": "Paris", "days": [1, 2]})),
        ("tool_use", ("call-b", {"city": "Köln {sic}", "days": []})),
        ("text", "One more thing."),
        ("tool_use", ("call-c", {})),
        ("thinking", "No matter."),
        ("text", "Sun in Paris, clouds in Köln."),
    ]
    assert final["stop_reason"] == "end_turn"
    assert (final["usage"]["input_tokens"], final["usage"]["output_tokens"]) == (64, 32)
    assert client.final(body("call"))["stop_reason"] == "tool_use"


@each_end
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_raises(
    client: AnthropicClient, end: End | None, code: str, message: str, cut: int
) -> None:
    """The client raises an APIStatusError that says why, and never takes what came for the answer."""
    import anthropic

    with pytest.raises(anthropic.APIStatusError, match=message) as caught:
        client.final(body("reasoning", cut, end))
    assert caught.value.body["error"]["code"] == code  # type: ignore[index]  # body is an object
