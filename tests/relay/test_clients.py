"""The official clients against a real small language model, directly and through `newswire relay`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.llm import LLM
from tests.fixtures.serve import Serve
from tests.fixtures.upstream import Call, Upstream

from newswire.wire import Decoder

pytestmark = pytest.mark.anyio

ASKED = "Name three colours."
TOKENS = 24
CUTS = 12


@pytest.fixture
async def counted(llm: LLM) -> AsyncIterator[Upstream]:
    """The model behind a proxy that counts its requests."""
    async with httpx2.AsyncClient(base_url=llm.url, timeout=100) as client:

        async def script(call: Call) -> None:
            request = client.build_request(
                call.method, call.target, content=call.body, headers={"content-type": "application/json"}
            )
            answer = await client.send(request, stream=True)
            try:
                await call.head(answer.status_code, content_type=answer.headers["content-type"])
                async for chunk in answer.aiter_raw():
                    await call.send(chunk)
                await call.end()
            finally:
                await answer.aclose()

        async with Upstream(script) as upstream:
            yield upstream


async def chat(url: str, headers: Mapping[str, str]) -> tuple[Any, str]:
    """OpenAI's chat completions: the final message and its text."""
    import openai

    async with openai.AsyncOpenAI(api_key="secret-of-a-user", base_url=f"{url}/v1", max_retries=0) as client:
        manager = client.chat.completions.stream(
            model="smollm2",
            messages=[{"role": "user", "content": ASKED}],
            temperature=0,
            seed=7,
            max_tokens=TOKENS,
            extra_headers=headers,
        )
        async with manager as stream:
            try:
                final = await stream.get_final_completion()
            except openai.LengthFinishReasonError as error:  # what the client makes of max_tokens
                final = error.completion
    choice = final.choices[0]
    return (choice.message.model_dump(), choice.finish_reason), choice.message.content or ""


async def responses(url: str, headers: Mapping[str, str]) -> tuple[Any, str]:
    """OpenAI's responses, read as plain events: this server leaves out what the client's own accumulator wants."""
    import openai

    async with openai.AsyncOpenAI(api_key="secret-of-a-user", base_url=f"{url}/v1", max_retries=0) as client:
        stream = await client.responses.create(
            model="smollm2",
            input=ASKED,
            temperature=0,
            max_output_tokens=TOKENS,
            stream=True,
            extra_headers=headers,
        )
        text = ""
        last = ""
        async for event in stream:
            last = event.type
            if event.type == "response.output_text.delta":
                text += event.delta
    return last, text


async def messages(url: str, headers: Mapping[str, str]) -> tuple[Any, str]:
    """Anthropic's messages."""
    import anthropic

    async with anthropic.AsyncAnthropic(api_key="secret-of-a-user", base_url=url, max_retries=0) as client:
        manager = client.messages.stream(
            model="smollm2",
            messages=[{"role": "user", "content": ASKED}],
            max_tokens=TOKENS,
            extra_body={"temperature": 0},
            extra_headers=headers,
        )
        async with manager as stream:
            final = await stream.get_final_message()
    return ([block.model_dump() for block in final.content], final.stop_reason), final.content[0].text


@pytest.mark.slow
@pytest.mark.parametrize("ask", [chat, responses, messages])
async def test_the_answer_is_the_same_through_the_relay_and_resumed_at_cuts(
    ask: Any, llm: LLM, counted: Upstream, tmp_path: Path
) -> None:
    """At temperature 0: final message and text, from one call; a client that comes back with a cursor has the same."""
    direct = await ask(llm.url, {})
    assert len(direct[1]) > 20
    with Serve(tmp_path, "--upstream", counted.url, command="relay") as relay:
        key = {"Idempotency-Key": "a-key"}
        assert await ask(relay.url, key) == direct
        assert await ask(relay.url, key) == direct
        ids = await _ids(relay.url, ask, counted.calls[0])
        cuts = random.Random(4).sample(ids[:-1], CUTS)
        for cut in cuts:
            assert await ask(relay.url, {**key, "Last-Event-ID": cut}) == direct, cut
    assert [call.method for call in counted.calls] == ["POST"]


async def _ids(url: str, ask: Any, call: Call) -> list[str]:
    """The ids that a reader of the run gets."""
    credentials = {name: call.headers[name] for name in ("authorization", "x-api-key") if name in call.headers}
    headers = {**credentials, "idempotency-key": "a-key", "content-type": "application/json"}
    async with httpx2.AsyncClient(timeout=60) as client:
        answer = await client.post(url + call.target, content=call.body, headers=headers)
    return [str(event.id) for event in Decoder().feed(answer.content)]
