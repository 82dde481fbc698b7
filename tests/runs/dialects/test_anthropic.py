"""`anthropic`, read by Anthropic's own Python client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from tests.runs.dialects.conftest import Streams
from tests.runs.dialects.ends import each_end
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import DONE, cuts, encoded, told

from newswire.runs.dialects import End, dialect_for
from newswire.runs.parts import Part


class Client:
    """Anthropic's client, pointed at one stream after the other."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._anthropic = anthropic.Anthropic(api_key="none", base_url="http://127.0.0.1", max_retries=0)

    def final(self, parts: list[Part], cut: int = 0, end: End | None = DONE, *, seed: int = 0) -> dict[str, Any]:
        """The message that the client makes of what it is told."""
        body = encoded(told(dialect_for("anthropic", HEAD), parts, cut, end, seed=seed), seed)
        client = self._anthropic.with_options(base_url=self._streams.serve(body))
        with client.messages.stream(model="m", messages=[], max_tokens=9) as stream:
            final: dict[str, Any] = stream.get_final_message().model_dump()
        return final

    def close(self) -> None:
        self._anthropic.close()


@pytest.fixture
def client(streams: Streams) -> Iterator[Client]:
    """A client for the test."""
    client = Client(streams)
    yield client
    client.close()


def test_a_client_cut_off_anywhere_ends_with_the_same_message(client: Client) -> None:
    """Prelude and tail make what the whole makes, at every cut."""
    whole = {name: client.final(parts) for name, parts in SCRIPTS.items()}
    for name, cut, seed in cuts(SCRIPTS, 300):
        assert client.final(SCRIPTS[name], cut, seed=seed) == whole[name], (name, cut, seed)


def test_the_message_says_what_the_run_said(client: Client) -> None:
    """Text, thinking, calls, usage and the reason arrive as they were written, block after block."""
    final = client.final(SCRIPTS["tools"])
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
    assert client.final(SCRIPTS["call"])["stop_reason"] == "tool_use"


@each_end
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_raises(client: Client, end: End | None, code: str, message: str, cut: int) -> None:
    """The client raises an APIStatusError that says why, and never takes what came for the answer."""
    with pytest.raises(anthropic.APIStatusError, match=message) as caught:
        client.final(SCRIPTS["reasoning"], cut, end)
    assert caught.value.body["error"]["code"] == code  # type: ignore[index]  # body is an object
