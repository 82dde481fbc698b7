"""A real model's streams, relayed: read, passed through, and told in every other dialect."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.fixtures.llm import LLM
from tests.runs.dialects.clients import CLIENTS
from tests.runs.dialects.conftest import Streams, run_node
from tests.runs.dialects.wire import stream

from newswire import Hub
from newswire.runs import Runs, Text, Usage
from newswire.runs.dialects import PARSERS, Head, dialect_for
from newswire.wire import Decoder, Event

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-chat": ("/v1/chat/completions", {"max_tokens": 200, "stream_options": {"include_usage": True}}),
    "openai-responses": ("/v1/responses", {"max_output_tokens": 200}),
    "anthropic": ("/v1/messages", {"max_tokens": 200}),
}


def asked(name: str) -> dict[str, Any]:
    """The body of a request in this format."""
    question = [{"role": "user", "content": "Name a colour."}]
    told = {"input": question} if name == "openai-responses" else {"messages": question}
    return {**told, **ASKED[name][1], "model": LLM.model, "stream": True, "temperature": 0}


@pytest.fixture(scope="module")
def raw(llm: LLM) -> dict[str, list[Event]]:
    """What the model's server sends, in each format that it speaks."""
    found = {}
    for name, (path, _) in ASKED.items():
        answer = httpx2.post(f"{llm.url}{path}", json=asked(name), timeout=60)
        found[name] = [Event(event.data, event.event) for event in Decoder().feed(answer.content)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_the_readers_read_it(raw: dict[str, list[Event]], name: str) -> None:
    """Text and usage are the same in each of the model's formats, and the end is known."""
    reader = PARSERS[name]()
    parts = [part for event in raw[name] for part in reader.feed(event)]
    assert "".join(part.text for part in parts if isinstance(part, Text)).startswith("The")
    usage = [part for part in parts if isinstance(part, Usage)][-1]
    assert 5 < usage.output_tokens < 200
    assert usage.input_tokens > 10
    assert (reader.finished, reader.error, reader.model) == (True, None, LLM.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai-chat", "anthropic"])
def test_its_own_clients_resume_it_anywhere(raw: dict[str, list[Event]], streams: Streams, name: str) -> None:
    """The official client makes the same of prelude and tail as of the model's own stream."""
    client = CLIENTS[name](streams)
    direct = client.final(b"".join(f"event: {e.event}\ndata: {e.data}\n\n".encode() for e in raw[name]))
    for cut in range(len(raw[name]) + 1):
        head = Head("run", meta={"raw": name})
        assert client.final(stream(dialect_for(name, head), raw[name], cut)) == direct
    client.close()


@pytest.fixture
def service(llm: LLM) -> Iterator[str]:
    """A service that asks the model once for all readers, and writes the answer in the dialect of each request."""
    hub = Hub()
    runs = Runs(hub, public=True)

    async def relay() -> AsyncIterator[Event]:
        decoder, (path, _) = Decoder(), ASKED["openai-chat"]
        async with (
            httpx2.AsyncClient(timeout=60) as client,
            client.stream("POST", f"{llm.url}{path}", json=asked("openai-chat")) as upstream,
        ):
            async for data in upstream.aiter_bytes():
                for event in decoder.feed(data):
                    yield Event(event.data, event.event)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await hub.close()

    async def answer(request: Request) -> Response:
        run = await runs.start("chat", relay(), key="one", meta={"raw": "openai-chat"})
        return runs.response(request, run, dialect=request.path_params["dialect"])  # type: ignore[return-value]

    app = Starlette(routes=[Route("/{dialect}/{rest:path}", answer, methods=["GET", "POST"])], lifespan=lifespan)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    started = threading.Event()
    startup = server.startup

    async def told(*arguments: Any, **more: Any) -> None:
        await startup(*arguments, **more)
        started.set()

    server.startup = told  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(20)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.slow
def test_one_answer_in_every_dialect(service: str, raw: dict[str, list[Event]]) -> None:
    """One request to the model is read by five kinds of clients, each by its own library, to the same text."""
    reader = PARSERS["openai-chat"]()
    text = "".join(part.text for e in raw["openai-chat"] for part in reader.feed(e) if isinstance(part, Text))

    chat = Decoder().feed(httpx2.post(f"{service}/openai-chat/x", timeout=60).content)
    assert "".join(event.json()["choices"][0]["delta"].get("content") or "" for event in chat[:-2]) == text
    assert chat[-1].data == "[DONE]"
    [agent] = run_node("read_ag_ui.mjs", [f"{service}/ag-ui/x"])
    assert [message["content"] for message in agent["messages"]] == [text]
    for found in run_node("read_ai_sdk.mjs", [f"{service}/ai-sdk"]).values():
        [answer] = found
        assert (answer["error"], answer["message"]["parts"][1]["text"]) == (None, text)
    response = Decoder().feed(httpx2.post(f"{service}/openai-responses/x", timeout=60).content)
    assert response[-1].json()["response"]["output"][0]["content"][0]["text"] == text
    message = Decoder().feed(httpx2.post(f"{service}/anthropic/x", timeout=60).content)
    assert message[-2].json()["delta"]["stop_reason"] == "end_turn"
    assert len({event.json().get("id") for event in chat[:-1]}) == 1
