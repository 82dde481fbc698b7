"""The examples, each against a server that plays the recorded shape of the service that it reads."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from examples.clients import (
    ably_sse,
    anthropic_messages,
    centrifugo_uni,
    durable_streams,
    firebase_rtdb,
    mercure,
    openai_chat,
    openai_responses,
)

from newswire.client import EventSource, Options
from newswire.testing import Answer, BadServer, FakeClock, Seen

RECORDED = Path(__file__).with_name("recorded")
EXAMPLES = sorted(Path(openai_chat.__file__).parent.glob("[a-z]*.py"))


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.sse").read_bytes()


def options() -> Options:
    return Options(clock=FakeClock())


def query(request: Seen) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.target).query)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    """Each example fits a screen."""
    assert len(path.read_text().splitlines()) < 50


def test_openai_chat() -> None:
    """Chat completions: a POST with a JSON body, deltas, and `[DONE]`."""
    with BadServer([Answer(recorded("openai_chat.1"), chunked=True)]) as server:
        assert "".join(openai_chat.complete("hi", base=server.url, key="k")) == "Grüß Gott"
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/events/chat/completions")
    assert json.loads(request.body)["messages"] == [{"role": "user", "content": "hi"}]
    assert request.headers["authorization"] == b"Bearer k"


def test_openai_chat_cut_short() -> None:
    """A stream that ends before `[DONE]` is an error: its end is not the answer's."""
    cut = recorded("openai_chat.1").replace(b"data: [DONE]\n\n", b"")
    with BadServer([Answer(cut)]) as server, pytest.raises(ConnectionError, match="DONE"):
        list(openai_chat.complete("hi", base=server.url, key="k"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("end", ["close", "reset"])
def test_openai_responses(end: str) -> None:
    """Responses in the background: goes on behind the last sequence number, and never sends the POST again."""
    answers = [
        Answer([recorded("openai_responses.1")], chunked=True, end=end, pace=0.05),  # type: ignore[arg-type]
        Answer(recorded("openai_responses.2")),
    ]
    with BadServer(answers) as server:
        pieces = openai_responses.respond("hi", base=server.url, key="k", options=options())
        assert list(pieces) == ["Hello", " there"]
    assert [request.method for request in server.requests] == ["POST", "GET"]
    assert query(server.requests[1]) == {"stream": ["true"], "starting_after": ["3"]}
    assert urlsplit(server.requests[1].target).path == "/events/responses/resp_1"


def test_anthropic() -> None:
    """Messages: named events, pings in between, `message_stop`."""
    with BadServer([Answer(recorded("anthropic_messages.1"), chunked=True)]) as server:
        assert list(anthropic_messages.reply("hi", base=server.url, key="k")) == ["Hello", "!"]
    assert server.requests[0].headers["anthropic-version"] == b"2023-06-01"


def test_anthropic_error() -> None:
    """An `error` event is an event like any other, and the example's to raise."""
    with BadServer([Answer(recorded("anthropic_overloaded.1"))]) as server, pytest.raises(RuntimeError, match="Overl"):
        list(anthropic_messages.reply("hi", base=server.url, key="k"))


def test_firebase() -> None:
    """The Realtime Database: a redirect to where the data is, `put`, `patch`, `keep-alive`, `auth_revoked`."""
    with (
        BadServer([Answer(recorded("firebase_rtdb.1")), Answer(recorded("firebase_rtdb.2"))]) as data,
        BadServer([Answer(status=307, headers={"location": f"{data.url}.json?ns=x"})]) as server,
    ):
        values = firebase_rtdb.follow(f"{server.url}.json", options=options())
        assert [next(values) for _ in range(5)] == [
            {"a": 1, "b": {"c": 2, "d": 3}},
            {"a": 1, "b": {"c": 22, "d": 3}},
            {"a": 1, "b": {"c": 22, "d": 33, "e": {"f": 44}}},
            {"b": {"c": 22, "d": 33, "e": {"f": 44}}},
            {"b": {"c": 22}},
        ]
        with pytest.raises(PermissionError, match="no longer valid"):
            next(values)
    assert len(server.requests) == 2  # the reconnect asks the original address


def test_ably() -> None:
    """Ably: an expired token ends the stream, and the next attempt has a new one and the last id."""
    tokens = iter(["one", "two"])
    with BadServer([Answer(recorded("ably_sse.1")), Answer(recorded("ably_sse.2"))]) as server:
        base = f"http://127.0.0.1:{server.port}"
        messages = ably_sse.subscribe("news", token=lambda: next(tokens), base=base, options=options())
        assert [next(messages)["data"] for _ in range(2)] == ['{"n":1}', "two"]
        with pytest.raises(RuntimeError, match="40160"):
            next(messages)
    first, second = server.requests
    assert query(first)["channels"] == ["news"]
    assert second.headers["authorization"] == b"Bearer two"
    assert second.headers["last-event-id"] == b"e024GfHDwBU0Yv@1794000000000-0"


def test_centrifugo() -> None:
    """uni_sse: recovers by the epoch and offset that it puts into the next URL; stops when the server says so."""
    with BadServer([Answer(recorded("centrifugo_uni.1")), Answer(recorded("centrifugo_uni.2"))]) as server:
        messages = centrifugo_uni.subscribe("news", url=server.url, token="t", options=options())
        assert [next(messages) for _ in range(3)] == [("news", {"input": each}) for each in ("one", "two", "three")]
        with pytest.raises(RuntimeError, match="invalid token"):
            next(messages)
    asked = [json.loads(query(request)["cf_connect"][0])["subs"]["news"] for request in server.requests]
    assert asked == [{}, {"recover": True, "epoch": "xcf4", "offset": 8}]


def test_mercure() -> None:
    """Mercure: comments, ids, several lines of data, and a hub that says that it could not go on from our id."""
    answers = [
        Answer(recorded("mercure.1")),
        Answer(recorded("mercure.2"), headers={"Last-Event-ID": "urn:uuid:another"}),
    ]
    with BadServer(answers) as server:
        updates = mercure.subscribe("https://example.com/books/{id}", hub=server.url, options=options())
        found = [next(updates) for _ in range(4)]
        updates.close()
    assert [update.data if update else None for update in found] == [
        '{"status":"OutOfStock"}',
        "line one\nline two",
        None,
        '{"status":"InStock"}',
    ]
    assert server.requests[1].headers["last-event-id"] == b"urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb"


def test_durable_streams() -> None:
    """Durable Streams: the offset of each `control` event goes into the next URL, until the stream is closed."""
    saved: list[str] = []
    with BadServer([Answer(recorded("durable_streams.1")), Answer(recorded("durable_streams.2"))]) as server:
        messages = list(durable_streams.read(server.url, saved=saved.append, options=options()))
    assert [(message["op"], message["key"]) for message in messages] == [
        ("insert", "1"),
        ("insert", "2"),
        ("delete", "1"),
    ]
    assert query(server.requests[0]) == {"offset": ["-1"], "live": ["sse"]}
    assert query(server.requests[1])["offset"] == saved[:1]
    assert query(server.requests[1])["cursor"] == ["1024"]


def test_electric_shape() -> None:
    """Electric's shapes: plain messages and control messages, told apart by their headers."""
    answers = [Answer(recorded("electric_shape.1")), Answer(status=204)]
    with BadServer(answers) as server, EventSource(server.url, options=options()) as source:
        change, control = list(source.json())
    assert change["headers"]["operation"] == "insert"
    assert control["headers"]["control"] == "up-to-date"
