"""What goes wrong with an upstream: its errors are the client's, and nothing fails in silence."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.fixtures.relay import CHAT, CHAT_PATH, World, owner, text_of
from tests.fixtures.upstream import Call

from newswire.relay import Relay, RelayOptions
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
async def test_an_error_is_the_upstreams_own_and_leaves_nothing(world: World, status: int) -> None:
    """Status, headers and body go through, and the same key may try again."""
    body = b'{"error": {"message": "not now", "type": "some_error"}}'

    async def refuse(call: Call) -> None:
        await call.answer(status, body, retry_after="7", x_request_id="req_1", set_cookie="a=b")

    async def script(call: Call) -> None:
        await call.chat("now")

    world.upstream.script = refuse
    for _ in range(2):
        answer = await world.ask(idempotency_key="k")
        assert answer.status == status
        assert await answer.response.aread() == body
        assert answer.response.headers["retry-after"] == "7"
        assert answer.response.headers["x-request-id"] == "req_1"
        assert answer.response.headers["content-type"] == "application/json"
        assert "set-cookie" not in answer.response.headers
        assert "content-location" not in answer.response.headers
    world.upstream.script = script
    for _ in range(2):
        assert text_of(await (await world.ask(idempotency_key="k")).rest()) == "now"
    assert len(world.upstream.calls) == 3


async def test_all_who_wait_with_one_key_get_the_same_error(world: World) -> None:
    """From one call."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await call.answer(429, b"slow down", retry_after="1")

    world.upstream.script = script
    asking = [asyncio.ensure_future(world.ask(idempotency_key="k")) for _ in range(6)]
    while not world.upstream.calls or world.runs.stats.attached < 5:
        await asyncio.sleep(0)
    go.set()
    answers = await asyncio.gather(*asking)
    assert [(answer.status, await answer.response.aread()) for answer in answers] == [(429, b"slow down")] * 6
    assert len(world.upstream.calls) == 1


async def _elsewhere(call: Call) -> None:
    await call.answer(307, b"", location="http://elsewhere.test/v1/chat/completions")


async def _see_other(call: Call) -> None:
    await call.answer(303, b"", location="/v1/other")


async def _round_and_round(call: Call) -> None:
    await call.answer(308, b"", location=call.target)


async def _json(call: Call) -> None:
    await call.answer(200, b'{"choices": []}')


async def _silent(call: Call) -> None:
    call.cut()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (_elsewhere, "upstream_redirects"),
        (_see_other, "upstream_redirects"),
        (_round_and_round, "upstream_redirects"),
        (_json, "upstream_no_stream"),
        (_silent, "upstream_unreachable"),
    ],
)
async def test_what_is_no_stream_is_a_502_that_says_why(world: World, script: Any, code: str) -> None:
    """Redirects to elsewhere, or without end; another type; no answer at all."""
    world.upstream.script = script
    answer = await world.ask()
    assert answer.status == 502
    said = await answer.json()
    assert said["code"] == code
    assert said["error"]["message"] == said["detail"]


async def test_a_status_that_http_does_not_have(world: World) -> None:
    """It is a 502, for a completion and for all else: no server could pass it on."""

    async def script(call: Call) -> None:
        await call.answer(999, b"go away")

    world.upstream.script = script
    for answer in (await world.ask(), await world.get("/v1/models")):
        problem = json.loads(await answer.response.aread())
        assert (answer.response.status_code, problem["code"]) == (502, "upstream_unreachable")
        assert "the status 999" in problem["detail"]


async def test_a_url_that_is_too_long_together_with_the_upstreams(world: World) -> None:
    """The path alone is allowed; the upstream is not asked."""
    path = "/" + "a" * 65_535
    for answer in (await world.get(path), await world.ask(path=f"{path[: -len(CHAT_PATH)]}{CHAT_PATH}")):
        problem = json.loads(await answer.response.aread())
        assert (answer.response.status_code, problem["code"]) == (400, "invalid_path")
    assert world.upstream.calls == []


async def test_a_redirect_within_the_origin_is_followed(world: World) -> None:
    """With the request as it was."""

    async def script(call: Call) -> None:
        if call.target == CHAT_PATH:
            await call.answer(307, b"", location="/v2/chat/completions")
        else:
            await call.chat(call.headers["authorization"][:6], str(json.loads(call.body) == CHAT))

    world.upstream.script = script
    assert text_of(await (await world.ask()).rest()) == "BearerTrue"


