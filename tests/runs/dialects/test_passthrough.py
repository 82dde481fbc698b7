"""Runs that store an upstream's raw events: unchanged to clients of its format, and parts to all others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.runs.dialects.clients import CLIENTS
from tests.runs.dialects.conftest import Streams
from tests.runs.dialects.ends import each_end
from tests.runs.dialects.scripts import PLAIN
from tests.runs.dialects.wire import cuts, encoded, stream, told

from newswire.runs.dialects import DIALECTS, PARSERS, End, Head, dialect_for
from newswire.runs.parts import Part, Progress, Text
from newswire.wire.event import Event

UPSTREAM = Head("up-1", created=1_700_000_000, meta={"model": "large-2"})


def raw_head(name: str) -> Head:
    """The run that stores an upstream's raw events."""
    return Head("run-9", created=1_790_000_000, meta={"raw": name})


def raw(name: str, run: Sequence[Part | Event]) -> list[Event]:
    """What an upstream sends."""
    return [event for group in told(DIALECTS[name](UPSTREAM), run) for event in group]


def broken_off(name: str) -> list[Event]:
    """What an upstream sends before it breaks off in the middle of its answer."""
    return [event for group in told(DIALECTS[name](UPSTREAM), PLAIN["reasoning"][:12])[:-1] for event in group]


def more(name: str, kind: str, **data: Any) -> Event:
    """An event of the upstream's that parts can't say."""
    return Event(json.dumps({**({} if name == "openai-chat" else {"type": kind}), **data}), kind)


def with_extras(name: str) -> list[Event]:
    """A stream with events between the usual ones that only its own format knows."""
    events = raw(name, PLAIN["text"])
    if name == "anthropic":
        events.insert(4, more(name, "ping"))
        citation = {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "fox"}}
        events.insert(9, more(name, "content_block_delta", index=0, delta=citation))
    elif name == "openai-chat":
        envelope = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "large-2"}
        odds = {"content": [{"token": "x", "logprob": -1.0, "bytes": None, "top_logprobs": []}], "refusal": None}
        choice = {"index": 0, "delta": {"content": "!"}, "logprobs": odds, "finish_reason": None}
        events.insert(5, more(name, "message", **envelope, choices=[choice]))
    return events


