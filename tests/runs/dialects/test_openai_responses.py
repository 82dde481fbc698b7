"""`openai-responses`, read by OpenAI's own Python client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.runs.dialects.clients import ResponsesClient
from tests.runs.dialects.conftest import Streams
from tests.runs.dialects.ends import each_end
from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import DONE, cuts, stream

from newswire.runs.dialects import End, dialect_for
from newswire.runs.parts import Finish, Text


def body(name: str, cut: int = 0, end: End | None = DONE, *, seed: int = 0) -> bytes:
    """The stream of a script's run."""
    return stream(dialect_for("openai-responses", HEAD), SCRIPTS[name], cut, end, seed=seed)


@pytest.fixture
def client(streams: Streams) -> Iterator[ResponsesClient]:
    """A client for the test."""
    client = ResponsesClient(streams)
    yield client
    client.close()


@pytest.mark.slow
def test_a_client_cut_off_anywhere_ends_with_the_same_response(client: ResponsesClient) -> None:
    """Prelude and tail make what the whole makes, at every cut; so do the deltas alone."""
    whole = {name: client.final(body(name)) for name in SCRIPTS}
    for name, cut, seed in cuts(SCRIPTS, 150):
        assert client.final(body(name, cut, seed=seed)) == whole[name], (name, cut, seed)


def test_the_response_says_what_the_run_said(client: ResponsesClient) -> None:
    """Text, reasoning, calls, outputs and usage arrive as they were written, item after item."""
    final = client.final(body("tools"))
    said = final["said"]
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
    assert said[1] == "I look it up."
    assert said[2] == '{"city": "Paris", "days": [1, 2]}'


def test_an_answer_that_was_cut_short_is_incomplete(client: ResponsesClient) -> None:
    """A model that ran out of tokens ends as OpenAI's does."""
    last = client.events(stream(dialect_for("openai-responses", HEAD), [Text("A long"), Finish("length")]))[-1]
    assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", "max_output_tokens")


@pytest.mark.slow
@each_end
@pytest.mark.parametrize("cut", [0, 9])
def test_an_answer_that_is_not_whole_raises(
    client: ResponsesClient, end: End | None, code: str, message: str, cut: int
) -> None:
    """The accumulating client raises; one that reads events gets a last one that says why, or an APIError."""
    import openai

    with pytest.raises((openai.APIError, RuntimeError)):
        client.final(body("reasoning", cut, end))
    if end is None:
        with pytest.raises(openai.APIError, match=message) as caught:
            client.events(body("reasoning", cut, end))[-1]
        assert caught.value.code == code
        return
    last = client.events(body("reasoning", cut, end))[-1]
    if code == "stopped":
        assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", code)
    else:
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert last.response.error.code == code
        assert message in last.response.error.message
    assert last.response.output[-1].content[0].text == "It is four, of course."