async def test_an_upstream_that_says_nothing_is_a_504(world: World) -> None:
    """And its connection is closed."""

    async def script(call: Call) -> None:
        await call.gone.wait()

    world.upstream.script = script
    world.relay._options = RelayOptions(idle_timeout=0.05)
    answer = await world.ask()
    assert answer.status == 504
    await world.upstream.calls[0].gone.wait()


async def test_nobody_listens(world: World) -> None:
    """An upstream that is not there."""
    world.relay._upstreams.clear()
    other = Relay(world.runs, ["http://127.0.0.1:9"])
    async with asgi_client(other) as client:
        assert (await client.post(CHAT_PATH, json=CHAT)).json()["code"] == "upstream_unreachable"
        assert (await client.get("/v1/models")).json()["code"] == "upstream_unreachable"
    await other.close()


async def _chat_without_done(call: Call) -> None:
    await call.head()
    await call.chunk("half")
    await call.chunk(finish="stop")
    await call.end()


async def _chat_cut(call: Call) -> None:
    await call.head()
    await call.chunk("half")
    call.cut()


async def _chat_error(call: Call) -> None:
    await call.head()
    await call.chunk("half")
    await call.event({"error": {"message": "overloaded", "type": "server_error"}})
    await call.end()


async def _message_without_stop(call: Call) -> None:
    await call.head()
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m"}
    usage = {"input_tokens": 1, "output_tokens": 1}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    await call.event({"type": "message_start", "message": message}, "message_start")
    await call.event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "half"}},
        "content_block_start",
    )
    await call.end()


async def _message_error(call: Call) -> None:
    await call.head()
    await call.event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
    await call.end()


async def _response_without_completed(call: Call) -> None:
    await call.head()
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": [],
        "status": "in_progress",
    }
    await call.event({"type": "response.created", "sequence_number": 0, "response": response}, "response.created")
    await call.end()


@pytest.mark.parametrize("script", [_chat_without_done, _chat_cut, _chat_error])
async def test_a_chat_completion_that_breaks_off_raises(world: World, script: Any) -> None:
    """In OpenAI's own client; the run has failed, also for those who come later."""
    import openai

    world.upstream.script = script
    client = openai.AsyncOpenAI(api_key="k", base_url="http://test/v1", http_client=world.client, max_retries=0)
    with pytest.raises(openai.APIError):
        async for _ in await client.chat.completions.create(**CHAT):
            pass
    run = await world.runs.get(name="relay", owner=owner("Bearer k"))
    end = await run.end()
    assert end is not None
    assert end.reason == "failed"
    later = await world.get(f"/runs/{run.id}", authorization="Bearer k")
    assert "error" in (await later.rest())[-1].data


@pytest.mark.parametrize("script", [_message_without_stop, _message_error])
async def test_a_message_that_breaks_off_raises(world: World, script: Any) -> None:
    """In Anthropic's own client."""
    import anthropic

    world.upstream.script = script
    client = anthropic.AsyncAnthropic(api_key="k", base_url="http://test", http_client=world.client, max_retries=0)
    with pytest.raises(anthropic.APIStatusError):
        async with client.messages.stream(
            model="m", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]
        ) as stream:
            await stream.get_final_message()


@pytest.mark.slow
async def test_a_response_that_breaks_off_raises(world: World) -> None:
    """In OpenAI's own client."""
    import openai

    world.upstream.script = _response_without_completed
    client = openai.AsyncOpenAI(api_key="k", base_url="http://test/v1", http_client=world.client, max_retries=0)
    with pytest.raises((openai.APIError, RuntimeError)):
        async with client.responses.stream(model="m", input="Hi") as stream:
            await stream.get_final_response()


async def test_the_clients_retry_as_with_the_upstream(world: World) -> None:
    """A 429 with `retry-after-ms` is tried again by OpenAI's client, and then there is an answer."""
    import openai

    async def script(call: Call) -> None:
        if len(world.upstream.calls) < 3:
            await call.answer(429, b'{"error": {"message": "slow down"}}', retry_after_ms="1")
        else:
            await call.chat("at last")

    world.upstream.script = script
    client = openai.AsyncOpenAI(api_key="k", base_url="http://test/v1", http_client=world.client, max_retries=3)
    key = {"Idempotency-Key": "one"}
    stream = await client.chat.completions.create(**CHAT, extra_headers=key)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "at last"
    assert [call.headers["x-stainless-retry-count"] for call in world.upstream.calls] == ["0", "1", "2"]