RAW = {
    name: {**{script: raw(name, run) for script, run in PLAIN.items()}, "extras": with_extras(name)} for name in CLIENTS
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_of_the_same_format_gets_the_events_unchanged(name: str) -> None:
    """A reader from the start gets what the upstream sent, and nothing else."""
    for events in RAW[name].values():
        assert [event for group in told(dialect_for(name, raw_head(name)), events) for event in group] == events


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_cut_off_anywhere_ends_with_the_same_answer(name: str, streams: Streams) -> None:
    """Prelude and tail make what the upstream's own stream makes, at every cut, with the upstream's ids."""
    client = CLIENTS[name](streams)
    whole = {
        script: client.final(stream(dialect_for(name, raw_head(name)), events)) for script, events in RAW[name].items()
    }
    assert {final["id"] for final in whole.values()} == {"up-1"}
    assert {final["model"] for final in whole.values()} == {"large-2"}
    for script, cut, seed in cuts(RAW[name], 100):
        body = stream(dialect_for(name, raw_head(name)), RAW[name][script], cut, seed=seed)
        assert client.final(body) == whole[script], (script, cut, seed)
    client.close()


@pytest.mark.parametrize("name", CLIENTS)
def test_the_prelude_is_short(name: str) -> None:
    """Skipped events come in a few blocks, however many they were."""
    dialect = dialect_for(name, raw_head(name))
    events = raw(name, [Text("word ")] * 1000)
    for event in events[:-4]:
        dialect.skip_event(event.event, event.data)
    assert len(dialect.prelude()) < 8


@pytest.mark.parametrize("field", ["token_ids", "content_filter_results"])
def test_what_an_upstream_says_beside_its_text_is_in_the_prelude(field: str) -> None:
    """Chunks with a list, such as vLLM's tokens, or with different values, are not joined; the same one counts once."""
    values: list[Any] = [[1], [1]] if field == "token_ids" else [{"hate": "low"}, {"hate": "safe"}, {"hate": "safe"}]
    chunks = [{"choices": [{"index": 0, "delta": {"content": "ha"}, field: value}]} for value in values]
    dialect = dialect_for("openai-chat", raw_head("openai-chat"))
    for chunk in chunks:
        dialect.skip_event("message", json.dumps(chunk))
    choices = [event.json()["choices"][0] for event in dialect.prelude()]
    assert [choice[field] for choice in choices] == values[:2]
    assert "".join(choice["delta"]["content"] for choice in choices) == "ha" * len(values)


@pytest.mark.slow
@pytest.mark.parametrize("other", DIALECTS)
@pytest.mark.parametrize("name", CLIENTS)
def test_other_clients_read_the_same_run(name: str, other: str) -> None:
    """A dialect tells an upstream's raw events as it tells the parts that they say, at every cut."""
    if other == name:
        return

    for script in ("reasoning", "tools", "call"):
        reader = PARSERS[name]()
        events = RAW[name][script]
        groups = [reader.feed(event) for event in events]
        for cut in range(len(events) + 1):
            told_of_parts = DIALECTS[other](raw_head("none"))
            for group in groups[:cut]:
                for part in group:
                    told_of_parts.skip(part)
            wanted = told_of_parts.prelude()
            for group in groups[cut:]:
                wanted += [event for part in group for event in told_of_parts.write(part)]
            wanted += told_of_parts.end(End("done"))
            found = [e for group in told(dialect_for(other, raw_head(name)), events, cut) for e in group]
            assert found == wanted, (script, cut)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("cut", [0, 1, 5])
@each_end
def test_an_answer_that_is_not_whole_raises(
    name: str, streams: Streams, end: End | None, code: str, message: str, cut: int
) -> None:
    """A run that ends before its upstream has finished ends with an error in the format's own shape."""
    import anthropic
    import openai

    client = CLIENTS[name](streams)
    groups = told(dialect_for(name, raw_head(name)), broken_off(name), cut, end)
    accumulator = "response.completed" if name == "openai-responses" else message
    with pytest.raises((openai.APIError, anthropic.APIStatusError, RuntimeError), match=f"{message}|{accumulator}"):
        client.final(encoded(groups))
    client.close()
    last = groups[-1][-1].json()
    assert message in json.dumps(last)
    if name == "openai-responses":
        numbers = [event.json()["sequence_number"] for group in groups for event in group]
        assert numbers == sorted(set(numbers))
        assert last.get("response", {}).get("id", "up-1") == "up-1"


@pytest.mark.parametrize("cut", [0, 5])
def test_a_response_that_is_not_whole_has_the_items_that_were_sent(cut: int) -> None:
    """Each item keeps the id that the upstream gave it, and has all that was written to it."""
    for run in PLAIN.values():
        events = [
            Event(event.data.replace("_up-1_", "_of_the_upstream_"), event.event)
            for event in raw("openai-responses", run)
        ]
        for length in range(cut + 2, len(events)):
            groups = told(dialect_for("openai-responses", raw_head("openai-responses")), events[:length], cut)
            written: dict[str, str] = {}
            for event in events[:length]:
                data = event.json()
                if event.event == "response.output_item.added":
                    written[data["item"]["id"]] = data["item"].get("output", "")
                elif event.event.endswith(".delta"):
                    written[data["item_id"]] += data["delta"]
            found = {item["id"]: text_of(item) for item in groups[-1][-1].json()["response"]["output"]}
            assert list(found) == list(written)
            assert found == {id: text or found[id] for id, text in written.items()}


def text_of(item: dict[str, Any]) -> str:
    """What is written in an item of a response."""
    parts = item.get("content", item.get("summary", ()))
    return str(item.get("output", item.get("arguments", "".join(part["text"] for part in parts))))


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("other", DIALECTS)
def test_the_end_of_an_upstream_is_no_end_of_its_answer(name: str, other: str) -> None:
    """A producer that is done with an upstream that broke off has no whole answer to tell."""
    events = broken_off(name)
    *_, last = told(dialect_for(other, raw_head(name)), events)
    assert "upstream's stream ended before its answer was whole" in last[0].data


@pytest.mark.parametrize("name", CLIENTS)
def test_after_the_last_word_nothing_is_added(name: str) -> None:
    """A whole answer, or an upstream's own error, is not followed by anything."""
    whole = RAW[name]["text"]
    for end in (End("done"), End("stopped"), None):
        assert told(dialect_for(name, raw_head(name)), whole, end=end)[-1] == []


def test_a_relay_that_never_saw_done() -> None:
    """A whole answer whose `[DONE]` a library swallowed gets it back."""
    events = RAW["openai-chat"]["text"][:-1]
    assert told(dialect_for("openai-chat", raw_head("openai-chat")), events)[-1] == [Event("[DONE]")]


@pytest.mark.parametrize("name", CLIENTS)
def test_other_events_of_the_run_do_not_reach_the_formats_clients(name: str) -> None:
    """Progress stored between raw events would break a client: only the dialects that have a place for it write it."""
    run: list[Part | Event] = [*RAW[name]["text"][:3], Progress(1, 2), *RAW[name]["text"][3:]]
    assert [e for group in told(dialect_for(name, raw_head(name)), run, 5) for e in group][-3:] == RAW[name]["text"][
        -3:
    ]
    plain = [e for group in told(dialect_for(name, raw_head(name)), run) for e in group]
    assert plain == RAW[name]["text"]
    other = [e.data for group in told(dialect_for("ai-sdk", raw_head(name)), run) for e in group]
    assert '{"type":"data-progress","id":"progress","data":{"done":1,"total":2}}' in other
